//! Small checks that many kinds share. Each returns what is wrong, for a kind's list of errors.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::Quantity;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::names;
use crate::field::{FieldError, Path};

/// What upstream says of a value that may not change.
pub(super) const IMMUTABLE: &str = "field is immutable";
/// What upstream says of a number that may not be negative.
pub(super) const NON_NEGATIVE: &str = "must be greater than or equal to 0";

/// A value as messages show it.
pub(super) fn shown(value: &impl Serialize) -> Value {
    kinds::object::to_tree(value).unwrap_or_default()
}

/// The text, if it says anything: upstream takes an empty text for an absent one.
pub(super) fn some(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Fills in a text that the client left out.
pub(super) fn fill(text: &mut Option<String>, default: &str) {
    if some(text.as_ref()).is_none() {
        *text = Some(default.to_owned());
    }
}

/// The number is not negative.
pub(super) fn non_negative(path: Path, number: Option<impl Into<i64>>) -> Option<FieldError> {
    let number: i64 = number?.into();
    (number < 0).then(|| FieldError::invalid(path, number, NON_NEGATIVE))
}

/// The number is positive.
pub(super) fn positive(path: Path, number: Option<impl Into<i64>>) -> Option<FieldError> {
    let number: i64 = number?.into();
    (number <= 0).then(|| FieldError::invalid(path, number, "must be greater than zero"))
}

/// The text is one of those; when it is absent, nothing is said.
pub(super) fn one_of(path: Path, text: Option<&String>, supported: &[&str]) -> Option<FieldError> {
    let text = some(text)?;
    (!supported.contains(&text)).then(|| FieldError::not_supported(path, text, supported))
}

/// The text is there and is one of those.
pub(super) fn required_one_of(path: Path, text: Option<&String>, supported: &[&str]) -> Option<FieldError> {
    match some(text) {
        None => Some(FieldError::required(path, "")),
        Some(_) => one_of(path, text, supported),
    }
}

/// The text is there.
pub(super) fn required(path: Path, text: &str) -> Option<FieldError> {
    text.is_empty().then(|| FieldError::required(path, ""))
}

/// The text is there and obeys a rule for names.
pub(super) fn named(path: Path, text: &str, rule: impl FnOnce(&str) -> Option<String>) -> Option<FieldError> {
    if text.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    rule(text).map(|wrong| FieldError::invalid(path, text, wrong))
}

/// The text, if any, obeys a rule for names.
pub(super) fn maybe_named(path: Path, text: Option<&String>, rule: impl FnOnce(&str) -> Option<String>) -> Option<FieldError> {
    some(text).and_then(|text| named(path, text, rule))
}

/// The value did not change.
pub(super) fn immutable<T: PartialEq + Serialize>(path: Path, new: &T, old: &T) -> Option<FieldError> {
    (!same(new, old)).then(|| FieldError::invalid(path, shown(new), IMMUTABLE))
}

/// Whether two values mean the same: an empty list or text is as good as none.
pub(super) fn same<T: PartialEq + Serialize>(one: &T, other: &T) -> bool {
    one == other || are_alike(&shown(one), &shown(other))
}

fn are_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let in_other = |(key, value): (&String, &Value)| match other.get(key) {
                Some(other) if says_something(other) => are_alike(value, other),
                _ => !says_something(value),
            };
            let in_one = |key: &String| one.get(key).is_some_and(says_something);
            one.iter().all(in_other) && other.iter().all(|(key, value)| !says_something(value) || in_one(key))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_alike(one, other))
        }
        _ => one == other,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

/// The names a list gives are unique.
pub(super) fn unique<'a, T: Into<Value> + Ord + Copy>(items: impl IntoIterator<Item = (Path, T)> + 'a) -> Vec<FieldError> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|(_, item)| !seen.insert(*item)).map(|(path, item)| FieldError::duplicate(path, item)).collect()
}

/// Labels: their keys and their values.
pub(super) fn labels(path: &Path, labels: Option<&BTreeMap<String, String>>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(names::qualified(key).map(|wrong| FieldError::invalid(path.clone(), key.as_str(), wrong)));
        errors.extend(names::label_value(value).map(|wrong| FieldError::invalid(path.clone(), value.as_str(), wrong)));
    }
    errors
}

/// A label selector: its labels, and operators with as many values as they take.
pub(super) fn label_selector(path: &Path, selector: &LabelSelector) -> Vec<FieldError> {
    let mut errors = labels(&path.child("matchLabels"), selector.match_labels.as_ref());
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(FieldError::forbidden(
                    path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            operator => errors.push(FieldError::invalid(path.child("operator"), operator, "not a valid selector operator")),
        }
        errors
            .extend(names::qualified(&expression.key).map(|wrong| FieldError::invalid(path.child("key"), expression.key.as_str(), wrong)));
        for (index, value) in values.iter().enumerate() {
            let path = path.child("values").index(index);
            errors.extend(names::label_value(value).map(|wrong| FieldError::invalid(path, value.as_str(), wrong)));
        }
    }
    errors
}

/// A port as number or as name.
pub(super) fn port(path: Path, port: &IntOrString) -> Option<FieldError> {
    match port {
        IntOrString::Int(number) => names::port_number(*number).map(|wrong| FieldError::invalid(path, *number, wrong)),
        IntOrString::String(name) => names::port(name).map(|wrong| FieldError::invalid(path, name.as_str(), wrong)),
    }
}

/// The text is an IP address.
pub(super) fn ip(path: Path, text: &str) -> Option<FieldError> {
    let wrong = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    text.parse::<IpAddr>().is_err().then(|| FieldError::invalid(path, text, wrong))
}

/// An amount; text that is none counts as nothing: the decoder has refused it before.
pub(super) fn quantity(text: &QuantityText) -> Quantity {
    text.0.parse().unwrap_or_default()
}

/// Writes the amounts of a list in their canonical form.
pub(super) fn canonical(list: &mut Option<BTreeMap<String, QuantityText>>) {
    for amount in list.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Ok(text) = kinds::quantity::canonical(&amount.0) {
            amount.0 = text;
        }
    }
}

/// The amount is not negative.
pub(super) fn non_negative_quantity(path: Path, text: &QuantityText) -> Option<FieldError> {
    (quantity(text).signum() < 0).then(|| FieldError::invalid(path, text.0.as_str(), NON_NEGATIVE))
}

/// A number or a percentage, as budgets and update strategies have it.
pub(super) fn count_or_percentage(path: &Path, value: &IntOrString) -> Option<FieldError> {
    match value {
        IntOrString::Int(number) => non_negative(path.clone(), Some(*number)),
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
            match digits.map(str::parse::<u64>) {
                Some(Ok(..=100)) => None,
                Some(_) => Some(FieldError::invalid(path.clone(), text.as_str(), "must not be greater than 100%")),
                None => Some(FieldError::invalid(
                    path.clone(),
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                )),
            }
        }
    }
}
