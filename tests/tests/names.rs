//! How soon a new pod has its name.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use end_to_end::Cluster;
use end_to_end::workload::WEB;
use serde_json::json;

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}, ports: [{port: 80}]}
"#;

/// A Service and a set that has no replicas yet.
fn web() -> String {
    let set = WEB.replace("serviceName: web", "serviceName: peers\n  podManagementPolicy: Parallel").replace("replicas: 3", "replicas: 0");
    let quick = "terminationGracePeriodSeconds: 1\n      automountServiceAccountToken: false\n      containers:";
    let set = set.replace("containers:", quick).replace(r#""busybox:1"}"#, r#""busybox:1", command: [sleep, "100000"]}"#);
    format!("{SERVICE}---{set}")
}

/// One question for the addresses of a name, and the answer's raw bytes.
fn ask(server: SocketAddr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    // A number, recursion desired, one question.
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("a short label"));
        question.extend_from_slice(label.as_bytes());
    }
    // The root; addresses; of the Internet.
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&question, server).expect("sent");
    let mut answer = vec![0; 1500];
    let length = socket.recv(&mut answer).expect("an answer");
    answer.truncate(length);
    answer
}

/// The code of an answer: 0 if the name exists, 3 if it does not.
fn code(answer: &[u8]) -> u8 {
    answer[3] & 15
}

#[test]
fn the_first_question_for_a_new_pod_is_answered_as_soon_as_its_address_is_known() {
    let Some(cluster) = Cluster::with_busybox() else { return };
    cluster.apply(&web());
    let server = cluster.name_server();
    // Asked for before it exists: that must not be remembered.
    for ordinal in 0..20 {
        assert_eq!(code(&ask(server, &format!("web-{ordinal}.peers.default.svc.cluster.local"))), 3);
    }
    let list = cluster.call("GET", "/api/v1/namespaces/default/pods", &serde_json::Value::Null);
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut watch = cluster.watch(&format!("/api/v1/namespaces/default/pods?watch=true&resourceVersion={version}"));
    cluster.call("PATCH", "/apis/apps/v1/namespaces/default/statefulsets/web", &json!({"spec": {"replicas": 20}}));
    let mut answers = BTreeMap::new();
    while answers.len() < 20 {
        let event = watch.next().expect("the watch goes on");
        let (pod, address) = (&event["object"]["metadata"]["name"], &event["object"]["status"]["podIP"]);
        let (Some(pod), Some(address)) = (pod.as_str(), address.as_str()) else { continue };
        answers.entry(pod.to_owned()).or_insert_with(|| {
            let address: std::net::Ipv4Addr = address.parse().expect("an address");
            (address, ask(server, &format!("{pod}.peers.default.svc.cluster.local")))
        });
    }
    let missed: Vec<_> = answers.iter().filter(|(_, (address, answer))| !answer.ends_with(&address.octets())).map(|(pod, _)| pod).collect();
    assert!(missed.is_empty(), "{} of 20 names were not there yet: {missed:?}", missed.len());
}
