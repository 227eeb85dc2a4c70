//! What a namespace sets by default and allows at most: priorities, limit ranges, quotas, Pod Security Standards.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, SETS, pod, set};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

/// A request that must be refused; returns code and message.
async fn refused(harness: &Harness, method: &str, path: &str, body: Value) -> (u16, String) {
    let answer = harness.json(method, path, body).await;
    assert!(!answer.status.is_success(), "{method} {path} succeeded: {}", answer.text());
    (answer.status.as_u16(), answer.json()["message"].as_str().unwrap().to_owned())
}

fn asking(name: &str, resources: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

fn classed(name: &str, class: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["priorityClassName"] = json!(class);
    pod
}

fn priority(pod: &Value) -> (&Value, &Value, &Value) {
    (&pod["spec"]["priority"], &pod["spec"]["priorityClassName"], &pod["spec"]["preemptionPolicy"])
}

#[tokio::test]
async fn a_pod_has_the_priority_of_its_class_or_of_the_default_one() {
    let harness = Harness::new().await;
    harness.ok("POST", CLASSES, json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})).await;
    let high = harness.ok("POST", PODS, classed("high", "high")).await;
    assert_eq!(priority(&high), (&json!(1000), &json!("high"), &json!("Never")));
    let plain = harness.ok("POST", PODS, pod("plain")).await;
    assert_eq!(priority(&plain), (&json!(0), &json!(null), &json!("PreemptLowerPriority")));
    let system = harness.ok("POST", PODS, classed("system", "system-node-critical")).await;
    assert_eq!(system["spec"]["priority"], 2_000_001_000);
    harness.ok("POST", CLASSES, json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true})).await;
    let defaulted = harness.ok("POST", PODS, pod("defaulted")).await;
    assert_eq!(priority(&defaulted), (&json!(7), &json!("usual"), &json!("PreemptLowerPriority")));
    let mut given = classed("given", "high");
    given["spec"]["priority"] = json!(5);
    for (path, body, code, message) in [
        (PODS, classed("p", "none"), 403, "pods \"p\" is forbidden: no PriorityClass with name none was found"),
        (
            PODS,
            given,
            403,
            "pods \"given\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name",
        ),
        (
            CLASSES,
            json!({"metadata": {"name": "second"}, "value": 1, "globalDefault": true}),
            403,
            "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist",
        ),
        (
            CLASSES,
            json!({"metadata": {"name": "huge"}, "value": 1_000_000_001}),
            422,
            "PriorityClass.scheduling.k8s.io \"huge\" is invalid: value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            CLASSES,
            json!({"metadata": {"name": "system-mine"}, "value": 1}),
            422,
            "PriorityClass.scheduling.k8s.io \"system-mine\" is invalid: metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
        ),
    ] {
        assert_eq!(refused(&harness, "POST", path, body).await, (code, message.to_owned()));
    }
    let change = json!({"value": 1});
    let (code, message) = refused(&harness, "PATCH", &format!("{CLASSES}/high"), change).await;
    assert_eq!((code, message.contains("value: Forbidden: may not be changed in an update.")), (422, true), "{message}");
    harness.ok("POST", CLASSES, json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000})).await;
}

#[tokio::test]
async fn a_limit_range_sets_what_is_left_open_and_bounds_the_rest() {
    let harness = Harness::new().await;
    let container =
        json!({"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}, "default": {"cpu": "500m"}});
    let claim = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
    let made = harness.ok("POST", RANGES, json!({"metadata": {"name": "r"}, "spec": {"limits": [container, claim]}})).await;
    assert_eq!(made["spec"]["limits"][0]["default"], json!({"cpu": "500m", "memory": "1Gi"}));
    let pod = harness.ok("POST", PODS, pod("plain")).await;
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}));
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    let (code, message) = refused(&harness, "POST", PODS, asking("big", json!({"limits": {"cpu": "3"}}))).await;
    assert_eq!((code, message.as_str()), (403, "pods \"big\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"));
    let claim =
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(
        refused(&harness, "POST", CLAIMS, claim).await,
        (
            403,
            "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
                .to_owned()
        )
    );
    for (limit, message) in [
        (
            json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (json!({"type": "Pod", "default": {"cpu": "1"}}), "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"),
        (json!({"type": "Box"}), "spec.limits[0].type: Invalid value: \"Box\": must be a standard limit type or fully qualified"),
    ] {
        let (code, said) = refused(&harness, "POST", RANGES, json!({"metadata": {"name": "bad"}, "spec": {"limits": [limit]}})).await;
        assert_eq!((code, said.contains(message)), (422, true), "{said}");
    }
}

async fn quota(harness: &Harness, spec: Value) {
    harness.ok("POST", QUOTAS, json!({"metadata": {"name": "q"}, "spec": spec})).await;
}

