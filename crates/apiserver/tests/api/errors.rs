//! Refusals, in upstream's codes, reasons and field paths.

use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, SETS, pod, set};

/// A good object with one thing changed.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(key)),
        (Value::Array(items), value) => items[key.parse::<usize>().unwrap()] = value,
        (parent, value) => parent[key] = value,
    }
    object
}

struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    /// Code, reason, and the causes as `field: reason` joined by semicolons.
    expected: (u16, &'static str, &'static str),
}

fn case(
    name: &'static str,
    method: &'static str,
    path: impl Into<String>,
    body: Value,
    expected: (u16, &'static str, &'static str),
) -> Case {
    Case { name, method, path: path.into(), body, expected }
}

fn service(port_names: [&str; 2]) -> Value {
    let ports: Vec<_> = port_names.iter().enumerate().map(|(index, name)| json!({"name": name, "port": 80 + index})).collect();
    json!({"metadata": {"name": "svc"}, "spec": {"ports": ports}})
}

fn set_cases() -> Vec<Case> {
    vec![
        case("wrong apiVersion", "POST", SETS, json!({"apiVersion": "apps/v9", "kind": "StatefulSet"}), (400, "BadRequest", "")),
        case(
            "name uppercase",
            "POST",
            SETS,
            with(set("web"), "/metadata/name", json!("Web")),
            (422, "Invalid", "metadata.name: FieldValueInvalid"),
        ),
        case("namespace missing", "POST", "/apis/apps/v1/namespaces/none/statefulsets", set("web"), (404, "NotFound", "")),
        case(
            "no selector",
            "POST",
            SETS,
            with(set("web"), "/spec/selector", Value::Null),
            (422, "Invalid", "spec.selector: FieldValueRequired; spec.template.metadata.labels: FieldValueInvalid"),
        ),
        case(
            "no template labels",
            "POST",
            SETS,
            with(set("web"), "/spec/template/metadata/labels", Value::Null),
            (422, "Invalid", "spec.template.metadata.labels: FieldValueInvalid"),
        ),
        case(
            "bad strategy",
            "POST",
            SETS,
            with(set("web"), "/spec/updateStrategy", json!({"type": "Sometimes"})),
            (422, "Invalid", "spec.updateStrategy: FieldValueInvalid"),
        ),
        case(
            "minReady negative",
            "POST",
            SETS,
            with(set("web"), "/spec/minReadySeconds", json!(-1)),
            (422, "Invalid", "spec.minReadySeconds: FieldValueInvalid"),
        ),
        case(
            "retention bad",
            "POST",
            SETS,
            with(set("web"), "/spec/persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Maybe", "whenScaled": "Retain"})),
            (422, "Invalid", "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: FieldValueNotSupported"),
        ),
        case(
            "unknown field strict",
            "POST",
            format!("{SETS}?fieldValidation=Strict"),
            with(set("web"), "/spec/foo", json!(1)),
            (400, "BadRequest", ""),
        ),
        case(
            "label bad",
            "POST",
            SETS,
            with(set("web"), "/metadata/labels", json!({"a": "-"})),
            (422, "Invalid", "metadata.labels: FieldValueInvalid"),
        ),
        case("get missing", "GET", format!("{SETS}/none"), Value::Null, (404, "NotFound", "")),
        case("method on item", "POST", format!("{SETS}/there"), Value::Null, (405, "MethodNotAllowed", "")),
        case(
            "update policy",
            "PUT",
            format!("{SETS}/there"),
            with(set("there"), "/spec/podManagementPolicy", json!("Parallel")),
            (422, "Invalid", "spec: FieldValueForbidden"),
        ),
        case(
            "bad version",
            "PUT",
            format!("{SETS}/there"),
            with(set("there"), "/metadata/resourceVersion", json!("abc")),
            (500, "InternalError", ""),
        ),
        case(
            "json patch test fails",
            "PATCH",
            format!("{SETS}/there"),
            json!([{"op": "test", "path": "/spec/replicas", "value": 9}]),
            (422, "Invalid", ""),
        ),
        case(
            "strategic no merge key",
            "PATCH",
            format!("{SETS}/there"),
            json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
            (500, "InternalError", ""),
        ),
        case(
            "scale negative",
            "PUT",
            format!("{SETS}/there/scale"),
            json!({"metadata": {"name": "there"}, "spec": {"replicas": -1}}),
            (422, "Invalid", "spec.replicas: FieldValueInvalid"),
        ),
        case("list bad field selector", "GET", format!("{SETS}?fieldSelector=spec.foo%3D1"), Value::Null, (400, "BadRequest", "")),
        case("list bad version", "GET", format!("{SETS}?resourceVersion=abc"), Value::Null, (400, "BadRequest", "")),
    ]
}

