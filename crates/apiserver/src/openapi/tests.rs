use serde_json::Value;

use super::*;
use protobuf::{Fields, Wire};

fn references(document: &Value) -> Vec<String> {
    let text = document.to_string();
    text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn every_reference_leads_somewhere_and_every_kind_is_marked() {
    for served in groups() {
        let document = v3::document(&served);
        let schemas = &document["components"]["schemas"];
        for reference in references(&document) {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas[name].is_object(), "{name}");
        }
        for row in served.rows {
            assert_eq!(schemas[row.codec.schema_name]["x-kubernetes-group-version-kind"][0]["kind"], row.kind);
        }
    }
}

#[test]
fn a_number_or_text_is_a_choice_in_the_new_document_and_a_text_in_the_old() {
    let name = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
    let core = groups().into_iter().find(|served| served.group.is_empty()).unwrap();
    let new = v3::document(&core)["components"]["schemas"][name].clone();
    assert_eq!((&new["type"], &new["oneOf"]), (&Value::Null, &json!([{"type": "integer"}, {"type": "string"}])));
    assert_eq!(v2::document()["definitions"][name]["type"], "string");
}

#[test]
fn merge_keys_parameters_and_subresources_are_told() {
    let served = groups();
    let core = served.iter().find(|served| served.group.is_empty()).unwrap();
    let document = v3::document(core);
    let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"], "name");
    let paths = &document["paths"];
    let patch = &paths["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
    assert!(names.contains(&&json!("fieldValidation")) && names.contains(&&json!("dryRun")));
    let evict = &paths["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"];
    assert_eq!(evict["x-kubernetes-group-version-kind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert!(paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["get"]["x-kubernetes-action"] == "connect");
    assert!(paths["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]["responses"]["200"]["content"]["text/plain"].is_object());
}

#[test]
fn the_whole_document_has_a_path_for_everything_that_is_served_and_each_operation_a_name_of_its_own() {
    let document = v2::document();
    for reference in references(&document) {
        let name = reference.strip_prefix("#/definitions/").unwrap();
        assert!(document["definitions"][name].is_object(), "{name}");
    }
    let paths = document["paths"].as_object().unwrap();
    for row in RESOURCES {
        let object = paths.keys().filter(|path| path.starts_with(&format!("/{}/", document_path(row.group, row.version))));
        let object: Vec<_> = object.filter(|path| path.contains(&format!("/{}/{{name}}", row.plural))).collect();
        assert_eq!(object.len(), 1 + row.subresources.len(), "{}", row.kind);
    }
    for (review, path) in REVIEWS.iter().zip([
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews",
    ]) {
        let schema = paths[path]["post"]["responses"]["200"]["schema"]["$ref"].as_str().unwrap();
        let kinds = &document["definitions"][schema.strip_prefix("#/definitions/").unwrap()]["x-kubernetes-group-version-kind"];
        assert_eq!(kinds, &json!([{"group": review.group, "version": "v1", "kind": review.kind}]));
    }
    for kind in ["policy.v1.Eviction", "autoscaling.v1.Scale", "authentication.v1.TokenRequest"] {
        let schema = &document["definitions"][format!("io.k8s.api.{kind}")];
        assert!(schema["properties"]["spec"].is_object() || schema["properties"]["deleteOptions"].is_object(), "{kind}");
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], kind.rsplit('.').next().unwrap());
    }
    let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<_> = operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(ids.iter().find(|id| id.ends_with("PodExec")).copied(), Some("connectGetCoreV1NamespacedPodExec"));
}

/// The parts of a message that have a number.
fn parts(message: &[u8], number: u64) -> Vec<&[u8]> {
    let part = |field: Option<(u64, _)>| match field.expect("a message that does not break off") {
        (found, Wire::Bytes(bytes)) if found == number => Some(bytes),
        _ => None,
    };
    Fields(message).filter_map(part).collect()
}

fn at<'a>(message: &'a [u8], numbers: &[u64]) -> &'a [u8] {
    numbers.iter().fold(message, |message, &number| parts(message, number)[0])
}

#[test]
fn the_message_that_kubectl_reads_says_the_same_as_the_json() {
    let document = v2::document();
    let message = gnostic::encoded(&document);
    assert_eq!(at(&message, &[1]), b"2.0");
    let definitions = parts(at(&message, &[9]), 1);
    assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
    let pod = definitions.iter().find(|named| at(named, &[1]) == b"io.k8s.api.core.v1.Pod").unwrap();
    let schema = at(pod, &[2]);
    let kind: Value = serde_json::from_slice(at(schema, &[31, 2, 2])).unwrap();
    assert_eq!(kind, json!([{"group": "", "version": "v1", "kind": "Pod"}]));
    let spec = parts(at(schema, &[25]), 1).into_iter().find(|named| at(named, &[1]) == b"spec").unwrap();
    assert_eq!(at(spec, &[2, 1]), b"#/definitions/io.k8s.api.core.v1.PodSpec");
    let paths = parts(at(&message, &[8]), 2);
    assert_eq!(paths.len(), document["paths"].as_object().unwrap().len());
    let sets = paths.iter().find(|named| at(named, &[1]) == b"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}").unwrap();
    let patch = at(sets, &[2, 8]);
    let in_query = parts(patch, 8).into_iter().filter_map(|item| parts(parts(at(item, &[1]), 2).first()?, 3).first().copied());
    let names: Vec<_> = in_query.map(|parameter| at(parameter, &[4])).collect();
    assert!(names.contains(&&b"fieldValidation"[..]) && names.contains(&&b"dryRun"[..]));
}
