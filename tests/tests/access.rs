//! Who may do what, as kubectl asks, grants and is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use end_to_end::{Cluster, Running, binary, said};
use serde_json::{Value, json};

/// What `kubectl auth can-i` says of a user.
fn can(cluster: &Cluster, user: &str, arguments: &[&str]) -> String {
    let output = cluster.kubectl_command(&[&["auth", "can-i", "--as", user], arguments].concat()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A kubeconfig with a token instead of the administrator's certificate.
fn with_token(cluster: &Cluster, name: &str, token: &str) -> PathBuf {
    let mut config: Value = serde_json::from_str(&cluster.kubectl(&["config", "view", "--raw", "--output", "json"])).unwrap();
    config["users"][0]["user"] = json!({"token": token});
    let path = cluster.folder().join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// A kubeconfig for a service account.
fn account(cluster: &Cluster, namespace: &str, name: &str) -> PathBuf {
    let token = cluster.kubectl(&["create", "token", name, "--namespace", namespace]);
    with_token(cluster, name, token.trim())
}

/// Arguments of kubectl for another user.
fn by<'a>(kubeconfig: &'a Path, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--kubeconfig", kubeconfig.to_str().unwrap()], arguments].concat()
}

#[test]
fn roles_are_made_asked_about_and_obeyed() {
    let cluster = Cluster::simulated(1);
    assert_eq!(std::fs::metadata(cluster.kubeconfig()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(can(&cluster, "bob", &["list", "pods"]), "no");
    cluster.kubectl(&["create", "serviceaccount", "reader"]);
    cluster.kubectl(&["create", "role", "reader", "--verb=get,list,watch", "--resource=pods,pods/log"]);
    cluster.kubectl(&["create", "rolebinding", "readers", "--role=reader", "--user=bob", "--serviceaccount=default:reader"]);
    for (arguments, answer) in [
        (&["list", "pods"][..], "yes"),
        (&["get", "pods/web-0", "--subresource=log"], "yes"),
        (&["delete", "pods"], "no"),
        (&["list", "pods", "--all-namespaces"], "no"),
        (&["get", "/version"], "yes"),
        (&["get", "/metrics"], "no"),
    ] {
        assert_eq!(can(&cluster, "bob", arguments), answer, "{arguments:?}");
    }
    let list = cluster.kubectl(&["auth", "can-i", "--list", "--as", "bob"]);
    let says = |wanted: &[&str]| list.lines().any(|line| wanted.iter().all(|word| line.contains(word)));
    assert!(says(&["pods/log", "[get list watch]"]) && says(&["selfsubjectrulesreviews.authorization.k8s.io", "[create]"]), "{list}");

    let reader = account(&cluster, "default", "reader");
    let whoami = |kubeconfig: &Path| -> Value {
        let text = cluster.kubectl(&by(kubeconfig, &["auth", "whoami", "--output", "json"]));
        serde_json::from_str::<Value>(&text).unwrap()["status"]["userInfo"].clone()
    };
    assert_eq!(whoami(&cluster.kubeconfig())["username"], "admin");
    assert_eq!(whoami(&reader)["username"], "system:serviceaccount:default:reader");
    cluster.kubectl(&by(&reader, &["get", "pods"]));
    let refused = cluster.kubectl_fails(&by(&reader, &["get", "secrets"]));
    let expected =
        "User \"system:serviceaccount:default:reader\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(expected), "{refused}");
    cluster.kubectl(&["delete", "rolebinding", "readers"]);
    cluster.kubectl_fails(&by(&reader, &["get", "pods"]));
}

#[test]
fn what_is_not_held_is_not_granted_and_roles_are_reconciled() {
    let cluster = Cluster::simulated(1);
    cluster.kubectl(&["create", "rolebinding", "admins", "--clusterrole=admin", "--user=adam"]);
    cluster.kubectl(&["create", "rolebinding", "views", "--clusterrole=view", "--group=dev", "--as", "adam"]);
    let wide = ["create", "rolebinding", "wide", "--clusterrole=cluster-admin", "--user=eve", "--as", "adam"];
    let refused = cluster.kubectl_fails(&wide);
    assert!(
        refused.contains("user \"adam\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:"),
        "{refused}"
    );
    let shown = cluster.kubectl(&["get", "rolebindings", "--output", "wide"]);
    assert!(shown.contains("ClusterRole/view") && shown.contains("dev"), "{shown}");
    assert!(cluster.kubectl(&["describe", "clusterrole", "admin"]).contains("statefulsets.apps"));
    assert!(cluster.kubectl(&["get", "clusterroles"]).contains("system:discovery"));

    let role = |verbs: &[&str]| {
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]);
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "default"}, "rules": rules})
    };
    for (verbs, expected) in [(&["get"][..], 1), (&["get", "list"], 2), (&["get"], 2)] {
        let output = cluster.kubectl_with_input(&["auth", "reconcile", "--filename", "-"], &role(verbs).to_string());
        assert!(output.status.success(), "{}", said(&output));
        let rules = cluster.get(&["role", "r"])["rules"].clone();
        let verbs: usize = rules.as_array().unwrap().iter().map(|rule| rule["verbs"].as_array().unwrap().len()).sum();
        assert_eq!(verbs, expected, "{rules}");
    }
}

