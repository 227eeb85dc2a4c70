//! Tables of who may do what.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kinds::{ObjectKey, registry};
use serde_json::{Value, json};

use super::nodes::Verdict;
use super::restriction::Write;
use super::*;

fn rule(value: Value) -> PolicyRule {
    serde_json::from_value(value).unwrap()
}

/// `resource[.group][/subresource]` in a namespace.
fn ask<'a>(verb: &'a str, what: &'a str, namespace: &'a str, name: &'a str) -> Ask<'a> {
    let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    Ask::on(verb, Asked { group, resource, subresource, namespace, name, on_node: "" })
}

fn path<'a>(verb: &'a str, path: &'a str) -> Ask<'a> {
    Ask { verb, target: Target::Path(path) }
}

#[test]
fn a_rule_allows_what_it_names_and_nothing_else() {
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
    let scales = json!({"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]});
    let log = json!({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]});
    let one = json!({"apiGroups": ["apps"], "resources": ["statefulsets"], "resourceNames": ["web"], "verbs": ["update", "create"]});
    let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let apis = json!({"nonResourceURLs": ["/apis/*", "/version"], "verbs": ["get"]});
    for (given, asked, expected) in [
        (&pods, ask("get", "pods", "a", "p"), true),
        (&pods, ask("list", "pods", "", ""), true),
        (&pods, ask("delete", "pods", "a", "p"), false),
        (&pods, ask("get", "pods/log", "a", "p"), false),
        (&pods, ask("get", "pods.metrics.k8s.io", "a", "p"), false),
        (&log, ask("get", "pods/log", "a", "p"), true),
        (&log, ask("get", "pods", "a", "p"), false),
        (&scales, ask("patch", "statefulsets.apps/scale", "a", "web"), true),
        (&scales, ask("patch", "statefulsets.apps", "a", "web"), false),
        (&one, ask("update", "statefulsets.apps", "a", "web"), true),
        (&one, ask("update", "statefulsets.apps", "a", "other"), false),
        // What has no name yet can't be limited by it.
        (&one, ask("create", "statefulsets.apps", "a", ""), false),
        (&all, ask("get", "pods/log", "a", "p"), true),
        (&all, path("get", "/version"), false),
        (&apis, path("get", "/version"), true),
        (&apis, path("get", "/apis/apps/v1"), true),
        (&apis, path("get", "/apis"), false),
        (&apis, path("post", "/version"), false),
        (&apis, ask("get", "pods", "", ""), false),
    ] {
        assert_eq!(rules::allows(&rule(given.clone()), &asked), expected, "{given} {asked:?}");
    }
}

fn index() -> Index {
    let mut index = Index::default();
    let subject = |kind: &str, name: &str, namespace: Option<&str>| json!({"kind": kind, "name": name, "namespace": namespace});
    let reader: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}))
    .unwrap();
    let writer: Role = serde_json::from_value(json!({"metadata": {"name": "writer", "namespace": "a"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]}))
    .unwrap();
    index.put(&reader);
    index.put(&writer);
    let everywhere: ClusterRoleBinding = serde_json::from_value(json!({"metadata": {"name": "readers"},
        "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [subject("Group", "dev", None)]}))
    .unwrap();
    index.put(&everywhere);
    for (name, role, subjects) in [
        ("here", ("ClusterRole", "reader"), json!([subject("User", "bob", None)])),
        ("writers", ("Role", "writer"), json!([subject("ServiceAccount", "builder", None), subject("ServiceAccount", "ci", Some("b"))])),
        ("broken", ("Role", "gone"), json!([subject("User", "eve", None)])),
    ] {
        let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "a"},
            "roleRef": {"kind": role.0, "name": role.1}, "subjects": subjects}))
        .unwrap();
        index.put(&binding);
    }
    index.settle();
    index
}

fn decided(index: &Index, user: &str, groups: &[&str], ask: &Ask<'_>) -> Decision {
    let groups: Vec<_> = groups.iter().map(|&group| group.to_owned()).collect();
    index.decide(Who { user, groups: &groups }, ask)
}

