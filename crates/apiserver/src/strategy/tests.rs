use kinds::{Object, Resource, registry};
use serde_json::{Value, json};

use super::{metadata, of};

fn resource(plural: &str) -> &'static Resource {
    registry::RESOURCES.iter().find(|row| row.plural == plural).unwrap()
}

fn decode(plural: &str, value: Value) -> Box<dyn Object> {
    resource(plural).codec.from_value(&value).unwrap()
}

/// What a create request makes of an object before admission.
fn prepared(plural: &str, value: Value) -> Box<dyn Object> {
    let strategy = of(resource(plural));
    let mut object = decode(plural, value);
    strategy.default(object.as_mut());
    strategy.prepare_create(object.as_mut());
    object
}

fn errors(found: Vec<crate::field::FieldError>) -> Vec<String> {
    found.into_iter().map(|error| format!("{}: {}", error.path, error.reason.code().trim_start_matches("FieldValue"))).collect()
}

/// The field errors of a create request, as `path: Reason`.
fn refused(plural: &str, value: Value) -> Vec<String> {
    let object = prepared(plural, value);
    let strategy = of(resource(plural));
    let mut found = metadata::validate_create(object.meta(), resource(plural), strategy);
    found.extend(strategy.validate(object.as_ref()));
    errors(found)
}

/// The field errors of a change, after what a request does before validation.
fn refused_update(plural: &str, old: Value, new: Value) -> Vec<String> {
    let strategy = of(resource(plural));
    let old = prepared(plural, old);
    let mut object = decode(plural, new);
    strategy.default(object.as_mut());
    strategy.prepare_update(object.as_mut(), old.as_ref());
    metadata::restore(object.meta_mut(), old.meta());
    let mut found = metadata::validate_update(object.meta(), old.meta());
    found.extend(strategy.validate_update(object.as_ref(), old.as_ref()));
    errors(found)
}

fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    base.pointer_mut(parent).unwrap()[key] = value;
    base
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "default"})
}

