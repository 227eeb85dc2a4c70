use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};

use plan::service::{Backend, Frontend};

use super::*;
use crate::sandbox::{Namespace, available, exchange};
use crate::{Keep, PodIdentity};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 177, 0, 10);
const PORT: u16 = 80;

/// A node with pods that serve on port 8080, and its service rules.
struct Node {
    namespace: Namespace,
    state: tempfile::TempDir,
    pods: Vec<(Namespace, Ipv4Addr)>,
    table: Table,
    rules: Ruleset,
}

impl Node {
    fn with_pods(count: usize, bridge_filter: bool) -> Self {
        let (namespace, state) = (Namespace::new(), tempfile::tempdir().unwrap());
        namespace.run(|| {
            // Absent unless the kernel can hand bridged frames to the IP rules.
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", if bridge_filter { "1" } else { "0" });
        });
        let config = config(&state);
        let network = namespace.block_on(PodNetwork::open(config.clone())).unwrap();
        let pod = |number: usize| {
            let name = format!("pod-{number}");
            let identity = PodIdentity { key: ObjectKey::new("default", &*name), uid: name.clone(), keep: Keep::WhilePodExists };
            let netns = Namespace::new();
            let address = namespace.block_on(network.attach(&identity, netns.fd())).unwrap().address;
            netns.serve(8080, &name);
            (netns, address)
        };
        let pods = (0..count).map(pod).collect();
        let mut node = Self { pods, table: Table::new(config), rules: Ruleset::default(), namespace, state };
        node.load();
        node
    }

    fn load(&mut self) {
        self.namespace.block_on(self.table.load(&self.rules)).unwrap();
    }

    /// Lets the Service lead to some of the pods, under both protocols.
    fn point_to(&mut self, pods: &[usize], affinity: Option<u32>) {
        let endpoints: BTreeSet<_> = pods.iter().map(|number| SocketAddrV4::new(self.pods[*number].1, 8080)).collect();
        let service = ObjectKey::new("default", "web");
        let mut rules = BTreeMap::new();
        for protocol in [Protocol::Tcp, Protocol::Udp].into_iter().filter(|_| !endpoints.is_empty()) {
            let backend = Backend { service: service.clone(), endpoints: endpoints.clone(), affinity };
            rules.insert(Frontend { address: VIP, protocol, port: PORT }, backend);
        }
        self.rules.set(&service, rules);
        self.load();
    }

    /// Who answers a client, over some connections.
    fn answers(&self, client: &Namespace) -> BTreeSet<String> {
        (0..24).map(|_| client.ask(VIP, PORT).unwrap().split(' ').next().unwrap().to_owned()).collect()
    }
}

fn config(state: &tempfile::TempDir) -> NetworkConfig {
    NetworkConfig {
        name: "sf-test".to_owned(),
        pod_cidr: "10.77.4.0/24".parse().unwrap(),
        service_cidr: "10.177.0.0/16".parse().unwrap(),
        state_dir: state.path().to_owned(),
    }
}

fn names(numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("pod-{number}")).collect()
}

#[test]
fn a_service_leads_pods_and_the_node_to_all_of_its_endpoints() {
    for bridge_filter in [false, true] {
        if !available() {
            return;
        }
        let mut node = Node::with_pods(4, bridge_filter);
        node.point_to(&[1, 2, 3], None);
        let (client, address) = &node.pods[0];
        assert_eq!(node.answers(client), names(&[1, 2, 3]));
        assert_eq!(node.answers(&node.namespace), names(&[1, 2, 3]));
        assert!(client.ask(VIP, PORT).unwrap().ends_with(&address.to_string()));
        assert!(exchange(&client.udp(VIP, PORT)).unwrap().ends_with(&address.to_string()));
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    for bridge_filter in [false, true] {
        if !available() {
            return;
        }
        let mut node = Node::with_pods(1, bridge_filter);
        node.point_to(&[0], None);
        assert!(node.pods[0].0.ask(VIP, PORT).unwrap().starts_with("pod-0"), "{bridge_filter}");
        assert!(exchange(&node.pods[0].0.udp(VIP, PORT)).unwrap().starts_with("pod-0"), "{bridge_filter}");
    }
}

#[test]
fn a_service_may_lead_to_the_node_itself() {
    for bridge_filter in [false, true] {
        if !available() {
            return;
        }
        let mut node = Node::with_pods(1, bridge_filter);
        let gateway = Ipv4Addr::new(10, 77, 4, 1);
        node.namespace.serve(8080, "node");
        node.pods.push((Namespace::new(), gateway));
        node.point_to(&[1], None);
        for client in [&node.pods[0].0, &node.namespace] {
            assert_eq!(node.answers(client), ["node".to_owned()].into());
            assert!(exchange(&client.udp(VIP, PORT)).unwrap().starts_with("node"));
        }
    }
}

#[test]
fn without_endpoints_connections_are_refused() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(2, true);
    let refused = |node: &Node| {
        for (who, client) in [("pod", &node.pods[0].0), ("node", &node.namespace)] {
            assert_eq!(client.ask(VIP, PORT), Err(ErrorKind::ConnectionRefused), "{who}");
            // The kernel tells a local sender at once that its packet was not let out.
            let udp = if who == "pod" { ErrorKind::ConnectionRefused } else { ErrorKind::PermissionDenied };
            assert_eq!(exchange(&client.udp(VIP, PORT)), Err(udp), "{who}");
        }
    };
    refused(&node);
    node.point_to(&[1], None);
    assert_eq!(node.answers(&node.pods[0].0), names(&[1]));
    assert_eq!(node.pods[0].0.ask(VIP, PORT + 1), Err(ErrorKind::ConnectionRefused));
    node.point_to(&[], None);
    refused(&node);
}

