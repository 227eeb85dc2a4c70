//! What the tests run: a web server whose readiness can be broken and mended, as a set named `ss` behind the headless Service `test`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use end_to_end::{Answer, Cluster, is_root};
use serde_json::{Value, json};

use crate::history::History;

/// The instance that all tests share, while any of them runs.
static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// Serves its page; ends at once when it is told to.
const SERVE: &str = "trap 'exit 0' TERM; mkdir -p /www; hostname > /www/index.html; httpd -p 80 -h /www; sleep 1000000 & wait";

/// A namespace with the Service `test`.
pub struct Workload {
    cluster: Arc<Cluster>,
    pub namespace: &'static str,
}

impl Workload {
    /// A namespace of this name in the shared instance; `None` where containers can't be started.
    pub fn new(namespace: &'static str) -> Option<Self> {
        is_root().then(|| Self::within(shared(), namespace))
    }

    /// As [`Workload::new`], in an instance of its own, for what would disturb others.
    pub fn alone(namespace: &'static str) -> Option<Self> {
        is_root().then(|| Self::within(Arc::new(cluster()), namespace))
    }

    fn within(cluster: Arc<Cluster>, namespace: &'static str) -> Self {
        cluster.call("POST", "/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
        let workload = Self { cluster, namespace };
        let spec = json!({"clusterIP": "None", "selector": {"app": "ss"}, "ports": [{"name": "http", "port": 80}]});
        workload.create("services", &json!({"metadata": {"name": "test"}, "spec": spec}));
        workload
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The path of a resource in the namespace: `pods/ss-0`.
    pub fn path(&self, resource: &str) -> String {
        let group = match resource.split(['/', '?']).next().unwrap_or_default() {
            "statefulsets" | "controllerrevisions" => "/apis/apps/v1",
            _ => "/api/v1",
        };
        format!("{group}/namespaces/{}/{resource}", self.namespace)
    }

    pub fn create(&self, resource: &str, object: &Value) -> Value {
        self.cluster.call("POST", &self.path(resource), object)
    }

    pub fn try_create(&self, resource: &str, object: &Value) -> Answer {
        self.cluster.try_call("POST", &self.path(resource), object)
    }

    /// Creates a set and waits until all of it is ready.
    pub fn run(&self, set: &Value) -> Value {
        self.create("statefulsets", set);
        self.settled()
    }

    pub fn get(&self, resource: &str) -> Value {
        self.cluster.call("GET", &self.path(resource), &Value::Null)
    }

    /// An object, if it exists.
    pub fn find(&self, resource: &str) -> Option<Value> {
        let answer = self.cluster.try_call("GET", &self.path(resource), &Value::Null);
        match answer.status {
            200 => Some(answer.json()),
            404 => None,
            status => panic!("GET {resource}: {status}\n{}", answer.text()),
        }
    }

    /// Merges a patch into an object.
    pub fn patch(&self, resource: &str, patch: Value) -> Value {
        self.cluster.call("PATCH", &self.path(resource), &patch)
    }

    pub fn delete(&self, resource: &str) {
        self.cluster.call("DELETE", &self.path(resource), &Value::Null);
    }

    /// The set.
    pub fn set(&self) -> Value {
        self.get("statefulsets/ss")
    }

    /// Changes the specification of the set.
    pub fn change(&self, spec: Value) -> Value {
        self.patch("statefulsets/ss", json!({"spec": spec}))
    }

    /// Changes the image of the set.
    pub fn change_image(&self, image: &str) {
        let change = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
        let headers = [("content-type", "application/json-patch+json")];
        let answer = self.cluster.ask("PATCH", &self.path("statefulsets/ss"), &headers, change.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn scale(&self, replicas: u32) {
        self.change(json!({"replicas": replicas}));
    }

    /// The items of a list.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        self.get(resource)["items"].as_array().cloned().unwrap_or_default()
    }

    /// The names of the set's pods, sorted.
    pub fn pod_names(&self) -> Vec<String> {
        let pods = self.list("pods?labelSelector=app%3Dss");
        pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    pub fn pod(&self, ordinal: u32) -> Value {
        self.get(&format!("pods/ss-{ordinal}"))
    }

    /// The image of each pod of the set.
    pub fn images(&self) -> Vec<String> {
        self.list("pods?labelSelector=app%3Dss").iter().map(|pod| image(pod).to_owned()).collect()
    }

    /// The revision of each pod of the set.
    pub fn revisions(&self) -> Vec<String> {
        self.list("pods?labelSelector=app%3Dss").iter().map(|pod| revision(pod).to_owned()).collect()
    }

    /// Follows the pods of the namespace from now on.
    pub fn history(&self) -> History {
        let list = self.get("pods");
        let version = list["metadata"]["resourceVersion"].as_str().expect("a list has a version");
        let watch = self.cluster.watch(&self.path(&format!("pods?watch=true&resourceVersion={version}")));
        History::new(list["items"].as_array().cloned().unwrap_or_default(), watch)
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.cluster.until(&format!("{what} (namespace {})", self.namespace), holds);
    }

    /// Waits until the controller has seen the set as it is and made its pods so; returns the set.
    pub fn settled(&self) -> Value {
        let mut set = Value::Null;
        self.until("the set is as desired", || {
            set = self.set();
            let (status, wanted) = (&set["status"], &set["spec"]["replicas"]);
            let count = |field: &str| status[field].as_u64().unwrap_or(0);
            is_observed(&set) && [count("replicas"), count("readyReplicas")].iter().all(|count| Some(*count) == wanted.as_u64())
        });
        set
    }

    /// Waits until the controller has decided on the set as it is.
    pub fn observed(&self) -> Value {
        let mut set = Value::Null;
        self.until("the controller has seen the set", || {
            set = self.set();
            is_observed(&set)
        });
        set
    }

    /// Waits until all replicas are at the update revision and ready; returns the set.
    pub fn rolled_out(&self) -> Value {
        let mut set = Value::Null;
        self.until("the rollout is complete", || {
            set = self.set();
            let (status, wanted) = (&set["status"], set["spec"]["replicas"].as_u64());
            let all = ["updatedReplicas", "readyReplicas", "replicas"].iter().all(|field| status[*field].as_u64() == wanted);
            is_observed(&set) && all && status["currentRevision"] == status["updateRevision"]
        });
        set
    }

    /// Waits until a pod is ready, and another one than it was.
    pub fn replaced(&self, ordinal: u32, before: &Value) -> Value {
        let mut pod = None;
        self.until(&format!("ss-{ordinal} is replaced and ready"), || {
            pod = self.find(&format!("pods/ss-{ordinal}"));
            pod.as_ref().is_some_and(|pod| pod["metadata"]["uid"] != before["metadata"]["uid"] && is_ready(pod))
        });
        pod.expect("it is there")
    }

    pub fn until_pod(&self, ordinal: u32, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let mut pod = None;
        self.until(&format!("ss-{ordinal} {what}"), || {
            pod = self.find(&format!("pods/ss-{ordinal}"));
            pod.as_ref().is_some_and(&mut holds)
        });
        pod.expect("it is there")
    }

    pub fn shell(&self, pod: &str, script: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script]).trim().to_owned()
    }

    /// Takes the page away that the readiness probe asks for, and waits until the pod is known not to be ready.
    pub fn break_readiness(&self, ordinal: u32) {
        self.shell(&format!("ss-{ordinal}"), "mv /www/index.html /tmp/");
        self.until_pod(ordinal, "is not ready", |pod| !is_ready(pod));
    }

    /// Puts the page back.
    pub fn mend_readiness(&self, ordinal: u32) {
        self.shell(&format!("ss-{ordinal}"), "mv /tmp/index.html /www/");
    }

    /// Lets a pod of a [`paused`] set become ready.
    pub fn let_go_on(&self, ordinal: u32) {
        let pod = format!("ss-{ordinal}");
        self.until_pod(ordinal, "runs", |pod| pod["status"]["phase"] == "Running");
        self.shell(&pod, "touch /data/statefulset-continue");
        self.until_pod(ordinal, "is ready", is_ready);
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["--namespace", self.namespace], arguments].concat())
    }