#[test]
fn bindings_give_roles_to_users_groups_and_accounts_where_they_are() {
    let index = index();
    let list = |namespace: &'static str| ask("list", "pods", namespace, "");
    let write = ask("create", "configmaps", "a", "");
    for (user, groups, asked, expected) in [
        ("alice", &["dev"][..], list(""), r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "dev""#),
        ("alice", &["dev"], list("b"), r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "dev""#),
        ("bob", &[], list("a"), r#"RBAC: allowed by RoleBinding "here/a" of ClusterRole "reader" to User "bob""#),
        (
            "system:serviceaccount:a:builder",
            &[],
            write,
            r#"RBAC: allowed by RoleBinding "writers/a" of Role "writer" to ServiceAccount "builder/a""#,
        ),
        ("system:serviceaccount:b:ci", &[], write, r#"RBAC: allowed by RoleBinding "writers/a" of Role "writer" to ServiceAccount "ci/b""#),
    ] {
        assert_eq!(decided(&index, user, groups, &asked), Decision::Allowed(expected.to_owned()));
    }
    for (user, asked) in [
        ("bob", list("")),
        ("bob", list("b")),
        ("alice", list("")),
        ("system:serviceaccount:b:builder", write),
        ("bob", ask("delete", "pods", "a", "p")),
    ] {
        assert_eq!(decided(&index, user, &[], &asked), Decision::Denied(String::new()), "{user}");
    }
    let missing = r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#;
    assert_eq!(decided(&index, "eve", &[], &list("a")), Decision::Denied(missing.to_owned()));
}

#[test]
fn what_is_changed_or_removed_counts_at_once() {
    let mut index = index();
    let list = ask("list", "pods", "a", "");
    let row = |plural| registry::find(GROUP, "v1", plural).unwrap();
    let other: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "here", "namespace": "a"},
        "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [{"kind": "User", "name": "carol"}]}))
    .unwrap();
    index.put(&other);
    assert!(!decided(&index, "bob", &[], &list).is_allowed());
    assert!(decided(&index, "carol", &[], &list).is_allowed());
    index.remove(row("clusterroles"), &ObjectKey::cluster("reader"));
    index.settle();
    assert!(!decided(&index, "carol", &[], &list).is_allowed());
    index.remove(row("rolebindings"), &ObjectKey::new("a", "here"));
    assert_eq!(decided(&index, "carol", &[], &list), Decision::Denied(String::new()));
}

fn begun() -> Index {
    let mut index = Index::default();
    bootstrap::cluster_roles().iter().for_each(|role| index.put(role));
    bootstrap::cluster_role_bindings().iter().for_each(|binding| index.put(binding));
    index.settle();
    index
}

fn bound(index: &mut Index, user: &str, role: &str, namespace: &str) {
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": user, "namespace": namespace},
        "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]}))
    .unwrap();
    index.put(&binding);
}

#[test]
fn a_cluster_begins_with_upstreams_roles() {
    let mut index = begun();
    for user in ["view", "edit", "admin", "cluster-admin"] {
        bound(&mut index, user, user, "a");
    }
    for (asked, from) in [
        (ask("list", "pods", "a", ""), 0),
        (ask("get", "namespaces", "a", "a"), 0),
        (ask("get", "pods/log", "a", "p"), 0),
        (ask("get", "secrets", "a", "s"), 1),
        (ask("create", "statefulsets.apps", "a", ""), 1),
        (ask("create", "pods/exec", "a", "p"), 1),
        (ask("create", "serviceaccounts/token", "a", "x"), 1),
        (ask("create", "rolebindings.rbac.authorization.k8s.io", "a", ""), 2),
        (ask("update", "resourcequotas", "a", "q"), 3),
        (ask("list", "pods", "b", ""), 4),
        (ask("list", "nodes", "", ""), 4),
    ] {
        let users = ["view", "edit", "admin", "cluster-admin"];
        let allowed = users.map(|user| decided(&index, user, &[], &asked).is_allowed());
        let expected: Vec<_> = (0..users.len()).map(|place| place >= from).collect();
        assert_eq!(allowed.to_vec(), expected, "{asked:?}");
    }
    for (asked, group, expected) in [
        (path("get", "/version"), "system:unauthenticated", true),
        (path("get", "/apis"), "system:unauthenticated", false),
        (path("get", "/apis/apps/v1"), "system:authenticated", true),
        (path("get", "/metrics"), "system:authenticated", false),
        (path("get", "/metrics"), "system:monitoring", true),
        (ask("create", "selfsubjectaccessreviews.authorization.k8s.io", "", ""), "system:authenticated", true),
        (ask("create", "subjectaccessreviews.authorization.k8s.io", "", ""), "system:authenticated", false),
        (ask("delete", "nodes", "", "n"), "system:masters", true),
        (ask("get", "nodes", "", "n"), "system:nodes", false),
    ] {
        assert_eq!(decided(&index, "someone", &[group], &asked).is_allowed(), expected, "{group} {asked:?}");
    }
}

#[test]
fn a_role_is_taken_in_by_those_that_select_it_and_by_those_that_take_these_in() {
    let mut index = begun();
    bound(&mut index, "adam", "admin", "a");
    let asked = ask("get", "things.example.com", "a", "x");
    assert!(!decided(&index, "adam", &[], &asked).is_allowed());
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": "things", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"]}]}))
    .unwrap();
    index.put(&role);
    index.settle();
    assert!(decided(&index, "adam", &[], &asked).is_allowed());
    let outdated: Vec<_> = index.outdated().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(outdated, ["admin", "edit", "view"]);
    for (name, rules) in index.clone().outdated() {
        let role = bootstrap::cluster_roles().into_iter().find(|role| role.metadata.name.as_deref() == Some(name)).unwrap();
        index.put(&ClusterRole { rules: Some(rules.to_vec()), ..role });
    }
    index.settle();
    assert!(index.outdated().is_empty());
    index.remove(registry::find(GROUP, "v1", "clusterroles").unwrap(), &ObjectKey::cluster("things"));
    index.settle();
    assert!(!decided(&index, "adam", &[], &asked).is_allowed());
}

