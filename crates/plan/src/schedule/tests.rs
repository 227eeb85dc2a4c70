use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::ObjectKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::judge::{Placed, faults};
use super::*;

fn node(name: &str, zone: &str, cpu: &str, taints: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": zone}},
        "spec": {"taints": taints},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "4"}},
    }))
    .unwrap()
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut whole = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let app = name.split('-').next();
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name, "labels": {"app": app}}, "spec": whole})).unwrap()
}

fn cluster(nodes: &[Node]) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.iter().for_each(|node| assert!(cluster.put_node(node)));
    cluster
}

/// Places a pod without volumes and counts it in.
fn settle(cluster: &mut Cluster, pod: &Pod) -> Result<String, String> {
    let demand = Demand::of(pod);
    let placement = place(cluster, &demand, &VolumeDemand::default()).map_err(|why| why.to_string())?;
    cluster.assign(Arc::new(demand), &placement.node);
    Ok(placement.node)
}

fn three() -> Vec<Node> {
    let taint = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
    vec![node("a", "x", "4", taint), node("b", "x", "1", json!([])), node("c", "y", "1", json!([]))]
}

#[test]
fn the_reasons_are_counted_over_nodes_in_upstreams_words() {
    let greedy = pod("web-0", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}));
    let why = settle(&mut cluster(&three()), &greedy).unwrap_err();
    let wanted = "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient cpu.";
    assert_eq!(why, wanted);
    assert_eq!(settle(&mut Cluster::default(), &greedy).unwrap_err(), "no nodes available to schedule pods");
}

#[test]
fn each_hard_rule_has_its_reason() {
    let nodes = [node("a", "x", "4", json!([]))];
    let affinity = |kind: &str, app: &str| {
        let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]);
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term}}})
    };
    let spread = |key: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let cases = [
        (json!({"nodeSelector": {"zone": "y"}}), "1 node(s) didn't match Pod's node affinity/selector"),
        (port.clone(), "1 node(s) didn't have free ports for the requested pod ports"),
        (affinity("podAffinity", "db"), "1 node(s) didn't match pod affinity rules"),
        (affinity("podAntiAffinity", "web"), "1 node(s) didn't match pod anti-affinity rules"),
        (spread("rack"), "1 node(s) didn't match pod topology spread constraints (missing required label)"),
        (json!({"containers": [{"name": "c", "resources": {"requests": {"x.io/gpu": "1"}}}]}), "1 Insufficient x.io/gpu"),
    ];
    for (spec, reason) in cases {
        let mut cluster = cluster(&nodes);
        settle(&mut cluster, &pod("web-0", port.clone())).unwrap();
        let why = settle(&mut cluster, &pod("web-1", spec)).unwrap_err();
        assert_eq!(why, format!("0/1 nodes are available: {reason}."));
    }
}

#[test]
fn a_pod_that_wants_to_be_apart_keeps_others_away() {
    let mut cluster = cluster(&[node("a", "x", "4", json!([]))]);
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let lonely = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    settle(&mut cluster, &pod("db-0", lonely)).unwrap();
    let why = settle(&mut cluster, &pod("web-0", json!({}))).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.");
}

#[test]
fn a_cordoned_node_takes_nothing_but_what_tolerates_it_and_a_full_one_nothing() {
    let mut cordoned = node("a", "x", "4", json!([]));
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    let mut cluster = cluster(&[cordoned]);
    assert_eq!(settle(&mut cluster, &pod("w-0", json!({}))).unwrap_err(), "0/1 nodes are available: 1 node(s) were unschedulable.");
    for n in 0..4 {
        settle(&mut cluster, &pod(&format!("w-{n}"), json!({"tolerations": [{"operator": "Exists"}]}))).unwrap();
    }
    let why = settle(&mut cluster, &pod("w-9", json!({"tolerations": [{"operator": "Exists"}]}))).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn preferences_decide_among_possible_nodes() {
    let nodes = [node("a", "x", "4", json!([])), node("b", "y", "4", json!([]))];
    let preference = json!([{"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y"]}]}}]);
    let prefers = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preference}}});
    assert_eq!(settle(&mut cluster(&nodes), &pod("w-0", prefers)).unwrap(), "b");

    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "w"}}});
    let apart = json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}}});
    let mut cluster = cluster(&nodes);
    let at: Vec<_> = (0..4).map(|n| settle(&mut cluster, &pod(&format!("w-{n}"), apart.clone())).unwrap()).collect();
    assert_eq!(at, ["a", "b", "a", "b"]);
}

