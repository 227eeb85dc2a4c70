use proptest::prelude::*;
use serde_json::json;

use super::*;

fn service(extra: serde_json::Value) -> Service {
    let mut spec = json!({"clusterIP": "10.96.0.10", "ports": [{"name": "redis", "port": 6379}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})).unwrap()
}

fn slice(endpoints: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default"}, "addressType": "IPv4",
        "ports": [{"name": "redis", "port": 7000, "protocol": "TCP"}], "endpoints": endpoints
    }))
    .unwrap()
}

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> serde_json::Value {
    json!({"addresses": [address], "nodeName": "here", "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

fn reached(service: &Service, slices: &[EndpointSlice]) -> Vec<String> {
    let rules = rules_of(service, slices, "here");
    rules.values().flat_map(|backend| &backend.endpoints).map(ToString::to_string).collect()
}

#[test]
fn a_frontend_leads_to_the_ready_endpoints_at_the_port_of_the_same_name() {
    let slices = [slice(json!([endpoint("10.77.0.2", true, true, false), endpoint("10.77.0.3", false, false, false)]))];
    assert_eq!(reached(&service(json!({})), &slices), ["10.77.0.2:7000"]);
    let other = json!({"ports": [{"name": "other", "port": 1}]});
    assert!(reached(&service(other), &slices).is_empty());
}

#[test]
fn endpoints_that_terminate_serve_only_while_none_is_ready() {
    let draining = endpoint("10.77.0.3", false, true, true);
    let dead = endpoint("10.77.0.4", false, false, true);
    assert_eq!(reached(&service(json!({})), &[slice(json!([draining, dead]))]), ["10.77.0.3:7000"]);
    let ready = endpoint("10.77.0.2", true, true, false);
    assert_eq!(reached(&service(json!({})), &[slice(json!([draining, ready]))]), ["10.77.0.2:7000"]);
}

#[test]
fn headless_external_and_foreign_services_have_no_rules() {
    let slices = [slice(json!([endpoint("10.77.0.2", true, true, false)]))];
    assert!(reached(&service(json!({"clusterIP": "None", "clusterIPs": ["None"]})), &slices).is_empty());
    assert!(reached(&service(json!({"type": "ExternalName"})), &slices).is_empty());
    for label in [PROXY_NAME, HEADLESS] {
        let mut labelled = service(json!({}));
        labelled.metadata.labels = Some([(label.to_owned(), String::new())].into());
        assert!(reached(&labelled, &slices).is_empty(), "{label}");
    }
}

#[test]
fn internal_traffic_policy_local_keeps_to_the_node() {
    let away = json!({"addresses": ["10.77.0.9"], "nodeName": "there"});
    let slices = [slice(json!([endpoint("10.77.0.2", true, true, false), away]))];
    assert_eq!(reached(&service(json!({})), &slices).len(), 2);
    assert_eq!(reached(&service(json!({"internalTrafficPolicy": "Local"})), &slices), ["10.77.0.2:7000"]);
}

#[test]
fn endpoints_inside_the_node_are_refused() {
    let inside = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"];
    let endpoints: Vec<_> = inside.iter().map(|address| endpoint(address, true, true, false)).collect();
    assert!(reached(&service(json!({})), &[slice(json!(endpoints))]).is_empty());
}

#[test]
fn client_affinity_lasts_three_hours_unless_told() {
    let slices = [slice(json!([endpoint("10.77.0.2", true, true, false)]))];
    let affinity = |extra| rules_of(&service(extra), &slices, "here").into_values().next().unwrap().affinity;
    assert_eq!(affinity(json!({})), None);
    assert_eq!(affinity(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let told = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}});
    assert_eq!(affinity(told), Some(5));
}

#[test]
fn an_address_that_changes_hands_stays_with_its_new_owner() {
    let frontend = Frontend { address: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 1 };
    let rule = |name: &str| {
        let endpoints = [SocketAddrV4::new([10, 77, 0, 2].into(), 1)].into();
        BTreeMap::from([(frontend, Backend { service: ObjectKey::new("default", name), endpoints, affinity: None })])
    };
    let mut rules = Ruleset::default();
    rules.set(&ObjectKey::new("default", "old"), rule("old"));
    rules.set(&ObjectKey::new("default", "new"), rule("new"));
    rules.set(&ObjectKey::new("default", "old"), BTreeMap::new());
    assert_eq!(rules.frontends()[&frontend].service.name, "new");
}

#[test]
fn networks_are_read_and_compared() {
    let cidr: Cidr = "10.77.5.9/24".parse().unwrap();
    assert_eq!(cidr.to_string(), "10.77.5.0/24");
    assert!(cidr.contains([10, 77, 5, 255].into()) && !cidr.contains([10, 77, 6, 0].into()));
    assert!(cidr.overlaps("10.0.0.0/8".parse().unwrap()) && !cidr.overlaps("10.77.6.0/23".parse().unwrap()));
    assert!("0.0.0.0/0".parse::<Cidr>().unwrap().overlaps(cidr));
    for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0/8", "10.0.0.0/-1"] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
}

/// Applies changes the way the kernel would: a removal of what is not there, or an addition of what is, is an error there.
#[derive(Default)]
struct Kernel {
    frontends: BTreeMap<Frontend, (BTreeSet<SocketAddrV4>, Option<u32>)>,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Kernel {
    fn apply(&mut self, change: Change) {
        let rule = |backend: Backend| (backend.endpoints, backend.affinity);
        match change {
            Change::Remove { frontend, backend } => assert_eq!(self.frontends.remove(&frontend), Some(rule(backend))),
            Change::Replace { frontend, old, new, gone } => {
                assert!(gone.iter().all(|endpoint| old.endpoints.contains(endpoint) && !new.endpoints.contains(endpoint)));
                assert_eq!(self.frontends.insert(frontend, rule(new)), Some(rule(old)));
            }
            Change::Add { frontend, backend } => assert_eq!(self.frontends.insert(frontend, rule(backend)), None),
            Change::ForgetAddress(address) => assert!(self.addresses.remove(&address)),
            Change::LearnAddress(address) => assert!(self.addresses.insert(address)),
        }
    }
}

type At = (u8, u16);
type To = (BTreeSet<At>, Option<u32>);
type Step = (u8, BTreeMap<At, To>);

fn step() -> impl Strategy<Value = Step> {
    let endpoints = proptest::collection::btree_set((0..6_u8, 1..3_u16), 1..4);
    let rules = proptest::collection::btree_map((0..4_u8, 1..3_u16), (endpoints, proptest::option::of(1..3_u32)), 0..4);
    (0..4_u8, rules)
}

fn rules_from(service: &ObjectKey, step: &Step) -> BTreeMap<Frontend, Backend> {
    let rule = |(at, (to, affinity)): (&At, &To)| {
        let frontend = Frontend { address: [10, 96, 0, at.0].into(), protocol: Protocol::Udp, port: at.1 };
        let endpoints = to.iter().map(|(host, port)| SocketAddrV4::new([10, 77, 0, *host].into(), *port)).collect();
        (frontend, Backend { service: service.clone(), endpoints, affinity: *affinity })
    };
    step.1.iter().map(rule).collect()
}

proptest! {
    #[test]
    fn changes_lead_to_what_is_desired_and_then_there_are_none(steps in proptest::collection::vec(step(), 1..12)) {
        let (mut current, mut kernel) = (Ruleset::default(), Kernel::default());
        for step in &steps {
            let service = ObjectKey::new("default", format!("s{}", step.0));
            let mut desired = current.clone();
            desired.set(&service, rules_from(&service, step));
            for change in diff(&current, &desired) {
                kernel.apply(change);
            }
            let wanted: BTreeMap<_, _> =
                desired.frontends().iter().map(|(at, to)| (*at, (to.endpoints.clone(), to.affinity))).collect();
            prop_assert_eq!(&kernel.frontends, &wanted);
            prop_assert_eq!(&kernel.addresses, &desired.addresses());
            prop_assert!(diff(&desired, &desired).is_empty());
            current = desired;
        }
    }
}