#[tokio::test]
async fn a_quota_refuses_what_is_too_much_and_lets_in_what_fits_again() {
    let harness = Harness::new().await;
    let before = harness.get(CONFIG_MAPS).await.json()["items"].as_array().unwrap().len();
    let hard = json!({"requests.cpu": "1", "count/configmaps": (before + 1).to_string(), "requests.storage": "2Gi", "services": "1"});
    quota(&harness, json!({"hard": hard})).await;
    assert_eq!(
        refused(&harness, "POST", PODS, pod("silent")).await,
        (403, "pods \"silent\" is forbidden: failed quota: q: must specify requests.cpu for: main".to_owned())
    );
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    harness.ok("POST", PODS, asking("a", cpu("600m"))).await;
    assert_eq!(
        refused(&harness, "POST", PODS, asking("b", cpu("500m"))).await,
        (
            403,
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
                .to_owned()
        )
    );
    // A dry run takes nothing, and what is deleted is free at once.
    harness.ok("POST", &format!("{PODS}?dryRun=All"), asking("dry", cpu("400m"))).await;
    harness.ok("POST", PODS, asking("c", cpu("400m"))).await;
    harness.ok("DELETE", &format!("{PODS}/a?gracePeriodSeconds=0"), Value::Null).await;
    harness.ok("POST", PODS, asking("b", cpu("500m"))).await;

    harness.config_map("one", json!({})).await;
    let (code, message) = refused(&harness, "POST", CONFIG_MAPS, json!({"metadata": {"name": "two"}})).await;
    assert_eq!((code, message.contains("requested: count/configmaps=1")), (403, true), "{message}");
    // Changing what is there takes no more.
    harness.ok("PATCH", &format!("{CONFIG_MAPS}/one"), json!({"data": {"k": "w"}})).await;

    let claim = |name: &str, size: &str| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    harness.ok("POST", CLAIMS, claim("a", "1536Mi")).await;
    let (_, message) = refused(&harness, "POST", CLAIMS, claim("b", "1Gi")).await;
    assert!(
        message
            .contains("exceeded quota: q, requested: requests.storage=1Gi, used: requests.storage=1536Mi, limited: requests.storage=2Gi"),
        "{message}"
    );
    let (code, message) = refused(&harness, "POST", QUOTAS, json!({"metadata": {"name": "bad"}, "spec": {"hard": {"cars": "1"}}})).await;
    assert_eq!((code, message.contains("spec.hard[cars]: Invalid value: \"cars\": must be a standard resource for quota")), (422, true));
}

