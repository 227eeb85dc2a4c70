//! What the labels of a namespace say.

use std::collections::BTreeMap;

use super::{Level, Standard};

/// The standards of a namespace, one for each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

/// A label that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLabel {
    pub label: String,
    pub value: String,
    pub detail: &'static str,
}

const PREFIX: &str = "pod-security.kubernetes.io/";

/// The policy of a namespace with these labels, and the labels that can't be read.
pub fn policy(labels: Option<&BTreeMap<String, String>>) -> (Policy, Vec<BadLabel>) {
    let mut bad = Vec::new();
    let mut mode = |name: &str| {
        let mut find = |label: String, detail, read: &dyn Fn(&str) -> Option<Standard>| {
            let value = labels.and_then(|labels| labels.get(&label))?;
            let standard = read(value);
            if standard.is_none() {
                bad.push(BadLabel { label, value: value.clone(), detail });
            }
            Some(standard.unwrap_or(Standard::latest(Level::Restricted)))
        };
        let level = find(format!("{PREFIX}{name}"), "must be one of privileged, baseline, restricted", &|text| {
            Level::ALL.into_iter().find(|level| level.name() == text).map(Standard::latest)
        });
        let version = find(format!("{PREFIX}{name}-version"), "must be \"latest\" or \"v1.x\"", &|text| {
            minor(text).map(|minor| Standard { level: Level::Privileged, minor })
        });
        let said = level.is_some();
        let level = level.map_or(Level::Privileged, |standard| standard.level);
        (Standard { level, minor: version.and_then(|standard| standard.minor) }, said)
    };
    let ((enforce, _), (audit, _), (warn, warns)) = (mode("enforce"), mode("audit"), mode("warn"));
    // Who is not told otherwise is warned of what would be refused.
    let warn = if !warns && enforce.level > warn.level { enforce } else { warn };
    (Policy { enforce, audit, warn }, bad)
}

/// The minor version in `v1.30`; `Some(None)` is the latest.
fn minor(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.").filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().map(Some)
}
