use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let mut whole = json!({"selector": {"app": "redis"}, "ports": [{"name": "client", "port": 6379, "targetPort": "client"}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "redis", "uid": "s"}, "spec": whole})).unwrap()
}

fn pod(ordinal: usize, ready: bool) -> Arc<Pod> {
    let name = format!("redis-{ordinal}");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": name, "uid": name},
            "spec": {"hostname": name, "subdomain": "redis", "nodeName": "n",
                "containers": [{"name": "c", "ports": [{"name": "client", "containerPort": 6379}]}]},
            "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", ordinal / 250, ordinal % 250),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap(),
    )
}

fn changed(pod: &Pod, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = pod.clone();
    change(&mut pod);
    Arc::new(pod)
}

fn terminating(pod: &Pod) -> Arc<Pod> {
    changed(pod, |pod| pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap()))
}

fn no_zones(_: &str) -> Option<String> {
    None
}

/// Slices as the server holds them.
#[derive(Default)]
struct Slices(BTreeMap<String, Arc<EndpointSlice>>);

impl Slices {
    /// Plans, writes, and tells what was written.
    fn publish(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Vec<&'static str> {
        let slices: Vec<_> = self.0.values().cloned().collect();
        let changes = plan_slices(service, pods, &slices, &no_zones);
        changes.into_iter().map(|change| self.write(change)).collect()
    }

    fn write(&mut self, change: SliceChange) -> &'static str {
        match change {
            SliceChange::Create(slice) => {
                let name = slice.metadata.name.clone().unwrap();
                assert!(self.0.insert(name, Arc::new(slice)).is_none(), "the name was taken");
                "create"
            }
            SliceChange::Update(slice) => {
                let name = slice.metadata.name.clone().unwrap();
                self.0.insert(name, Arc::new(slice)).unwrap();
                "update"
            }
            SliceChange::Delete(slice) => {
                self.0.remove(slice.metadata.name.as_ref().unwrap()).unwrap();
                "delete"
            }
        }
    }

    /// `host ready/serving/terminating address:ports` of every endpoint.
    fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for slice in self.0.values() {
            let ports: Vec<_> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.clone().unwrap();
                let flags =
                    [conditions.ready, conditions.serving, conditions.terminating].map(|flag| if flag == Some(true) { '1' } else { '0' });
                let host = endpoint.hostname.as_deref().unwrap_or("-");
                shown.push(format!("{host} {} {}:{ports:?}", flags.iter().collect::<String>(), endpoint.addresses[0]));
            }
        }
        shown
    }
}

fn shown(service: &Service, pods: &[Arc<Pod>]) -> Vec<String> {
    let mut slices = Slices::default();
    slices.publish(service, pods);
    slices.shown()
}

#[test]
fn readiness_termination_and_hostnames_are_shown() {
    let pods = [pod(0, true), pod(1, false), terminating(&pod(2, true))];
    let wanted = ["redis-0 110 10.0.0.0:[6379]", "redis-1 000 10.0.0.1:[6379]", "redis-2 011 10.0.0.2:[6379]"];
    assert_eq!(shown(&service(json!({})), &pods), wanted);
    let early = service(json!({"publishNotReadyAddresses": true}));
    assert_eq!(shown(&early, &pods[1..]), ["redis-1 100 10.0.0.1:[6379]", "redis-2 111 10.0.0.2:[6379]"]);
}

#[test]
fn a_pod_that_ended_or_has_no_address_is_no_endpoint_and_one_under_another_name_has_no_hostname() {
    let ended = changed(&pod(0, true), |pod| pod.status.as_mut().unwrap().phase = Some("Failed".into()));
    let bare = changed(&pod(1, true), |pod| pod.status.as_mut().unwrap().pod_ip = None);
    let other = changed(&pod(2, true), |pod| pod.spec.as_mut().unwrap().subdomain = Some("other".into()));
    assert_eq!(shown(&service(json!({})), &[ended, bare, other]), ["- 110 10.0.0.2:[6379]"]);
}

#[test]
fn a_named_port_is_each_pods_own_and_a_headless_service_may_have_none() {
    let moved = changed(&pod(1, true), |pod| pod.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 7000);
    let mut ports = shown(&service(json!({})), &[pod(0, true), moved]);
    ports.sort();
    assert_eq!(ports, ["redis-0 110 10.0.0.0:[6379]", "redis-1 110 10.0.0.1:[7000]"]);
    let headless = service(json!({"clusterIP": "None", "ports": null}));
    assert_eq!(shown(&headless, &[pod(0, true)]), ["redis-0 110 10.0.0.0:[]"]);
}