#[test]
fn changed_endpoints_serve_at_once_also_those_udp_clients_that_stay() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(4, true);
    node.point_to(&[1], None);
    let socket = node.pods[0].0.udp(VIP, PORT);
    assert!(exchange(&socket).unwrap().starts_with("pod-1"));
    node.point_to(&[2, 3], None);
    assert_eq!(node.answers(&node.pods[0].0), names(&[2, 3]));
    assert!(!exchange(&socket).unwrap().starts_with("pod-1"));
}

#[test]
fn a_client_with_affinity_comes_back_to_the_same_endpoint_while_it_exists() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(5, true);
    node.point_to(&[1, 2, 3, 4], Some(60));
    let first = node.answers(&node.pods[0].0);
    assert_eq!(first.len(), 1);
    let chosen = (1..5).find(|number| first == names(&[*number])).unwrap();
    let others: Vec<_> = (1..5).filter(|number| *number != chosen).collect();
    node.point_to(&others, Some(60));
    let second = node.answers(&node.pods[0].0);
    assert!(second.len() == 1 && second != first);
    node.point_to(&others, None);
    assert_eq!(node.answers(&node.pods[0].0), names(&others));
    node.point_to(&others, Some(60));
    assert_eq!(node.answers(&node.pods[0].0).len(), 1);
}

#[test]
fn rules_outlive_their_process_and_the_next_one_takes_them_over() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(2, true);
    node.point_to(&[1], None);
    let network = node.namespace.block_on(PodNetwork::open(config(&node.state))).unwrap();
    assert_eq!(node.answers(&node.pods[0].0), names(&[1]));
    node.table = Table::new(network.config().clone());
    node.load();
    assert_eq!(node.answers(&node.pods[0].0), names(&[1]));
}

#[test]
fn a_refused_change_names_what_was_refused_and_all_is_loaded_anew() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(2, true);
    node.point_to(&[1], None);
    node.namespace.run(|| remove(&config(&node.state)).unwrap());
    node.rules.set(&ObjectKey::new("default", "web"), BTreeMap::new());
    let error = node.namespace.block_on(node.table.load(&node.rules)).unwrap_err();
    assert!(error.to_string().contains("in table sf-test-services"), "{error}");
    node.point_to(&[1], None);
    assert_eq!(node.answers(&node.pods[0].0), names(&[1]));
}

#[test]
fn a_thousand_services_are_loaded_and_one_of_them_changed() {
    if !available() {
        return;
    }
    let mut node = Node::with_pods(2, true);
    for number in 0..1000_u16 {
        let service = ObjectKey::new("default", format!("s{number}"));
        let [high, low] = number.to_be_bytes();
        let endpoints = (1..4).map(|host| SocketAddrV4::new([10, 77, 4, 100 + host].into(), 80)).collect();
        let frontend = Frontend { address: [10, 177, 100 + high, low].into(), protocol: Protocol::Tcp, port: 80 };
        let backend = Backend { service: service.clone(), endpoints, affinity: None };
        node.rules.set(&service, [(frontend, backend)].into());
    }
    let begin = std::time::Instant::now();
    node.table.loaded = None;
    node.load();
    let all = begin.elapsed();
    node.point_to(&[1], None);
    eprintln!("1,000 Services: {all:?}; one more: {:?}", begin.elapsed() - all);
    assert_eq!(node.answers(&node.pods[0].0), names(&[1]));
}

fn web() -> Arc<Service> {
    let json = serde_json::json!({
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.177.0.10", "ports": [{"port": 80}]}
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

fn slice_of(owner: &str, address: &str) -> Arc<EndpointSlice> {
    let json = serde_json::json!({
        "metadata": {"name": "slice", "namespace": "default", "labels": {SERVICE_NAME: owner}}, "addressType": "IPv4",
        "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

fn change<K>(name: &str, old: Option<&Arc<K>>, new: Option<&Arc<K>>) -> Vec<Change<K>> {
    vec![Change { key: ObjectKey::new("default", name), old: old.cloned(), new: new.cloned() }]
}

#[test]
fn the_rules_follow_services_and_slices_in_whatever_order_they_come() {
    let mut view = View { node: "here".to_owned(), services: HashMap::new(), slices: HashMap::new(), desired: Ruleset::default() };
    let reached = |view: &View| view.desired.addresses().into_iter().map(|address| address.to_string()).collect::<Vec<_>>();
    let (first, moved, foreign) = (slice_of("web", "10.77.4.2"), slice_of("web", "10.77.4.3"), slice_of("other", "10.77.4.3"));
    view.take(Vec::new(), change("slice", None, Some(&first)));
    assert!(reached(&view).is_empty());
    view.take(change("web", None, Some(&web())), Vec::new());
    assert_eq!(reached(&view), ["10.77.4.2"]);
    view.take(Vec::new(), change("slice", Some(&first), Some(&moved)));
    assert_eq!(reached(&view), ["10.77.4.3"]);
    view.take(Vec::new(), change("slice", Some(&moved), Some(&foreign)));
    assert!(reached(&view).is_empty());
    view.take(Vec::new(), change("slice", Some(&foreign), Some(&first)));
    view.take(change("web", Some(&web()), None), Vec::new());
    assert!(reached(&view).is_empty());
    view.take(change("web", None, Some(&web())), Vec::new());
    assert_eq!(reached(&view), ["10.77.4.2"]);
    view.take(Vec::new(), change("slice", Some(&first), None));
    assert!(reached(&view).is_empty() && view.slices.is_empty());
}