fn other_cases() -> Vec<Case> {
    let services = "/api/v1/namespaces/default/services";
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}}});
    let container = "/spec/containers/0";
    vec![
        case(
            "pod no containers",
            "POST",
            PODS,
            with(pod("p"), "/spec/containers", json!([])),
            (422, "Invalid", "spec.containers: FieldValueRequired"),
        ),
        case(
            "pod port range",
            "POST",
            PODS,
            with(pod("p"), container, json!({"name": "a", "image": "b", "ports": [{"containerPort": 99999}]})),
            (422, "Invalid", "spec.containers[0].ports[0].containerPort: FieldValueInvalid"),
        ),
        case(
            "pod quantity",
            "POST",
            PODS,
            with(pod("p"), container, json!({"name": "a", "image": "b", "resources": {"limits": {"cpu": "lots"}}})),
            (400, "BadRequest", ""),
        ),
        case(
            "pod name dot",
            "POST",
            PODS,
            with(pod("p"), "/metadata/name", json!(".p")),
            (422, "Invalid", "metadata.name: FieldValueInvalid"),
        ),
        case("pod log missing", "GET", format!("{PODS}/none/log"), Value::Null, (404, "NotFound", "")),
        case(
            "svc two unnamed",
            "POST",
            services,
            service(["", ""]),
            (422, "Invalid", "spec.ports[0].name: FieldValueRequired; spec.ports[1].name: FieldValueRequired"),
        ),
        case(
            "svc type bad",
            "POST",
            services,
            with(service(["a", "b"]), "/spec/type", json!("Magic")),
            (422, "Invalid", "spec.type: FieldValueNotSupported"),
        ),
        case("svc name digit", "POST", services, with(service(["a", "b"]), "/metadata/name", json!("1svc")), (201, "", "")),
        case(
            "svc affinity",
            "POST",
            services,
            with(service(["a", "b"]), "/spec/sessionAffinity", json!("Some")),
            (422, "Invalid", "spec.sessionAffinity: FieldValueNotSupported"),
        ),
        case(
            "pvc zero",
            "POST",
            "/api/v1/namespaces/default/persistentvolumeclaims",
            claim,
            (422, "Invalid", "spec.resources[storage]: FieldValueInvalid"),
        ),
        case(
            "cm too big",
            "POST",
            CONFIG_MAPS,
            json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(1_100_000)}}),
            (422, "Invalid", "[]: FieldValueTooLong"),
        ),
        case(
            "ns name",
            "POST",
            "/api/v1/namespaces",
            json!({"metadata": {"name": "a.b"}}),
            (422, "Invalid", "metadata.name: FieldValueInvalid"),
        ),
    ]
}

