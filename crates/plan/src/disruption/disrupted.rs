//! Pods whose eviction was allowed and that have not been seen to go.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::endpoints::is_ready;

/// How long a pod whose eviction was allowed may take until its deletion begins.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
/// The same, for a pod that was made in the very second of the eviction: it may be the successor, under the same name, of the
/// pod that was evicted. Times are kept to the second only. The deletion follows the note by milliseconds.
const DOUBT: SignedDuration = SignedDuration::from_secs(2);

/// Pods that are still to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Disrupted {
    /// When the eviction of each was allowed, by name.
    pub(super) pods: BTreeMap<String, Time>,
    /// When the first of them has taken too long.
    pub(super) recheck_at: Option<Timestamp>,
}

/// Those of the budget's disrupted pods that have still to go: the others go already, are gone, or will not go any more.
pub(super) fn still_to_go(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> Disrupted {
    let mut disrupted = Disrupted::default();
    let Some(noted) = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref()) else { return disrupted };
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some((name, Time(at))) = pod.metadata.name.as_ref().and_then(|name| noted.get_key_value(name)) else { continue };
        let Some(deadline) = deadline(pod, *at).filter(|deadline| *deadline >= now) else { continue };
        disrupted.pods.insert(name.clone(), Time(*at));
        disrupted.recheck_at = Some(disrupted.recheck_at.map_or(deadline, |known| known.min(deadline)));
    }
    disrupted
}

/// Until when a pod of this name counts as the one that was evicted then; `None` if it is another.
fn deadline(pod: &Pod, evicted: Timestamp) -> Option<Timestamp> {
    let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0).as_second();
    let patience = match created.cmp(&evicted.as_second()) {
        std::cmp::Ordering::Less => PATIENCE,
        std::cmp::Ordering::Equal => DOUBT,
        std::cmp::Ordering::Greater => return None,
    };
    Some(evicted.saturating_add(patience).unwrap_or(Timestamp::MAX))
}

/// Whether the pod is ready and nobody is ending it.
pub(super) fn is_healthy(pod: &Pod, disrupted: &Disrupted) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && !disrupted.pods.contains_key(name) && is_ready(pod)
}
