use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn claim(name: &str, class: Option<&str>) -> PersistentVolumeClaim {
    let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let metadata = json!({"namespace": "default", "name": name, "uid": format!("uid-{name}"), "finalizers": [CLAIM_PROTECTION]});
    parsed(json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}))
}

fn volume(name: &str, size: &str, class: &str) -> PersistentVolume {
    let spec = json!({"storageClassName": class, "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain"});
    parsed(json!({"metadata": {"name": name, "finalizers": [VOLUME_PROTECTION]}, "spec": spec, "status": {"phase": "Available"}}))
}

fn class(name: &str, provisioner: &str, mode: &str) -> StorageClass {
    parsed(json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}))
}

/// A little cluster that carries steps out as the server would.
#[derive(Clone, Default)]
struct World {
    claims: BTreeMap<String, PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
    classes: Vec<StorageClass>,
    default_class: Option<String>,
    nodes: Vec<String>,
    used: bool,
}

impl World {
    fn with(claims: Vec<PersistentVolumeClaim>, volumes: Vec<PersistentVolume>, classes: Vec<StorageClass>) -> Self {
        let claims = claims.into_iter().map(|claim| (claim.metadata.name.clone().unwrap(), claim)).collect();
        let volumes = volumes.into_iter().map(|volume| (volume.metadata.name.clone().unwrap(), volume)).collect();
        Self { claims, volumes, classes, ..Self::default() }
    }

    fn plan_claim(&self, name: &str) -> ClaimPlan {
        let claim = &self.claims[name];
        let class = claim.spec.as_ref().unwrap().storage_class_name.as_deref();
        let node =
            |name: &String| Arc::new(parsed::<Node>(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})));
        plan_claim(&ClaimView {
            claim,
            named: wanted_volume(claim).and_then(|name| self.volumes.get(name)).cloned().map(Arc::new),
            volumes: &|| self.volumes.values().cloned().map(Arc::new).collect(),
            class: self.classes.iter().find(|known| known.metadata.name.as_deref() == class).cloned().map(Arc::new),
            default_class: self.default_class.clone(),
            nodes: &|| self.nodes.iter().map(node).collect(),
            used: self.used,
        })
    }

    fn plan_volume(&self, name: &str) -> VolumePlan {
        let volume = &self.volumes[name];
        let reference = volume.spec.as_ref().unwrap().claim_ref.as_ref();
        let claim = match reference {
            None => ClaimState::None,
            Some(reference) => match self.claims.get(reference.name.as_ref().unwrap()) {
                Some(claim) if reference.uid.is_none() || claim.metadata.uid == reference.uid => {
                    ClaimState::Present(Arc::new(claim.clone()))
                }
                _ if reference.uid.is_none() => ClaimState::None,
                _ => ClaimState::Gone,
            },
        };
        plan_volume(&VolumeView { volume, claim, now: Timestamp::UNIX_EPOCH })
    }

    /// The first step that something has to do, the claims or the volumes first.
    fn next(&self, volumes_first: bool) -> Option<Step> {
        let claims = || self.claims.keys().find_map(|name| self.plan_claim(name).step);
        let volumes = || self.volumes.keys().find_map(|name| self.plan_volume(name).step);
        if volumes_first { volumes().or_else(claims) } else { claims().or_else(volumes) }
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::WriteClaim(claim) | Step::WriteClaimStatus(claim) => {
                drop(self.claims.insert(claim.metadata.name.clone().unwrap(), *claim))
            }
            Step::WriteVolume(volume) | Step::WriteVolumeStatus(volume) => {
                drop(self.volumes.insert(volume.metadata.name.clone().unwrap(), *volume));
            }
        }
    }

    /// How many steps it took until there was none left.
    fn settle(&mut self, mut volumes_first: impl FnMut() -> bool) -> usize {
        for steps in 0..200 {
            match self.next(volumes_first()) {
                Some(step) => self.carry_out(step),
                None if self.next(true).is_none() => return steps,
                None => {}
            }
        }
        panic!("it never settles");
    }

    fn settled(mut self) -> Self {
        self.settle(|| false);
        self
    }

    /// `claim>volume` for each claim that both sides agree on, `claim>` with its phase else.
    fn bindings(&self) -> Vec<String> {
        let text = |(name, claim): (&String, &PersistentVolumeClaim)| {
            let phase = claim.status.clone().unwrap_or_default().phase.unwrap_or_default();
            match bound_to(claim).filter(|_| phase == "Bound") {
                Some(volume) => format!("{name}>{volume}"),
                None => format!("{name} {phase}"),
            }
        };
        self.claims.iter().map(text).collect()
    }

    fn phases(&self) -> Vec<String> {
        let phase = |volume: &PersistentVolume| volume.status.clone().unwrap_or_default().phase.unwrap_or_default();
        self.volumes.iter().map(|(name, volume)| format!("{name} {}", phase(volume))).collect()
    }

    fn annotation(&self, claim: &str, key: &str) -> Option<String> {
        self.claims[claim].metadata.annotations.as_ref()?.get(key).cloned()
    }
}

