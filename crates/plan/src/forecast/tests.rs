//! The world does what a server would.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Refused, World, is_ready};
use crate::statefulset::{Action, Observed, plan};

/// An ordered set of two with claims that go when it is scaled down.
fn world() -> World {
    let set = json!({"metadata": {"name": "web", "namespace": "default", "uid": "set", "resourceVersion": "7", "generation": 1}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web",
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Delete"},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}}}});
    let set: StatefulSet = serde_json::from_value(set).unwrap();
    let observed = Observed {
        kind: Default::default(),
        set: set.into(),
        pods: Vec::new(),
        claims: Default::default(),
        revisions: Vec::new(),
        running_hooks: Default::default(),
        hook_pods: Default::default(),
    };
    World::new(observed, Timestamp::UNIX_EPOCH)
}

/// Rounds and steps until nothing changes.
fn settle(world: &mut World) {
    for _ in 0..100 {
        let plan = plan(&world.observed(), world.now);
        for action in &plan.actions {
            world.apply(action).unwrap();
        }
        let names: Vec<_> = world.pods.keys().cloned().collect();
        let moved = names.iter().filter(|name| world.advance_pod(name, |_| false)).count();
        if !world.write_status(&plan.status) && moved == 0 && !world.collect_garbage() && plan.actions.is_empty() {
            return;
        }
    }
    panic!("not settled");
}

fn names<T>(objects: &std::collections::BTreeMap<String, T>) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

#[test]
fn pods_come_with_their_claims_and_the_claims_go_as_the_policy_says() {
    let mut world = world();
    settle(&mut world);
    assert_eq!((names(&world.pods), names(&world.claims)), (vec!["web-0", "web-1"], vec!["data-web-0", "data-web-1"]));
    assert!(world.pods.values().all(|pod| is_ready(pod)));
    world.change_spec(|spec| spec.replicas = Some(1));
    settle(&mut world);
    assert_eq!((names(&world.pods), names(&world.claims)), (vec!["web-0"], vec!["data-web-0"]));
}

#[test]
fn what_belongs_to_a_deleted_set_goes() {
    let mut world = world();
    settle(&mut world);
    std::sync::Arc::make_mut(&mut world.set).metadata.deletion_timestamp = world.pods["web-0"].metadata.creation_timestamp.clone();
    settle(&mut world);
    assert!(world.pods.is_empty() && world.claims.is_empty() && world.revisions.is_empty());
}

#[test]
fn a_request_about_another_object_than_the_one_that_was_seen_is_refused() {
    let mut world = world();
    settle(&mut world);
    let pod = Pod::clone(&world.pods["web-1"]);
    let delete = |uid: &str| {
        let (ordinal, reason) = (kinds::Ordinal(1), crate::statefulset::DeleteReason::ScaledDown);
        Action::DeletePod { ordinal, name: "web-1".to_owned(), uid: uid.to_owned(), reason }
    };
    let conflict = Refused::Conflict { kind: "Pod", name: "web-1".to_owned() };
    assert_eq!(world.apply(&delete("another")), Err(conflict.clone()));
    let again = Action::CreatePod { ordinal: kinds::Ordinal(1), pod: Box::new(pod.clone()) };
    assert_eq!(world.apply(&again), Err(Refused::AlreadyExists { kind: "Pod", name: "web-1".to_owned() }));
    assert_eq!(world.apply(&delete(pod.metadata.uid.as_deref().unwrap())), Ok(()));
    let repair = Action::UpdatePod { ordinal: kinds::Ordinal(1), pod: Box::new(pod) };
    assert_eq!(world.apply(&repair), Err(conflict), "it has been told to go since");
    assert!(world.advance_pod("web-1", |_| false));
    assert_eq!(world.apply(&repair), Err(Refused::NotFound { kind: "Pod", name: "web-1".to_owned() }));
    assert_eq!(world.apply(&delete("another")), Ok(()), "gone is gone");
}

#[test]
fn only_a_pod_that_a_node_has_takes_time_to_go() {
    let mut world = world();
    settle(&mut world);
    assert!(world.delete_pod("web-1") && !world.delete_pod("web-1") && world.pods.contains_key("web-1"));
    world.change_pod("web-0", |pod| pod.status.get_or_insert_default().phase = Some("Failed".to_owned()));
    assert!(world.delete_pod("web-0") && !world.pods.contains_key("web-0"));
}
