//! Reading: printers, selectors, watching, waiting, completion.

use std::process::Stdio;

use end_to_end::{Cluster, Lines, Running, said, tool};

use crate::{AGES, command, fails, missing, output, run, uid, until_replaced, with_everything};

#[test]
fn printers_and_selectors_show_what_is_asked_for() {
    let cluster = with_everything();
    let nodes = cluster.kubectl(&["get", "pods", "--output", "jsonpath={.items[*].spec.nodeName}"]);
    let first = nodes.split(' ').next().unwrap();
    let on_first = format!("spec.nodeName={first},status.phase=Running");
    for (arguments, expected) in [
        (
            &["--output", "custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[0].image"][..],
            "NAME    IMAGE\nweb-0   busybox:1\nweb-1   busybox:1\n",
        ),
        (&["--output", "custom-columns=P:.status.phase,X:.spec.nothing", "--no-headers"], "Running   <none>\nRunning   <none>\n"),
        (&["--output", r#"jsonpath={range .items[*]}{.metadata.name}={.status.phase}{"\n"}{end}"#], "web-0=Running\nweb-1=Running\n"),
        (&["--output", r#"jsonpath={.items[?(@.metadata.name=="web-1")].spec.containers[*].name}"#], "web"),
        (&["--output", "go-template={{range .items}}{{.metadata.name}} {{end}}"], "web-0 web-1 "),
        (&["--output", "name", "--sort-by", ".metadata.name"], "pod/web-0\npod/web-1\n"),
        (&["--output", "name", "--field-selector", "metadata.name=web-1"], "pod/web-1\n"),
        (&["--output", "name", "--field-selector", "status.phase!=Running"], ""),
        (&["--output", "name", "--field-selector", &on_first], "pod/web-0\n"),
        (&["--output", "name", "--selector", "app in (web, other),!absent"], "pod/web-0\npod/web-1\n"),
        (&["--output", "name", "--selector", "app notin (web)"], ""),
        (&["--output", "name", "--selector", "apps.kubernetes.io/pod-index=1"], "pod/web-1\n"),
        (&["--output", "name", "--chunk-size", "1", "--all-namespaces"], "pod/web-0\npod/web-1\n"),
    ] {
        for age in AGES {
            assert_eq!(run(&cluster, age, &[&["get", "pods"], arguments].concat()), expected, "{age} {arguments:?}");
        }
    }
    for (arguments, expected) in [
        (
            &["get", "pods", "--output", "wide"][..],
            &["NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES", "web-0 1/1 Running 0"][..],
        ),
        (&["get", "pods", "--show-labels", "--label-columns", "app"], &["AGE APP LABELS", "statefulset.kubernetes.io/pod-name=web-1"]),
        (
            &["get", "statefulsets.apps,services", "--output", "wide"],
            &["statefulset.apps/web 2/2", "service/web ClusterIP None <none> 80/TCP"],
        ),
        (&["get", "all"], &["pod/web-0 1/1", "service/kubernetes ClusterIP", "statefulset.apps/web 2/2"]),
        (
            &["get", "sts,pvc,pdb,quota,limits,sc,pc,sa,cm,ep,ev,no,ns"],
            &["persistentvolumeclaim/data-web-1 Bound", "storageclass.storage.k8s.io/local (default)"],
        ),
        (&["get", "events", "--field-selector", "involvedObject.kind=StatefulSet,type=Normal"], &["SuccessfulCreate statefulset/web"]),
        (&["get", "secrets", "--field-selector", "type=Opaque"], &["password Opaque 1"]),
        (&["get", "nodes", "--field-selector", "spec.unschedulable=false", "--sort-by", "{.metadata.name}"], &["simulated-1 Ready"]),
        (&["get", "--raw", "/api/v1/namespaces/default/pods/web-0"], &["\"kind\":\"Pod\""]),
        (&["get", "pods", "web-0", "--output", "yaml"], &["apiVersion: v1", "kind: Pod", "phase: Running"]),
        (&["api-versions"], &["apps/v1", "policy/v1", "v1"]),
        (&["cluster-info"], &["control plane"]),
        (&["auth", "can-i", "create", "statefulsets"], &["yes"]),
        (&["auth", "can-i", "--list"], &["*.* [] [] [*]"]),
    ] {
        for age in AGES {
            let text = run(&cluster, age, arguments);
            assert!(missing(&text, expected).is_empty(), "{age} {arguments:?}: {text}");
        }
    }
    for (arguments, expected) in [
        (&["get", "pod", "web-0", "absent"][..], "pods \"absent\" not found"),
        (&["get", "pods", "--field-selector", "spec.nothing=1"], "spec.nothing"),
        (&["get", "pod", "web-0", "--namespace", "absent"], "namespaces \"absent\" not found"),
        (&["get", "nothing"], "the server doesn't have a resource type \"nothing\""),
        (&["get", "deployments"], "the server doesn't have a resource type \"deployments\""),
        (&["top", "pods"], "Metrics API not available"),
        (&["top", "nodes"], "Metrics API not available"),
    ] {
        for age in AGES {
            let error = fails(&cluster, age, arguments);
            assert!(error.contains(expected), "{age} {arguments:?}: {error}");
        }
    }
}

/// A running `kubectl get --watch`.
struct Watching {
    _kubectl: Running,
    lines: Lines,
}

impl Watching {
    fn start(cluster: &Cluster, age: &str, arguments: &[&str]) -> Self {
        let arguments = [arguments, &["--watch", "--request-timeout=60s"]].concat();
        let mut watch = command(cluster, age, &arguments);
        watch.stdout(Stdio::piped());
        let mut kubectl = Running::start(watch);
        Self { lines: kubectl.lines(), _kubectl: kubectl }
    }

    /// The next line, in which spaces do not matter.
    fn line(&mut self) -> String {
        self.lines.next().expect("a line").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn watching_and_waiting_end_when_it_is_so() {
    let cluster = with_everything();
    for age in AGES {
        cluster.kubectl(&["create", "configmap", "watched", "--from-literal=a=1"]);
        let mut table = Watching::start(&cluster, age, &["get", "configmaps", "--field-selector", "metadata.name=watched"]);
        let mut path = Watching::start(&cluster, age, &["get", "configmap", "watched", "--output", "jsonpath={.data.a}{\"\\n\"}"]);
        assert_eq!(table.line(), "NAME DATA AGE");
        assert!(table.line().starts_with("watched 1 "));
        assert_eq!(path.line(), "1");
        cluster.kubectl(&["patch", "configmap", "watched", "--patch", r#"{"data":{"a":"2","b":"3"}}"#]);
        assert!(table.line().starts_with("watched 2 "));
        assert_eq!(path.line(), "2");
        cluster.kubectl(&["delete", "configmap", "watched"]);
        assert!(table.line().starts_with("watched 2 "));

        let before = uid(&cluster, "web-1");
        run(&cluster, age, &["wait", "--for=condition=Ready", "pod", "--selector=app=web", "--timeout=60s"]);
        run(&cluster, age, &["delete", "pod", "web-1", "--wait"]);
        until_replaced(&cluster, "web-1", &before);
        run(&cluster, age, &["rollout", "status", "statefulset/web", "--timeout=60s"]);
        deletion_is_waited_for(&cluster, age);
        let never = fails(&cluster, age, &["wait", "--for=condition=Nothing", "pod/web-0", "--timeout=1s"]);
        assert!(never.contains("timed out waiting for the condition"), "{never}");
    }
    let newest = AGES[1];
    run(&cluster, newest, &["wait", "--for=jsonpath={.status.readyReplicas}=2", "statefulset/web", "--timeout=60s"]);
    run(&cluster, newest, &["wait", "--for=create", "statefulset/web", "--timeout=60s"]);
    run(&cluster, newest, &["wait", "--for=condition=Ready", "pod/web-0", "--timeout=60s"]);
    let events = run(&cluster, newest, &["events", "--for", "statefulset/web"]);
    assert!(missing(&events, &["Normal SuccessfulCreate StatefulSet/web"]).is_empty(), "{events}");
    let whoami = run(&cluster, newest, &["auth", "whoami"]);
    assert!(missing(&whoami, &["Username admin", "Groups [system:masters system:authenticated]"]).is_empty(), "{whoami}");
    let scale = run(&cluster, newest, &["get", "statefulset", "web", "--subresource=scale"]);
    assert!(missing(&scale, &["NAME DESIRED AVAILABLE", "web 2 2"]).is_empty(), "{scale}");
}

/// An object that is deleted goes only when nothing holds it any more; until then kubectl waits.
fn deletion_is_waited_for(cluster: &Cluster, age: &str) {
    let hold = |finalizers: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
        cluster.kubectl(&["patch", "configmap", "held", "--type=merge", "--patch", &patch]);
    };
    cluster.kubectl(&["create", "configmap", "held"]);
    hold(r#"["example.com/hold"]"#);
    run(cluster, age, &["delete", "configmap", "held", "--wait=false"]);
    let mut wait = command(cluster, age, &["wait", "--for=delete", "configmap/held", "--timeout=60s", "--v=6"]);
    wait.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut wait = Running::start(wait);
    // It tells its requests: from the watch on it can only learn of the end by an event.
    let mut requests = wait.errors();
    assert!(requests.any(|line| line.contains("watch=true") && line.contains("200 OK")), "it does not watch");
    hold("null");
    assert!(wait.lines().any(|line| line == "configmap/held condition met"), "{:?}", requests.collect::<Vec<_>>());
    assert!(wait.ends().success());
}

#[test]
fn the_shell_completes_kinds_names_and_containers() {
    let cluster = with_everything();
    for (words, expected) in [
        (&["get", ""][..], &["statefulsets.apps", "pods", "poddisruptionbudgets.policy"][..]),
        (&["get", "pods", ""], &["web-0", "web-1"]),
        (&["describe", "statefulsets", "w"], &["web"]),
        (&["delete", "pod/"], &["pod/web-0"]),
        (&["rollout", "restart", "sts/"], &["sts/web"]),
        (&["exec", "web-0", "--container", ""], &["web"]),
        (&["get", "pods", "--namespace", ""], &["default", "kube-system"]),
        (&["drain", ""], &["simulated-0"]),
        (&["label", "cm", ""], &["settings"]),
    ] {
        let mut complete = std::process::Command::new(tool("kubectl-newest"));
        complete.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.folder()).arg("__complete").args(words);
        let output = complete.output().unwrap();
        let offered = String::from_utf8_lossy(&output.stdout).into_owned();
        let offered: Vec<_> = offered.lines().collect();
        assert!(expected.iter().all(|word| offered.contains(word)), "{words:?}: {}", said(&output));
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(output(&cluster, "kubectl-newest", &["completion", shell]).status.success());
    }
}