#[test]
fn a_claim_gets_the_smallest_volume_that_suits_it() {
    let mut labelled = claim("picky", Some("c"));
    labelled.spec.as_mut().unwrap().selector = Some(parsed(json!({"matchLabels": {"disk": "ssd"}})));
    let mut ssd = volume("ssd", "9Gi", "c");
    ssd.metadata.labels = Some(parsed(json!({"disk": "ssd"})));
    let volumes =
        vec![volume("huge", "8Gi", "c"), volume("fits", "2Gi", "c"), volume("tiny", "1Mi", "c"), volume("other", "1Gi", "d"), ssd];
    let world = World::with(vec![claim("data", Some("c")), labelled], volumes, vec![]).settled();
    assert_eq!(world.bindings(), ["data>fits", "picky>ssd"]);
    assert_eq!(world.phases(), ["fits Bound", "huge Available", "other Available", "ssd Bound", "tiny Available"]);
    let status = world.claims["data"].status.clone().unwrap();
    assert_eq!((status.capacity.unwrap()["storage"].0.as_str(), status.access_modes.unwrap().len()), ("2Gi", 1));
}

#[test]
fn a_claim_waits_for_its_consumer_then_for_the_provisioner_and_then_binds() {
    let delayed = class("local", LOCAL_PROVISIONER, "WaitForFirstConsumer");
    let mut world = World::with(vec![claim("data", Some("local"))], vec![], vec![delayed]).settled();
    assert_eq!(world.plan_claim("data").waiting, Some(Waiting::Consumer));
    let chosen = BTreeMap::from([(SELECTED_NODE.to_owned(), "n".to_owned())]);
    world.claims.get_mut("data").unwrap().metadata.annotations = Some(chosen);
    world.settle(|| false);
    assert_eq!(world.plan_claim("data").waiting, Some(Waiting::Provisioner(LOCAL_PROVISIONER.into())));
    assert_eq!(world.annotation("data", PROVISIONER).as_deref(), Some(LOCAL_PROVISIONER));
    let mut made = volume("pvc-1", "1Gi", "local");
    made.status = None;
    made.spec.as_mut().unwrap().claim_ref = Some(parsed(json!({"namespace": "default", "name": "data", "uid": "uid-data"})));
    world.volumes.insert("pvc-1".into(), made);
    world.settle(|| true);
    assert_eq!((world.bindings(), world.phases()), (vec!["data>pvc-1".to_owned()], vec!["pvc-1 Bound".to_owned()]));
}

#[test]
fn an_immediate_local_claim_is_given_a_ready_node() {
    let classes = vec![class("now", LOCAL_PROVISIONER, "Immediate")];
    let mut world = World::with(vec![claim("data", Some("now"))], vec![], classes).settled();
    assert_eq!(world.plan_claim("data").waiting, Some(Waiting::Node));
    world.nodes = vec!["n1".into(), "n2".into()];
    world.settle(|| false);
    assert_eq!(world.annotation("data", SELECTED_NODE).as_deref(), Some("n1"));
}

#[test]
fn a_claim_without_a_class_gets_the_default_one_and_an_empty_class_means_none() {
    let mut world = World::with(vec![claim("a", None), claim("b", Some(""))], vec![], vec![class("std", "x.io/y", "Immediate")]);
    world.default_class = Some("std".into());
    world.settle(|| false);
    assert_eq!(world.plan_claim("a").waiting, Some(Waiting::Provisioner("x.io/y".into())));
    assert_eq!(world.plan_claim("b").waiting, Some(Waiting::Volume));
    assert_eq!(World::with(vec![claim("c", Some("none"))], vec![], vec![]).plan_claim("c").waiting, Some(Waiting::Class("none".into())));
}

#[test]
fn a_volume_that_is_reserved_by_hand_goes_to_its_claim_alone() {
    let mut reserved = volume("mine", "1Gi", "c");
    reserved.spec.as_mut().unwrap().claim_ref = Some(parsed(json!({"namespace": "default", "name": "b"})));
    let world = World::with(vec![claim("a", Some("c")), claim("b", Some("c"))], vec![reserved], vec![]).settled();
    assert_eq!(world.bindings(), ["a Pending", "b>mine"]);
}

#[test]
fn a_claim_that_names_its_volume_gets_that_one_or_waits() {
    let mut named = claim("a", Some("c"));
    named.spec.as_mut().unwrap().volume_name = Some("big".into());
    let mut absent = claim("b", Some("c"));
    absent.spec.as_mut().unwrap().volume_name = Some("none".into());
    let world = World::with(vec![named, absent], vec![volume("big", "9Gi", "c"), volume("small", "1Gi", "c")], vec![]).settled();
    assert_eq!(world.bindings(), ["a>big", "b Pending"]);
}

