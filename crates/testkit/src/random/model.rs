//! One object, and what each operation makes of it: all that the judge knows of the API's rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A kind that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// What a new object needs besides its metadata, as JSON.
    pub content: &'static str,
}

/// Kinds whose objects nobody but their owner changes.
pub static QUIET: [Kind; 2] = [
    Kind { api_version: "v1", kind: "ConfigMap", plural: "configmaps", content: r#"{"data":{"k":"v"}}"# },
    Kind { api_version: "v1", kind: "Secret", plural: "secrets", content: r#"{"data":{"k":"dg=="}}"# },
];

/// The same, and one with a specification and a status.
pub static KINDS: [Kind; 3] = {
    let [first, second] = QUIET;
    [first, second, SETS]
};

const SETS: Kind = Kind {
    api_version: "apps/v1",
    kind: "StatefulSet",
    plural: "statefulsets",
    content: r#"{"spec":{"serviceName":"s","selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","image":"x"}]}}}}"#,
};

/// An object by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    pub kind: &'static Kind,
    pub name: &'static str,
}

/// The names that are used: few, so that clients meet.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
pub const LABELS: [&str; 3] = ["x", "y", "z"];
pub const FINALIZERS: [&str; 2] = ["test.steadfast.dev/one", "test.steadfast.dev/two"];

impl Kind {
    /// Where its objects are.
    pub fn path(&self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/namespaces/default/{}", self.api_version, self.plural)
    }

    /// An object with this metadata.
    pub fn object(&self, metadata: &Value) -> Value {
        let mut object: Value = serde_json::from_str(self.content).expect("the content is JSON");
        object["apiVersion"] = json!(self.api_version);
        object["kind"] = json!(self.kind);
        object["metadata"] = metadata.clone();
        object
    }
}

impl Object {
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.path(), self.name)
    }

    /// Of a kind; none if the name is none that is used.
    pub fn of(kind: &'static Kind, name: &str) -> Option<Self> {
        Some(Self { kind, name: NAMES.into_iter().find(|known| *known == name)? })
    }
}

pub type Pairs = BTreeMap<String, String>;

/// What is looked at of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub uid: String,
    pub revision: u64,
    pub labels: Pairs,
    /// Each write leaves one that nobody else writes.
    pub annotations: Pairs,
    pub finalizers: BTreeSet<String>,
    pub terminating: bool,
}

impl State {
    /// Of an object in JSON.
    pub fn of(object: &Value) -> Option<Self> {
        let meta = object.get("metadata")?;
        let pairs = |field: &str| -> Pairs {
            let pairs = meta.get(field).and_then(Value::as_object).into_iter().flatten();
            pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        };
        let finalizers = meta.get("finalizers").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            uid: meta.get("uid")?.as_str()?.to_owned(),
            revision: meta.get("resourceVersion")?.as_str()?.parse().ok()?,
            labels: pairs("labels"),
            annotations: pairs("annotations"),
            finalizers: finalizers.filter_map(Value::as_str).map(str::to_owned).collect(),
            terminating: meta.get("deletionTimestamp").is_some(),
        })
    }

    /// Whether a label selector selects it.
    pub fn is_selected(&self, selector: Option<&(String, String)>) -> bool {
        selector.is_none_or(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// What a delete insists on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub revision: Option<u64>,
}

/// One operation on one object. `mark` is the annotation that it leaves, its key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Get,
    Create {
        labels: Pairs,
        finalizers: BTreeSet<String>,
        mark: (String, String),
    },
    /// A PUT.
    Replace {
        revision: Option<u64>,
        labels: Pairs,
        finalizers: BTreeSet<String>,
        mark: (String, String),
    },
    JsonPatch {
        test: Option<(String, String)>,
        label: (String, String),
        mark: (String, String),
    },
    /// `None` removes a label. With finalizers, all are replaced.
    MergePatch {
        revision: Option<u64>,
        labels: BTreeMap<String, Option<String>>,
        finalizers: Option<BTreeSet<String>>,
        mark: (String, String),
    },
    StrategicPatch {
        revision: Option<u64>,
        labels: BTreeMap<String, Option<String>>,
        add: BTreeSet<String>,
        remove: BTreeSet<String>,
        mark: (String, String),
    },
    Apply {
        force: bool,
        labels: Pairs,
        mark: (String, String),
    },
    Delete {
        preconditions: Preconditions,
        policy: Option<&'static str>,
    },
    /// Of all objects of the kind that are selected.
    DeleteCollection {
        selector: Option<(String, String)>,
    },
}

/// What may come of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    Happens,
    Refused(u16),
    Either(u16),
}

