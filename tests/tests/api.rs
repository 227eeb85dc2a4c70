//! The API as kubectl and its users see it; nodes only pretend to run pods, so that no root is needed.

use end_to_end::workload::WEB as SET;
use end_to_end::{Cluster, said};

#[test]
fn kubectl_verbs_work_on_a_set() {
    let cluster = Cluster::simulated(2).running(SET, 3);
    let table = cluster.kubectl(&["get", "statefulset", "web"]);
    assert!(table.starts_with("NAME   READY   AGE\nweb    3/3"), "{table}");
    let wide = cluster.kubectl(&["get", "pods", "--output", "wide"]);
    assert!(wide.contains("NOMINATED NODE") && wide.contains("web-2"), "{wide}");
    for arguments in [
        &["describe", "statefulset", "web"][..],
        &["describe", "pod", "web-0"],
        &["describe", "nodes"],
        &["label", "pod", "web-0", "tier=gold"],
        &["annotate", "statefulset", "web", "note=kept"],
        &["get", "pods", "--selector", "tier=gold", "--output", "name"],
        &["get", "events", "--sort-by", ".metadata.creationTimestamp"],
        &["api-resources"],
        &["api-versions"],
        &["cluster-info"],
        &["version"],
        &["explain", "statefulset.spec.updateStrategy.rollingUpdate.partition"],
        &["explain", "pod.spec.containers", "--recursive"],
        &["get", "all", "--all-namespaces"],
        &["wait", "--for=jsonpath={.status.readyReplicas}=3", "statefulset/web", "--timeout=10s"],
        &["scale", "statefulset", "web", "--replicas=5"],
        &["set", "image", "statefulset/web", "web=busybox:2"],
        &["rollout", "status", "statefulset/web", "--timeout=60s"],
        &["rollout", "history", "statefulset/web"],
        &["delete", "statefulset", "web", "--cascade=orphan"],
    ] {
        cluster.kubectl(arguments);
    }
    assert_eq!(cluster.get(&["pods"])["items"].as_array().map(Vec::len), Some(5));
    cluster.kubectl(&["create", "namespace", "other"]);
    cluster.kubectl(&["create", "configmap", "c", "--namespace", "other", "--from-literal=a=b"]);
    cluster.kubectl(&["delete", "namespace", "other", "--timeout=60s"]);
    assert!(cluster.kubectl_fails(&["get", "namespace", "other"]).contains("not found"));
}

#[test]
fn orphans_are_adopted_by_a_set_of_the_same_name() {
    let cluster = Cluster::simulated(1).running(SET, 3);
    let uids =
        |cluster: &Cluster| (0..3).map(|n| cluster.get(&["pod", &format!("web-{n}")])["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let before = uids(&cluster);
    cluster.kubectl(&["delete", "statefulset", "web", "--cascade=orphan"]);
    cluster.apply(SET);
    cluster.ready("web", 3);
    assert_eq!(uids(&cluster), before);
    cluster.kubectl(&["delete", "statefulset", "web"]);
    cluster.until("its pods go with it", || cluster.get(&["pods"])["items"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_canary_survives_scaling_through_kubectl() {
    let cluster = Cluster::simulated(1);
    let canary = SET.replace("replicas: 3", "replicas: 6\n  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 4}}");
    cluster.apply(&canary);
    cluster.ready("web", 6);
    cluster.apply(&canary.replace("busybox:1", "busybox:2"));
    cluster.rolled_out("web");
    cluster.ready("web", 6);
    let images = |cluster: &Cluster| {
        let pods = cluster.get(&["pods", "--sort-by=.metadata.name"]);
        let images = pods["items"].as_array().expect("a list").iter().map(|pod| pod["spec"]["containers"][0]["image"].to_string());
        images.collect::<Vec<_>>().join(" ").replace('"', "").replace("busybox:", "")
    };
    assert_eq!(images(&cluster), "1 1 1 1 2 2");
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas=0"]);
    cluster.ready("web", 0);
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas=6"]);
    cluster.ready("web", 6);
    assert_eq!(images(&cluster), "1 1 1 1 2 2");
}

#[test]
fn bad_input_gets_upstreams_answer_and_loses_nothing() {
    let cluster = Cluster::simulated(1);
    cluster.apply(SET);
    for (change, with, expected) in [
        ("name: web}\nspec", "name: Web_}\nspec", "metadata.name: Invalid value"),
        ("replicas: 3", "replicas: -1", "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("replicas: 3", "replicas: three", "cannot unmarshal"),
        ("replicas: 3", "replicaz: 3", "unknown field \"spec.replicaz\""),
        ("serviceName: web", "serviceName: other", "updates to statefulset spec for fields other than"),
        ("labels: {app: web}", "labels: {app: other}", "`selector` does not match template `labels`"),
        ("serviceName: web", "serviceName: web\n  podManagementPolicy: Random", "spec.podManagementPolicy"),
        ("image: \"busybox:1\"", "image: \"busybox:1\", ports: [{containerPort: 70000}]", "must be between 1 and 65535"),
    ] {
        assert!(SET.contains(change), "{change}");
        let refused = cluster.kubectl_with_input(&["apply", "--filename", "-"], &SET.replace(change, with));
        assert!(!refused.status.success() && said(&refused).contains(expected), "{with}: {}", said(&refused));
    }
    for (arguments, expected) in [
        (&["get", "pod", "absent"][..], "pods \"absent\" not found"),
        (&["create", "configmap", "c", "--namespace", "absent"], "namespaces \"absent\" not found"),
        (&["get", "pods", "--field-selector", "spec.nothing=1"], "field label not supported"),
        (&["create", "serviceaccount", "default"], "already exists"),
        (
            &["patch", "statefulset", "web", "--type=json", "--patch", r#"[{"op":"test","path":"/spec/replicas","value":9}]"#],
            "The request is invalid",
        ),
    ] {
        let error = cluster.kubectl_fails(arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(cluster.get(&["statefulset", "web"])["metadata"]["generation"], 1);
}

#[test]
fn bodies_may_be_yaml() {
    let cluster = Cluster::simulated(1);
    let headers = [("content-type", "application/yaml")];
    let path = "/api/v1/namespaces/default/configmaps";
    let made = cluster.ask("POST", path, &headers, b"metadata:\n  name: yaml\ndata:\n  text: |\n    two\n    lines\n  number: \"1\"\n");
    assert_eq!((made.status, &made.json()["data"]["text"]), (201, &serde_json::json!("two\nlines\n")));
    let changed = cluster.ask("PUT", &format!("{path}/yaml"), &headers, b"{metadata: {name: yaml}, data: {text: other}}");
    assert_eq!((changed.status, &changed.json()["data"]), (200, &serde_json::json!({"text": "other"})));
    let strict = format!("{path}?fieldValidation=Strict");
    for (body, expected) in [
        (&b"metadata: {name: z}\ndata: [1"[..], "error converting YAML to JSON"),
        (b"metadata: {name: z}\ndatum: {}\n", "unknown field \\\"datum\\\""),
        (b"metadata: {name: z}\ndata: {a: 1}\n", "cannot unmarshal number into Go struct field ConfigMap.data of type string"),
    ] {
        let refused = cluster.ask("POST", &strict, &headers, body);
        assert!(refused.status == 400 && refused.text().contains(expected), "{}: {}", refused.status, refused.text());
    }
    assert_eq!(cluster.ask("GET", &format!("{path}/z"), &[], b"").status, 404);
}