#[test]
fn a_circle_of_roles_ends() {
    let mut index = Index::default();
    for (name, other) in [("one", "two"), ("two", "one")] {
        let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": name}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"of": other}}]}}))
        .unwrap();
        index.put(&role);
    }
    index.settle();
    assert!(index.outdated().is_empty());
}

fn refused(held: Value, granted: Value) -> Option<String> {
    let (held, granted): (Vec<PolicyRule>, Vec<PolicyRule>) =
        (serde_json::from_value(held).unwrap(), serde_json::from_value(granted).unwrap());
    let groups = ["dev".to_owned(), "system:authenticated".to_owned()];
    cover::refusal(Who { user: "bob", groups: &groups }, &held.iter().collect::<Vec<_>>(), &granted)
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let pods = json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}]);
    let one = json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"], "verbs": ["get"]}]);
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let logs = json!([{"apiGroups": ["*"], "resources": ["*/log"], "verbs": ["get"]}]);
    let paths = json!([{"nonResourceURLs": ["/apis/*"], "verbs": ["get"]}]);
    for (held, granted) in [
        (&pods, &pods),
        (&pods, &one),
        (&all, &pods),
        (&logs, &json!([{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}])),
        (&paths, &json!([{"nonResourceURLs": ["/apis/apps"], "verbs": ["get"]}])),
        (&json!([]), &json!([])),
    ] {
        assert_eq!(refused(held.clone(), granted.clone()), None, "{held} {granted}");
    }
    let begin = "user \"bob\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n";
    for (held, granted, lines) in [
        (
            &pods,
            json!([{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "delete"]}]),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}",
        ),
        (
            &one,
            pods.clone(),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}\n{APIGroups:[\"\"], Resources:[\"pods/log\"], Verbs:[\"get\" \"list\"]}",
        ),
        (&pods, all.clone(), "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"),
        (&all, paths.clone(), "{NonResourceURLs:[\"/apis/*\"], Verbs:[\"get\"]}"),
        (
            &json!([]),
            one.clone(),
            "{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"a\"], Verbs:[\"get\"]}\n{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"b\"], Verbs:[\"get\"]}",
        ),
    ] {
        assert_eq!(refused(held.clone(), granted.clone()), Some(format!("{begin}{lines}")), "{held} {granted}");
    }
}

#[test]
fn a_grant_of_more_combinations_than_can_be_counted_is_judged_as_a_whole() {
    let many: Vec<_> = (0..1000).map(|number| format!("a{number}")).collect();
    let wide = json!([{"apiGroups": many, "resources": many, "resourceNames": many, "verbs": many}]);
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    assert_eq!(refused(all, wide.clone()), None);
    assert!(refused(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]}]), wide).is_some());
}