#[tokio::test]
async fn each_wrong_request_is_refused_as_upstream_refuses_it() {
    let harness = Harness::new().await;
    harness.ok("POST", SETS, set("there")).await;
    let mut wrong = Vec::new();
    for Case { name, method, path, body, expected } in set_cases().into_iter().chain(other_cases()) {
        let answer = harness.json(method, &path, body).await;
        let status = answer.json();
        let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes: Vec<_> = causes.iter().map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["reason"]))).collect();
        let found = (answer.status.as_u16(), text(&status["reason"]), causes.join("; "));
        if (found.0, found.1.as_str(), found.2.as_str()) != expected {
            wrong.push(format!("{name}: {found:?}, not {expected:?}: {}", status["message"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn paths_and_bodies_that_mean_nothing_are_refused() {
    let harness = Harness::new().await;
    let unknown = harness.get("/apis/none/v1/things").await;
    assert_eq!((unknown.status.as_u16(), unknown.text().trim()), (404, "404 page not found"));
    for body in ["", "not json", "{\"metadata\":", "[1]", "null"] {
        let answer = harness.ask("POST", CONFIG_MAPS, &[("content-type", "application/json")], body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (400, &json!("BadRequest")), "{body}: {}", answer.text());
    }
    let patch = harness.ask("PATCH", &format!("{CONFIG_MAPS}/a"), &[("content-type", "application/apply-patch+cbor")], "{}").await;
    assert_eq!(patch.status, 415);
    let protobuf = harness.ask("POST", CONFIG_MAPS, &[("content-type", "application/vnd.kubernetes.protobuf")], "k8s").await;
    assert_eq!(protobuf.status, 400);
    let cbor = harness.ask("POST", CONFIG_MAPS, &[("content-type", "application/cbor")], "x").await;
    assert_eq!(cbor.status, 415);
    let only_cbor = harness.ask("GET", CONFIG_MAPS, &[("accept", "application/cbor")], "").await;
    assert_eq!(only_cbor.status, 406);
    let large = harness.ask("POST", CONFIG_MAPS, &[], vec![b' '; (3 << 20) + 1]).await;
    assert_eq!((large.status.as_u16(), &large.json()["reason"]), (413, &json!("RequestEntityTooLarge")));
    harness.config_map("there", json!({})).await;
    let no_list = harness.ask("PATCH", &format!("{CONFIG_MAPS}/there"), &[("content-type", "application/json-patch+json")], "{}").await;
    assert_eq!((no_list.status.as_u16(), &no_list.json()["reason"]), (400, &json!("BadRequest")), "{}", no_list.text());
}

#[tokio::test]
async fn unknown_fields_are_warned_of_and_dropped() {
    let harness = Harness::new().await;
    let body = r#"{"metadata":{"name":"a"},"data":{"x":"1"},"foo":{"bar":1},"immutable":false,"immutable":false}"#;
    let answer = harness.ask("POST", CONFIG_MAPS, &[("content-type", "application/json")], body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.warnings(), [r#"299 - "unknown field \"foo\"""#, r#"299 - "duplicate field \"immutable\"""#]);
    assert!(answer.json()["foo"].is_null());
    let answer = harness.json("PATCH", &format!("{CONFIG_MAPS}/a?fieldValidation=Strict"), json!({"bar": 1})).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn conflicts_are_worded_as_upstream_words_them() {
    let harness = Harness::new().await;
    let created = harness.config_map("a", json!({})).await;
    let again = harness.json("POST", CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!((again.status.as_u16(), &again.json()["message"]), (409, &json!("configmaps \"a\" already exists")));
    harness.ok("PATCH", &format!("{CONFIG_MAPS}/a"), json!({"data": {"x": "y"}})).await;
    let stale = harness.json("PUT", &format!("{CONFIG_MAPS}/a"), created).await;
    assert_eq!(
        stale.json()["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let renamed = harness.json("PUT", &format!("{CONFIG_MAPS}/a"), json!({"metadata": {"name": "b"}})).await;
    assert_eq!(renamed.json()["message"], "the name of the object (b) does not match the name on the URL (a)");
    let uid = harness.json("PUT", &format!("{CONFIG_MAPS}/a"), json!({"metadata": {"name": "a", "uid": "x"}})).await;
    assert_eq!(uid.status, 409);
}
