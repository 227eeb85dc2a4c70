//! Which sets are taken, what is filled in, and what may be changed.

use serde_json::{Value, json};

use crate::workload::{Workload, web};

/// A change at a place, and what the refusal says; taken if that is empty.
type Case = (&'static str, Value, &'static str);

const FROZEN: &str = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// The set without replicas, so that nothing needs to run.
fn set(name: &str) -> Value {
    let mut set = web(0);
    set["metadata"]["name"] = json!(name);
    set
}

/// The object with a value at a place; null takes the field away.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    let (parent, field) = place.rsplit_once('/').expect("a place");
    let parent = object.pointer_mut(parent).expect("the parent exists");
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(field)),
        (parent, value) => parent[field] = value,
    }
    object
}

#[test]
fn what_a_set_leaves_out_is_filled_in() {
    let Some(work) = Workload::new("defaults") else { return };
    let mut bare = set("bare");
    let spec = bare["spec"].as_object_mut().expect("a spec");
    ["replicas", "updateStrategy", "serviceName"].iter().for_each(|field| drop(spec.remove(*field)));
    let mut status = bare.clone();
    status["status"] = json!({"replicas": 7, "currentRevision": "mine"});
    // Nothing is to run, and the defaults ask for one replica: a dry run shows them.
    let made = work.cluster().call("POST", &work.path("statefulsets?dryRun=All"), &status);
    let spec = &made["spec"];
    assert_eq!([&spec["replicas"], &spec["revisionHistoryLimit"]], [1, 10]);
    assert_eq!(spec["podManagementPolicy"], "OrderedReady");
    assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    assert_eq!([&spec["ordinals"], &spec["minReadySeconds"]], [&Value::Null; 2]);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"], json!({"replicas": 0, "availableReplicas": 0}));
    // Whoever names the type alone gets no block: the controller chooses revisions by it.
    let made = work.create("statefulsets", &set("named"));
    assert_eq!(made["spec"]["updateStrategy"], json!({"type": "RollingUpdate"}));
    let block = with(set("block"), "/spec/updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {}}));
    assert_eq!(work.create("statefulsets", &block)["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 0}));
}

fn creations() -> Vec<Case> {
    let long = "a".repeat(64);
    vec![
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("/spec/minReadySeconds", json!(-1), "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"),
        ("/spec/ordinals", json!({"start": -1}), "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"),
        ("/spec/revisionHistoryLimit", json!(-1), ""),
        ("/spec/podManagementPolicy", json!("Random"), "must be 'OrderedReady' or 'Parallel'"),
        ("/spec/updateStrategy", json!({"type": "Recreate"}), "must be 'RollingUpdate' or 'OnDelete'"),
        (
            "/spec/updateStrategy",
            json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            "spec.updateStrategy.rollingUpdate: Invalid value",
        ),
        (
            "/spec/updateStrategy/rollingUpdate",
            json!({"partition": -1}),
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": 0}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        ("/spec/updateStrategy/rollingUpdate", json!({"maxUnavailable": "0%"}), "cannot be 0"),
        ("/spec/updateStrategy/rollingUpdate", json!({"maxUnavailable": "101%"}), "must not be greater than 100%"),
        (
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": "some"}),
            "a valid percent string must be a numeric string followed by an ending '%'",
        ),
        ("/spec/updateStrategy/rollingUpdate", json!({"maxUnavailable": "100%"}), ""),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Never"}),
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Never\": supported values: \"Delete\", \"Retain\"",
        ),
        ("/spec/selector", json!({}), "spec.selector: Required value"),
        ("/spec/selector", json!({"matchLabels": {"app": "other"}}), "spec.template.metadata.labels: Invalid value"),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ),
        ("/spec/template/spec/containers", json!([]), "spec.template.spec.containers: Required value"),
        ("/metadata/name", json!(long), "must be no more than 63"),
        ("/metadata/name", json!("has.dots"), "metadata.name: Invalid value: \"has.dots\""),
        ("/spec/serviceName", Value::Null, ""),
        ("/spec/serviceName", json!("Not_A_Name"), "spec.serviceName: Invalid value"),
    ]
}

#[test]
fn a_wrong_set_is_refused_in_upstreams_words() {
    let Some(work) = Workload::new("validation") else { return };
    for (number, (place, value, expected)) in creations().into_iter().enumerate() {
        let answer = work.try_create("statefulsets", &with(set(&format!("set-{number}")), place, value.clone()));
        check(&answer, place, &value, expected);
    }
}

fn check(answer: &end_to_end::Answer, place: &str, value: &Value, expected: &str) {
    let status = answer.json();
    let (message, told) = (status["message"].as_str().unwrap_or_default(), format!("{place} {value}: {status}"));
    if expected.is_empty() {
        assert!((200..300).contains(&answer.status), "{told}");
    } else {
        assert_eq!((answer.status, &status["reason"]), (422, &json!("Invalid")), "{told}");
        assert!(message.contains(expected), "{told}\nexpected: {expected}");
    }
}

#[test]
fn only_some_fields_may_be_changed_and_a_change_raises_the_generation() {
    let Some(work) = Workload::new("changes") else { return };
    work.create("statefulsets", &crate::workload::with_claims(0));
    let claims =
        json!([{"metadata": {"name": "other"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}}]);
    let cases: Vec<Case> = vec![
        ("/spec/minReadySeconds", json!(3), ""),
        ("/spec/ordinals", json!({"start": 3}), ""),
        ("/spec/revisionHistoryLimit", json!(3), ""),
        ("/spec/persistentVolumeClaimRetentionPolicy", json!({"whenScaled": "Delete", "whenDeleted": "Retain"}), ""),
        ("/spec/updateStrategy", json!({"type": "OnDelete"}), ""),
        ("/spec/template/metadata/annotations", json!({"a": "b"}), ""),
        ("/spec/serviceName", json!("other"), FROZEN),
        ("/spec/podManagementPolicy", json!("Parallel"), FROZEN),
        ("/spec/volumeClaimTemplates", claims, FROZEN),
        ("/spec/selector", json!({"matchLabels": {"app": "ss", "more": "labels"}}), FROZEN),
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    ];
    for (place, value, expected) in cases {
        let before = work.set();
        // Without a version the replacement is unconditional.
        let new = with(with(before.clone(), place, value.clone()), "/metadata/resourceVersion", Value::Null);
        let answer = work.cluster().try_call("PUT", &work.path("statefulsets/ss"), &new);
        check(&answer, place, &value, expected);
        let changed = u64::from(expected.is_empty());
        let generation = |set: &Value| set["metadata"]["generation"].as_u64();
        assert_eq!(generation(&work.set()), generation(&before).map(|number| number + changed), "{place}");
    }
    // Labels are no change of the specification, and what does not exist is not created by replacing it.
    let generation = work.set()["metadata"]["generation"].clone();
    work.patch("statefulsets/ss", json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(work.set()["metadata"]["generation"], generation);
    assert_eq!(work.cluster().try_call("PUT", &work.path("statefulsets/absent"), &set("absent")).status, 404);
    let outdated = with(work.set(), "/metadata/resourceVersion", json!("1"));
    assert_eq!(work.cluster().try_call("PUT", &work.path("statefulsets/ss"), &outdated).status, 409);
}