#[test]
fn a_volume_whose_claim_is_gone_is_released_and_stays_so_under_retain() {
    let mut world = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]).settled();
    world.claims.clear();
    world.claims.insert(
        "a".into(),
        PersistentVolumeClaim { metadata: parsed(json!({"namespace": "default", "name": "a", "uid": "another"})), ..claim("a", Some("c")) },
    );
    world.settle(|| false);
    assert_eq!((world.phases(), world.bindings()), (vec!["v Released".to_owned()], vec!["a Pending".to_owned()]));
}

#[test]
fn what_nobody_can_delete_fails_and_what_was_provisioned_is_left_to_its_provisioner() {
    let mut by_hand = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]).settled();
    by_hand.volumes.get_mut("v").unwrap().spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some("Delete".into());
    let mut provisioned = by_hand.clone();
    let annotations = provisioned.volumes.get_mut("v").unwrap().metadata.annotations.get_or_insert_default();
    annotations.insert(PROVISIONED_BY.into(), LOCAL_PROVISIONER.into());
    for (mut world, phase) in [(by_hand, "v Failed"), (provisioned, "v Released")] {
        world.claims.clear();
        world.settle(|| false);
        assert_eq!(world.phases(), [phase]);
    }
}

#[test]
fn a_bound_claim_whose_volume_is_gone_is_lost_and_said_once() {
    let mut world = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]).settled();
    world.volumes.clear();
    assert_eq!(world.plan_claim("a").note.unwrap().reason, "ClaimLost");
    world.settle(|| false);
    assert_eq!((world.bindings(), world.plan_claim("a")), (vec!["a Lost".to_owned()], ClaimPlan::default()));
}

#[test]
fn what_is_in_use_keeps_its_protection_and_what_is_not_loses_it() {
    let mut world = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]).settled();
    world.claims.get_mut("a").unwrap().metadata.deletion_timestamp = Some(parsed(json!("2026-01-01T00:00:00Z")));
    world.volumes.get_mut("v").unwrap().metadata.deletion_timestamp = Some(parsed(json!("2026-01-01T00:00:00Z")));
    world.used = true;
    assert_eq!(world.next(false), None);
    world.used = false;
    world.settle(|| false);
    assert_eq!(world.claims["a"].metadata.finalizers, Some(vec![]));
    assert_eq!(world.volumes["v"].metadata.finalizers, Some(vec![VOLUME_PROTECTION.to_owned()]));
    world.claims.clear();
    world.settle(|| false);
    assert_eq!(world.volumes["v"].metadata.finalizers, Some(vec![]));
}

#[test]
fn a_protection_that_is_missing_is_added() {
    let mut world = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]);
    world.claims.get_mut("a").unwrap().metadata.finalizers = None;
    world.volumes.get_mut("v").unwrap().metadata.finalizers = None;
    world.settle(|| true);
    assert_eq!(world.claims["a"].metadata.finalizers, Some(vec![CLAIM_PROTECTION.to_owned()]));
    assert_eq!(world.volumes["v"].metadata.finalizers, Some(vec![VOLUME_PROTECTION.to_owned()]));
}

#[test]
fn a_second_volume_that_was_reserved_in_vain_is_given_free() {
    let mut world = World::with(vec![claim("a", Some("c"))], vec![volume("v", "1Gi", "c")], vec![]).settled();
    let mut twin = world.volumes["v"].clone();
    twin.metadata.name = Some("w".into());
    world.volumes.insert("w".into(), twin);
    world.settle(|| false);
    assert_eq!(world.phases(), ["v Bound", "w Available"]);
    assert!(world.volumes["w"].spec.as_ref().unwrap().claim_ref.is_none());
}

proptest! {
    /// Whatever the order of steps, and with a crash after any of them: each claim that can be served is, each volume serves
    /// one claim, and both sides agree.
    #[test]
    fn every_order_of_steps_ends_in_a_matching(
        sizes in prop::collection::vec(1..5_u32, 0..6),
        claims in 0..6_usize,
        order in prop::collection::vec(any::<bool>(), 200),
    ) {
        let volumes = sizes.iter().enumerate().map(|(at, size)| volume(&format!("v{at}"), &format!("{size}Gi"), "c")).collect();
        let claims_made: Vec<_> = (0..claims).map(|at| claim(&format!("c{at}"), Some("c"))).collect();
        let mut world = World::with(claims_made, volumes, vec![]);
        let mut order = order.into_iter().cycle();
        world.settle(|| order.next().unwrap());
        let bound: Vec<_> = world.claims.iter().filter_map(|(name, claim)| Some((name, bound_to(claim)?.to_owned()))).collect();
        prop_assert_eq!(bound.len(), claims.min(sizes.len()));
        for (claim, volume) in bound {
            let reference = world.volumes[&volume].spec.clone().unwrap().claim_ref.unwrap();
            prop_assert_eq!(reference.uid, Some(format!("uid-{claim}")));
        }
    }
}
