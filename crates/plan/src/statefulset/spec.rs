//! The set's wishes, with upstream's defaults.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::extensions::{Extensions, Malformed};
use kinds::ordinals::natural;
use kinds::{Ordinals, Selector, SetKind};

use super::{MOST_CREATIONS, WaitingOn};

pub(super) struct Spec<'a> {
    pub(super) kind: SetKind,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) uid: &'a str,
    pub(super) wanted: &'a StatefulSetSpec,
    pub(super) selector: Selector,
    /// The ordinals that are to have a pod.
    pub(super) ordinals: Ordinals,
    pub(super) replicas: u32,
    pub(super) ordered: bool,
    pub(super) strategy: Strategy,
    pub(super) min_ready: SignedDuration,
    pub(super) claims: &'a [PersistentVolumeClaim],
    /// Whether claims go with the set.
    pub(super) delete_claims_with_set: bool,
    /// Whether claims go when their ordinal is scaled down.
    pub(super) delete_claims_when_scaled: bool,
    /// `None` keeps all revisions.
    pub(super) history_limit: Option<usize>,
    pub(super) extensions: Extensions,
    /// Annotations that can't be read.
    pub(super) malformed: Vec<Malformed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    OnDelete,
    RollingUpdate {
        /// How many of the lowest replicas keep the current revision; `None` without a `rollingUpdate` block.
        partition: Option<u32>,
        max_unavailable: u32,
    },
}

impl<'a> Spec<'a> {
    pub(super) fn of(set: &'a StatefulSet, kind: SetKind) -> Result<Self, WaitingOn> {
        let wanted = set.spec.as_ref().ok_or(WaitingOn::InvalidSelector { reason: "there is no spec".into() })?;
        let selector = Selector::from_label_selector(&wanted.selector).map_err(|error| error.to_string());
        let selector = selector.and_then(|selector| match selector.is_empty() {
            true => Err("it is empty".to_owned()),
            false => Ok(selector),
        });
        let replicas = natural(wanted.replicas.unwrap_or(1));
        let retention = wanted.persistent_volume_claim_retention_policy.as_ref();
        let start = natural(wanted.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0));
        let (extensions, malformed) = Extensions::read(set.metadata.annotations.as_ref());
        let deletes = |when: Option<&String>| when.is_some_and(|policy| policy == "Delete");
        Ok(Self {
            kind,
            name: set.metadata.name.as_deref().unwrap_or_default(),
            namespace: set.metadata.namespace.as_deref().unwrap_or_default(),
            uid: set.metadata.uid.as_deref().unwrap_or_default(),
            wanted,
            selector: selector.map_err(|reason| WaitingOn::InvalidSelector { reason })?,
            ordinals: Ordinals::new(start, replicas, extensions.reserved_ordinals.clone()),
            replicas,
            ordered: wanted.pod_management_policy.as_deref() != Some("Parallel"),
            strategy: strategy(wanted, replicas)?,
            min_ready: SignedDuration::from_secs(i64::from(natural(wanted.min_ready_seconds.unwrap_or(0)))),
            claims: wanted.volume_claim_templates.as_deref().unwrap_or_default(),
            delete_claims_with_set: deletes(retention.and_then(|policy| policy.when_deleted.as_ref())),
            delete_claims_when_scaled: deletes(retention.and_then(|policy| policy.when_scaled.as_ref())),
            history_limit: usize::try_from(wanted.revision_history_limit.unwrap_or(10)).ok(),
            extensions,
            malformed,
        })
    }

    /// The lowest ordinal that a rollout may touch: the partition counts the wanted ordinals.
    pub(super) fn rollout_start(&self) -> u32 {
        match self.strategy {
            Strategy::OnDelete => self.ordinals.nth(0),
            Strategy::RollingUpdate { partition, .. } => self.ordinals.nth(partition.unwrap_or(0)),
        }
    }

    /// How many replicas an update takes down at once at most.
    pub(super) fn batch(&self) -> usize {
        match self.strategy {
            Strategy::OnDelete => 1,
            Strategy::RollingUpdate { max_unavailable, .. } => (max_unavailable as usize).min(MOST_CREATIONS),
        }
    }

    /// Whether rollouts are told to stand still. (Under OnDelete there is none: pods are replaced by their user.)
    pub(super) fn is_paused(&self) -> bool {
        self.extensions.paused && self.strategy != Strategy::OnDelete
    }

    /// The set as the controlling owner.
    pub(super) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.kind.api_version().to_owned(),
            kind: "StatefulSet".to_owned(),
            name: self.name.to_owned(),
            uid: self.uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// The name of the pod at an ordinal.
    pub(super) fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }
}

fn strategy(wanted: &StatefulSetSpec, replicas: u32) -> Result<Strategy, WaitingOn> {
    let strategy = wanted.update_strategy.as_ref();
    match strategy.and_then(|strategy| strategy.type_.as_deref()) {
        Some("OnDelete") => Ok(Strategy::OnDelete),
        None | Some("" | "RollingUpdate") => {
            let block = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
            let partition = block.map(|block| natural(block.partition.unwrap_or(0)));
            Ok(Strategy::RollingUpdate { partition, max_unavailable: max_unavailable(block, replicas) })
        }
        Some(other) => Err(WaitingOn::UnknownStrategy { strategy: other.to_owned() }),
    }
}

/// At least one; a percentage of the replicas is rounded down.
fn max_unavailable(block: Option<&RollingUpdateStatefulSetStrategy>, replicas: u32) -> u32 {
    let most = match block.and_then(|block| block.max_unavailable.as_ref()) {
        None => 1,
        Some(IntOrString::Int(count)) => natural(*count),
        Some(IntOrString::String(percent)) => {
            let percent: u64 = percent.trim_end_matches('%').parse().unwrap_or(0);
            u32::try_from(u64::from(replicas).saturating_mul(percent) / 100).unwrap_or(u32::MAX)
        }
    };
    most.max(1)
}
