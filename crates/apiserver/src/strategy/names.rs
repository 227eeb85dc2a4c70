//! Rules for names and keys, in upstream's words (`k8s.io/apimachinery/pkg/util/validation`). Each says what is wrong with a
//! text, or `None` when it is good.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENVIRONMENT: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let edges = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    edges && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

/// Lower-case labels joined by dots, at most 253 bytes.
pub fn dns_subdomain(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(too_long(253));
    }
    (!name.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
}

/// One lower-case label, at most 63 bytes.
pub fn dns_label(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some(too_long(63));
    }
    match is_label(name) {
        true => None,
        false if dns_subdomain(name).is_none() => Some("must not contain dots".to_owned()),
        false => Some(LABEL.to_owned()),
    }
}

/// A lower-case label that begins with a letter, at most 63 bytes.
pub fn dns_1035(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some(too_long(63));
    }
    let good = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    (!good).then(|| LABEL_1035.to_owned())
}

/// A name that can stand in a path: what kinds without a rule of their own demand.
pub fn path_segment(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        _ => name.chars().find(|c| "/%".contains(*c)).map(|c| format!("may not contain '{c}'")),
    }
}

/// The key of a label, an annotation or a resource, or the name of a finalizer: `[prefix/]name`.
pub fn qualified(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        None => (None, key),
        Some((_, name)) if name.contains('/') => {
            let message = format!("a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')");
            return Some(message);
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".to_owned());
        }
        if let Some(wrong) = dns_subdomain(prefix) {
            return Some(format!("prefix part {wrong}"));
        }
    }
    match name.len() {
        0 => Some("name part must be non-empty".to_owned()),
        64.. => Some("name part must be no more than 63 bytes".to_owned()),
        _ => (!kinds::selector::is_label_value(name)).then(|| format!("name part {QUALIFIED}")),
    }
}

/// The value of a label.
pub fn label_value(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some(too_long(63));
    }
    (!kinds::selector::is_label_value(value)).then(|| LABEL_VALUE.to_owned())
}

/// A key of a ConfigMap or a Secret: it must be good as a file's name.
pub fn config_key(key: &str) -> Option<String> {
    match key {
        _ if key.len() > 253 => Some(too_long(253)),
        "." | ".." => Some(format!("must not be '{key}'")),
        _ if key.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => Some(CONFIG_KEY.to_owned()),
        _ => None,
    }
}

/// The name of an environment variable.
pub fn environment(name: &str) -> Option<String> {
    let good = !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    (!good).then(|| ENVIRONMENT.to_owned())
}

/// The name of a container's port.
pub fn port(name: &str) -> Option<String> {
    let hyphen_and_others = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let wrong = match name {
        _ if name.len() > 15 => "must be no more than 15 bytes",
        _ if !name.bytes().all(hyphen_and_others) => "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        _ if !name.bytes().any(|b| b.is_ascii_lowercase()) => "must contain at least one letter (a-z)",
        _ if name.contains("--") => "must not contain consecutive hyphens",
        _ if name.starts_with('-') || name.ends_with('-') => "must not begin or end with a hyphen",
        _ => return None,
    };
    Some(wrong.to_owned())
}

/// What a port's number must be.
pub fn port_number(port: i32) -> Option<String> {
    (!(1..=65535).contains(&port)).then(|| "must be between 1 and 65535, inclusive".to_owned())
}

/// What `generateName` must be for names made from it to be good: the dashes at its end are followed by more.
pub fn prefix(text: &str, rule: impl FnOnce(&str) -> Option<String>) -> Option<String> {
    match text.strip_suffix('-') {
        Some(start) if !start.is_empty() => rule(&format!("{start}a")),
        _ => rule(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_upstream_judges_them() {
        for good in ["a", "a.b-c.0", "0"] {
            assert_eq!(dns_subdomain(good), None, "{good}");
        }
        for bad in ["", "A", "a.", ".a", "a..b", "-a", "a_b", "ü"] {
            assert!(dns_subdomain(bad).unwrap().starts_with("a lowercase RFC 1123 subdomain"), "{bad}");
        }
        assert_eq!(dns_label("a.b").unwrap(), "must not contain dots");
        assert_eq!(dns_subdomain(&"a".repeat(254)).unwrap(), "must be no more than 253 bytes");
        assert!(dns_1035("0a").is_some() && dns_1035("a0").is_none());
    }

    #[test]
    fn keys_and_values_of_labels_are_judged_part_by_part() {
        for good in ["a", "example.com/Name_1.x", "a/b"] {
            assert_eq!(qualified(good), None, "{good}");
        }
        let long = "ü".repeat(40);
        for bad in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a-", "a b", &long] {
            assert!(qualified(bad).is_some(), "{bad}");
        }
        assert!(label_value("").is_none() && label_value("a ").is_some() && label_value(&"a".repeat(64)).is_some());
    }

    #[test]
    fn other_names_have_rules_of_their_own() {
        assert!(config_key("a.b_C-1").is_none() && config_key("..a").is_some() && config_key("a/b").is_some());
        assert!(environment("A B").is_none() && environment("A=B").is_some() && environment("").is_some());
        assert!(port("http-0").is_none() && port("0").is_some() && port("a--b").is_some() && port("-a").is_some() && port("").is_some());
        assert!(prefix("web-", dns_label).is_none() && prefix("-", dns_label).is_some() && prefix("web_", dns_label).is_some());
    }
}
