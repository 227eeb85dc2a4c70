//! Who may do what: roles, reviews, impersonation, tokens of accounts and agents of nodes.

use apiserver::auth::Identity;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Harness, PODS, pod};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn bob() -> Identity {
    Identity::new("bob", &["system:authenticated"])
}

fn node() -> Identity {
    Identity::new("system:node:n1", &["system:nodes", "system:authenticated"])
}

/// The code and the answer of a request by someone.
async fn by(harness: &Harness, who: Identity, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> (u16, Value) {
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut request = Request::builder().method(method).uri(path).header("content-type", content_type);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = harness.send(request.body(Full::new(Bytes::from(body))).unwrap(), who).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The message of the refusal.
async fn refused(harness: &Harness, who: Identity, method: &str, path: &str, body: Value) -> String {
    let (code, status) = by(harness, who, method, path, &[], body).await;
    assert_eq!(code, 403, "{method} {path}: {status}");
    assert_eq!(status["reason"], "Forbidden");
    status["message"].as_str().unwrap().to_owned()
}

fn role(name: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [{"kind": "User", "name": user}]})
}

/// Bob may do so much in `default`.
async fn grant(harness: &Harness, kind: &str, role: &str) {
    harness.ok("POST", BINDINGS, binding(&format!("bob-{role}").replace(':', "-"), kind, role, "bob")).await;
}

#[tokio::test]
async fn a_binding_counts_from_its_answer_on_and_no_longer_than_it_is_there() {
    let harness = Harness::new().await;
    for round in 0..20 {
        let message = refused(&harness, bob(), "GET", CONFIG_MAPS, Value::Null).await;
        let expected =
            "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
        assert_eq!(message, expected, "round {round}");
        grant(&harness, "ClusterRole", "view").await;
        assert_eq!(by(&harness, bob(), "GET", CONFIG_MAPS, &[], Value::Null).await.0, 200);
        assert_eq!(by(&harness, bob(), "GET", "/api/v1/namespaces/default", &[], Value::Null).await.0, 200);
        assert_eq!(by(&harness, bob(), "GET", "/api/v1/configmaps", &[], Value::Null).await.0, 403);
        harness.ok("DELETE", &format!("{BINDINGS}/bob-view"), Value::Null).await;
    }
}

