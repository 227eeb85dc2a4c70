//! What is read from a Lease and written into it, in the meaning upstream's leader election gives its fields.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::Election;

/// Who holds it; a released Lease names nobody.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long its holder may go without renewal; `otherwise` if it doesn't say.
pub(super) fn duration(lease: &Lease, otherwise: Duration) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    seconds.map_or(otherwise, Duration::from_secs)
}

/// Whether nothing happened between the two, whatever became of labels and versions.
pub(super) fn says_the_same(before: &Lease, now: &Lease) -> bool {
    before.spec == now.spec && before.metadata.uid == now.metadata.uid
}

/// The first Lease of the name.
pub(super) fn new(election: &Election, now: Timestamp) -> Lease {
    let metadata = ObjectMeta { name: Some(election.name.clone()), namespace: Some(election.namespace.clone()), ..ObjectMeta::default() };
    let spec = LeaseSpec { acquire_time: Some(MicroTime(now)), lease_transitions: Some(0), ..held(election, now, LeaseSpec::default()) };
    Lease { metadata, spec: Some(spec) }
}

/// The Lease with a new holder.
pub(super) fn taken(lease: &Lease, election: &Election, now: Timestamp) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let transitions = before.lease_transitions.unwrap_or(0).saturating_add(1);
    let spec = LeaseSpec { acquire_time: Some(MicroTime(now)), lease_transitions: Some(transitions), ..held(election, now, before) };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// The Lease with the same holder, who goes on.
pub(super) fn renewed(lease: &Lease, election: &Election, now: Timestamp) -> Lease {
    Lease { metadata: lease.metadata.clone(), spec: Some(held(election, now, lease.spec.clone().unwrap_or_default())) }
}

/// The Lease without a holder, for the next one to take at once. How often it changed hands stays.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

fn held(election: &Election, now: Timestamp, before: LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.timing.lease.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        ..before
    }
}