    pub fn kubectl_fails(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl_fails(&[&["--namespace", self.namespace], arguments].concat())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.cluster.call("DELETE", &format!("/api/v1/namespaces/{}", self.namespace), &Value::Null);
        }
    }
}

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.load_busybox();
    cluster.load_second_busybox();
    cluster
}

fn shared() -> Arc<Cluster> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let new = Arc::new(cluster());
        *shared = Arc::downgrade(&new);
        new
    })
}

/// The set. As in upstream's tests the strategy has no `rollingUpdate` block, which is another thing than an empty one.
pub fn web(replicas: u32) -> Value {
    let probe = json!({"httpGet": {"path": "/index.html", "port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    let container = json!({"name": "webserver", "image": "busybox:1", "command": ["sh", "-c", SERVE], "readinessProbe": probe});
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "ss", "labels": {"app": "ss"}},
        "spec": {
            "serviceName": "test",
            "replicas": replicas,
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": {"app": "ss"}},
            "template": {
                "metadata": {"labels": {"app": "ss"}},
                "spec": {"terminationGracePeriodSeconds": 5, "automountServiceAccountToken": false, "containers": [container]},
            },
        },
    })
}

/// A set whose pods have a claim `datadir` at `/data`.
pub fn with_claims(replicas: u32) -> Value {
    let mut set = web(replicas);
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "datadir", "mountPath": "/data"}]);
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "datadir"}, "spec": spec}]);
    set
}

/// A set with claims whose pods become ready only when they are told to: see [`Workload::let_go_on`].
pub fn paused(replicas: u32) -> Value {
    let mut set = with_claims(replicas);
    let probe = json!({"exec": {"command": ["test", "-f", "/data/statefulset-continue"]}, "periodSeconds": 1, "failureThreshold": 1});
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe;
    set
}

/// The set with an update strategy that keeps ordinals below the partition.
pub fn with_partition(mut set: Value, partition: u32) -> Value {
    set["spec"]["updateStrategy"] = rolling(partition);
    set
}

/// An update strategy that keeps ordinals below the partition.
pub fn rolling(partition: u32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}})
}

pub fn in_parallel(mut set: Value) -> Value {
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    set
}

/// Whether the status was made from the set as it is.
pub fn is_observed(set: &Value) -> bool {
    set["status"]["observedGeneration"] == set["metadata"]["generation"]
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

pub fn revision(pod: &Value) -> &str {
    pod["metadata"]["labels"]["controller-revision-hash"].as_str().unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}
