//! The Pod Security Standards: what a namespace's labels ask of its pods, and what of that a pod does not keep.
//!
//! A label of the namespace names a level for each of three modes: what violates `enforce` is refused, `warn` is told to who
//! asks, `audit` is written down. Labels that can't be read count as the strictest level.

mod baseline;
mod labels;
mod restricted;
mod subject;

use std::fmt;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use labels::{BadLabel, Policy, policy};
use subject::Subject;

/// How strict a standard is; each level asks for all that the ones before it ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const ALL: [Self; 3] = [Self::Privileged, Self::Baseline, Self::Restricted];

    /// As in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level, as it was at a minor version of Kubernetes 1; `None` is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub minor: Option<u32>,
}

impl Standard {
    /// The latest form of a level.
    pub const fn latest(level: Level) -> Self {
        Self { level, minor: None }
    }
}

/// `restricted:latest`, `baseline:v1.30`.
impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            None => write!(f, "{}:latest", self.level.name()),
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// Something a pod may not do, or has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

impl Violation {
    fn new(reason: &str, detail: String) -> Option<Self> {
        Some(Self { reason: reason.to_owned(), detail })
    }
}

/// All violations in one line.
pub fn describe(violations: &[Violation]) -> String {
    let each: Vec<_> = violations.iter().map(|Violation { reason, detail }| format!("{reason} ({detail})")).collect();
    each.join(", ")
}

/// The reasons alone, in one line.
pub fn reasons(violations: &[Violation]) -> String {
    let each: Vec<_> = violations.iter().map(|violation| violation.reason.as_str()).collect();
    each.join(", ")
}

/// One rule of a level, and the minor version since which it is part of it.
struct Rule {
    since: u32,
    /// Asks for less than a rule of the restricted level, which takes its place there.
    yields: bool,
    check: fn(&Subject<'_>) -> Option<Violation>,
}

const fn rule(since: u32, check: fn(&Subject<'_>) -> Option<Violation>) -> Rule {
    Rule { since, yields: false, check }
}

const fn yielding(check: fn(&Subject<'_>) -> Option<Violation>) -> Rule {
    Rule { since: 0, yields: true, check }
}

/// What of the standard a pod with this metadata and specification does not keep.
pub fn violations(standard: Standard, meta: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    let minor = standard.minor.unwrap_or(u32::MAX);
    let subject = Subject::new(meta, spec, minor);
    let baseline = baseline::RULES.iter().filter(|rule| match standard.level {
        Level::Privileged => false,
        Level::Baseline => true,
        Level::Restricted => !rule.yields,
    });
    let restricted = restricted::RULES.iter().filter(|_| standard.level == Level::Restricted);
    baseline.chain(restricted).filter(|rule| rule.since <= minor).filter_map(|rule| (rule.check)(&subject)).collect()
}

#[cfg(test)]
mod tests;