#[test]
fn a_pod_that_went_gives_its_room_back_and_a_heartbeat_changes_nothing() {
    let nodes = [node("a", "x", "500m", json!([]))];
    let mut cluster = cluster(&nodes);
    assert!(!cluster.put_node(&nodes[0]));
    settle(&mut cluster, &pod("w-0", json!({}))).unwrap();
    assert!(settle(&mut cluster, &pod("w-1", json!({}))).is_err());
    let mut done = pod("w-0", json!({"nodeName": "a"}));
    assert!(!cluster.put_pod(&done), "it was counted in when it was placed");
    done.status.get_or_insert_default().phase = Some("Succeeded".into());
    assert!(cluster.put_pod(&done));
    assert_eq!(settle(&mut cluster, &pod("w-1", json!({}))).unwrap(), "a");
}

#[test]
fn a_node_that_comes_back_still_has_its_pods() {
    let nodes = [node("a", "x", "500m", json!([]))];
    let mut cluster = cluster(&nodes);
    settle(&mut cluster, &pod("w-0", json!({}))).unwrap();
    cluster.remove_node("a");
    cluster.put_node(&nodes[0]);
    assert!(settle(&mut cluster, &pod("w-1", json!({}))).is_err());
}

struct Shelf {
    claim: Option<Value>,
    volumes: Vec<Value>,
    class: Value,
}

impl Shelf {
    fn demand(&self, nodes: &[&str]) -> Result<VolumeDemand, VolumeObstacle> {
        fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> Arc<T> {
            Arc::new(serde_json::from_value(value.clone()).unwrap())
        }
        let volumes: Vec<Arc<PersistentVolume>> = self.volumes.iter().map(parsed).collect();
        let storage = Storage {
            claim: &|key: &ObjectKey| self.claim.as_ref().filter(|_| key.name == "data").map(parsed::<PersistentVolumeClaim>),
            volume: &|name| volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name)).cloned(),
            class: &|name| (name == "local").then(|| parsed::<StorageClass>(&self.class)),
            volumes: &|| volumes.clone(),
            has_node: &|name| nodes.contains(&name),
        };
        let user = pod("w-0", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}));
        volume_demand(&user, &storage)
    }

    /// Where the claim's pod goes among the nodes `a` and `b`.
    fn placed(&self) -> Result<String, String> {
        let cluster = cluster(&[node("a", "x", "4", json!([])), node("b", "y", "4", json!([]))]);
        let volumes = self.demand(&["a", "b"]).map_err(|obstacle| Unschedulable::by_volumes(2, obstacle).to_string())?;
        place(&cluster, &Demand::of(&pod("w-0", json!({}))), &volumes).map(|placement| placement.node).map_err(|why| why.to_string())
    }
}

fn claim(annotations: Value, volume: Option<&str>) -> Option<Value> {
    let spec = json!({"storageClassName": "local", "volumeName": volume, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    Some(json!({"metadata": {"namespace": "default", "name": "data", "uid": "u", "annotations": annotations}, "spec": spec}))
}

fn class(provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": "local"}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn volume(name: &str, size: &str, node: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    json!({"metadata": {"name": name}, "spec": {"storageClassName": "local", "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}})
}

const DELAYED: &str = "WaitForFirstConsumer";
const LOCAL: &str = "steadfast.dev/local";