#[test]
fn attached_controllers_work_with_the_roles_they_print_and_no_more() {
    let cluster = Cluster::start_with(&["--simulated-nodes", "2", "--disable-controllers", "statefulset"]);
    let printed = Command::new(binary()).args(["controllers", "--print-rbac", "--only", "statefulset"]).output().unwrap();
    cluster.apply(&String::from_utf8(printed.stdout).unwrap());
    let kubeconfig = account(&cluster, "kube-system", "steadfast-controllers");
    cluster.kubectl_fails(&by(&kubeconfig, &["get", "secrets"]));
    let log = std::fs::File::create(cluster.folder().join("attached")).unwrap();
    let mut attached = Command::new(binary());
    attached.args(["controllers", "--only", "statefulset", "--kubeconfig"]).arg(&kubeconfig).stdin(Stdio::null());
    attached.stderr(log.try_clone().unwrap()).stdout(log);
    let _attached = Running::start(attached);
    let set = |image: &str| {
        let labels = json!({"app": "web"});
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "serviceName": "web", "selector": {"matchLabels": labels}, "volumeClaimTemplates": [claim],
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}}})
        .to_string()
    };
    for image in ["v1", "v2"] {
        cluster.apply(&set(image));
        cluster.rolled_out("web");
    }
    cluster.kubectl(&["scale", "statefulset/web", "--replicas=1"]);
    cluster.ready("web", 1);
    // That it may not tell Events stops nothing and is hardly told: they must have come.
    let told = |reason: &str| cluster.kubectl(&["get", "events"]).contains(reason);
    cluster.until("Events tell of it", || told("SuccessfulCreate") && told("SuccessfulDelete"));
    let log = std::fs::read_to_string(cluster.folder().join("attached")).unwrap();
    assert!(!log.contains("forbidden"), "{log}");
}

#[test]
fn a_pod_acts_as_its_account_and_may_do_what_that_may() {
    let Some(cluster) = Cluster::with_busybox() else { return };
    cluster.kubectl(&["create", "serviceaccount", "worker"]);
    cluster.kubectl(&["create", "role", "worker", "--verb=list", "--resource=configmaps"]);
    cluster.kubectl(&["create", "rolebinding", "worker", "--role=worker", "--serviceaccount=default:worker"]);
    cluster.kubectl(&["create", "secret", "generic", "own", "--from-literal=key=value"]);
    let container = json!({"name": "main", "image": "busybox:1", "command": ["sleep", "100000"],
        "env": [{"name": "OWN", "valueFrom": {"secretKeyRef": {"name": "own", "key": "key"}}}]});
    let spec = json!({"serviceAccountName": "worker", "terminationGracePeriodSeconds": 0, "containers": [container]});
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}).to_string());
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    assert_eq!(cluster.shell("p", "echo $OWN"), "value");
    let token = cluster.shell("p", "cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    let worker = with_token(&cluster, "worker", &token);
    cluster.kubectl(&by(&worker, &["get", "configmaps"]));
    let refused = cluster.kubectl_fails(&by(&worker, &["get", "pods"]));
    assert!(refused.contains("User \"system:serviceaccount:default:worker\" cannot list resource \"pods\""), "{refused}");
    let whoami = cluster.kubectl(&by(&worker, &["auth", "whoami", "--output", "json"]));
    assert!(whoami.contains("authentication.kubernetes.io/pod-name") && whoami.contains("node-a"), "{whoami}");
    cluster.kubectl(&["delete", "pod", "p", "--wait"]);
    let gone = cluster.kubectl_fails(&by(&worker, &["get", "configmaps"]));
    assert!(gone.contains("Unauthorized") || gone.contains("logged in"), "{gone}");
}
