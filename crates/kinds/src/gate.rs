//! The pre-delete gate of a StatefulSet: a hook that must succeed before a pod of it is taken away.
//!
//! The set names the hook; each pod carries how far it is with it. The controller runs the hook and keeps the marks; the API
//! server looks at them before it lets an eviction through.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

mod job;

pub use job::{HOOK_FOR, hook_labels};

/// On the set: the gate.
pub const PRE_DELETE: &str = "steadfast.dev/pre-delete";
/// On a pod: when the hook succeeded.
pub const PASSED: &str = "steadfast.dev/pre-delete-passed";
/// On a pod: what the hook runs for and how it went so far, as [`Progress`].
pub const PROGRESS: &str = "steadfast.dev/pre-delete-progress";
/// On a pod: when its eviction was asked for.
pub const EVICTION_REQUESTED: &str = "steadfast.dev/eviction-requested";

/// After this time a wish for an eviction is forgotten, and a pass for it with it: who still wants it asks again.
pub const EVICTION_LIFE: SignedDuration = SignedDuration::from_mins(10);
const DEFAULT_TIMEOUT: u32 = 60;
const LONGEST_TIMEOUT: u32 = 24 * 3600;
const FIRST_PAUSE: i64 = 1;
const LONGEST_PAUSE: i64 = 60;

/// Why a pod is to be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Update,
    ScaleDown,
    Eviction,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Update => "Update",
            Self::ScaleDown => "ScaleDown",
            Self::Eviction => "Eviction",
        })
    }
}

/// What happens when the hook has not succeeded in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OnTimeout {
    /// It is tried again and again.
    #[default]
    Wait,
    /// The pod goes without it.
    Proceed,
}

/// What a set asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    pub hook: Hook,
    /// In which the hook has to succeed.
    pub timeout: SignedDuration,
    on: Vec<Reason>,
    pub on_timeout: OnTimeout,
}

/// What prepares a pod for its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Hook {
    Exec(Command),
    /// A pod of its own, run to its end.
    Job(Box<PodTemplateSpec>),
}

/// A command in a container of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The first one if it is not named.
    pub container: Option<String>,
    pub command: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    exec: Option<Command>,
    job: Option<job::Job>,
    timeout_seconds: Option<u32>,
    on: Option<Vec<Reason>>,
    on_timeout: Option<OnTimeout>,
}

impl Gate {
    /// Reads the annotation.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| format!("must be a gate in JSON: {error}"))?;
        let hook = match (written.exec, written.job) {
            (Some(_), Some(_)) => return Err("must have exec or job, not both".to_owned()),
            (None, None) => return Err("must have exec or job".to_owned()),
            (Some(exec), None) if exec.command.is_empty() => return Err("exec.command: Required value".to_owned()),
            (Some(exec), None) => Hook::Exec(exec),
            (None, Some(job)) => Hook::Job(Box::new(job.into_template()?)),
        };
        let seconds = written.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        if !(1..=LONGEST_TIMEOUT).contains(&seconds) {
            return Err(format!("timeoutSeconds: must be from 1 to {LONGEST_TIMEOUT}"));
        }
        Ok(Self {
            hook,
            timeout: SignedDuration::from_secs(seconds.into()),
            on: written.on.unwrap_or_else(|| vec![Reason::Update, Reason::ScaleDown, Reason::Eviction]),
            on_timeout: written.on_timeout.unwrap_or_default(),
        })
    }

    /// Whether pods are held back for this reason.
    pub fn holds(&self, reason: Reason) -> bool {
        self.on.contains(&reason)
    }
}

/// How far the hook of a pod is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What the pod is to be taken away for: a [`Reason`], and what it is bound to. A pass for one thing is none for another.
    #[serde(rename = "for")]
    pub purpose: String,
    pub started_at: Time,
    #[serde(default)]
    pub failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// Nothing was tried yet.
    pub fn begun(purpose: String, now: Timestamp) -> Self {
        Self { purpose, started_at: Time(now), failures: 0, failed_at: None, message: None }
    }

    /// One more try failed.
    pub fn failed(self, message: String, now: Timestamp) -> Self {
        Self { failures: self.failures.saturating_add(1), failed_at: Some(Time(now)), message: Some(message), ..self }
    }

    /// When the next try is due: 1 s after the first failure, doubling to a minute.
    pub fn due_at(&self) -> Option<Timestamp> {
        let pause = (FIRST_PAUSE << self.failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
        self.failed_at.as_ref().map(|at| at.0.saturating_add(SignedDuration::from_secs(pause)).unwrap_or(Timestamp::MAX))
    }

    /// What went wrong, if something did.
    pub fn trouble(&self) -> Option<String> {
        let times = if self.failures == 1 { "once".to_owned() } else { format!("{} times", self.failures) };
        self.message.as_ref().map(|message| format!("the hook failed {times}: {message}"))
    }

    /// As the annotation has it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("progress has string keys only")
    }
}

/// The marks of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub progress: Option<Progress>,
    pub passed: bool,
    /// When its eviction was asked for.
    pub eviction: Option<Timestamp>,
    /// There is a mark, whether it can be read or not.
    pub any: bool,
}

