//! The agent with real containers, a real network and real images, against a small API server. Needs root and Debian's
//! `busybox-static`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use image::{ImageConfig, Images};
use informer::{Informer, Watched};
use kinds::ObjectKey;
use network::{Cidr, Keep, NetworkConfig, PodIdentity, PodNetwork};
use node::{Agent, Config, Parts, Views};
use runtime::{Opened, Runtime, RuntimeConfig};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

mod server;

use server::Server;

const BUSYBOX: &str = "localhost/busybox:1";

/// A machine of its own for each test.
struct Machine {
    place: tempfile::TempDir,
    network: NetworkConfig,
    server: Server,
}

impl Machine {
    /// Nothing without root.
    async fn new(number: u8) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return None;
        }
        let place = tempfile::tempdir().expect("a directory");
        let network = NetworkConfig {
            name: format!("sfnode{number}"),
            pod_cidr: Cidr { address: [10, 77, 200 + number, 0].into(), prefix: 24 },
            service_cidr: Cidr { address: [10, 78, 200 + number, 0].into(), prefix: 24 },
            state_dir: place.path().join("network"),
        };
        let machine = Self { place, network, server: Server::default() };
        machine.load_busybox().await;
        Some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    async fn load_busybox(&self) {
        let root = self.path("tree");
        for directory in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "sleep", "cat", "echo", "true", "test", "kill", "id"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        let archive = self.path("busybox.tar");
        let config = ImageConfig { env: vec!["PATH=/bin".to_owned()], ..ImageConfig::default() };
        image::build::archive(&root, &config, BUSYBOX, &archive).expect("an image");
        self.images().await.load(&archive).await.expect("it is loaded");
    }

    async fn images(&self) -> Images {
        Images::open(self.path("images")).await.expect("images")
    }

    async fn runtime(&self) -> Opened {
        let config = RuntimeConfig { run_dir: self.path("run"), executable: shim(), cgroup_parent: self.groups() };
        Runtime::open(config).await.expect("a runtime")
    }

    /// The control groups' name. A parent for all tests would be removed by one while another needs it.
    fn groups(&self) -> String {
        let name = self.place.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        format!("steadfast-test-{name}")
    }

    /// What `steadfast up` does.
    async fn start(&self) -> Agent {
        let client = self.server.client();
        let config = Config {
            node_name: "n".to_owned(),
            data_dir: self.path("data"),
            run_dir: self.path("run"),
            addresses: vec!["192.0.2.1".to_owned()],
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            labels: Default::default(),
            pod_cidr: None,
        };
        std::fs::create_dir_all(&config.data_dir).expect("a directory");
        let parts = Parts {
            views: views(&client),
            client,
            runtime: self.runtime().await,
            network: PodNetwork::open(self.network.clone()).await.expect("a network"),
            images: self.images().await,
        };
        Agent::start(config, parts).await.expect("an agent")
    }

    fn bind(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = "n".into();
        self.server.put("pods", name, json!({ "metadata": { "namespace": "shop" }, "spec": spec }));
    }

    async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.server.until("pods", name, |pod| pod.is_some_and(&wanted)).await.expect("a pod")
    }

    async fn gone(&self, name: &str) {
        self.server.until("pods", name, |pod| pod.is_none()).await;
    }

    async fn clean(self) {
        PodNetwork::remove(&self.network, true).await.expect("the network goes");
        volume::tree::unmount_beneath(self.place.path()).expect("mounts go");
        self.runtime().await.runtime.remove_groups().await.expect("the groups go");
        let trees = std::fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten();
        let left: Vec<PathBuf> = trees.map(|tree| tree.path().join(self.groups())).filter(|group| group.exists()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

fn shim() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.parent().and_then(Path::parent).expect("a build directory").join("pod-shim")
}

fn views(client: &kube::Client) -> Views {
    fn view<K: Watched>(client: &kube::Client) -> Informer<K> {
        Informer::start(informer::Api::all(client.clone()))
    }
    Views {
        pods: view(client),
        nodes: view(client),
        config_maps: view(client),
        secrets: view(client),
        services: view(client),
        claims: view(client),
        volumes: view(client),
        storage_classes: view(client),
        stateful_sets: view(client),
    }
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

/// Asks the agent as the API server would.
async fn ask(agent: &Agent, path: &str) -> String {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serve = agent.connection(far);
    let request = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "n").body(Empty::<Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let text = answer.into_body().collect().await.expect("a body").to_bytes();
        connection.abort();
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::select! {
        () = serve => panic!("the connection was closed"),
        text = request => text,
    }
}

/// What a container wrote reaches its log soon after.
async fn says(agent: &Agent, path: &str, wanted: &str) {
    eventually(wanted, async || ask(agent, path).await == wanted).await;
}

async fn eventually(what: &str, reached: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if reached().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not reached: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lives_and_goes_and_leaves_nothing() {
    let Some(machine) = Machine::new(1).await else { return };
    let agent = machine.start().await;
    machine.server.put("configmaps", "settings", json!({ "metadata": { "namespace": "shop" }, "data": { "color": "green" } }));
    let began = Instant::now();
    machine.bind(
        "web-0",
        json!({
            "hostname": "web-0", "subdomain": "web", "terminationGracePeriodSeconds": 5,
            "volumes": [
                { "name": "settings", "configMap": { "name": "settings" } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
            ],
            "initContainers": [{ "name": "init", "image": BUSYBOX, "command": ["sh", "-c", "echo prepared > /scratch/file"],
                "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }] }],
            "containers": [{ "name": "main", "image": BUSYBOX,
                "command": ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo $COLOR $POD_IP $(cat /settings/color) $(cat /scratch/deep/file) $(cat /token/token); while true; do sleep 0.05; done"],
                "env": [
                    { "name": "COLOR", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "color" } } },
                    { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                ],
                "readinessProbe": { "exec": { "command": ["true"] } },
                "volumeMounts": [
                    { "name": "settings", "mountPath": "/settings" }, { "name": "token", "mountPath": "/token" },
                    { "name": "scratch", "mountPath": "/scratch/deep" },
                ] }],
        }),
    );
    let pod = machine.until("web-0", ready).await;
    println!("bound to ready, with an init container: {:?}", began.elapsed());
    let address = pod["status"]["podIP"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10.77.201."));
    says(&agent, "/containerLogs/shop/web-0/main?tailLines=10", &format!("green {address} green prepared token\n")).await;
    let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
    machine.server.delete("web-0", 5);
    machine.gone("web-0").await;
    assert!(!machine.path("data/pods").join(&uid).exists());
    assert!(machine.images().await.mounted().await.expect("a list").is_empty());
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        eventually(reason, async || machine.server.told().iter().any(|event| event.starts_with(reason))).await;
    }
    drop(agent);
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_pod_runs_soon() {
    let Some(machine) = Machine::new(2).await else { return };
    let agent = machine.start().await;
    for number in 0..5 {
        let name = format!("web-{number}");
        let began = Instant::now();
        machine.bind(&name, json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"], "readinessProbe": { "exec": { "command": ["true"] } } }] }));
        machine.until(&name, |pod| pod["status"]["phase"] == "Running").await;
        let running = began.elapsed();
        machine.until(&name, ready).await;
        println!("bound to Running {running:?}, to Ready {:?}", began.elapsed());
    }
    for number in 0..5 {
        machine.server.delete(&format!("web-{number}"), 0);
    }
    for number in 0..5 {
        machine.gone(&format!("web-{number}")).await;
    }
    drop(agent);
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_agent_disturbs_nothing_and_misses_nothing() {
    let Some(machine) = Machine::new(3).await else { return };
    let agent = machine.start().await;
    let stays = json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }] });
    machine.bind("stays-0", stays);
    let ends = "echo first; while ! test -e /shared/stop; do sleep 0.02; done; exit 7";
    machine.bind("ends-0", json!({ "restartPolicy": "Never", "volumes": [{ "name": "shared", "emptyDir": {} }],
        "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", ends], "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] }] }));
    let before = machine.until("stays-0", ready).await;
    let ending = machine.until("ends-0", ready).await;
    drop(agent);
    let uid = ending["metadata"]["uid"].as_str().expect("a uid");
    std::fs::write(machine.path("data/pods").join(uid).join("volumes/shared/stop"), "").expect("a file");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let agent = machine.start().await;
    let ended = machine.until("ends-0", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(container(&ended)["state"]["terminated"]["exitCode"], 7);
    let after = machine.server.get("pods", "stays-0").expect("a pod");
    assert_eq!(container(&after), container(&before));
    says(&agent, "/containerLogs/shop/ends-0/main", "first\n").await;
    machine.server.delete("stays-0", 0);
    machine.server.delete("ends-0", 0);
    machine.gone("stays-0").await;
    machine.gone("ends-0").await;
    drop(agent);
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_a_pod_that_went_unseen_is_free_again() {
    let Some(machine) = Machine::new(7).await else { return };
    let network = PodNetwork::open(machine.network.clone()).await.expect("a network");
    let lost = PodIdentity { key: ObjectKey::new("shop", "lost"), uid: "lost".to_owned(), keep: Keep::WhilePodExists };
    network.reserve(&lost).await.expect("an address");
    drop(network);
    let agent = machine.start().await;
    machine.bind("web-0", json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }] }));
    let pod = machine.until("web-0", ready).await;
    let held = async || PodNetwork::open(machine.network.clone()).await.expect("a network").holders();
    eventually("only the pod that lives has an address", async || {
        held().await.iter().map(|holder| &*holder.uid).eq(pod["metadata"]["uid"].as_str())
    })
    .await;
    machine.server.delete("web-0", 0);
    machine.gone("web-0").await;
    drop(agent);
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_counted_and_its_log_is_kept() {
    let Some(machine) = Machine::new(4).await else { return };
    let agent = machine.start().await;
    machine.bind("web-0", json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", "echo last words > /dev/termination-log; echo once; exit 3"] }] }));
    let pod = machine.until("web-0", |pod| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    assert_eq!(container(&pod)["restartCount"], 1);
    let last = &container(&pod)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["message"], &last["reason"]), (&json!(3), &json!("last words\n"), &json!("Error")));
    says(&agent, "/containerLogs/shop/web-0/main?previous=true", "once\n").await;
    machine.bind("bad-0", json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["/no/such/command"] }] }));
    machine.until("bad-0", |pod| container(pod)["state"]["waiting"]["reason"] == "RunContainerError").await;
    for name in ["web-0", "bad-0"] {
        machine.server.delete(name, 0);
        machine.gone(name).await;
    }
    drop(agent);
    machine.clean().await;
}

/// Runs a command as kubectl does; gives its output, its errors and its status.
async fn exec(agent: &Agent, query: &str, input: &[&[u8]]) -> (String, String, Value) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let client = async {
        let mut request = format!("ws://n/exec/shop/web-0/main?{query}").into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("v5.channel.k8s.io"));
        let (mut socket, _) = tokio_tungstenite::client_async(request, near).await.expect("an upgrade");
        for message in input {
            socket.send(Message::binary(message.to_vec())).await.expect("it is sent");
        }
        let (mut output, mut errors, mut status) = (Vec::new(), Vec::new(), Value::Null);
        while let Some(Ok(message)) = socket.next().await {
            match message.into_data().split_first() {
                Some((1, bytes)) => output.extend_from_slice(bytes),
                Some((2, bytes)) => errors.extend_from_slice(bytes),
                Some((3, bytes)) => status = serde_json::from_slice(bytes).expect("a status"),
                _ => {}
            }
        }
        (String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&errors).into_owned(), status)
    };
    let (_, answer) = tokio::join!(agent.connection(far), client);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_containers() {
    let Some(machine) = Machine::new(5).await else { return };
    let agent = machine.start().await;
    machine.bind("web-0", json!({ "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }] }));
    machine.until("web-0", ready).await;
    let (output, errors, status) =
        exec(&agent, "command=sh&command=-c&command=echo+out;echo+err+%3E%262;exit+3&output=1&error=1", &[]).await;
    assert_eq!((output.as_str(), errors.as_str()), ("out\n", "err\n"));
    assert_eq!(status["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "3" }));
    let (output, _, status) = exec(&agent, "command=cat&input=1&output=1&error=1", &[b"\x00hello ", b"\x00world", b"\xff\x00"]).await;
    assert_eq!((output.as_str(), &status["status"]), ("hello world", &json!("Success")));
    let resize: &[u8] = b"\x04{\"Width\":99,\"Height\":33}";
    let (output, _, _) = exec(&agent, "command=sh&input=1&output=1&tty=1", &[resize, b"\x00busybox stty size; exit\n"]).await;
    assert!(output.contains("33 99"), "{output}");
    let (_, _, status) = exec(&agent, "command=/none&output=1&error=1", &[]).await;
    assert_eq!(status["status"], "Failure");
    machine.server.delete("web-0", 0);
    machine.gone("web-0").await;
    drop(agent);
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_provisioned_and_its_data_outlives_the_pod() {
    let Some(machine) = Machine::new(6).await else { return };
    let agent = machine.start().await;
    machine.server.put("storageclasses", "local", json!({ "provisioner": "steadfast.dev/local", "reclaimPolicy": "Delete" }));
    let claim = machine.server.put(
        "persistentvolumeclaims",
        "data-web-0",
        json!({ "metadata": { "namespace": "shop", "annotations": { "volume.kubernetes.io/selected-node": "n" } },
            "spec": { "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } } }),
    );
    let name = format!("pvc-{}", claim["metadata"]["uid"].as_str().expect("a uid"));
    let volume = machine.server.until("persistentvolumes", &name, |volume| volume.is_some()).await.expect("a volume");
    let mut bound = claim;
    bound["spec"]["volumeName"] = name.as_str().into();
    machine.server.put("persistentvolumeclaims", "data-web-0", bound);
    let spec = |command: &str| {
        json!({ "restartPolicy": "Never", "securityContext": { "runAsUser": 1234, "fsGroup": 4321 },
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-web-0" } }],
            "containers": [{ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", command],
                "volumeMounts": [{ "name": "data", "mountPath": "/data", "subPath": "deep/part" }] }] })
    };
    for (pod, command) in [("web-0", "echo kept > /data/file"), ("web-1", "test $(cat /data/file) = kept")] {
        machine.bind(pod, spec(command));
        let ended = machine.until(pod, |pod| pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed").await;
        assert_eq!(ended["status"]["phase"], "Succeeded", "{ended:#}");
        machine.server.delete(pod, 0);
        machine.gone(pod).await;
    }
    let directory = machine.path("data/volumes").join(&name);
    assert_eq!(std::fs::read_to_string(directory.join("deep/part/file")).expect("the file"), "kept\n");
    let mut released = volume;
    released["status"]["phase"] = "Released".into();
    machine.server.put("persistentvolumes", &name, released);
    machine.server.until("persistentvolumes", &name, |volume| volume.is_none()).await;
    assert!(!directory.exists());
    drop(agent);
    machine.clean().await;
}