#[test]
fn a_pod_goes_where_its_volume_is_or_can_be() {
    let bound = claim(json!({"pv.kubernetes.io/bind-completed": "yes"}), Some("pv"));
    let shelf = |claim: Option<Value>, volumes: Vec<Value>, class: Value| Shelf { claim, volumes, class };
    let placed = |claim, volumes, class| shelf(claim, volumes, class).placed().unwrap();
    assert_eq!(placed(bound, vec![volume("pv", "1Gi", "b")], class(LOCAL, DELAYED)), "b");
    let promised = claim(json!({"volume.kubernetes.io/selected-node": "b"}), None);
    assert_eq!(placed(promised, vec![], class(LOCAL, DELAYED)), "b");
    let broken = claim(json!({"volume.kubernetes.io/selected-node": "gone"}), None);
    assert_eq!(placed(broken, vec![], class(LOCAL, DELAYED)), "a");
    let made_in_advance = vec![volume("small", "1Mi", "a"), volume("pv", "2Gi", "b")];
    let by_hand = class("kubernetes.io/no-provisioner", DELAYED);
    assert_eq!(placed(claim(json!({}), None), made_in_advance, by_hand), "b");
}

#[test]
fn what_is_wrong_with_a_claim_is_said() {
    let cases = [
        (None, class(LOCAL, DELAYED), r#"persistentvolumeclaim "data" not found"#),
        (claim(json!({}), None), class(LOCAL, "Immediate"), "pod has unbound immediate PersistentVolumeClaims"),
        (
            claim(json!({"pv.kubernetes.io/bind-completed": "yes"}), Some("pv")),
            class(LOCAL, DELAYED),
            r#"persistentvolumeclaim "data" bound to non-existent persistentvolume "pv""#,
        ),
        (
            claim(json!({}), None),
            class("kubernetes.io/no-provisioner", DELAYED),
            "2 node(s) didn't find available persistent volumes to bind",
        ),
    ];
    for (claim, class, reason) in cases {
        let why = Shelf { claim, volumes: vec![], class }.placed().unwrap_err();
        assert_eq!(why, format!("0/2 nodes are available: {reason}."));
    }
}

#[test]
fn a_claim_for_one_pod_keeps_a_second_waiting_until_the_first_has_gone() {
    let mut one_pod = claim(json!({"pv.kubernetes.io/bind-completed": "yes"}), Some("pv"));
    one_pod.as_mut().unwrap()["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    let volumes = Shelf { claim: one_pod, volumes: vec![volume("pv", "1Gi", "a")], class: class(LOCAL, DELAYED) }.demand(&["a"]).unwrap();
    let user = |name: &str| pod(name, json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}));
    let mut cluster = cluster(&[node("a", "x", "4", json!([]))]);
    let first = Arc::new(Demand::of(&user("w-0")));
    assert!(place(&cluster, &first, &volumes).is_ok());
    cluster.assign(first.clone(), "a");
    let why = place(&cluster, &Demand::of(&user("w-1")), &volumes).unwrap_err();
    assert_eq!(why.refusals.into_keys().collect::<Vec<_>>(), [Refusal::ClaimInUse]);
    cluster.remove_pod(&first.key);
    assert!(place(&cluster, &Demand::of(&user("w-1")), &volumes).is_ok());
}

/// Pods of a few applications with random hard rules.
fn any_pod() -> impl Strategy<Value = Value> {
    let app = prop::sample::select(vec!["web", "db"]);
    let key = prop::sample::select(vec!["zone", "kubernetes.io/hostname"]);
    (app, key, 0..3_i32, 0..8_u8, 0..4_usize).prop_map(|(app, key, skew, rules, cpu)| {
        let selector = json!({"matchLabels": {"app": app}});
        let term = json!([{"topologyKey": key, "labelSelector": selector}]);
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
        let amount = ["0", "300m", "700m", "1"][cpu];
        let requests = json!({"cpu": amount});
        let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        match rules {
            0 => spec["affinity"] = json!({"podAntiAffinity": required}),
            1 => spec["affinity"] = json!({"podAffinity": required}),
            2 | 3 => {
                spec["topologySpreadConstraints"] =
                    json!([{"maxSkew": skew + 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}])
            }
            4 => spec["nodeSelector"] = json!({"zone": "x"}),
            5 => spec["tolerations"] = json!([{"operator": "Exists"}]),
            _ => {}
        }
        spec
    })
}

