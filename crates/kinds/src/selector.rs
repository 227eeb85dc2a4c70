//! Label selectors: parsed from a query, or taken from a `LabelSelector`, and matched against labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use thiserror::Error;

/// A conjunction of requirements on labels. Without requirements it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// The text or object is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0:?} is not a valid selector term")]
    Term(String),
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    #[error("values for key {0:?} do not fit its operator")]
    Values(String),
    #[error("values must be an integer for operator of key {0:?}")]
    Integer(String),
}

impl Selector {
    /// The selector of a query such as `app=redis,tier in (a, b),!canary`. An empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let requirements = split_terms(text).into_iter().map(parse_term).collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// The selector that a `LabelSelector` describes.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements: Vec<_> = Self::from_labels(selector.match_labels.iter().flatten()).requirements;
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(requirement(&expression.key, &expression.operator, values)?);
        }
        Ok(Self { requirements })
    }

    /// The selector that asks for each of these labels, as in a Service.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement { key: key.clone(), operator: Operator::In(vec![value.clone()]) };
        Self { requirements: labels.into_iter().map(equals).collect() }
    }

    /// One requirement in the words of node selector terms: `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt`, `Lt`.
    pub fn from_expression(key: &str, operator: &str, values: Vec<String>) -> Result<Self, SelectorError> {
        Ok(Self { requirements: vec![requirement(key, operator, values)?] })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels.and_then(|labels| labels.get(&requirement.key))))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&String>) -> bool {
        match (&self.operator, value) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::NotIn(_) | Operator::DoesNotExist, None) | (Operator::Exists, Some(_)) => true,
            (Operator::GreaterThan(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Operator::LessThan(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
            (Operator::In(_) | Operator::Exists | Operator::GreaterThan(_) | Operator::LessThan(_), None)
            | (Operator::DoesNotExist, Some(_)) => false,
        }
    }
}

/// Upstream's canonical text: `a=b`, `a in (b,c)`, `!a`.
impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, Requirement { key, operator }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Operator::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan(bound) => write!(f, "{key}>{bound}")?,
                Operator::LessThan(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> Result<Requirement, SelectorError> {
    let bound = |values: &[String]| match values {
        [value] => value.parse().map_err(|_| SelectorError::Integer(key.to_owned())),
        _ => Err(SelectorError::Values(key.to_owned())),
    };
    let operator = match (operator, values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        ("Gt", _) => Operator::GreaterThan(bound(&values)?),
        ("Lt", _) => Operator::LessThan(bound(&values)?),
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => return Err(SelectorError::Values(key.to_owned())),
        (other, _) => return Err(SelectorError::Operator(other.to_owned())),
    };
    Ok(Requirement { key: key.to_owned(), operator })
}

/// Splits at the commas that are outside parentheses. An empty text has no terms.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            ',' if !inside => {
                terms.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !(last.is_empty() && terms.is_empty()) {
        terms.push(last);
    }
    terms
}

fn parse_term(term: &str) -> Result<Requirement, SelectorError> {
    let invalid = || SelectorError::Term(term.to_owned());
    let (key, operator) = if let Some(key) = term.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Operator::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Operator::In(vec![value.trim().to_owned()]))
    } else if let Some((head, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Operator::In(values)),
            Some((key, "notin")) => (key, Operator::NotIn(values)),
            _ => return Err(invalid()),
        }
    } else if let Some((key, bound)) = term.split_once('>') {
        (key, Operator::GreaterThan(bound.trim().parse().map_err(|_| SelectorError::Integer(key.to_owned()))?))
    } else if let Some((key, bound)) = term.split_once('<') {
        (key, Operator::LessThan(bound.trim().parse().map_err(|_| SelectorError::Integer(key.to_owned()))?))
    } else {
        (term, Operator::Exists)
    };
    let key = key.trim();
    let values_ok = match &operator {
        Operator::In(values) | Operator::NotIn(values) => values.iter().all(|value| is_label_value(value)),
        _ => true,
    };
    if !is_label_key(key) || !values_ok {
        return Err(invalid());
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

/// An optional DNS prefix, a slash, and a name of at most 63 characters.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_ok = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && !part.starts_with('-')
                    && !part.ends_with('-')
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    });
    prefix_ok && !name.is_empty() && is_label_value(name)
}

/// Empty, or at most 63 characters of letters, digits, `-`, `_` and `.` that begin and end with a letter or digit.
pub fn is_label_value(value: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Selector::parse(selector).unwrap().matches(Some(&labels))
    }

    #[test]
    fn each_operator_selects_what_it_says() {
        let labels = [("app", "redis"), ("tier", "db"), ("n", "5")];
        for selector in [
            "",
            "app=redis",
            "app==redis",
            "app in (redis, mysql)",
            "app,!other",
            "tier!=web",
            "none!=x",
            "n>4,n<6",
            "app=redis,tier notin (a,b)",
        ] {
            assert!(selects(selector, &labels), "{selector}");
        }
        for selector in ["app=mysql", "!app", "other", "n>5", "app>1", "tier notin (db)", "x in (y)"] {
            assert!(!selects(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn text_that_is_no_selector_is_refused() {
        for text in [",", "a,", "a b", "-a", "a=b c", "a in b", "in (a)", "a=-", "a>x", "a==b=c"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn its_text_parses_to_itself() {
        for text in ["a=b", "a!=b", "a in (b,c)", "a notin (b,c)", "a", "!a", "a>1", "a<1,b=c"] {
            assert_eq!(Selector::parse(text).unwrap().to_string(), text);
        }
    }
}