fn set() -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    json!({"metadata": meta("web"), "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

fn pod() -> Value {
    json!({"metadata": meta("p"), "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

fn service() -> Value {
    json!({"metadata": meta("s"), "spec": {"ports": [{"port": 80}]}})
}

fn claim() -> Value {
    json!({"metadata": meta("c"), "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

fn object(name: &str) -> Value {
    json!({"metadata": meta(name)})
}

#[test]
fn every_row_has_its_own_kinds_strategy() {
    for row in registry::RESOURCES {
        let mut object = row.codec.from_value(&json!({"metadata": {"name": "a"}})).unwrap();
        // A strategy of another kind would panic in its downcast.
        of(row).default(object.as_mut());
        of(row).validate(object.as_ref());
    }
}

#[test]
fn a_good_object_of_each_sort_is_accepted() {
    for (plural, value) in [("statefulsets", set()), ("pods", pod()), ("services", service()), ("persistentvolumeclaims", claim())] {
        assert_eq!(refused(plural, value), Vec::<String>::new(), "{plural}");
    }
}

/// What a real 1.36 server answers.
#[test]
fn bad_objects_are_refused_with_upstreams_fields_and_reasons() {
    let template = "spec.template.metadata.labels: Invalid";
    for (plural, value, expected) in [
        ("configmaps", object("Upper"), vec!["metadata.name: Invalid"]),
        ("statefulsets", with(set(), "/spec/selector", json!(null)), vec!["spec.selector: Required", template]),
        ("statefulsets", with(set(), "/spec/template/metadata", json!({})), vec![template]),
        ("statefulsets", with(set(), "/spec/updateStrategy", json!({"type": "Other"})), vec!["spec.updateStrategy: Invalid"]),
        ("statefulsets", with(set(), "/spec/minReadySeconds", json!(-1)), vec!["spec.minReadySeconds: Invalid"]),
        ("statefulsets", with(set(), "/spec/replicas", json!(-1)), vec!["spec.replicas: Invalid"]),
        (
            "statefulsets",
            with(set(), "/spec/persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Never"})),
            vec!["spec.persistentVolumeClaimRetentionPolicy.whenDeleted: NotSupported"],
        ),
        ("statefulsets", with(set(), "/spec/revisionHistoryLimit", json!(-1)), vec![]),
        ("statefulsets", with(set(), "/spec/template/spec/containers", json!([])), vec!["spec.template.spec.containers: Required"]),
        ("configmaps", with(object("c"), "/metadata/labels", json!({"a": "b c"})), vec!["metadata.labels: Invalid"]),
        ("pods", with(pod(), "/spec/containers", json!([])), vec!["spec.containers: Required"]),
        (
            "pods",
            with(pod(), "/spec/containers/0/ports", json!([{"containerPort": 70000}])),
            vec!["spec.containers[0].ports[0].containerPort: Invalid"],
        ),
        ("pods", with(pod(), "/metadata/name", json!("a.")), vec!["metadata.name: Invalid"]),
        (
            "services",
            with(service(), "/spec/ports", json!([{"port": 1}, {"port": 2}])),
            vec!["spec.ports[0].name: Required", "spec.ports[1].name: Required"],
        ),
        ("services", with(service(), "/spec/type", json!("Other")), vec!["spec.type: NotSupported"]),
        ("services", with(service(), "/metadata/name", json!("0s")), vec![]),
        ("services", with(service(), "/spec/sessionAffinity", json!("Other")), vec!["spec.sessionAffinity: NotSupported"]),
        ("persistentvolumeclaims", with(claim(), "/spec/resources/requests/storage", json!("0")), vec!["spec.resources[storage]: Invalid"]),
        ("persistentvolumeclaims", with(claim(), "/spec/resources", json!({})), vec!["spec.resources[storage]: Required"]),
        ("configmaps", with(object("c"), "/data", json!({"a": "x".repeat(1 << 20) + "x"})), vec!["[]: TooLong"]),
        ("namespaces", json!({"metadata": {"name": "a.b"}}), vec!["metadata.name: Invalid"]),
    ] {
        assert_eq!(refused(plural, value.clone()), expected, "{plural} {value:.300}");
    }
}

#[test]
fn other_mistakes_are_found_where_they_are() {
    let container = |field: &str, value: Value| with(pod(), &format!("/spec/containers/0/{field}"), value);
    for (plural, value, expected) in [
        ("pods", with(pod(), "/spec/containers/0/name", json!("A")), "spec.containers[0].name: Invalid"),
        ("pods", container("image", json!("")), "spec.containers[0].image: Required"),
        ("pods", container("env", json!([{"name": ""}])), "spec.containers[0].env[0].name: Required"),
        ("pods", container("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])), "spec.containers[0].volumeMounts[0].name: NotFound"),
        ("pods", container("livenessProbe", json!({})), "spec.containers[0].livenessProbe: Required"),
        (
            "pods",
            container("readinessProbe", json!({"tcpSocket": {"port": "no port"}})),
            "spec.containers[0].readinessProbe.tcpSocket.port: Invalid",
        ),
        (
            "pods",
            container("resources", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            "spec.containers[0].resources.requests: Invalid",
        ),
        ("pods", with(pod(), "/spec/restartPolicy", json!("Sometimes")), "spec.restartPolicy: NotSupported"),
        (
            "pods",
            with(pod(), "/spec/volumes", json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}])),
            "spec.volumes[0].hostPath: Forbidden",
        ),
        ("pods", with(pod(), "/spec/tolerations", json!([{"operator": "Equal"}])), "spec.tolerations[0].operator: Invalid"),
        ("statefulsets", with(set(), "/spec/podManagementPolicy", json!("Other")), "spec.podManagementPolicy: Invalid"),
        (
            "statefulsets",
            with(set(), "/spec/template/spec/restartPolicy", json!("Never")),
            "spec.template.spec.restartPolicy: NotSupported",
        ),
        ("statefulsets", with(set(), "/metadata/name", json!("a.b")), "metadata.name: Invalid"),
        ("services", with(service(), "/spec/clusterIP", json!("nonsense")), "spec.clusterIPs[0]: Invalid"),
        ("secrets", with(object("s"), "/type", json!("kubernetes.io/ssh-auth")), "data[ssh-privatekey]: Required"),
        (
            "persistentvolumes",
            json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"}}}),
            "spec.nodeAffinity: Required",
        ),
        ("endpointslices", with(object("e"), "/addressType", json!("IPv5")), "addressType: NotSupported"),
        ("leases", with(object("l"), "/spec", json!({"leaseDurationSeconds": 0})), "spec.leaseDurationSeconds: Invalid"),
        ("poddisruptionbudgets", with(object("b"), "/spec", json!({"minAvailable": "101%"})), "spec.minAvailable: Invalid"),
        ("storageclasses", json!({"metadata": {"name": "s"}}), "provisioner: Required"),
        ("controllerrevisions", object("r"), "data: Required"),
        ("events", with(object("e"), "/involvedObject", json!({"namespace": "other"})), "involvedObject.namespace: Invalid"),
    ] {
        assert_eq!(refused(plural, value.clone()), [expected], "{plural} {value:.300}");
    }
}

#[test]
fn a_claim_template_can_be_mounted_like_a_volume() {
    let set = with(set(), "/spec/template/spec/containers/0/volumeMounts", json!([{"name": "data", "mountPath": "/data"}]));
    assert_eq!(refused("statefulsets", set.clone()), ["spec.template.spec.containers[0].volumeMounts[0].name: NotFound"]);
    let claims = json!([{"metadata": {"name": "data"}, "spec": claim()["spec"]}]);
    assert_eq!(refused("statefulsets", with(set, "/spec/volumeClaimTemplates", claims)), Vec::<String>::new());
}

#[test]
fn what_may_not_change_is_refused() {
    let secret = json!({"metadata": meta("s"), "immutable": true, "data": {"a": "YQ=="}});
    let bound = |value: &str| with(claim(), "/spec/resources/requests/storage", json!(value));
    for (plural, old, new, expected) in [
        ("statefulsets", set(), with(set(), "/spec/podManagementPolicy", json!("Parallel")), vec!["spec: Forbidden"]),
        ("statefulsets", set(), with(set(), "/spec/serviceName", json!("x")), vec!["spec: Forbidden"]),
        ("statefulsets", set(), with(set(), "/spec/replicas", json!(7)), vec![]),
        ("statefulsets", set(), with(set(), "/spec/revisionHistoryLimit", json!(7)), vec![]),
        ("pods", pod(), with(pod(), "/spec/containers/0/image", json!("y:1")), vec!["spec: Forbidden"]),
        ("pods", with(pod(), "/spec/containers/0/image", json!("x:1")), with(pod(), "/spec/containers/0/image", json!("y:1")), vec![]),
        ("pods", pod(), with(pod(), "/spec/hostname", json!("x")), vec!["spec: Forbidden"]),
        ("pods", pod(), with(pod(), "/spec/tolerations", json!([{"operator": "Exists"}])), vec![]),
        ("pods", pod(), with(pod(), "/spec/initContainers", json!([{"name": "b", "image": "x"}])), vec!["spec.initContainers: Forbidden"]),
        ("pods", pod(), with(pod(), "/metadata/uid", json!("other")), vec!["metadata.uid: Invalid"]),
        ("secrets", secret.clone(), with(secret, "/data/a", json!("Yg==")), vec!["data: Forbidden"]),
        ("persistentvolumeclaims", claim(), bound("2Gi"), vec!["spec: Forbidden"]),
        ("persistentvolumeclaims", bound("2Gi"), bound("1Gi"), vec!["spec.resources.requests.storage: Forbidden", "spec: Forbidden"]),
        ("persistentvolumeclaims", claim(), with(claim(), "/spec/volumeName", json!("v")), vec![]),
        ("services", with(service(), "/spec/clusterIP", json!("10.0.0.5")), service(), vec![]),
        (
            "services",
            with(service(), "/spec/clusterIP", json!("10.0.0.5")),
            with(service(), "/spec/clusterIP", json!("10.0.0.6")),
            vec!["spec.clusterIPs[0]: Invalid"],
        ),
    ] {
        assert_eq!(refused_update(plural, old, new.clone()), expected, "{plural} {new:.300}");
    }
}

#[test]
fn a_set_that_was_stored_under_other_rules_may_be_labelled_but_not_spoilt_further() {
    let old = with(set(), "/spec/template/spec/restartPolicy", json!("Never"));
    let labelled = with(old.clone(), "/metadata/labels", json!({"a": "b"}));
    assert_eq!(refused_update("statefulsets", old.clone(), labelled), Vec::<String>::new());
    let scaled = with(old.clone(), "/spec/replicas", json!(7));
    assert_eq!(refused_update("statefulsets", old, scaled), ["spec.template.spec.restartPolicy: NotSupported"]);
}

#[test]
fn metadata_is_judged_for_every_kind() {
    let owner = |controller: bool| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": controller});
    for (field, value, expected) in [
        ("annotations", json!({"a": "x".repeat(256 << 10)}), vec!["metadata.annotations: TooLong"]),
        ("annotations", json!({"A/B/C": ""}), vec!["metadata.annotations: Invalid"]),
        ("ownerReferences", json!([owner(true), owner(true)]), vec!["metadata.ownerReferences: Invalid"]),
        ("ownerReferences", json!([owner(true), owner(false)]), vec![]),
        ("ownerReferences", json!([{"apiVersion": "v1", "kind": "Pod", "name": "p"}]), vec!["metadata.ownerReferences.uid: Invalid"]),
        ("finalizers", json!(["no name"]), vec!["metadata.finalizers: Invalid"]),
        ("finalizers", json!(["orphan", "foregroundDeletion"]), vec!["metadata.finalizers: Invalid"]),
        ("generateName", json!("a_b"), vec!["metadata.generateName: Invalid"]),
        ("generateName", json!("a-"), vec![]),
        ("name", json!(null), vec!["metadata.name: Required"]),
        ("namespace", json!(null), vec!["metadata.namespace: Required"]),
    ] {
        assert_eq!(refused("configmaps", with(object("c"), &format!("/metadata/{field}"), value)), expected, "{field}");
    }
}

#[test]
fn a_stateful_set_without_a_strategy_rolls_from_ordinal_zero_and_one_with_a_bare_type_keeps_no_partition() {
    let default = prepared("statefulsets", set()).to_value();
    assert_eq!(default["spec"]["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    assert_eq!(default["spec"]["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    assert_eq!((&default["spec"]["replicas"], &default["spec"]["revisionHistoryLimit"]), (&json!(1), &json!(10)));
    assert_eq!(default["metadata"]["generation"], 1);
    assert_eq!(default["status"], json!({"availableReplicas": 0, "replicas": 0}));
    let bare = prepared("statefulsets", with(set(), "/spec/updateStrategy", json!({"type": "RollingUpdate"}))).to_value();
    assert_eq!(bare["spec"]["updateStrategy"], json!({"type": "RollingUpdate"}));
}

#[test]
fn a_pod_gets_upstreams_defaults() {
    let volumes = json!([{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}]);
    let probe = json!({"httpGet": {"port": 80}});
    let resources = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let mut value = with(pod(), "/spec/volumes", volumes);
    value["spec"]["containers"][0]["livenessProbe"] = probe;
    value["spec"]["containers"][0]["resources"] = resources;
    value["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    value["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
    let pod = prepared("pods", value).to_value();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/", "port": 80, "scheme": "HTTP"}));
    assert_eq!(container["livenessProbe"]["failureThreshold"], 3);
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(container["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
    assert_eq!(pod["spec"]["volumes"][0], json!({"name": "a", "emptyDir": {}}));
    assert_eq!(pod["spec"]["volumes"][1]["secret"]["defaultMode"], 420);
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        assert_eq!(pod["spec"][field], value, "{field}");
    }
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "Guaranteed"}));
}

#[test]
fn defaults_leave_an_object_with_defaults_as_it_is() {
    for (plural, value) in [("statefulsets", set()), ("pods", pod()), ("services", service()), ("persistentvolumeclaims", claim())] {
        let once = prepared(plural, value);
        let mut twice = once.clone_object();
        of(resource(plural)).default(twice.as_mut());
        assert_eq!(twice.to_value(), once.to_value(), "{plural}");
    }
}

#[test]
fn a_spec_that_says_the_same_in_other_words_has_not_changed() {
    let strategy = of(resource("statefulsets"));
    let old = prepared("statefulsets", set());
    let same = prepared("statefulsets", with(set(), "/spec/template/spec/initContainers", json!([])));
    let other = prepared("statefulsets", with(set(), "/spec/replicas", json!(2)));
    assert!(!strategy.spec_changed(same.as_ref(), old.as_ref()));
    assert!(strategy.spec_changed(other.as_ref(), old.as_ref()));
}

#[test]
fn the_status_of_a_stateful_set_counts_what_is_there() {
    let strategy = of(resource("statefulsets"));
    let status = |status: Value| prepared_status(status);
    let old = status(json!({"replicas": 3, "collisionCount": 2}));
    for (new, expected) in [
        (json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "collisionCount": 2}), vec![]),
        (json!({"replicas": 3, "readyReplicas": 4, "collisionCount": 2}), vec!["status.readyReplicas: Invalid"]),
        (json!({"replicas": 3, "availableReplicas": 1, "collisionCount": 2}), vec!["status.availableReplicas: Invalid"]),
        (json!({"replicas": 3, "collisionCount": 1}), vec!["status.collisionCount: Invalid"]),
        (
            json!({"replicas": -3, "collisionCount": 2}),
            vec![
                "status.replicas: Invalid",
                "status.readyReplicas: Invalid",
                "status.currentReplicas: Invalid",
                "status.updatedReplicas: Invalid",
                "status.availableReplicas: Invalid",
            ],
        ),
    ] {
        assert_eq!(errors(strategy.validate_status_update(status(new.clone()).as_ref(), old.as_ref())), expected, "{new}");
    }
}

fn prepared_status(status: Value) -> Box<dyn Object> {
    decode("statefulsets", with(set(), "/status", status))
}

#[test]
fn text_of_a_secret_becomes_data_and_is_not_kept() {
    let secret = prepared("secrets", json!({"metadata": meta("s"), "stringData": {"a": "x"}})).to_value();
    assert_eq!((&secret["data"], &secret["type"], secret.get("stringData")), (&json!({"a": "eA=="}), &json!("Opaque"), None));
}

#[test]
fn quantities_are_kept_in_their_canonical_form() {
    let value = with(pod(), "/spec/containers/0/resources", json!({"limits": {"cpu": 0.5, "memory": "1024Mi"}}));
    let pod = prepared("pods", value).to_value();
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
    let claim = prepared("persistentvolumeclaims", with(claim(), "/spec/resources/requests/storage", json!("2048Mi"))).to_value();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "2Gi");
}

#[test]
fn grace_is_given_to_pods_on_a_node_only() {
    let strategy = of(resource("pods"));
    let grace = |value: Value| strategy.grace_period_seconds(prepared("pods", value).as_ref());
    assert_eq!(grace(pod()), 0);
    assert_eq!(grace(with(pod(), "/spec/nodeName", json!("n"))), 30);
    assert_eq!(grace(with(with(pod(), "/spec/nodeName", json!("n")), "/spec/terminationGracePeriodSeconds", json!(-1))), 1);
}

#[test]
fn a_set_may_want_only_pods_whose_names_fit() {
    let sized = |length: usize, replicas: i32| {
        let named = with(set(), "/metadata/name", json!("x".repeat(length)));
        with(named, "/spec/replicas", json!(replicas))
    };
    let starting = |length, replicas, start: i32| with(sized(length, replicas), "/spec/ordinals", json!({"start": start}));
    let reserving = |length, replicas, reserved: &str| {
        with(sized(length, replicas), "/metadata/annotations", json!({"steadfast.dev/reserved-ordinals": reserved}))
    };
    for good in [sized(61, 10), sized(60, 100), sized(63, 0), starting(60, 2, 98), reserving(61, 9, "3")] {
        assert_eq!(refused("statefulsets", good.clone()), Vec::<String>::new(), "{good}");
    }
    for bad in [sized(62, 1), sized(61, 11), starting(60, 2, 99), reserving(61, 10, "3")] {
        assert_eq!(refused("statefulsets", bad.clone()), ["metadata.name: Invalid"], "{bad}");
    }
    let replicas = ["spec.replicas: Invalid"];
    assert_eq!(refused_update("statefulsets", sized(61, 10), sized(61, 11)), replicas);
    assert_eq!(refused_update("statefulsets", sized(61, 10), starting(61, 10, 1)), replicas);
    assert_eq!(refused_update("statefulsets", sized(61, 10), reserving(61, 10, "4")), replicas);
    assert_eq!(refused_update("statefulsets", sized(61, 10), sized(61, 9)), Vec::<String>::new());
    // One that wants too much already can be mended, and scaled in by steps.
    assert_eq!(refused_update("statefulsets", sized(61, 20), sized(61, 15)), Vec::<String>::new());
}

#[test]
fn annotations_that_are_read_must_be_well_formed() {
    let annotated = |key: &str, value: &str| with(set(), "/metadata/annotations", json!({key: value}));
    for (key, good, bad) in [
        ("progress-deadline-seconds", "30", "30s"),
        ("auto-rollback", "true", "on"),
        ("update-order", "role=replica,*,@a.b/c=d", "replica"),
        ("reserved-ordinals", "1,3-5", "5-3"),
        ("paused", "false", ""),
    ] {
        let key = format!("steadfast.dev/{key}");
        assert_eq!(refused("statefulsets", annotated(&key, good)), Vec::<String>::new(), "{key}");
        let path = format!("metadata.annotations[{key}]: Invalid");
        assert_eq!(refused("statefulsets", annotated(&key, bad)), [path.as_str()]);
        assert_eq!(refused_update("statefulsets", set(), annotated(&key, bad)), [path.as_str()]);
        assert_eq!(refused_update("statefulsets", annotated(&key, bad), annotated(&key, bad)), Vec::<String>::new());
    }
}

#[test]
fn the_pod_of_a_hook_is_checked_as_any_template_is_and_is_none_of_the_set() {
    let gated = |labels: Value, containers: Value| {
        let gate = json!({"job": {"template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}}});
        with(set(), "/metadata/annotations", json!({"steadfast.dev/pre-delete": gate.to_string()}))
    };
    let containers = json!([{"name": "leave", "image": "tools"}]);
    let own = set()["spec"]["selector"]["matchLabels"].clone();
    let place = "metadata.annotations[steadfast.dev/pre-delete].job.template";
    assert_eq!(refused("statefulsets", gated(json!({"job": "leave"}), containers.clone())), Vec::<String>::new());
    assert_eq!(refused("statefulsets", gated(own.clone(), containers.clone())), [format!("{place}.metadata.labels: Invalid")]);
    let twins = json!([{"name": "leave", "image": "tools"}, {"name": "leave"}]);
    let wrong = [format!("{place}.spec.containers[1].name: Duplicate"), format!("{place}.spec.containers[1].image: Required")];
    let mut told = refused("statefulsets", gated(json!({}), twins.clone()));
    told.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(told, wrong);
    let bad = gated(own, containers);
    assert_eq!(refused_update("statefulsets", set(), bad.clone()), [format!("{place}.metadata.labels: Invalid")]);
    assert_eq!(refused_update("statefulsets", bad.clone(), bad), Vec::<String>::new());
}

#[test]
fn a_pods_addresses_are_kept_in_both_forms() {
    let strategy = of(resource("pods"));
    let old = prepared("pods", pod());
    let mut new = decode("pods", with(pod(), "/status", json!({"podIP": "10.0.0.1", "hostIP": "10.0.0.2"})));
    strategy.prepare_status_update(new.as_mut(), old.as_ref());
    let status = &new.to_value()["status"];
    assert_eq!((&status["podIPs"], &status["hostIPs"]), (&json!([{"ip": "10.0.0.1"}]), &json!([{"ip": "10.0.0.2"}])));
    assert_eq!(status["qosClass"], "BestEffort");
}

/// A good object of each kind, as a start for a bad one.
fn good() -> Vec<(&'static str, Value)> {
    let mut good = vec![("statefulsets", set()), ("pods", pod()), ("services", service()), ("persistentvolumeclaims", claim())];
    good.extend(registry::RESOURCES.iter().map(|row| (row.plural, object("a"))));
    good
}

fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    const TEXTS: &[&str] = &["", "None", "ü", "-1", "1e9", "a=b", "..", "/", "99999999999", "\u{0}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from)
    ];
    let names =
        prop::sample::select(&["name", "spec", "containers", "ports", "matchLabels", "path", "storage", "cpu", "limits", "type"][..]);
    leaf.prop_recursive(4, 24, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(names.clone(), inner, 0..3)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Puts a value somewhere into an object: the n-th place, depth first.
fn place(target: &mut Value, n: &mut usize, value: &Value) {
    if *n == 0 {
        *target = value.clone();
    }
    *n = n.wrapping_sub(1);
    match target {
        Value::Object(map) => map.values_mut().for_each(|child| place(child, n, value)),
        Value::Array(list) => list.iter_mut().for_each(|child| place(child, n, value)),
        _ => {}
    }
}

proptest::proptest! {
    #[test]
    fn no_object_that_can_be_decoded_makes_a_rule_panic(which in 0..1000_usize, mut n in 1..12_usize, value in any_value()) {
        let mut all = good();
        let (plural, base) = all.swap_remove(which % all.len());
        let mut changed = base.clone();
        place(&mut changed, &mut n, &value);
        if let Ok(mut new) = resource(plural).codec.from_value(&changed) {
            let strategy = of(resource(plural));
            strategy.default(new.as_mut());
            strategy.warnings(new.as_ref());
            refused(plural, changed.clone());
            refused_update(plural, base, changed);
        }
    }
}
