use std::fmt::Write;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn service(name: &str, spec: serde_json::Value) -> (ObjectKey, Option<Arc<Service>>) {
    let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    (ObjectKey::new("default", name), Some(Arc::new(serde_json::from_value(service).unwrap())))
}

fn headless(name: &str) -> (ObjectKey, Option<Arc<Service>>) {
    service(name, json!({"clusterIP": "None", "ports": [{"name": "redis", "port": 6379}]}))
}

fn slice(name: &str, of: &str, endpoints: serde_json::Value) -> (ObjectKey, Option<Arc<EndpointSlice>>) {
    let slice = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {SERVICE_NAME: of}}, "addressType": "IPv4",
        "ports": [{"name": "redis", "port": 7000}], "endpoints": endpoints
    });
    (ObjectKey::new("default", name), Some(Arc::new(serde_json::from_value(slice).unwrap())))
}

fn zone() -> Zone {
    Zone::new("cluster.local", &["10.77.0.0/24".parse().unwrap(), "10.96.0.0/12".parse().unwrap()])
}

fn with(update: Update) -> Zone {
    let mut zone = zone();
    zone.update(update);
    zone
}

fn redis() -> Zone {
    let endpoints = json!([
        {"addresses": ["10.77.0.2"], "hostname": "redis-0", "conditions": {"ready": true}},
        {"addresses": ["10.77.0.3"], "hostname": "redis-1", "conditions": {"ready": false}},
        {"addresses": ["10.77.0.4"]},
    ]);
    with(Update { services: vec![headless("redis")], slices: vec![slice("redis-x", "redis", endpoints)] })
}

/// The answer as text, in the order of the records.
fn ask(zone: &Zone, name: &str, kind: Kind) -> String {
    let mut answer = zone.answer(name, kind, 1);
    answer.records.sort();
    let mut text = format!("{:?}", answer.outcome);
    for record in answer.records {
        write!(text, " {}={:?}", record.name.split('.').next().unwrap(), record.data).unwrap();
    }
    text
}

#[test]
fn a_headless_service_has_the_addresses_of_its_ready_endpoints() {
    let zone = redis();
    assert_eq!(ask(&zone, "redis.default.svc.cluster.local", Kind::Address), "Found redis=Address(10.77.0.2) redis=Address(10.77.0.4)");
    assert_eq!(ask(&zone, "redis-0.redis.default.svc.cluster.local", Kind::Address), "Found redis-0=Address(10.77.0.2)");
    assert_eq!(ask(&zone, "10-77-0-4.redis.default.svc.cluster.local", Kind::Address), "Found 10-77-0-4=Address(10.77.0.4)");
    assert_eq!(ask(&zone, "redis-1.redis.default.svc.cluster.local", Kind::Address), "NoName");
}

#[test]
fn addresses_that_are_not_ready_are_published_on_request() {
    let endpoints = json!([{"addresses": ["10.77.0.3"], "hostname": "redis-1", "conditions": {"ready": false}}]);
    let eager = service("redis", json!({"clusterIP": "None", "publishNotReadyAddresses": true}));
    let zone = with(Update { services: vec![eager], slices: vec![slice("redis-x", "redis", endpoints)] });
    assert_eq!(ask(&zone, "redis-1.redis.default.svc.cluster.local", Kind::Address), "Found redis-1=Address(10.77.0.3)");
}

#[test]
fn named_ports_have_service_records_with_the_addresses_of_their_targets() {
    let zone = redis();
    let answer = zone.answer("_redis._tcp.redis.default.svc.cluster.local", Kind::Service, 0);
    assert_eq!((answer.outcome, answer.records.len(), answer.additional.len()), (Outcome::Found, 2, 2));
    assert!(answer.records.iter().all(|record| matches!(record.data, Data::Service { port: 7000, .. })));
    assert_eq!(ask(&zone, "_redis._udp.redis.default.svc.cluster.local", Kind::Service), "NoName");
}

#[test]
fn a_cluster_service_has_its_address_its_ports_and_its_name_by_address() {
    let web = service("web", json!({"clusterIP": "10.96.1.2", "ports": [{"name": "http", "port": 80}, {"port": 81}]}));
    let zone = with(Update { services: vec![web], slices: vec![] });
    assert_eq!(ask(&zone, "web.default.svc.cluster.local", Kind::Address), "Found web=Address(10.96.1.2)");
    let target = "Service { port: 80, target: \"web.default.svc.cluster.local\" }";
    assert_eq!(ask(&zone, "_http._tcp.web.default.svc.cluster.local", Kind::Service), format!("Found _http={target}"));
    assert_eq!(ask(&zone, "2.1.96.10.in-addr.arpa", Kind::Pointer), "Found 2=Pointer(\"web.default.svc.cluster.local\")");
}