#[test]
fn the_agent_of_a_node_is_judged_by_what_is_its_own() {
    let general = bootstrap::node_rules();
    let judge = |asked: &Ask<'static>| nodes::judge("n1", asked, &general);
    for asked in [
        ask("get", "nodes", "", "n1"),
        ask("patch", "nodes/status", "", "n1"),
        ask("list", "services", "", ""),
        ask("create", "events", "a", ""),
        ask("patch", "pods/status", "a", "p"),
        ask("patch", "leases.coordination.k8s.io", "kube-node-lease", "n1"),
        ask("create", "persistentvolumes", "", ""),
    ] {
        assert_eq!(judge(&asked), Verdict::Allowed, "{asked:?}");
    }
    for (asked, why) in [
        (ask("get", "nodes", "", "n2"), "node 'n1' cannot read 'n2', only its own Node object"),
        (ask("list", "secrets", "a", ""), "No Object name found"),
        (ask("list", "secrets", "", ""), "can only read namespaced object of this type"),
        (ask("create", "secrets", "a", "s"), "can only read resources of this type"),
        (ask("list", "persistentvolumeclaims", "a", ""), "can only get individual resources of this type"),
        (ask("get", "persistentvolumeclaims/status", "a", "c"), "can only update or patch individual resources of this type"),
        (ask("patch", "persistentvolumeclaims/status", "a", ""), "No Object name found"),
        (ask("list", "pods", "", ""), "can only list/watch pods with spec.nodeName field selector"),
        (ask("patch", "leases.coordination.k8s.io", "a", "n1"), "can only access leases in the \"kube-node-lease\" system namespace"),
        (
            ask("patch", "leases.coordination.k8s.io", "kube-node-lease", "n2"),
            "can only access node lease with the same name as the requesting node",
        ),
        (ask("list", "leases.coordination.k8s.io", "kube-node-lease", ""), "can only get, create, update, patch, or delete a node lease"),
        (ask("delete", "serviceaccounts", "a", "x"), "can only create tokens for individual service accounts"),
        (ask("delete", "statefulsets.apps", "a", "x"), ""),
        (ask("create", "pods/exec", "a", "p"), ""),
    ] {
        assert_eq!(judge(&asked), Verdict::Denied(why.to_owned()), "{asked:?}");
    }
    let secret = Verdict::IfReferred { namespace: "a", to: Reference::Secret("s") };
    assert_eq!(judge(&ask("watch", "secrets", "a", "s")), secret);
    for verb in ["update", "patch"] {
        let claim = Verdict::IfReferred { namespace: "a", to: Reference::Claim("c") };
        assert_eq!(judge(&ask(verb, "persistentvolumeclaims/status", "a", "c")), claim);
    }
    assert_eq!(judge(&ask("get", "pods", "a", "p")), Verdict::IfBound { namespace: "a", pod: "p" });
    let own = Asked { resource: "pods", on_node: "n1", ..Asked::default() };
    assert_eq!(nodes::judge("n1", &Ask::on("watch", own), &general), Verdict::Allowed);
    assert_ne!(nodes::judge("n2", &Ask::on("watch", own), &general), Verdict::Allowed);
    let groups = ["system:nodes".to_owned()];
    assert_eq!(nodes::node_of(Who { user: "system:node:n1", groups: &groups }), Some("n1"));
    assert_eq!(nodes::node_of(Who { user: "system:node:n1", groups: &[] }), None);
}

#[test]
fn a_pod_refers_to_what_it_mounts_and_reads() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
        "containers": [{"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "k"}}}]}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "mounted"}},
            {"name": "m", "configMap": {"name": "map"}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "e", "ephemeral": {}},
            {"name": "t", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "ca"}}]}}]}}))
    .unwrap();
    let referred = |to| refers("p", pod.spec.as_ref().unwrap(), to);
    for name in ["pull", "env", "mounted", "part"] {
        assert!(referred(Reference::Secret(name)) && !referred(Reference::ConfigMap(name)), "{name}");
    }
    for name in ["from", "key", "map", "ca"] {
        assert!(referred(Reference::ConfigMap(name)) && !referred(Reference::Secret(name)), "{name}");
    }
    assert!(referred(Reference::Claim("data")) && referred(Reference::Claim("p-e")) && !referred(Reference::Claim("e")));
    assert!(referred(Reference::Account("default")) && !referred(Reference::Account("other")));
    assert!(!referred(Reference::Secret("map")) && !referred(Reference::Volume("data")));
}