#[tokio::test]
async fn strangers_see_only_what_is_public() {
    let harness = Harness::new().await;
    for (path, code) in [("/version", 200), ("/readyz", 200), ("/apis", 403), ("/api/v1/pods", 403), ("/nonsense", 403)] {
        assert_eq!(by(&harness, Identity::anonymous(), "GET", path, &[], Value::Null).await.0, code, "{path}");
    }
    let message = refused(&harness, Identity::anonymous(), "GET", "/apis", Value::Null).await;
    assert_eq!(message, "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
}

#[tokio::test]
async fn roles_that_are_malformed_are_refused_in_upstreams_words() {
    let harness = Harness::new().await;
    let (cluster, of_cluster) = (format!("{RBAC}/clusterroles"), format!("{RBAC}/clusterrolebindings"));
    let rules = |rule: Value| json!({"metadata": {"name": "r"}, "rules": [rule]});
    let bound = |field: &str, value: Value| {
        let mut binding = binding("b", "ClusterRole", "view", "bob");
        *binding.pointer_mut(field).unwrap() = value;
        binding
    };
    for (path, body, causes) in [
        (ROLES, rules(json!({"apiGroups": [""], "resources": ["pods"], "verbs": []})), "rules[0].verbs: FieldValueRequired"),
        (ROLES, rules(json!({"nonResourceURLs": ["/a"], "verbs": ["get"]})), "rules[0].nonResourceURLs: FieldValueInvalid"),
        (&cluster, rules(json!({"verbs": ["get"]})), "rules[0].apiGroups: FieldValueRequired; rules[0].resources: FieldValueRequired"),
        (
            &cluster,
            rules(json!({"nonResourceURLs": ["/a"], "resources": ["b"], "verbs": ["get"]})),
            "rules[0].nonResourceURLs: FieldValueInvalid",
        ),
        (&cluster, json!({"metadata": {"name": "r"}, "aggregationRule": {}}), "aggregationRule.clusterRoleSelectors: FieldValueRequired"),
        (ROLES, json!({"metadata": {"name": "a/b"}}), "metadata.name: FieldValueInvalid"),
        (BINDINGS, bound("/roleRef/kind", json!("Other")), "roleRef.kind: FieldValueNotSupported"),
        (BINDINGS, bound("/roleRef/name", json!("")), "roleRef.name: FieldValueRequired"),
        (&of_cluster, bound("/roleRef/kind", json!("Role")), "roleRef.kind: FieldValueNotSupported"),
        (&of_cluster, bound("/subjects/0/kind", json!("ServiceAccount")), "subjects[0].namespace: FieldValueRequired"),
        (BINDINGS, bound("/subjects/0/kind", json!("Robot")), "subjects[0].kind: FieldValueNotSupported"),
        (BINDINGS, bound("/subjects/0/name", json!("")), "subjects[0].name: FieldValueRequired"),
    ] {
        let answer = harness.json("POST", path, body).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let found = answer.json()["details"]["causes"].as_array().unwrap().clone();
        let found: Vec<_> =
            found.iter().map(|cause| format!("{}: {}", cause["field"].as_str().unwrap(), cause["reason"].as_str().unwrap())).collect();
        assert_eq!(found.join("; "), causes);
    }
    harness.ok("POST", BINDINGS, binding("b", "ClusterRole", "view", "bob")).await;
    let answer = harness.json("PUT", &format!("{BINDINGS}/b"), binding("b", "ClusterRole", "edit", "bob")).await;
    assert!(answer.text().contains("cannot change roleRef"), "{}", answer.text());
}

#[tokio::test]
async fn nobody_grants_more_than_they_have_unless_they_may_do_just_that() {
    let harness = Harness::new().await;
    grant(&harness, "ClusterRole", "admin").await;
    assert_eq!(by(&harness, bob(), "POST", ROLES, &[], role("less", "pods", &["get"])).await.0, 201);
    assert_eq!(
        refused(&harness, bob(), "POST", ROLES, role("more", "resourcequotas", &["get", "delete"])).await,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC \
         permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"resourcequotas\"], Verbs:[\"delete\"]}"
    );
    let more = json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]});
    assert!(refused(&harness, bob(), "PATCH", &format!("{ROLES}/less"), more.clone()).await.contains("Resources:[\"nodes\"]"));
    assert_eq!(by(&harness, bob(), "POST", BINDINGS, &[], binding("v", "ClusterRole", "view", "eve")).await.0, 201);
    let message = refused(&harness, bob(), "POST", BINDINGS, binding("c", "ClusterRole", "cluster-admin", "eve")).await;
    assert!(message.starts_with("rolebindings.rbac.authorization.k8s.io \"c\" is forbidden: user \"bob\""), "{message}");
    let (code, status) = by(&harness, bob(), "POST", BINDINGS, &[], binding("n", "ClusterRole", "none", "eve")).await;
    assert_eq!((code, &status["message"]), (404, &json!("clusterrole.rbac.authorization.k8s.io \"none\" not found")));

    let special = json!({"metadata": {"name": "special"}, "rules": [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]}]});
    harness.ok("POST", ROLES, special).await;
    grant(&harness, "Role", "special").await;
    assert_eq!(by(&harness, bob(), "PATCH", &format!("{ROLES}/less"), &[], more).await.0, 200);
    assert_eq!(by(&harness, bob(), "POST", BINDINGS, &[], binding("c", "ClusterRole", "cluster-admin", "eve")).await.0, 201);
}

