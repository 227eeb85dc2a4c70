//! Updates inside living pods.

use k8s_openapi::api::core::v1::ContainerStatus;
use kinds::extensions::IN_PLACE_UPDATE;
use kinds::gate::{PASSED, PRE_DELETE, PROGRESS, Progress};
use serde_json::json;

use super::super::{Action, plan};
use super::builders::*;
use super::cluster::Cluster;

const REPLACES: &str = "steadfast.dev/in-place-replaces";
const UPDATED: &str = "update pod web-1 in place to rev-2: main=v2";

fn inside() -> SetBuilder {
    set(2).annotated(IN_PLACE_UPDATE, "true")
}

impl PodBuilder {
    /// As it was created from the template with this image, and its container's identity.
    fn running(mut self, image: &str, identity: &str) -> Self {
        let spec = json!({"containers": [{"name": "main", "image": image}]});
        self.0.spec = Some(serde_json::from_value(spec).unwrap());
        self.0.metadata.generation = Some(1);
        self.identity(identity, 1)
    }

    fn identity(mut self, identity: &str, seen: i64) -> Self {
        let status = self.0.status.get_or_insert_default();
        status.observed_generation = Some(seen);
        let container = ContainerStatus { name: "main".to_owned(), container_id: Some(identity.to_owned()), ..Default::default() };
        status.container_statuses = Some(vec![container]);
        self
    }

    /// Updated inside, when its container was `c-0`.
    fn moved(self) -> Self {
        let mut pod = self.running("v2", "c-0").at("rev-2").annotated(REPLACES, r#"{"main":"c-0"}"#);
        pod.0.metadata.generation = Some(2);
        pod
    }
}

fn two(highest: PodBuilder) -> Vec<PodBuilder> {
    vec![pod("web-0").running("v1", "c-0"), highest]
}

fn old(name: &str) -> PodBuilder {
    pod(name).running("v1", "c-0")
}

#[test]
fn where_only_images_differ_a_healthy_pod_is_updated_inside() {
    assert_eq!(planned_update(inside(), two(old("web-1"))), [UPDATED]);
    assert_eq!(planned_update(set(2), two(old("web-1"))), ["delete pod web-1: it is at rev-1, wanted is rev-2"]);
    let observed = observed(
        inside().image("v2").at("rev-1", "rev-2"),
        vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")],
        two(old("web-1")),
    );
    let Action::UpdateInPlace { images, annotations, revision, resource_version, .. } = plan(&observed, now()).actions.remove(0) else {
        panic!("an update inside")
    };
    assert_eq!((images, revision, resource_version), (vec![("main".to_owned(), "v2".to_owned())], "rev-2".to_owned(), "1".to_owned()));
    assert_eq!(annotations, [(REPLACES, Some(r#"{"main":"c-0"}"#.to_owned()))]);
}

#[test]
fn where_more_differs_or_the_pod_is_not_healthy_it_is_replaced() {
    let mut other = inside().image("v2").at("rev-1", "rev-2");
    other.0.spec.as_mut().unwrap().template.spec.as_mut().unwrap().host_network = Some(true);
    let mut update = revision("rev-2", 2, "v2");
    update.data = Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(super::super::template::record(
        &other.0.spec.as_ref().unwrap().template,
    )));
    let planned = lines(&plan(&observed(other, vec![revision("rev-1", 1, "v1"), update], two(old("web-1"))), now()));
    assert_eq!(planned, ["delete pod web-1: it is at rev-1, wanted is rev-2"]);
    let stuck = planned_update(inside(), two(old("web-1").never_ready()));
    assert_eq!(stuck, ["delete pod web-1: it can't become available at rev-1, wanted is rev-2"]);
    let unknown = planned_update(inside(), two(old("web-1").at("rev-0")));
    assert_eq!(unknown, ["delete pod web-1: it is at rev-0, wanted is rev-2"], "nobody knows its template");
}

#[test]
fn it_counts_as_unready_until_the_node_has_replaced_the_container() {
    let waits = "waits for web-1 to become Ready: container main has still to be replaced";
    assert_eq!(planned_update(inside(), two(pod("web-1").moved())), [waits]);
    let restarted = pod("web-1").moved().identity("c-1", 1);
    assert_eq!(planned_update(inside(), two(restarted)), [waits], "it restarted before the node saw the new image");
    let unready = pod("web-1").moved().identity("c-1", 2).unready();
    assert_eq!(planned_update(inside(), two(unready)), ["waits for web-1 to become Ready"]);
    let ready = planned_update(inside(), two(pod("web-1").moved().identity("c-1", 2)));
    assert_eq!(ready, ["update pod web-0 in place to rev-2: main=v2", "mark pod web-1: it is ready after its update in place"]);
}

#[test]
fn the_status_counts_neither_ready_nor_complete_before_that() {
    let status = |pod: PodBuilder| {
        let set = set(1).annotated(IN_PLACE_UPDATE, "true").image("v2").at("rev-1", "rev-2");
        plan(&observed(set, vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")], vec![pod]), now()).status
    };
    let before = status(pod("web-0").moved());
    assert_eq!((before.updated_replicas, before.ready_replicas, before.current_revision.as_deref()), (Some(1), None, Some("rev-1")));
    let after = status(pod("web-0").moved().identity("c-1", 2));
    assert_eq!((after.updated_replicas, after.ready_replicas, after.current_revision.as_deref()), (Some(1), Some(1), Some("rev-2")));
}

#[test]
fn a_pod_that_does_not_come_back_from_an_update_inside_does_not_hold_back_the_next() {
    let set = || inside().image("v1").at("rev-1", "rev-1");
    let revisions = || vec![revision("rev-1", 3, "v1"), revision("rev-2", 2, "v2")];
    let broken = pod("web-1").moved().identity("c-1", 2).unready();
    let planned = lines(&plan(&observed(set(), revisions(), two(broken)), now()));
    assert_eq!(planned, ["delete pod web-1: it can't become available at rev-2, wanted is rev-1"]);
}

#[test]
fn the_gate_comes_before_an_update_inside_and_its_pass_is_used_up() {
    let set = || inside().annotated(PRE_DELETE, r#"{"exec":{"command":["leave"]}}"#);
    let run = ["run the pre-delete hook of pod web-1 for Update rev-2", "waits for the pre-delete hook of web-1 for Update"];
    assert_eq!(planned_update(set(), two(old("web-1"))), run);
    let progress = Progress::begun("Update rev-2".to_owned(), now()).text();
    let passed = old("web-1").annotated(PROGRESS, &progress).annotated(PASSED, "2030-01-01T00:00:00Z");
    let observed =
        observed(set().image("v2").at("rev-1", "rev-2"), vec![revision("rev-1", 1, "v1"), revision("rev-2", 2, "v2")], two(passed));
    let Action::UpdateInPlace { annotations, .. } = plan(&observed, now()).actions.remove(0) else { panic!("an update inside") };
    assert_eq!(annotations[..2], [(PROGRESS, None), (PASSED, None)]);
}

#[test]
fn a_rollout_inside_reaches_every_pod_without_deleting_one() {
    for parallel in [false, true] {
        let set = set(3).annotated(IN_PLACE_UPDATE, "true");
        let mut cluster = Cluster::new(if parallel { set.parallel() } else { set });
        cluster.settle();
        cluster.image("v2");
        assert!(cluster.settle().is_empty());
        assert_eq!(cluster.images(), ["web-0 v2", "web-1 v2", "web-2 v2"]);
        assert!(cluster.world.pods.values().all(|pod| !pod.metadata.annotations.clone().unwrap_or_default().contains_key(REPLACES)));
    }
}