#[tokio::test]
async fn a_quota_with_a_scope_counts_the_pods_in_it_only() {
    let harness = Harness::new().await;
    quota(&harness, json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).await;
    harness.ok("POST", PODS, pod("best-effort")).await;
    harness.ok("POST", PODS, asking("burstable", json!({"requests": {"cpu": "1"}}))).await;
    let (code, message) = refused(&harness, "POST", PODS, pod("another")).await;
    assert_eq!((code, message.contains("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")), (403, true), "{message}");
    let (code, message) = refused(&harness, "PATCH", &format!("{QUOTAS}/q"), json!({"spec": {"scopes": ["NotBestEffort"]}})).await;
    assert_eq!((code, message.contains("spec.scopes: Invalid value")), (422, true), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_number_of_clients_at_once_stays_within_the_quota() {
    let harness = Arc::new(Harness::new().await);
    quota(&harness, json!({"hard": {"pods": "7", "requests.cpu": "1"}})).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..32 {
        let harness = Arc::clone(&harness);
        let pod = asking(&format!("p-{number}"), json!({"requests": {"cpu": "150m"}}));
        clients.spawn(async move { harness.json("POST", PODS, pod).await.status.as_u16() });
    }
    let answers = clients.join_all().await;
    // Seven would be allowed; six are what one core is enough for.
    assert_eq!(answers.iter().filter(|code| **code == 201).count(), 6);
    assert!(answers.iter().all(|code| [201, 403].contains(code)), "{answers:?}");
    assert_eq!(harness.get(PODS).await.json()["items"].as_array().unwrap().len(), 6);
}

/// A namespace with these Pod Security labels, and its service account.
async fn namespace(harness: &Harness, name: &str, labels: Value) {
    harness.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": name, "labels": labels}})).await;
    let account = json!({"metadata": {"name": "default"}});
    harness.ok("POST", &format!("/api/v1/namespaces/{name}/serviceaccounts"), account).await;
}

#[tokio::test]
async fn a_namespace_refuses_and_warns_of_pods_by_its_labels() {
    let harness = Harness::new().await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"});
    namespace(&harness, "safe", labels).await;
    let pods = "/api/v1/namespaces/safe/pods";
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        refused(&harness, "POST", pods, host).await,
        (403, "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)".to_owned())
    );
    let plain = harness.json("POST", pods, pod("plain")).await;
    let warning = "would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false";
    assert!(plain.status == 201 && plain.warnings()[0].contains(warning), "{:?}", plain.warnings());
    // A template is warned of; that its pods would be refused, the set finds out.
    let mut set = set("web");
    set["spec"]["template"]["spec"]["hostPID"] = json!(true);
    let made = harness.json("POST", &SETS.replace("default", "safe"), set).await;
    assert!(made.status == 201 && made.warnings()[0].contains("host namespaces (hostPID=true)"), "{:?}", made.warnings());
    // What leaves the images alone is not judged again.
    harness.ok("PATCH", &format!("{pods}/plain"), json!({"metadata": {"labels": {"a": "b"}}})).await;
}

#[tokio::test]
async fn labels_that_come_later_tell_of_the_pods_that_violate_them() {
    let harness = Harness::new().await;
    for name in ["b", "a"] {
        harness.ok("POST", PODS, pod(name)).await;
    }
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let labelled = harness.json("PATCH", "/api/v1/namespaces/default", label("restricted")).await;
    let warnings = labelled.warnings().join("\n");
    assert!(
        warnings.contains(r#"existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\""#),
        "{warnings}"
    );
    let reasons = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile";
    assert!(warnings.contains(&format!("a (and 1 other pod): {reasons}")), "{warnings}");
    let (code, message) = refused(&harness, "PATCH", "/api/v1/namespaces/default", label("strict")).await;
    let expected =
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    assert_eq!((code, message.contains(expected)), (422, true), "{message}");
}

const EVENTS: &str = "/api/v1/namespaces/default/events";

async fn event_names(harness: &Harness) -> Vec<String> {
    let list = harness.get(EVENTS).await.json();
    list["items"].as_array().unwrap().iter().map(|event| event["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn events(harness: &Harness, names: &[&str]) {
    for name in names {
        let about = json!({"kind": "Pod", "name": "p", "namespace": "default"});
        harness.ok("POST", EVENTS, json!({"metadata": {"name": name}, "involvedObject": about, "reason": "R", "type": "Normal"})).await;
    }
}

#[tokio::test]
async fn of_too_many_events_the_oldest_go() {
    let harness = Harness::with(|config, _| config.limits.events = 2).await;
    events(&harness, &["a", "b"]).await;
    // What is written again is young again.
    harness.ok("PATCH", &format!("{EVENTS}/a"), json!({"count": 2})).await;
    events(&harness, &["c"]).await;
    while event_names(&harness).await.len() > 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(event_names(&harness).await, ["a", "c"]);
}

#[tokio::test]
async fn events_go_when_their_time_is_over() {
    let harness = Harness::with(|config, _| config.limits.event_time = std::time::Duration::from_millis(20)).await;
    events(&harness, &["a", "b"]).await;
    while !event_names(&harness).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_bound_of_one_request_has_its_code_and_reason() {
    let harness = Harness::new().await;
    harness.config_map("a", json!({})).await;
    let one = format!("{CONFIG_MAPS}/a");
    let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
    let bomb = (0..20).fold("a0: &a0 [x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let alias = format!("*a{n}");
        format!("{text}a{}: &a{} [{}]\n", n + 1, n + 1, [alias.as_str(); 8].join(","))
    });
    let nested = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    let tests = vec![json!({"op": "test", "path": "/data/k", "value": "v"}); 10_001];
    let doubled: Vec<_> = (0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/k{n}")})).collect();
    for (method, path, content_type, body, code, reason) in [
        ("POST", CONFIG_MAPS, "application/json", "x".repeat((3 << 20) + 1), 413, "RequestEntityTooLarge"),
        ("POST", CONFIG_MAPS, "application/json", deep.clone(), 400, "BadRequest"),
        ("POST", CONFIG_MAPS, "application/yaml", bomb.clone(), 400, "BadRequest"),
        ("POST", CONFIG_MAPS, "application/yaml", nested.clone(), 400, "BadRequest"),
        ("PATCH", &one, "application/merge-patch+json", deep.clone(), 400, "BadRequest"),
        ("PATCH", &one, "application/strategic-merge-patch+json", deep, 400, "BadRequest"),
        ("PATCH", &format!("{one}?fieldManager=m"), "application/apply-patch+yaml", bomb, 400, "BadRequest"),
        ("PATCH", &format!("{one}?fieldManager=m"), "application/apply-patch+yaml", nested, 400, "BadRequest"),
        ("PATCH", &one, "application/json-patch+json", Value::from(tests).to_string(), 413, "RequestEntityTooLarge"),
        ("PATCH", &one, "application/json-patch+json", Value::from(doubled).to_string(), 422, "Invalid"),
    ] {
        let answer = harness.ask(method, path, &[("content-type", content_type)], body).await;
        let status = answer.json();
        assert_eq!((answer.status.as_u16(), &status["reason"]), (code, &json!(reason)), "{content_type}: {status}");
    }
}