#[test]
fn pods_are_named_by_their_address() {
    assert_eq!(ask(&redis(), "2.0.77.10.in-addr.arpa", Kind::Pointer), "Found 2=Pointer(\"redis-0.redis.default.svc.cluster.local\")");
    assert_eq!(ask(&redis(), "9.0.77.10.in-addr.arpa", Kind::Pointer), "NoName");
    assert_eq!(ask(&redis(), "1.1.1.1.in-addr.arpa", Kind::Pointer), "NotOurs");
}

#[test]
fn an_external_name_is_an_alias_that_is_followed() {
    let outside = service("db", json!({"type": "ExternalName", "externalName": "DB.example.com."}));
    let inside = service("cache", json!({"type": "ExternalName", "externalName": "redis.default.svc.cluster.local"}));
    let mut zone = redis();
    zone.update(Update { services: vec![outside, inside], slices: vec![] });
    let alias = "db=Alias(\"db.example.com\")";
    assert_eq!(ask(&zone, "db.default.svc.cluster.local", Kind::Address), format!("Outside(\"db.example.com\") {alias}"));
    assert_eq!(ask(&zone, "db.default.svc.cluster.local", Kind::Alias), format!("Found {alias}"));
    assert_eq!(zone.answer("cache.default.svc.cluster.local", Kind::Address, 0).records.len(), 3);
}

#[test]
fn aliases_in_a_circle_end() {
    let around =
        |name, target| service(name, json!({"type": "ExternalName", "externalName": format!("{target}.default.svc.cluster.local")}));
    let zone = with(Update { services: vec![around("a", "b"), around("b", "a")], slices: vec![] });
    assert_eq!(zone.answer("a.default.svc.cluster.local", Kind::Address, 0).records.len(), MAX_ALIASES);
}

#[test]
fn an_existing_name_without_such_a_record_is_not_an_absent_name() {
    let zone = redis();
    for name in [
        "redis.default.svc.cluster.local",
        "_tcp.redis.default.svc.cluster.local",
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
    ] {
        assert_eq!(ask(&zone, name, Kind::Text), "NoData", "{name}");
    }
    for name in
        ["x.cluster.local", "none.default.svc.cluster.local", "redis.other.svc.cluster.local", "a.redis-0.redis.default.svc.cluster.local"]
    {
        assert_eq!(ask(&zone, name, Kind::Address), "NoName", "{name}");
    }
    for name in ["example.com", "notcluster.local", "local", ""] {
        assert_eq!(ask(&zone, name, Kind::Address), "NotOurs", "{name}");
    }
}

#[test]
fn a_headless_service_without_ready_endpoints_has_no_name() {
    let zone = with(Update { services: vec![headless("redis")], slices: vec![] });
    assert_eq!(ask(&zone, "redis.default.svc.cluster.local", Kind::Address), "NoName");
}

#[test]
fn the_schema_version_and_dashed_pod_names_are_answered() {
    let zone = zone();
    assert_eq!(ask(&zone, "dns-version.cluster.local", Kind::Text), "Found dns-version=Text(\"1.1.0\")");
    assert_eq!(ask(&zone, "10-77-0-9.default.pod.cluster.local", Kind::Address), "Found 10-77-0-9=Address(10.77.0.9)");
    assert_eq!(ask(&zone, "10-77-0-9.default.pod.cluster.local", Kind::Text), "NoData");
    assert_eq!(ask(&zone, "10-77-0.default.pod.cluster.local", Kind::Address), "NoName");
}