fn any_nodes() -> impl Strategy<Value = Vec<Node>> {
    let one = (prop::sample::select(vec!["x", "y"]), prop::sample::select(vec!["500m", "1", "3"]), prop::bool::weighted(0.2));
    prop::collection::vec(one, 1..6).prop_map(|nodes| {
        let taints = |tainted: bool| if tainted { json!([{"key": "t", "effect": "NoSchedule"}]) } else { json!([]) };
        let nodes = nodes.into_iter().enumerate();
        nodes.map(|(at, (zone, cpu, tainted))| node(&format!("n{at}"), zone, cpu, taints(tainted))).collect()
    })
}

/// What came of a pod: its node, or why it has none.
type Outcome = (Pod, Result<String, String>);

fn outcomes(nodes: &[Node], specs: &[Value]) -> Vec<Outcome> {
    let mut cluster = cluster(nodes);
    let pods = specs.iter().enumerate().map(|(at, spec)| pod(&format!("{}-{at}", ["web", "db"][at % 2]), spec.clone()));
    pods.map(|pod| (pod.clone(), settle(&mut cluster, &pod))).collect()
}

proptest! {
    /// No placement breaks a hard rule, and no pod is refused that some node could take.
    #[test]
    fn a_node_is_chosen_exactly_if_one_breaks_no_hard_rule(nodes in any_nodes(), specs in prop::collection::vec(any_pod(), 1..12)) {
        let outcomes = outcomes(&nodes, &specs);
        for at in 0..outcomes.len() {
            let before: Vec<Placed<'_>> = outcomes[..at].iter().filter_map(|(pod, node)| Some((pod, node.as_deref().ok()?))).collect();
            let (pod, outcome) = &outcomes[at];
            match outcome {
                Ok(name) => {
                    let node = nodes.iter().find(|node| node.metadata.name.as_ref() == Some(name)).unwrap();
                    prop_assert_eq!(faults(&nodes, &before, pod, node), Vec::<&str>::new());
                }
                Err(why) => for node in &nodes {
                    prop_assert!(!faults(&nodes, &before, pod, node).is_empty(), "{:?} could go to {:?}: {}", pod, node, why);
                },
            }
        }
    }

    #[test]
    fn the_order_in_which_nodes_became_known_does_not_matter(nodes in any_nodes(), specs in prop::collection::vec(any_pod(), 1..12)) {
        let reversed: Vec<_> = nodes.iter().rev().cloned().collect();
        let nodes_of = |outcomes: Vec<Outcome>| outcomes.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>();
        prop_assert_eq!(nodes_of(outcomes(&nodes, &specs)), nodes_of(outcomes(&reversed, &specs)));
    }

    /// More room never hurts, for pods without a rule on how others are spread.
    #[test]
    fn another_node_never_makes_a_pod_impossible(nodes in any_nodes(), spec in any_pod()) {
        prop_assume!(spec.get("topologySpreadConstraints").is_none());
        let before = outcomes(&nodes, std::slice::from_ref(&spec)).remove(0).1;
        let mut more = nodes;
        more.push(node("n9", "y", "1", json!([])));
        let after = outcomes(&more, &[spec]).remove(0).1;
        prop_assert!(before.is_err() || after.is_ok());
    }

    /// What was counted in and taken out again leaves no trace.
    #[test]
    fn the_sum_is_the_same_whatever_came_and_went(nodes in any_nodes(), specs in prop::collection::vec(any_pod(), 1..12)) {
        let mut cluster = cluster(&nodes);
        let fresh = format!("{:?}", cluster.nodes.values().map(|node| (&node.requested, node.pods, &node.ports, &node.owners)).collect::<Vec<_>>());
        let zero = Amounts::default();
        let mut placed = Vec::new();
        for (at, spec) in specs.iter().enumerate() {
            let pod = pod(&format!("web-{at}"), spec.clone());
            if settle(&mut cluster, &pod).is_ok() {
                placed.push(Demand::of(&pod).key);
            }
        }
        placed.iter().for_each(|key| assert!(cluster.remove_pod(key)));
        prop_assert!(cluster.nodes.values().all(|node| node.requested == zero && node.assumed == zero));
        let after = format!("{:?}", cluster.nodes.values().map(|node| (&node.requested, node.pods, &node.ports, &node.owners)).collect::<Vec<_>>());
        prop_assert_eq!(fresh, after);
    }
}