#[test]
fn a_node_writes_into_its_own_objects_only() {
    let object = |plural: &str, value: Value| registry::find("", "v1", plural).unwrap().codec.from_value(&value).unwrap();
    let pod = |node: &str| object("pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": []}}));
    let node = |name: &str, label: &str| {
        object(
            "nodes",
            json!({"metadata": {"name": name, "labels": {label: "x"}}, "spec": {"taints": [{"key": label, "effect": "NoSchedule"}]}}),
        )
    };
    let volume = |node: &str| {
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
        object(
            "persistentvolumes",
            json!({"metadata": {"name": "v"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}),
        )
    };
    let (own, other) = (pod("n1"), pod("n2"));
    let write = |subresource: &'static str, name: &'static str, new: Option<&dyn kinds::Object>, old: Option<&dyn kinds::Object>| {
        Write { node: "n1", name, subresource, new, old }.refusal().unwrap_or_default()
    };
    let text = |wanted: &str| wanted.to_owned();
    assert_eq!(write("status", "p", Some(&*own), Some(&*own)), "");
    assert_eq!(
        write("status", "p", Some(&*own), Some(&*other)),
        text("node \"n1\" can only update pod status for pods with spec.nodeName set to itself")
    );
    assert_eq!(write("", "p", None, Some(&*own)), "");
    assert_eq!(write("", "p", None, Some(&*other)), text("node \"n1\" can only delete pods with spec.nodeName set to itself"));
    assert!(write("", "p", Some(&*own), None).contains("can only create mirror pods"));
    let (first, second) = (node("n1", "a"), node("n1", "node-restriction.kubernetes.io/b"));
    assert_eq!(write("", "n1", Some(&*first), None), "");
    assert_eq!(write("", "n2", Some(&*first), None), text("node \"n1\" is not allowed to modify node \"n2\""));
    assert!(write("", "n1", Some(&*second), Some(&*first)).contains("is not allowed to modify labels: "));
    assert!(write("", "n1", Some(&*node("n1", "c")), Some(&*first)).contains("is not allowed to modify taints"));
    assert_eq!(write("", "v", Some(&*volume("n1")), None), "");
    assert_ne!(write("", "v", None, Some(&*volume("n2"))), "");
}

#[test]
fn a_node_says_of_itself_only_what_agents_say_of_nodes() {
    let labelled = |labels: Value| {
        let node = json!({"metadata": {"name": "n1", "labels": labels}});
        registry::find("", "v1", "nodes").unwrap().codec.from_value(&node).unwrap()
    };
    let plain = labelled(json!({}));
    for label in [
        "disk",
        "example.com/disk",
        "notkubernetes.io/disk",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "a.node.kubernetes.io/b",
        "kubelet.kubernetes.io/x",
    ] {
        let own = labelled(json!({label: "x"}));
        for (new, old) in [(&own, None), (&own, Some(&plain)), (&plain, Some(&own))] {
            let write = Write { node: "n1", name: "n1", subresource: "", new: Some(&**new), old: old.map(|old| &**old) };
            assert_eq!(write.refusal(), None, "{label}");
        }
    }
    for label in [
        "node-role.kubernetes.io/control-plane",
        "node-restriction.kubernetes.io/a",
        "kubernetes.io/role",
        "topology.kubernetes.io/rack",
        "x.k8s.io/a",
        "k8s.io/a",
        "othernode.kubernetes.io/a",
    ] {
        let (own, other) = (labelled(json!({label: "x"})), labelled(json!({label: "y"})));
        for (new, old) in [(&own, None), (&own, Some(&plain)), (&plain, Some(&own)), (&other, Some(&own))] {
            let write = Write { node: "n1", name: "n1", subresource: "", new: Some(&**new), old: old.map(|old| &**old) };
            assert_eq!(write.refusal(), Some(format!("is not allowed to modify labels: {label}")));
        }
        let write = Write { node: "n1", name: "n1", subresource: "status", new: Some(&*own), old: Some(&*own) };
        assert_eq!(write.refusal(), None, "what others gave it stays");
    }
    let (two, others) = (json!({"k8s.io/a": "x", "k8s.io/b": "x"}), json!({"k8s.io/a": "y", "k8s.io/b": "y"}));
    let (two, others) = (labelled(two), labelled(others));
    let write = Write { node: "n1", name: "n1", subresource: "", new: Some(&*two), old: Some(&*others) };
    assert_eq!(write.refusal().unwrap(), "is not allowed to modify labels: k8s.io/a, k8s.io/b");
}

#[test]
fn what_a_cluster_begins_with_is_completed_and_what_users_did_stays() {
    let wanted = bootstrap::for_user(
        "system:kube-scheduler",
        vec![rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}))],
    );
    assert_eq!(reconcile_role(&wanted.0, &wanted.0), None);
    let own = rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}));
    let changed = ClusterRole { rules: Some(vec![own.clone()]), ..wanted.0.clone() };
    let completed = reconcile_role(&changed, &wanted.0).unwrap().rules.unwrap();
    assert_eq!(completed, [own, rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}))]);
    let mut taken = changed.clone();
    taken.metadata.annotations.as_mut().unwrap().insert("rbac.authorization.kubernetes.io/autoupdate".to_owned(), "false".to_owned());
    assert_eq!(reconcile_role(&taken, &wanted.0), None);
    let unbound = ClusterRoleBinding { subjects: None, ..wanted.1.clone() };
    assert_eq!(reconcile_binding(&unbound, &wanted.1).unwrap().subjects, wanted.1.subjects);
    assert_eq!(reconcile_binding(&wanted.1, &wanted.1), None);
}
