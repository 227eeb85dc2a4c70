//! How a namespace ends, and what each begins with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceCondition, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// The namespaces that a cluster begins with.
pub const SYSTEM: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The finalizer in a namespace's specification that its content holds.
pub const FINALIZER: &str = "kubernetes";
/// The ConfigMap by which pods know the API server's certificate authority.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// The ServiceAccount of pods that name none.
pub fn default_service_account(namespace: &str) -> ServiceAccount {
    let metadata = ObjectMeta { namespace: Some(namespace.to_owned()), name: Some("default".to_owned()), ..ObjectMeta::default() };
    ServiceAccount { metadata, ..ServiceAccount::default() }
}

/// The ConfigMap with the certificate authority, in PEM.
pub fn root_ca(namespace: &str, certificate: &str) -> ConfigMap {
    let about = "Contains a CA bundle that can be used to verify the API server when using internal endpoints such as the internal \
                 service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
    let metadata = ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(ROOT_CA.to_owned()),
        annotations: Some(BTreeMap::from([("kubernetes.io/description".to_owned(), about.to_owned())])),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, data: Some(BTreeMap::from([("ca.crt".to_owned(), certificate.to_owned())])), ..ConfigMap::default() }
}

/// Objects of one resource that are still in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remaining {
    /// As `pods` or `statefulsets.apps`.
    pub resource: String,
    pub count: usize,
    /// How many of them each finalizer holds.
    pub finalizers: BTreeMap<String, usize>,
}

/// What is to be done about a namespace that ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It does not end, or it has been finalized.
    Nothing,
    /// Content is left. The conditions as they should be, if they are not.
    Wait { conditions: Option<Vec<NamespaceCondition>> },
    /// Nothing is left: the namespace with its finalizer removed.
    Finalize(Box<Namespace>),
}

/// Whether the namespace is to be emptied.
pub fn is_ending(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some() && has_finalizer(namespace)
}

fn has_finalizer(namespace: &Namespace) -> bool {
    namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|finalizer| finalizer == FINALIZER)
}

/// What to do about a namespace of which this remains, and where these deletions failed.
pub fn plan_ending(namespace: &Namespace, remaining: &[Remaining], failures: &[String], now: Timestamp) -> Ending {
    if !is_ending(namespace) {
        return Ending::Nothing;
    }
    if remaining.is_empty() && failures.is_empty() {
        let mut finalized = Box::new(namespace.clone());
        if let Some(finalizers) = finalized.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        return Ending::Finalize(finalized);
    }
    let known = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let wanted = conditions(&known, remaining, failures, now);
    Ending::Wait { conditions: (wanted != known).then_some(wanted) }
}

fn conditions(known: &[NamespaceCondition], remaining: &[Remaining], failures: &[String], now: Timestamp) -> Vec<NamespaceCondition> {
    let all = [
        ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered".to_owned(), false),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
            false,
        ),
        content_failure(failures),
        content_remaining(remaining),
        finalizers_remaining(remaining),
    ];
    let condition = |(name, reason, message, holds): (&str, &str, String, bool)| {
        let status = if holds { "True" } else { "False" };
        let before = known.iter().find(|condition| condition.type_ == name && condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        NamespaceCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    };
    all.into_iter().map(condition).collect()
}

type Finding = (&'static str, &'static str, String, bool);

fn content_failure(failures: &[String]) -> Finding {
    let name = "NamespaceDeletionContentFailure";
    match failures {
        [] => (name, "ContentDeleted", "All content successfully deleted, may be waiting on finalization".to_owned(), false),
        failures => {
            let message = format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", "));
            (name, "ContentDeletionFailed", message, true)
        }
    }
}

fn content_remaining(remaining: &[Remaining]) -> Finding {
    let name = "NamespaceContentRemaining";
    let mut texts: Vec<_> = remaining.iter().map(|left| format!("{}. has {} resource instances", left.resource, left.count)).collect();
    texts.sort();
    match texts.as_slice() {
        [] => (name, "ContentRemoved", "All content successfully removed".to_owned(), false),
        texts => (name, "SomeResourcesRemain", format!("Some resources are remaining: {}", texts.join(", ")), true),
    }
}

fn finalizers_remaining(remaining: &[Remaining]) -> Finding {
    let name = "NamespaceFinalizersRemaining";
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in remaining.iter().flat_map(|left| &left.finalizers) {
        *counts.entry(finalizer).or_default() += count;
    }
    let texts: Vec<_> = counts.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances")).collect();
    match texts.as_slice() {
        [] => (name, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned(), false),
        texts => {
            let message = format!("Some content in the namespace has finalizers remaining: {}", texts.join(", "));
            (name, "SomeFinalizersRemain", message, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(deleting: bool) -> Namespace {
        let at = deleting.then_some("2026-01-01T00:00:00Z");
        let value = json!({"metadata": {"name": "a", "deletionTimestamp": at}, "spec": {"finalizers": ["kubernetes", "mine"]}});
        serde_json::from_value(value).unwrap()
    }

    fn pods(count: usize) -> Vec<Remaining> {
        vec![Remaining { resource: "pods".into(), count, finalizers: BTreeMap::from([("x/y".into(), 1)]) }]
    }

    #[test]
    fn only_an_empty_namespace_that_ends_is_finalized_and_keeps_foreign_finalizers() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(plan_ending(&namespace(false), &[], &[], now), Ending::Nothing);
        let Ending::Finalize(finalized) = plan_ending(&namespace(true), &[], &[], now) else { panic!("not finalized") };
        assert_eq!(finalized.spec.clone().unwrap().finalizers.unwrap(), ["mine"]);
        assert_eq!(plan_ending(&finalized, &[], &[], now), Ending::Nothing);
        assert!(matches!(plan_ending(&namespace(true), &[], &["pods: refused".into()], now), Ending::Wait { .. }));
    }

    #[test]
    fn what_is_left_is_said_once_in_conditions() {
        let mut ending = namespace(true);
        let Ending::Wait { conditions: Some(told) } = plan_ending(&ending, &pods(2), &[], Timestamp::UNIX_EPOCH) else { panic!("silent") };
        let said: Vec<_> =
            told.iter().filter(|condition| condition.status == "True").filter_map(|condition| condition.message.clone()).collect();
        let finalizers = "Some content in the namespace has finalizers remaining: x/y in 1 resource instances";
        assert_eq!(said, ["Some resources are remaining: pods. has 2 resource instances", finalizers]);
        ending.status.get_or_insert_default().conditions = Some(told);
        let later = plan_ending(&ending, &pods(2), &[], Timestamp::MAX);
        assert_eq!(later, Ending::Wait { conditions: None });
    }
}