#[test]
fn labels_and_owner_say_whose_a_slice_is() {
    let mut slices = Slices::default();
    slices.publish(&service(json!({"clusterIP": "None"})), &[pod(0, true)]);
    let slice = slices.0.values().next().unwrap();
    let labels = slice.metadata.labels.clone().unwrap();
    let wanted = [(MANAGED_BY, MANAGER), (SERVICE_NAME, "redis"), (HEADLESS, "")];
    assert_eq!(labels, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let owner = &slice.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Service", "s", Some(true)));
}

#[test]
fn one_pod_that_changes_writes_one_slice_and_nothing_new_writes_none() {
    let service = service(json!({}));
    let mut pods: Vec<_> = (0..250).map(|ordinal| pod(ordinal, true)).collect();
    let mut slices = Slices::default();
    assert_eq!(slices.publish(&service, &pods), ["create", "create", "create"]);
    assert_eq!(slices.publish(&service, &pods), Vec::<&str>::new());
    pods[120] = pod(120, false);
    assert_eq!(slices.publish(&service, &pods), ["update"]);
    pods.truncate(249);
    assert_eq!(slices.publish(&service, &pods), ["update"]);
    assert_eq!(slices.publish(&service, &[]), ["create", "delete", "delete", "delete"]);
    assert!(slices.0.len() == 1 && slices.shown().is_empty());
}

#[test]
fn slices_of_an_earlier_service_of_the_name_are_replaced() {
    let mut slices = Slices::default();
    slices.publish(&service(json!({})), &[pod(0, true)]);
    let mut successor = service(json!({}));
    successor.metadata.uid = Some("t".into());
    assert_eq!(slices.publish(&successor, &[pod(0, true)]), ["create", "delete"]);
}

fn classic(service: &Service, pods: &[Arc<Pod>]) -> Vec<(Vec<String>, Vec<String>)> {
    let names = |list: Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| -> Vec<String> {
        list.into_iter().flatten().filter_map(|address| address.hostname).collect()
    };
    let subsets = plan_endpoints(service, pods, None).unwrap().subsets.unwrap();
    subsets.into_iter().map(|subset| (names(subset.addresses), names(subset.not_ready_addresses))).collect()
}

#[test]
fn the_classic_object_has_ready_and_unready_addresses_and_none_that_terminate() {
    let pods = [pod(0, true), pod(1, false), terminating(&pod(2, true))];
    let both = |ready: &[&str], unready: &[&str]| {
        (ready.iter().map(|name| (*name).to_owned()).collect(), unready.iter().map(|name| (*name).to_owned()).collect())
    };
    assert_eq!(classic(&service(json!({})), &pods), [both(&["redis-0"], &["redis-1"])]);
    let early = service(json!({"publishNotReadyAddresses": true}));
    assert_eq!(classic(&early, &pods), [both(&["redis-0", "redis-1", "redis-2"], &[])]);
}

#[test]
fn the_classic_object_is_written_only_when_it_differs_and_cut_at_its_limit() {
    let service = service(json!({}));
    let pods: Vec<_> = (0..1001).map(|ordinal| pod(ordinal, true)).collect();
    let first = plan_endpoints(&service, &pods, None).unwrap();
    assert_eq!(first.subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap().len(), 1000);
    assert!(first.metadata.annotations.as_ref().unwrap().contains_key("endpoints.kubernetes.io/over-capacity"));
    assert_eq!(plan_endpoints(&service, &pods, Some(&first)), None);
    let fewer = plan_endpoints(&service, &pods[..2], Some(&first)).unwrap();
    assert_eq!(fewer.metadata.annotations, None);
}

proptest! {
    // A case publishes hundreds of pods several times.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever comes and goes: each pod is published once, slices are never too full, and a second look writes nothing.
    #[test]
    fn every_round_publishes_exactly_the_pods_there_are(
        rounds in prop::collection::vec((prop::collection::btree_set(0..300_usize, 0..260), any::<bool>()), 1..6),
    ) {
        let service = service(json!({}));
        let mut slices = Slices::default();
        for (ordinals, ready) in rounds {
            let pods: Vec<_> = ordinals.iter().map(|ordinal| pod(*ordinal, ready)).collect();
            slices.publish(&service, &pods);
            let names: Vec<String> = slices.0.values().flat_map(|slice| slice.endpoints.clone().unwrap()).filter_map(|endpoint| endpoint.hostname).collect();
            let unique: BTreeSet<_> = names.iter().cloned().collect();
            prop_assert_eq!((names.len(), unique), (ordinals.len(), ordinals.iter().map(|ordinal| format!("redis-{ordinal}")).collect()));
            prop_assert!(slices.0.values().all(|slice| slice.endpoints.as_ref().unwrap().len() <= 100));
            prop_assert!(slices.publish(&service, &pods).is_empty());
        }
    }
}