#[tokio::test]
async fn aggregated_roles_take_in_others_and_show_it() {
    let harness = Harness::new().await;
    let view = harness.ok("GET", &format!("{RBAC}/clusterroles/view"), Value::Null).await;
    assert!(view["rules"].as_array().unwrap().iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!("configmaps"))));
    grant(&harness, "ClusterRole", "edit").await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    assert_eq!(by(&harness, bob(), "DELETE", &format!("{quotas}/none"), &[], Value::Null).await.0, 403);
    let mut extra = role("extra", "resourcequotas", &["delete"]);
    extra["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-edit": "true"});
    harness.ok("POST", &format!("{RBAC}/clusterroles"), extra).await;
    assert_eq!(by(&harness, bob(), "DELETE", &format!("{quotas}/none"), &[], Value::Null).await.0, 404);
    let shows = |role: &Value| {
        role["rules"].to_string().contains("{\"apiGroups\":[\"\"],\"resources\":[\"resourcequotas\"],\"verbs\":[\"delete\"]}")
    };
    loop {
        let admin = harness.ok("GET", &format!("{RBAC}/clusterroles/admin"), Value::Null).await;
        if shows(&admin) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

async fn asked(harness: &Harness, who: Identity, path: &str, spec: Value) -> Value {
    let (code, answer) = by(harness, who, "POST", path, &[], json!({"spec": spec})).await;
    assert_eq!(code, 201, "{path}: {answer}");
    answer["status"].clone()
}

#[tokio::test]
async fn reviews_of_access_answer_what_requests_would_meet() {
    let harness = Harness::new().await;
    grant(&harness, "ClusterRole", "view").await;
    let get = |resource: &str| json!({"resourceAttributes": {"verb": "get", "resource": resource, "namespace": "default"}});
    let own = format!("{REVIEWS}/selfsubjectaccessreviews");
    let either = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let answer = by(&harness, bob(), "POST", &own, &either, json!({"spec": get("pods")})).await.1;
    assert_eq!(answer["status"]["allowed"], true, "an answer that protobuf would cut short stays in JSON");
    let allowed = asked(&harness, bob(), &own, get("pods")).await;
    let reason = "RBAC: allowed by RoleBinding \"bob-view/default\" of ClusterRole \"view\" to User \"bob\"";
    assert_eq!(allowed, json!({"allowed": true, "reason": reason}));
    assert_eq!(asked(&harness, bob(), &own, get("secrets")).await, json!({"allowed": false}));
    let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/apis"}});
    assert_eq!(asked(&harness, bob(), &own, path).await["allowed"], true);

    let admin = || Identity::new("admin", &["system:masters"]);
    let about = |mut spec: Value| {
        spec["user"] = json!("bob");
        spec
    };
    let any = format!("{REVIEWS}/subjectaccessreviews");
    assert_eq!(asked(&harness, admin(), &any, about(get("pods"))).await["allowed"], true);
    assert_eq!(asked(&harness, admin(), &any, about(get("secrets"))).await["allowed"], false);
    let local = format!("{REVIEWS}/namespaces/default/localsubjectaccessreviews");
    assert_eq!(asked(&harness, admin(), &local, about(get("pods"))).await["allowed"], true);
    assert_eq!(by(&harness, bob(), "POST", &any, &[], json!({"spec": about(get("pods"))})).await.0, 403);
    assert_eq!(by(&harness, admin(), "GET", &any, &[], Value::Null).await.0, 405);
    for (path, spec) in [(&own, json!({})), (&any, get("pods")), (&local, about(json!({"resourceAttributes": {"namespace": "b"}})))] {
        let (code, status) = by(&harness, admin(), "POST", path, &[], json!({"spec": spec})).await;
        assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    }
    assert_eq!(by(&harness, admin(), "POST", &own, &[], json!({"spec": {"resourceAttributes": {"verb": 1}}})).await.0, 400);
}

#[tokio::test]
async fn reviews_of_oneself_tell_who_one_is_and_all_one_may_do() {
    let harness = Harness::new().await;
    grant(&harness, "ClusterRole", "view").await;
    let (_, who) = by(&harness, bob(), "POST", WHO, &[], json!({})).await;
    assert_eq!(who["status"]["userInfo"], json!({"username": "bob", "groups": ["system:authenticated"]}));
    let rules = asked(&harness, bob(), &format!("{REVIEWS}/selfsubjectrulesreviews"), json!({"namespace": "default"})).await;
    assert_eq!(rules["incomplete"], false);
    let text = rules["resourceRules"].to_string();
    assert!(text.contains("statefulsets") && text.contains("selfsubjectreviews") && !text.contains("secrets"), "{text}");
    assert!(rules["nonResourceRules"].to_string().contains("/apis/*"));
}

#[tokio::test]
async fn whoever_may_acts_as_someone_else() {
    let harness = Harness::new().await;
    let admin = || Identity::new("admin", &["system:masters"]);
    let headers = [
        ("impersonate-user", "eve"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-example.com%2fteam", "red"),
    ];
    let (_, who) = by(&harness, admin(), "POST", WHO, &headers, json!({})).await;
    let expected =
        json!({"username": "eve", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"example.com/team": ["red"]}});
    assert_eq!(who["status"]["userInfo"], expected);
    assert_eq!(by(&harness, admin(), "GET", PODS, &headers, Value::Null).await.0, 403);
    let account = [("impersonate-user", "system:serviceaccount:default:x")];
    let (_, who) = by(&harness, admin(), "POST", WHO, &account, json!({})).await;
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    assert_eq!(who["status"]["userInfo"]["groups"], groups);
    assert_eq!(by(&harness, admin(), "GET", PODS, &headers[1..2], Value::Null).await.0, 400);

    let (code, status) = by(&harness, bob(), "GET", PODS, &headers[..1], Value::Null).await;
    let message = "users \"eve\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope";
    assert_eq!((code, &status["message"]), (403, &json!(message)));
    let rule = json!({"apiGroups": [""], "resources": ["users"], "resourceNames": ["eve"], "verbs": ["impersonate"]});
    harness.ok("POST", &format!("{RBAC}/clusterroles"), json!({"metadata": {"name": "eve"}, "rules": [rule]})).await;
    harness.ok("POST", &format!("{RBAC}/clusterrolebindings"), binding("eve", "ClusterRole", "eve", "bob")).await;
    assert_eq!(by(&harness, bob(), "POST", WHO, &headers[..1], json!({})).await.1["status"]["userInfo"]["username"], "eve");
    for wider in [&headers[..2], &[headers[0], headers[2]], &[headers[0], headers[3]], &[("impersonate-user", "mallory")]] {
        assert_eq!(by(&harness, bob(), "POST", WHO, wider, json!({})).await.0, 403, "{wider:?}");
    }
}

/// A pod that is bound to a node and refers to `mine`, a Secret.
async fn bound_pod(harness: &Harness, name: &str, node: &str) -> Value {
    let mut wanted = pod(name);
    wanted["spec"]["nodeName"] = json!(node);
    wanted["spec"]["volumes"] = json!([
        {"name": "v", "secret": {"secretName": format!("of-{node}")}},
        {"name": "c", "persistentVolumeClaim": {"claimName": format!("of-{node}")}}]);
    harness.ok("POST", PODS, wanted).await
}

#[tokio::test]
async fn tokens_are_reviewed_for_whom_and_for_what_they_are() {
    let harness = Harness::new().await;
    let nodes = harness.ok("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let pod = bound_pod(&harness, "p", "n1").await;
    let uid = pod["metadata"]["uid"].clone();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = json!({"spec": {"audiences": ["a", "b"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
    let token = harness.ok("POST", path, bound).await["status"]["token"].clone();
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let admin = || Identity::new("admin", &["system:masters"]);
    let status = asked(&harness, admin(), reviews, json!({"token": token, "audiences": ["b", "c"]})).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["b"])));
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-uid"], json!([nodes["metadata"]["uid"]]));
    for spec in [json!({"token": token}), json!({"token": "x.y.z", "audiences": ["a"]})] {
        let status = asked(&harness, admin(), reviews, spec).await;
        assert_eq!(status, json!({"user": {}, "error": "invalid bearer token"}));
    }
    harness.ok("POST", "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "other"}})).await;
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}});
    let (code, status) = by(&harness, admin(), "POST", &path.replace("/default/token", "/other/token"), &[], bound).await;
    let message = "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.";
    assert_eq!((code, &status["message"]), (400, &json!(message)));
    harness.ok("DELETE", &format!("{PODS}/p"), json!({"gracePeriodSeconds": 0})).await;
    assert!(asked(&harness, admin(), reviews, json!({"token": token, "audiences": ["a"]})).await["authenticated"].is_null());
}

#[tokio::test]
async fn the_agent_of_a_node_reaches_its_own_objects_only() {
    let harness = Harness::new().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for name in ["n1", "n2"] {
        harness.ok("POST", secrets, json!({"metadata": {"name": format!("of-{name}")}})).await;
        harness.ok("POST", claims, json!({"metadata": {"name": format!("of-{name}")}, "spec": claim})).await;
        bound_pod(&harness, &format!("on-{name}"), name).await;
    }
    let status = json!({"status": {"phase": "Running"}});
    let resized = json!({"status": {"capacity": {"storage": "1Gi"}}});
    let nodes = "/api/v1/nodes";
    for (method, path, body, code) in [
        ("GET", format!("{secrets}/of-n1"), Value::Null, 200),
        ("GET", format!("{secrets}/of-n2"), Value::Null, 403),
        ("GET", secrets.to_owned(), Value::Null, 403),
        ("GET", format!("{PODS}/on-n1"), Value::Null, 200),
        ("GET", format!("{PODS}/on-n2"), Value::Null, 403),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1".to_owned(), Value::Null, 200),
        ("GET", "/api/v1/pods".to_owned(), Value::Null, 403),
        ("PATCH", format!("{PODS}/on-n1/status"), status.clone(), 200),
        ("PATCH", format!("{PODS}/on-n2/status"), status, 403),
        ("DELETE", format!("{PODS}/on-n2"), json!({}), 403),
        ("GET", format!("{claims}/of-n2"), Value::Null, 403),
        ("PATCH", format!("{claims}/of-n1/status"), resized.clone(), 200),
        ("PATCH", format!("{claims}/of-n2/status"), resized, 403),
        ("POST", nodes.to_owned(), json!({"metadata": {"name": "n1"}}), 201),
        ("POST", nodes.to_owned(), json!({"metadata": {"name": "n2"}}), 403),
        ("PATCH", format!("{nodes}/n1"), json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}), 403),
        ("POST", CONFIG_MAPS.to_owned(), json!({"metadata": {"name": "x"}}), 403),
    ] {
        let (found, answer) = by(&harness, node(), method, &path, &[], body).await;
        assert_eq!(found, code, "{method} {path}: {answer}");
    }
    let message = refused(&harness, node(), "GET", &format!("{secrets}/of-n2"), Value::Null).await;
    assert!(message.ends_with("in the namespace \"default\": no relationship found between node 'n1' and this object"), "{message}");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    for (name, code) in [("on-n1", 201), ("on-n2", 403)] {
        let uid = harness.ok("GET", &format!("{PODS}/{name}"), Value::Null).await["metadata"]["uid"].clone();
        let wish = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}});
        assert_eq!(by(&harness, node(), "POST", token, &[], wish).await.0, code, "{name}");
    }
    let message = refused(&harness, node(), "POST", token, json!({"spec": {}})).await;
    assert!(message.contains("node requested token not bound to a pod"), "{message}");
}

#[tokio::test]
async fn reviews_are_discovered() {
    let harness = Harness::new().await;
    let list = harness.get("/apis/authorization.k8s.io/v1").await.json();
    let names: Vec<_> = list["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["subjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "localsubjectaccessreviews"]);
    let groups = harness.get("/apis").await.json();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "authentication.k8s.io"));
    assert_eq!(harness.get("/apis/authorization.k8s.io/v2").await.status, 404);
    let roles = harness.get(&format!("{RBAC}/clusterroles?limit=5")).await.json();
    assert_eq!(roles["kind"], "ClusterRoleList");
}