#[test]
fn each_address_of_a_headless_service_comes_first_at_times() {
    let zone = redis();
    let first = |seed| zone.answer("redis.default.svc.cluster.local", Kind::Address, seed).records[0].data.clone();
    let firsts: BTreeSet<_> = (0..64).map(first).collect();
    assert_eq!(firsts.len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Service(u8, Option<u8>),
    Slice(u8, Option<(u8, Vec<(u8, bool)>)>),
}

fn step() -> impl Strategy<Value = Step> {
    let endpoints = proptest::collection::vec((0..4_u8, any::<bool>()), 0..4);
    prop_oneof![
        (0..3_u8, proptest::option::of(0..4_u8)).prop_map(|(name, shape)| Step::Service(name, shape)),
        (0..4_u8, proptest::option::of((0..3_u8, endpoints))).prop_map(|(name, body)| Step::Slice(name, body)),
    ]
}

fn spec(shape: u8) -> serde_json::Value {
    match shape {
        0 => json!({"clusterIP": "None", "ports": [{"name": "redis", "port": 1}]}),
        1 => json!({"clusterIP": "None", "publishNotReadyAddresses": true}),
        2 => json!({"clusterIP": "10.96.0.9", "ports": [{"name": "redis", "port": 1}]}),
        _ => json!({"type": "ExternalName", "externalName": "example.com"}),
    }
}

fn update_of(step: &Step) -> Update {
    match step {
        Step::Service(name, shape) => {
            let (key, object) = service(&format!("s{name}"), spec(shape.unwrap_or(0)));
            Update { services: vec![(key, object.filter(|_| shape.is_some()))], slices: vec![] }
        }
        Step::Slice(name, body) => {
            let (of, endpoints) = body.clone().unwrap_or_default();
            let endpoint = |(host, ready)| json!({"addresses": [format!("10.77.0.{host}")], "hostname": format!("h{host}"), "conditions": {"ready": ready}});
            let endpoints = endpoints.into_iter().map(endpoint).collect();
            let (key, object) = slice(&format!("x{name}"), &format!("s{of}"), serde_json::Value::Array(endpoints));
            Update { services: vec![], slices: vec![(key, object.filter(|_| body.is_some()))] }
        }
    }
}

/// Every name that has records, with them, in order.
fn contents(zone: &Zone) -> BTreeMap<Arc<str>, (Vec<Data>, usize)> {
    let sorted = |(name, entry): (&Arc<str>, &Entry)| {
        let mut records = entry.records.clone();
        records.sort();
        (name.clone(), (records, entry.below))
    };
    zone.names.iter().map(sorted).collect()
}

proptest! {
    #[test]
    fn following_changes_gives_what_looking_at_everything_gives(steps in proptest::collection::vec(step(), 0..24)) {
        let mut followed = zone();
        let mut all = (BTreeMap::new(), BTreeMap::new());
        for step in &steps {
            let update = update_of(step);
            all.0.extend(update.services.clone());
            all.1.extend(update.slices.clone());
            followed.update(update);
        }
        let present = Update {
            services: all.0.into_iter().filter(|(_, object)| object.is_some()).collect(),
            slices: all.1.into_iter().filter(|(_, object)| object.is_some()).collect(),
        };
        prop_assert_eq!(contents(&followed), contents(&with(present)));
    }

    #[test]
    fn the_addresses_of_a_headless_service_are_those_of_its_ready_endpoints(bodies in proptest::collection::vec(proptest::collection::vec((0..9_u8, any::<bool>()), 0..5), 0..4)) {
        let mut zone = with(Update { services: vec![headless("s0")], slices: vec![] });
        for (number, body) in bodies.iter().enumerate() {
            zone.update(update_of(&Step::Slice(u8::try_from(number).unwrap(), Some((0, body.clone())))));
        }
        let expected: BTreeSet<_> = bodies.iter().flatten().filter(|(_, ready)| *ready).map(|(host, _)| Data::Address([10, 77, 0, *host].into())).collect();
        let answer = zone.answer("s0.default.svc.cluster.local", Kind::Address, 3);
        prop_assert_eq!(answer.records.len(), expected.len());
        prop_assert_eq!(answer.records.into_iter().map(|record| record.data).collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn no_name_makes_it_panic(name in "[a-z0-9_.-]{0,40}(\\.cluster\\.local|\\.in-addr\\.arpa|\\.pod\\.cluster\\.local)?") {
        let zone = redis();
        for kind in [Kind::Address, Kind::Service, Kind::Pointer, Kind::Alias, Kind::Text, Kind::Other] {
            zone.answer(&name, kind, 0);
        }
    }
}

#[test]
fn a_pod_of_a_headless_service_may_come_and_nothing_else() {
    let mut zone = redis();
    zone.update(Update { services: vec![service("web", json!({"clusterIP": "10.96.0.9"}))], slices: Vec::new() });
    assert!(zone.may_come("redis-7.redis.default.svc.cluster.local"));
    for name in [
        "redis.default.svc.cluster.local",
        "a.redis-7.redis.default.svc.cluster.local",
        "redis-7.redis.other.svc.cluster.local",
        "web-0.web.default.svc.cluster.local",
        "www.example.com.default.svc.cluster.local",
        "redis-7.redis.default.pod.cluster.local",
        "cluster.local",
        "",
    ] {
        assert!(!zone.may_come(name), "{name}");
    }
}
