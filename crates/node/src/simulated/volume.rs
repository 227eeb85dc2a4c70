//! Local volumes that exist in the API only.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::binding::{LOCAL_PROVISIONER, PROVISIONED_BY, SELECTED_NODE, wanted_volume};

use super::execute::Action;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// What is known about a claim.
pub(super) struct ClaimView<'a> {
    pub claim: &'a PersistentVolumeClaim,
    pub class: Option<&'a StorageClass>,
    /// Whether a node is one of the simulated ones.
    pub is_ours: &'a dyn Fn(&str) -> bool,
}

/// The name of the volume that is made for a claim.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.metadata.uid.as_ref().map(|uid| format!("pvc-{uid}"))
}

/// A volume for a claim that waits for one on a simulated node.
pub(super) fn plan_claim(view: &ClaimView<'_>) -> Option<Action> {
    let meta = &view.claim.metadata;
    let node = meta.annotations.as_ref()?.get(SELECTED_NODE).filter(|node| (view.is_ours)(node))?;
    let class = view.class.filter(|class| class.provisioner == LOCAL_PROVISIONER)?;
    let waits = wanted_volume(view.claim).is_none() && meta.deletion_timestamp.is_none();
    let name = volume_name(view.claim).filter(|_| waits)?;
    Some(Action::CreateVolume(Box::new(volume(view.claim, class, name, node))))
}

fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, name: String, node: &str) -> PersistentVolume {
    let wanted = claim.spec.clone().unwrap_or_default();
    let requested = wanted.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let meta = &claim.metadata;
    let claim_ref = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    };
    PersistentVolume {
        spec: Some(PersistentVolumeSpec {
            access_modes: wanted.access_modes,
            capacity: Some(requested.into_iter().filter(|(resource, _)| resource == "storage").collect()),
            claim_ref: Some(claim_ref),
            local: Some(LocalVolumeSource { fs_type: None, path: format!("/simulated/{name}") }),
            node_affinity: Some(only_on(node)),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: wanted.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), LOCAL_PROVISIONER.to_owned())])),
            ..ObjectMeta::default()
        },
        ..PersistentVolume::default()
    }
}

fn only_on(node: &str) -> VolumeNodeAffinity {
    let rule = NodeSelectorRequirement { key: HOSTNAME.to_owned(), operator: "In".to_owned(), values: Some(vec![node.to_owned()]) };
    let term = NodeSelectorTerm { match_expressions: Some(vec![rule]), match_fields: None };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

/// A volume of a simulated node goes when its claim is gone, if that is its policy.
pub(super) fn plan_volume(volume: &PersistentVolume, is_ours: &dyn Fn(&str) -> bool) -> Option<Action> {
    let (meta, spec) = (&volume.metadata, volume.spec.as_ref()?);
    let made_by_us = meta.annotations.as_ref()?.get(PROVISIONED_BY).is_some_and(|by| by == LOCAL_PROVISIONER);
    let deletable = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete") && meta.deletion_timestamp.is_none();
    let released = volume.status.as_ref()?.phase.as_deref() == Some("Released");
    let wanted = made_by_us && deletable && released && node_of(spec).is_some_and(is_ours);
    wanted.then(|| Action::DeleteVolume { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone() })
}

/// The node whose name [`only_on`] wrote.
fn node_of(spec: &PersistentVolumeSpec) -> Option<&str> {
    let terms = &spec.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
    let rules = terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    rules.into_iter().find(|rule| rule.key == HOSTNAME)?.values.as_ref()?.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// A claim that waits for a volume on `simulated-0`, changed by a merge patch.
    fn claim(change: Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data-web-0", "namespace": "shop", "uid": "u1", "annotations": {SELECTED_NODE: "simulated-0"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "storageClassName": "local"},
        });
        super::super::tests::merge(&mut claim, &change);
        parsed(claim)
    }

    fn class(provisioner: &str) -> StorageClass {
        parsed(json!({"metadata": {"name": "local"}, "provisioner": provisioner, "reclaimPolicy": "Delete"}))
    }

    fn ours(node: &str) -> bool {
        node.starts_with("simulated-")
    }

    fn planned(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<PersistentVolume> {
        match plan_claim(&ClaimView { claim, class: Some(class), is_ours: &ours })? {
            Action::CreateVolume(volume) => Some(*volume),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_of_a_simulated_node_gets_a_volume_that_the_binding_controller_accepts() {
        let claim = claim(json!({}));
        let volume = planned(&claim, &class(LOCAL_PROVISIONER)).unwrap();
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-u1"));
        assert!(plan::binding::suits(&claim, &volume));
        assert_eq!(volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap().uid.as_deref(), Some("u1"));
        assert_eq!(node_of(volume.spec.as_ref().unwrap()), Some("simulated-0"));
    }

    #[test]
    fn no_volume_is_made_for_other_claims() {
        let local = class(LOCAL_PROVISIONER);
        let others = [
            json!({"metadata": {"annotations": {SELECTED_NODE: "real"}}}),
            json!({"metadata": {"annotations": null}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"spec": {"volumeName": "v"}}),
        ];
        for change in others {
            assert_eq!(planned(&claim(change.clone()), &local), None, "{change}");
        }
        assert_eq!(planned(&claim(json!({})), &class("example.com/nfs")), None);
    }

    #[test]
    fn a_volume_goes_when_it_is_released_and_its_policy_says_so() {
        let made = planned(&claim(json!({})), &class(LOCAL_PROVISIONER)).unwrap();
        let with = |change: Value| {
            let mut volume = serde_json::to_value(&made).unwrap();
            super::super::tests::merge(&mut volume, &json!({"metadata": {"uid": "u2"}, "status": {"phase": "Released"}}));
            super::super::tests::merge(&mut volume, &change);
            plan_volume(&parsed(volume), &ours)
        };
        assert_eq!(with(json!({})), Some(Action::DeleteVolume { name: "pvc-u1".to_owned(), uid: Some("u2".to_owned()) }));
        let others = [
            json!({"status": {"phase": "Bound"}}),
            json!({"metadata": {"annotations": null}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}),
            json!({"spec": {"nodeAffinity": null}}),
        ];
        for change in others {
            assert_eq!(with(change.clone()), None, "{change}");
        }
    }
}
