//! Our controllers as clients of another API server: alone, as one of two, deposed, and beside a StatefulSet controller.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use end_to_end::{Cluster, Running, binary};
use serde_json::{Value, json};

/// Seconds of a lease: short, as the tests wait for its end.
const LEASE: &str = "2";

/// `steadfast controllers`, or whatever else ends with the test.
struct Process {
    running: Running,
    output: PathBuf,
}

impl Process {
    fn start(mut command: Command, output: PathBuf) -> Self {
        let file = File::create(&output).unwrap();
        command.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file);
        Self { running: Running::start(command), output }
    }

    fn attached(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("controllers").arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--lease-duration", LEASE]).args(arguments);
        Self::start(command, cluster.folder().join(name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    fn says(&self, cluster: &Cluster, wanted: &str) {
        cluster.until(&format!("{} says {wanted:?}", self.output.display()), || self.text().contains(wanted));
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.running.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn ends_well(mut self) -> String {
        self.signal("-TERM");
        assert!(self.running.ends().success());
        self.text()
    }
}

/// A cluster whose own StatefulSet controller is switched off.
fn cluster() -> Cluster {
    Cluster::start_with(&["--simulated-nodes", "2", "--disable-controllers", "statefulset"])
}

fn set(api_version: &str, name: &str, replicas: u32, image: &str) -> String {
    let labels = json!({"app": "web"});
    json!({"apiVersion": api_version, "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "serviceName": name, "minReadySeconds": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}}})
    .to_string()
}

/// Everything that happens to pods from now on, to be judged later.
fn record_pods(cluster: &Cluster) -> Process {
    let command = cluster.kubectl_command(&["get", "pods", "--watch", "--output-watch-events", "--output", "json"]);
    Process::start(command, cluster.folder().join("history"))
}

#[derive(Clone, PartialEq)]
struct Seen {
    uid: String,
    image: String,
    ready: bool,
    leaving: bool,
}

impl Seen {
    fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Self {
            uid: text(&pod["metadata"]["uid"]),
            image: text(&pod["spec"]["containers"][0]["image"]),
            ready: conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
            leaving: !pod["metadata"]["deletionTimestamp"].is_null(),
        }
    }
}

/// Checks that a set of so many came up and was updated once, from v1 to v2, with each pod made once per revision, and in order.
fn check_history(history: &Process, replicas: usize) {
    let text = history.text();
    let mut pods: BTreeMap<String, Seen> = BTreeMap::new();
    let mut made: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for event in serde_json::Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok) {
        let name = event["object"]["metadata"]["name"].as_str().unwrap().to_owned();
        let pod = Seen::of(&event["object"]);
        made.entry((name.clone(), pod.image.clone())).or_default().insert(pod.uid.clone());
        let before = pods.get(&name).filter(|before| before.uid == pod.uid).cloned();
        let ordinal = |name: &str| name.rsplit('-').next().unwrap().parse::<usize>().unwrap();
        if pod.leaving && !before.as_ref().is_some_and(|before| before.leaving) {
            assert_eq!(pod.image, "v1", "{name} was deleted though it is up to date");
            let above: Vec<_> = (ordinal(&name) + 1..replicas).map(|above| pods.get(&format!("web-{above}"))).collect();
            let done = |pod: &Option<&Seen>| pod.is_some_and(|pod| pod.ready && pod.image == "v2" && !pod.leaving);
            assert!(above.iter().all(done), "{name} was deleted before its time");
        }
        if before.is_none() && pod.image == "v1" {
            let below = (0..ordinal(&name)).all(|below| pods.get(&format!("web-{below}")).is_some_and(|pod| pod.ready));
            assert!(below, "{name} was created before its time");
        }
        match event["type"] == "DELETED" {
            true => drop(pods.remove(&name)),
            false => drop(pods.insert(name, pod)),
        }
    }
    let wanted = (0..replicas).flat_map(|ordinal| ["v1", "v2"].map(|image| (format!("web-{ordinal}"), image.to_owned())));
    assert_eq!(made.keys().cloned().collect::<BTreeSet<_>>(), wanted.collect::<BTreeSet<_>>());
    for (pod, uids) in made {
        assert_eq!(uids.len(), 1, "{pod:?} was made more than once: {uids:?}");
    }
}

/// How many pods have the new image.
fn updated(cluster: &Cluster) -> usize {
    let pods = cluster.get(&["pods"])["items"].as_array().cloned().unwrap_or_default();
    pods.iter().filter(|pod| pod["spec"]["containers"][0]["image"] == "v2").count()
}

/// Two candidates, of which the first leads, and a set of six of which two are updated.
fn in_the_middle_of_a_rollout(cluster: &Cluster) -> (Process, Process, Process) {
    let history = record_pods(cluster);
    let first = Process::attached(cluster, "first", &[]);
    first.says(cluster, "leading since");
    let second = Process::attached(cluster, "second", &[]);
    second.says(cluster, "following ");
    cluster.apply(&set("apps/v1", "web", 6, "v1"));
    cluster.rolled_out("web");
    cluster.apply(&set("apps/v1", "web", 6, "v2"));
    cluster.until("two pods are updated", || updated(cluster) >= 2);
    (first, second, history)
}

/// Waits until the history has all of the rollout, and judges it.
fn complete(cluster: &Cluster, history: &Process) {
    cluster.rolled_out("web");
    cluster.until("all is on record", || history.text().matches("\"DELETED\"").count() == 6);
    check_history(history, 6);
}

#[test]
fn a_set_comes_up_is_updated_scaled_and_looked_after_by_a_controller_from_outside() {
    let cluster = cluster();
    cluster.apply(&set("apps/v1", "web", 2, "v1"));
    let attached = Process::attached(&cluster, "attached", &["--only", "statefulset"]);
    cluster.rolled_out("web");
    cluster.apply(&set("apps/v1", "web", 2, "v2"));
    cluster.rolled_out("web");
    cluster.kubectl(&["scale", "statefulset/web", "--replicas=3"]);
    cluster.ready("web", 3);
    cluster.kubectl(&["rollout", "undo", "statefulset/web"]);
    cluster.rolled_out("web");
    assert_eq!(cluster.get(&["pod", "web-2"])["spec"]["containers"][0]["image"], "v1");
    let lease = || cluster.get(&["lease", "steadfast-controllers", "--namespace", "kube-system"])["spec"].clone();
    assert!(!lease()["holderIdentity"].as_str().unwrap().is_empty());

    let text = attached.ends_well();
    assert!(text.contains("leading since ") && text.ends_with("released the lease\n"), "{text}");
    assert_eq!(lease()["holderIdentity"].as_str().unwrap_or_default(), "");
}

#[test]
fn when_the_leader_is_killed_in_the_middle_of_a_rollout_the_other_goes_on_and_nothing_is_done_twice() {
    let cluster = cluster();
    let (first, second, history) = in_the_middle_of_a_rollout(&cluster);
    first.signal("-KILL");
    second.says(&cluster, "leading since");
    complete(&cluster, &history);
}

#[test]
fn a_leader_that_was_stopped_beyond_its_lease_does_nothing_more_when_it_goes_on() {
    let cluster = cluster();
    let (first, second, history) = in_the_middle_of_a_rollout(&cluster);
    first.signal("-STOP");
    second.says(&cluster, "leading since");
    // It goes on while the other works.
    let before = updated(&cluster);
    cluster.until("the second updates pods", || updated(&cluster) > before);
    first.signal("-CONT");
    first.says(&cluster, "lost the lease");
    first.says(&cluster, "following ");
    complete(&cluster, &history);
    assert_eq!(second.text().matches("lost the lease").count(), 0);
}

#[test]
fn sets_of_our_own_group_live_beside_statefulsets_and_neither_controller_touches_the_other_s_pods() {
    let cluster = Cluster::simulated(2);
    let _attached = Process::attached(&cluster, "attached", &["--kind", "statefulsets.apps.steadfast.dev"]);
    cluster.apply(&set("apps/v1", "web", 2, "v1"));
    cluster.apply(&set("apps.steadfast.dev/v1", "own", 2, "v1"));
    cluster.rolled_out("web");
    let ready = |wanted: &str| {
        cluster.until(&format!("own is {wanted}"), || {
            cluster.kubectl(&["get", "ssts", "own", "--no-headers"]).split_whitespace().nth(1) == Some(wanted)
        })
    };
    ready("2/2");
    cluster.kubectl(&["scale", "ssts/own", "--replicas=3"]);
    ready("3/3");
    let owners = || -> BTreeMap<String, String> {
        let pods = cluster.get(&["pods"])["items"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        pods.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["ownerReferences"][0]["apiVersion"]))).collect()
    };
    let (theirs, ours) = ("apps/v1".to_owned(), "apps.steadfast.dev/v1".to_owned());
    let own = ["own-0", "own-1", "own-2"].map(|name| (name.to_owned(), ours.clone()));
    let web = ["web-0", "web-1"].map(|name| (name.to_owned(), theirs.clone()));
    assert_eq!(owners(), own.into_iter().chain(web.clone()).collect());

    let uids = |name: &str| cluster.get(&["pod", name])["metadata"]["uid"].clone();
    let untouched = uids("web-0");
    cluster.apply(&set("apps.steadfast.dev/v1", "own", 3, "v2"));
    cluster.until("own is updated", || cluster.get(&["ssts", "own"])["status"]["updatedReplicas"] == 3);
    ready("3/3");
    cluster.kubectl(&["delete", "ssts", "own"]);
    cluster.until("its pods are gone", || owners() == web.clone().into());
    let revisions = || cluster.get(&["controllerrevisions"])["items"].as_array().map_or(0, Vec::len);
    cluster.until("its revisions are gone", || revisions() == 1);
    assert_eq!(uids("web-0"), untouched);
}
