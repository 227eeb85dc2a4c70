//! What is foreseen is what happens: forecasts of `steadfast plan` beside what a watch then sees.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use end_to_end::{Cluster, binary, said};
use serde_json::{Value, json};

/// The set under test and its Service.
fn manifest(change: impl FnOnce(&mut Value)) -> String {
    let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "serviceName": "web", "replicas": 4, "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
        "template": {"metadata": {"labels": {"app": "web"}, "annotations": {"note": "kept"}}, "spec": {"containers": [
            {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]}});
    change(&mut set);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    // The comment tells kubectl that this is YAML, which may hold several documents.
    format!("# web\n---\n{service}\n---\n{set}\n")
}

/// Runs a verb with a text on standard input.
fn steadfast(cluster: &Cluster, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--data-dir").arg(cluster.data_dir());
    let file = cluster.folder().join("input");
    std::fs::write(&file, input).expect("a file");
    command.stdin(std::fs::File::open(file).expect("the file")).output().expect("steadfast runs")
}

/// The forecast of the one set, with the exit code that says that something changes.
fn forecast(cluster: &Cluster, manifest: &str, more: &[&str]) -> Value {
    let output = steadfast(cluster, &[&["plan", "-f", "-", "-o", "json"], more].concat(), manifest);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["sets"][0].clone()
}

/// The pods that go and come, as foreseen.
fn foreseen(forecast: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = forecast["steps"].as_array().expect("steps").iter();
    let told = steps.filter_map(|step| match step["step"].as_str()? {
        "delete-pod" => Some(format!("- {}", text(&step["pod"]))),
        "create-pod" => Some(format!("+ {} {}", text(&step["pod"]), text(&step["revision"]))),
        _ => None,
    });
    told.collect()
}

/// What a watch sees of pods.
struct Watch<'a> {
    cluster: &'a Cluster,
    kubectl: Child,
    events: Receiver<Value>,
    /// The uids of the pods that were there: the watch may begin by telling of them.
    before: Vec<Value>,
}

impl<'a> Watch<'a> {
    /// Begins to look; the pods that are there are no news.
    fn begin(cluster: &'a Cluster) -> Self {
        let pods = cluster.get(&["pods"])["items"].as_array().cloned().unwrap_or_default();
        let before = pods.into_iter().map(|mut pod| pod["metadata"]["uid"].take()).collect();
        let arguments = ["get", "pods", "--watch", "--output-watch-events", "--output", "json"];
        let mut kubectl = cluster.kubectl_command(&arguments).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let output = kubectl.stdout.take().expect("piped");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
            for event in events.map_while(Result::ok) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let watch = Self { cluster, kubectl, events, before };
        watch.until_marker("begin");
        watch
    }

    /// Pods that went and came until now, in order.
    fn end(mut self) -> Vec<String> {
        let seen = self.until_marker("end");
        self.kubectl.kill().expect("kubectl is stopped");
        self.kubectl.wait().expect("kubectl ends");
        seen
    }

    /// A pod of nobody's marks a moment in the stream.
    fn until_marker(&self, name: &str) -> Vec<String> {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        self.cluster.apply(&pod.to_string());
        let mut seen = Vec::new();
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(60)).expect("the watch goes on");
            let meta = &event["object"]["metadata"];
            match (event["type"].as_str(), meta["name"].as_str().unwrap_or_default()) {
                (Some("ADDED"), marker) if marker == name => break,
                (Some("ADDED"), pod) if pod.starts_with("web-") && !self.before.contains(&meta["uid"]) => {
                    seen.push(format!("+ {pod} {}", meta["labels"]["controller-revision-hash"].as_str().unwrap_or_default()));
                }
                (Some("DELETED"), pod) if pod.starts_with("web-") => seen.push(format!("- {pod}")),
                _ => {}
            }
        }
        self.cluster.kubectl(&["delete", "pod", name]);
        seen
    }
}

/// Waits until the controller has nothing to do, and the set waits for what was foreseen.
fn settled(cluster: &Cluster, forecast: &Value) {
    cluster.until("the set is as foreseen", || {
        let set = cluster.get(&["statefulset", "web"]);
        let output = cluster.steadfast(&["status", "sts/web", "--output", "json"]);
        let portraits: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_seen = set["status"]["observedGeneration"] == set["metadata"]["generation"];
        let waits = |value: &Value| value.as_str().map(|text| text.split(':').next().unwrap_or_default().to_owned());
        is_seen && portraits[0]["next"] == json!([]) && waits(&portraits[0]["waitingOn"]) == waits(&forecast["waitingOn"])
    });
}

/// Foresees a change, lets it happen, and compares.
fn compare(cluster: &Cluster, manifest: &str, more: &[&str]) -> Value {
    let forecast = forecast(cluster, manifest, more);
    let watch = Watch::begin(cluster);
    cluster.apply(manifest);
    settled(cluster, &forecast);
    assert_eq!(watch.end(), foreseen(&forecast), "{forecast:#}");
    forecast
}

fn with_image(set: &mut Value, image: &str) {
    set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
}