impl Op {
    /// The annotation that it leaves.
    pub fn mark(&self) -> Option<&(String, String)> {
        match self {
            Self::Create { mark, .. }
            | Self::Replace { mark, .. }
            | Self::JsonPatch { mark, .. }
            | Self::MergePatch { mark, .. }
            | Self::StrategicPatch { mark, .. }
            | Self::Apply { mark, .. } => Some(mark),
            Self::Get | Self::Delete { .. } | Self::DeleteCollection { .. } => None,
        }
    }

    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::DeleteCollection { .. })
    }

    /// What is to be expected where this is, or nothing.
    pub fn expectation(&self, found: Option<&State>) -> Expectation {
        use Expectation::{Either, Happens, Refused};
        let Some(found) = found else {
            return match self {
                Self::Create { .. } | Self::Apply { .. } | Self::DeleteCollection { .. } => Happens,
                _ => Refused(404),
            };
        };
        let is_current = |revision: &Option<u64>| revision.is_none_or(|revision| revision == found.revision);
        match self {
            Self::Create { .. } => Refused(409),
            Self::Replace { revision, .. } | Self::MergePatch { revision, .. } | Self::StrategicPatch { revision, .. }
                if !is_current(revision) =>
            {
                Refused(409)
            }
            // Where there are no labels at all, there is no place for one.
            Self::JsonPatch { .. } if found.labels.is_empty() => Either(422),
            Self::JsonPatch { test: Some((key, value)), .. } if found.labels.get(key) != Some(value) => Refused(422),
            Self::Apply { force: false, labels, .. } => {
                let differs = labels.iter().any(|(key, value)| found.labels.get(key).is_some_and(|other| other != value));
                if differs { Either(409) } else { Happens }
            }
            Self::Delete { preconditions: Preconditions { uid, revision }, .. } => {
                let is_it = uid.as_ref().is_none_or(|uid| *uid == found.uid);
                if is_it && is_current(revision) { Happens } else { Refused(409) }
            }
            other if found.terminating && !other.finalizers_after(&found.finalizers).is_subset(&found.finalizers) => Refused(422),
            _ => Happens,
        }
    }

    /// The finalizers that it leaves.
    fn finalizers_after(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        match self {
            Self::Create { finalizers, .. } | Self::Replace { finalizers, .. } | Self::MergePatch { finalizers: Some(finalizers), .. } => {
                finalizers.clone()
            }
            Self::StrategicPatch { add, remove, .. } => before.difference(remove).chain(add).cloned().collect(),
            _ => before.clone(),
        }
    }

    /// Whether it can have made this of that. It is known to have happened.
    pub fn makes(&self, before: Option<&State>, after: Option<&State>) -> bool {
        if self.is_deletion() {
            return before.is_some_and(|before| deletes(before, after));
        }
        let nothing = State {
            uid: String::new(),
            revision: 0,
            labels: Pairs::new(),
            annotations: Pairs::new(),
            finalizers: BTreeSet::new(),
            terminating: false,
        };
        let old = before.unwrap_or(&nothing);
        let finalizers = self.finalizers_after(&old.finalizers);
        let Some(after) = after else { return old.terminating && finalizers.is_empty() };
        let same_object = before.is_none_or(|before| before.uid == after.uid);
        let marked = self.mark().is_none_or(|(key, value)| after.annotations.get(key) == Some(value));
        same_object
            && marked
            && after.finalizers == finalizers
            && after.terminating == old.terminating
            && !(after.terminating && after.finalizers.is_empty())
            && self.labels_fit(&old.labels, &after.labels)
            && self.annotations_fit(&old.annotations, &after.annotations)
    }

    fn labels_fit(&self, before: &Pairs, after: &Pairs) -> bool {
        match self {
            Self::Create { labels, .. } | Self::Replace { labels, .. } => after == labels,
            Self::JsonPatch { label: (key, value), .. } => {
                let mut expected = before.clone();
                expected.insert(key.clone(), value.clone());
                *after == expected
            }
            Self::MergePatch { labels, .. } | Self::StrategicPatch { labels, .. } => {
                let mut expected = before.clone();
                for (key, value) in labels {
                    match value {
                        Some(value) => expected.insert(key.clone(), value.clone()),
                        None => expected.remove(key),
                    };
                }
                *after == expected
            }
            // What its manager no longer applies may go: who owned it is for the tests of the merge to say.
            Self::Apply { labels, .. } => {
                let applied = labels.iter().all(|(key, value)| after.get(key) == Some(value));
                applied && after.iter().all(|(key, value)| labels.contains_key(key) || before.get(key) == Some(value))
            }
            Self::Get | Self::Delete { .. } | Self::DeleteCollection { .. } => false,
        }
    }

    fn annotations_fit(&self, before: &Pairs, after: &Pairs) -> bool {
        let Some((own, _)) = self.mark() else { return false };
        let others =
            |pairs: &Pairs| -> Pairs { pairs.iter().filter(|(key, _)| *key != own).map(|(k, v)| (k.clone(), v.clone())).collect() };
        match self {
            Self::Create { .. } | Self::Replace { .. } => others(after).is_empty(),
            _ => others(after) == others(before),
        }
    }
}

/// Whether a deletion can have made this of that: gone, or marked and held by finalizers.
fn deletes(before: &State, after: Option<&State>) -> bool {
    let ours = |finalizers: &BTreeSet<String>| -> BTreeSet<String> {
        finalizers.iter().filter(|one| FINALIZERS.contains(&one.as_str())).cloned().collect()
    };
    let Some(after) = after else { return ours(&before.finalizers).is_empty() };
    after.terminating
        && !after.finalizers.is_empty()
        && ours(&after.finalizers) == ours(&before.finalizers)
        && (&after.uid, &after.labels, &after.annotations) == (&before.uid, &before.labels, &before.annotations)
}