impl Marks {
    /// Reads the annotations of a pod. What can't be read says nothing.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let Some(annotations) = annotations else { return Self::default() };
        let find = |name: &str| annotations.get(name);
        Self {
            progress: find(PROGRESS).and_then(|text| serde_json::from_str(text).ok()),
            passed: find(PASSED).is_some(),
            eviction: find(EVICTION_REQUESTED).and_then(|text| text.parse().ok()),
            any: [PROGRESS, PASSED, EVICTION_REQUESTED].iter().any(|name| annotations.contains_key(*name)),
        }
    }

    /// Whether the hook succeeded for this.
    pub fn passed_for(&self, purpose: &str) -> bool {
        self.passed && self.progress.as_ref().is_some_and(|progress| progress.purpose == purpose)
    }
}

/// Why the gate of its set does not let an eviction of the pod through yet.
pub fn holds_eviction(gate: Option<&Gate>, set: &str, pod: &Pod) -> Option<String> {
    let marks = Marks::of(pod.metadata.annotations.as_ref());
    gate.filter(|gate| gate.holds(Reason::Eviction) && !marks.passed)?;
    let trouble = marks.progress.as_ref().and_then(Progress::trouble).map(|trouble| format!(": {trouble}")).unwrap_or_default();
    Some(format!("The gate {PRE_DELETE} of statefulset {set} has not passed for this pod; it has been asked to run{trouble}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gate(text: &str) -> Gate {
        Gate::parse(text).unwrap()
    }

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_a_gate_leaves_out_is_as_by_default() {
        let short = gate(r#"{"exec":{"command":["leave"]}}"#);
        assert_eq!((short.timeout.as_secs(), short.on_timeout), (60, OnTimeout::Wait));
        assert_eq!(short.hook, Hook::Exec(Command { container: None, command: vec!["leave".to_owned()] }));
        assert!([Reason::Update, Reason::ScaleDown, Reason::Eviction].iter().all(|reason| short.holds(*reason)));
        let long = r#"{"exec":{"container":"a","command":["x","y"]},"timeoutSeconds":5,"on":["ScaleDown"],"onTimeout":"Proceed"}"#;
        let long = gate(long);
        assert_eq!((long.timeout.as_secs(), long.on_timeout), (5, OnTimeout::Proceed));
        assert!(matches!(&long.hook, Hook::Exec(Command { container: Some(name), .. }) if name == "a"));
        assert!(long.holds(Reason::ScaleDown) && !long.holds(Reason::Update));
    }

    #[test]
    fn what_is_wrong_with_a_gate_is_told_by_name() {
        for (text, reason) in [
            ("leave", "must be a gate in JSON"),
            ("{}", "must have exec or job"),
            (r#"{"exec":{"command":["a"]},"job":{"template":{}}}"#, "must have exec or job, not both"),
            (r#"{"exec":{"command":[]}}"#, "exec.command: Required value"),
            (r#"{"job":{}}"#, "missing field `template`"),
            (r#"{"exec":{"command":["a"]},"timeoutSeconds":0}"#, "timeoutSeconds: must be from 1 to 86400"),
            (r#"{"exec":{"command":["a"]},"on":["Delete"]}"#, "unknown variant `Delete`"),
            (r#"{"exec":{"command":["a"]},"retries":1}"#, "unknown field `retries`"),
        ] {
            assert!(Gate::parse(text).unwrap_err().contains(reason), "{text}: {:?}", Gate::parse(text));
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut progress = Progress::begun("Eviction".to_owned(), now());
        assert_eq!((progress.due_at(), progress.trouble()), (None, None));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            progress = progress.failed("exit status 1".to_owned(), now());
            pauses.push(progress.due_at().unwrap().duration_since(now()).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(progress.trouble().unwrap(), "the hook failed 9 times: exit status 1");
        assert_eq!(serde_json::from_str::<Progress>(&progress.text()).unwrap(), progress);
    }

    #[test]
    fn an_eviction_waits_for_the_pass_and_is_told_what_went_wrong() {
        let gate = gate(r#"{"exec":{"command":["leave"]}}"#);
        let held = |gate: Option<&Gate>, annotations: serde_json::Value| {
            let pod = serde_json::from_value(json!({"metadata": {"name": "web-1", "annotations": annotations}})).unwrap();
            holds_eviction(gate, "web", &pod)
        };
        let why = "The gate steadfast.dev/pre-delete of statefulset web has not passed for this pod; it has been asked to run";
        assert_eq!(held(None, json!({})), None);
        assert_eq!(held(Some(&gate), json!({})).as_deref(), Some(why));
        assert_eq!(held(Some(&gate), json!({PASSED: "2029-12-31T23:59:00Z"})), None);
        let failed = Progress::begun("Eviction".to_owned(), now()).failed("exit status 1".to_owned(), now()).text();
        assert_eq!(held(Some(&gate), json!({PROGRESS: failed})), Some(format!("{why}: the hook failed once: exit status 1")));
        let only_updates = Gate::parse(r#"{"exec":{"command":["leave"]},"on":["Update"]}"#).unwrap();
        assert_eq!(held(Some(&only_updates), json!({})), None);
    }
}