#[test]
fn what_is_foreseen_happens() {
    let cluster = Cluster::simulated(3);
    let created = compare(&cluster, &manifest(|_| {}), &[]);
    assert_eq!((&created["isNew"], &created["verdict"]), (&json!(true), &json!("completes")));
    assert_eq!(created["totals"], json!({"restarts": 0, "created": 4, "removed": 0}));

    let partitioned = |set: &mut Value| {
        with_image(set, "web:2");
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 2.into();
    };
    let update = compare(&cluster, &manifest(partitioned), &[]);
    assert_eq!((&update["verdict"], &update["totals"]["restarts"]), (&json!("held"), &json!(2)));
    let paths: Vec<_> = update["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["spec.template.spec.containers[web].image", "spec.updateStrategy.rollingUpdate.partition"]);

    // The rest follows, and an environment variable that is no longer in the manifest goes.
    let rest = |set: &mut Value| {
        with_image(set, "web:2");
        set["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "2"}]);
    };
    let update = compare(&cluster, &manifest(rest), &[]);
    assert_eq!((&update["verdict"], &update["totals"]["restarts"]), (&json!("completes"), &json!(4)));
    assert_eq!(update["steps"][1]["fields"], json!(["env"]));

    // Two go, with their claims.
    let fewer = |set: &mut Value| {
        rest(set);
        set["spec"]["replicas"] = 2.into();
    };
    let scaled = compare(&cluster, &manifest(fewer), &[]);
    let lost: Vec<_> = scaled["claims"].as_array().unwrap().iter().filter(|claim| claim["fate"] == "lost").collect();
    assert_eq!(lost.iter().map(|claim| claim["claim"].as_str().unwrap()).collect::<Vec<_>>(), ["data-web-2", "data-web-3"]);
    cluster.until("these claims are gone, and only these", || {
        let claims = cluster.kubectl(&["get", "pvc", "--output", "jsonpath={.items[*].metadata.name}"]);
        claims.trim() == "data-web-0 data-web-1"
    });
}

#[test]
fn a_broken_revision_and_its_mending_are_foreseen() {
    let cluster = Cluster::simulated(1);
    compare(&cluster, &manifest(|_| {}), &[]);
    let broken = manifest(|set| {
        set["spec"]["template"]["metadata"]["annotations"]["steadfast.dev/simulated-failure"] = "ImagePullBackOff".into();
    });
    let forecast = compare(&cluster, &broken, &["--assume-broken"]);
    assert_eq!((&forecast["verdict"], &forecast["totals"]["restarts"]), (&json!("never-finishes"), &json!(1)));

    // The same manifest again changes nothing, and would never finish.
    let again = steadfast(&cluster, &["plan", "-f", "-"], &broken);
    let text = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(text.contains("it would never finish: it waits for web-3 to become Ready: container web: ImagePullBackOff"), "{text}");
    let stuck = cluster.steadfast(&["rollout", "status", "sts/web", "--timeout", "1"]);
    assert!(!stuck.status.success() && said(&stuck).contains("waits for web-3 to become Ready"), "{}", said(&stuck));

    let mended = compare(&cluster, &manifest(|set| with_image(set, "web:3")), &[]);
    assert_eq!((&mended["verdict"], &mended["steps"][1]["reason"]), (&json!("completes"), &json!("stuck")));
    let done = cluster.steadfast(&["rollout", "status", "sts/web", "--timeout", "60s"]);
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn a_field_that_is_refused_is_told_and_so_is_what_can_not_be_placed() {
    let cluster = Cluster::simulated(1).running(&manifest(|_| {}), 4);
    let refused = manifest(|set| set["spec"]["serviceName"] = "other".into());
    let output = steadfast(&cluster, &["plan", "-f", "-", "-o", "json"], &refused);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let refusal = &report["objects"][1]["refusals"][0];
    assert_eq!((&report["objects"][1]["action"], &refusal["field"], &report["sets"]), (&json!("refuse"), &json!("spec"), &json!([])));
    let applied = cluster.kubectl_with_input(&["apply", "--filename", "-"], &refused);
    let error = String::from_utf8_lossy(&applied.stderr);
    assert!(!applied.status.success() && error.contains(refusal["message"].as_str().unwrap()), "{error}\n{refusal}");

    let misspelt = manifest(|set| set["spec"]["replicaz"] = 3.into());
    let output = steadfast(&cluster, &["plan", "-f", "-"], &misspelt);
    assert!(output.status.code() == Some(1) && said(&output).contains("replicaz"), "{}", said(&output));

    let nowhere = manifest(|set| set["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "fast"}));
    let told = compare(&cluster, &nowhere, &[]);
    assert_eq!(told["verdict"], "never-finishes");
    assert!(told["waitingOn"].as_str().unwrap().contains("0/1 nodes are available"), "{told:#}");
}

/// What is stored, but for what beats by itself.
fn versions(cluster: &Cluster) -> String {
    let kinds = "statefulsets,pods,services,persistentvolumeclaims,controllerrevisions,events,namespaces,configmaps,secrets";
    let columns = "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
    cluster.kubectl(&["get", kinds, "--all-namespaces", "--output", columns])
}

#[test]
fn nothing_is_ever_written() {
    let cluster = Cluster::simulated(1).running(&manifest(|_| {}), 4);
    cluster.rolled_out("web");
    let before = versions(&cluster);
    let same = steadfast(&cluster, &["plan", "-f", "-"], &manifest(|_| {}));
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    // A namespace that does not exist yet, with what would be in it.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}});
    let inside = manifest(|set| set["metadata"]["namespace"] = "new".into());
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "swordfish"}});
    for text in [
        manifest(|set| with_image(set, "web:2")),
        manifest(|set| set["spec"]["replicas"] = 0.into()),
        format!("{inside}---\n{namespace}\n"),
        secret.to_string(),
    ] {
        for format in ["text", "json", "yaml"] {
            let output = steadfast(&cluster, &["plan", "-f", "-", "-o", format], &text);
            assert_eq!(output.status.code(), Some(2), "{}", said(&output));
            assert!(!said(&output).contains("swordfish") && !said(&output).contains('\u{1b}'), "{}", said(&output));
        }
    }
    assert!(cluster.steadfast(&["status"]).status.success());
    assert_eq!(versions(&cluster), before);
}

#[test]
fn what_can_not_be_read_or_reached_is_an_error_with_a_next_step() {
    let mut cluster = Cluster::simulated(1);
    let folder = cluster.folder().join("kustomization");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("web.yaml"), manifest(|_| {})).unwrap();
    std::fs::write(folder.join("kustomization.yaml"), "resources: [web.yaml]\nnamePrefix: my-\n").unwrap();
    let output = cluster.steadfast(&["plan", "-k", &folder.to_string_lossy()]);
    assert!(output.status.code() == Some(2) && said(&output).contains("create my-web-0"), "{}", said(&output));

    let error = |arguments: &[&str], input: &str| {
        let output = steadfast(&cluster, arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {}", said(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(error(&["plan"], "").contains("--filename"));
    assert!(error(&["plan", "-f", "-"], "").contains("no objects were given"));
    assert!(error(&["plan", "-f", "-"], "a: [").contains("is no YAML"));
    assert!(error(&["plan", "-f", "/nowhere.yaml"], "").contains("/nowhere.yaml"));
    assert!(error(&["status", "sts/none"], "").contains("there is no StatefulSet none"));
    assert!(error(&["rollout", "pause", "pod/x"], "").contains("only StatefulSets"));
    cluster.kill();
    let output = cluster.steadfast(&["plan", "-f", &folder.join("web.yaml").to_string_lossy()]);
    assert!(output.status.code() == Some(1) && said(&output).contains("`steadfast up`"), "{}", said(&output));
}

#[test]
fn a_rollout_is_paused_resumed_undone_and_restarted() {
    let cluster = Cluster::simulated(1).running(&manifest(|_| {}), 4);
    let rollout = |verb: &str| cluster.steadfast(&["rollout", verb, "sts/web"]);
    let set = || cluster.get(&["statefulset", "web"]);
    let succeeds = |verb: &str, word: &str| {
        let output = rollout(verb);
        assert!(output.status.success() && said(&output).contains(&format!("statefulset.apps/web {word}")), "{}", said(&output));
    };
    succeeds("pause", "paused");
    assert_eq!(set()["metadata"]["annotations"]["steadfast.dev/paused"], "true");
    assert!(said(&rollout("pause")).contains("already paused"));
    assert!(said(&rollout("restart")).contains("rollout resume sts/web"));
    succeeds("resume", "resumed");
    assert_eq!(set()["metadata"]["annotations"]["steadfast.dev/paused"], Value::Null);
    assert!(said(&rollout("undo")).contains("no last revision"));

    cluster.apply(&manifest(|set| with_image(set, "web:2")));
    assert!(rollout("status").status.success());
    succeeds("undo", "rolled back");
    assert!(rollout("status").status.success());
    let image = || set()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image(), "web:1");
    let before = cluster.get(&["pod", "web-0"])["metadata"]["uid"].clone();
    succeeds("restart", "restarted");
    assert!(rollout("status").status.success());
    assert_ne!(cluster.get(&["pod", "web-0"])["metadata"]["uid"], before);
}

#[test]
fn status_is_told_as_it_changes() {
    use std::io::BufRead;
    let cluster = Cluster::simulated(1).running(&manifest(|_| {}), 4);
    let output = cluster.steadfast(&["status", "sts/web"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["default/web 4 of 4 ready", "web-3  ready", "data-web-3 1Mi", "simulated-0", "as desired"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut command = Command::new(binary());
    command.args(["status", "--watch", "--data-dir"]).arg(cluster.data_dir()).stdout(Stdio::piped());
    let mut watch = command.spawn().expect("steadfast runs");
    let mut lines = std::io::BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "default/web as desired"));
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas", "3"]);
    assert!(lines.any(|line| line == "default/web-3  gone"));
    let interrupted = Command::new("kill").args(["-INT", &watch.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success() && watch.wait().expect("it ends").success());
}
