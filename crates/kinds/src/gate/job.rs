//! A hook that is a pod of its own: the template it is made from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde::Deserialize;
use serde_json::Value;

use crate::object::{from_tree, to_tree};

/// On the pod of a hook, as a label: the pod that it is run for.
pub const HOOK_FOR: &str = "steadfast.dev/hook-for";

/// As the annotation has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    template: Value,
}

impl Job {
    /// The template, for a pod that is run to its end once.
    pub(super) fn into_template(self) -> Result<PodTemplateSpec, String> {
        let mut template: PodTemplateSpec = from_tree(&self.template).map_err(|error| format!("job.template: {error}"))?;
        let read = to_tree(&template).map_err(|error| format!("job.template: {error}"))?;
        if let Some(field) = unknown("job.template", &self.template, &read) {
            return Err(format!("{field}: unknown field"));
        }
        let spec = template.spec.as_mut().ok_or("job.template.spec: Required value")?;
        check(spec)?;
        spec.restart_policy = Some("Never".to_owned());
        Ok(template)
    }
}

fn check(spec: &PodSpec) -> Result<(), String> {
    if let Some(other) = spec.restart_policy.as_deref().filter(|policy| !matches!(*policy, "" | "Never")) {
        return Err(format!("job.template.spec.restartPolicy: {other:?} must be \"Never\": the gate itself tries again"));
    }
    if spec.containers.is_empty() {
        return Err("job.template.spec.containers: Required value".to_owned());
    }
    Ok(())
}

/// The first field that was written and not read.
fn unknown(path: &str, written: &Value, read: &Value) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            let mut set = written.iter().filter(|(_, value)| !value.is_null());
            set.find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                read.get(name).map_or_else(|| Some(path.clone()), |read| unknown(&path, value, read))
            })
        }
        (Value::Array(written), Value::Array(read)) => {
            let mut pairs = written.iter().zip(read).enumerate();
            pairs.find_map(|(index, (written, read))| unknown(&format!("{path}[{index}]"), written, read))
        }
        _ => None,
    }
}

/// The labels of the pod of a hook that is run for this pod.
pub fn hook_labels(template: &PodTemplateSpec, pod: &str) -> BTreeMap<String, String> {
    let mut labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(HOOK_FOR.to_owned(), pod.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gate::{Gate, Hook};

    fn parse(template: &Value) -> Result<PodTemplateSpec, String> {
        match Gate::parse(&json!({"job": {"template": template}}).to_string())?.hook {
            Hook::Job(template) => Ok(*template),
            Hook::Exec(command) => panic!("{command:?}"),
        }
    }

    fn containers() -> Value {
        json!([{"name": "leave", "image": "tools", "env": [{"name": "A", "value": "b"}]}])
    }

    #[test]
    fn a_pod_of_a_hook_is_run_once_and_says_whom_it_is_for() {
        let template = parse(&json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers()}})).unwrap();
        assert_eq!(template.spec.as_ref().unwrap().restart_policy.as_deref(), Some("Never"));
        let labels = hook_labels(&template, "web-1");
        assert_eq!(labels, [("a", "b"), (HOOK_FOR, "web-1")].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told_by_its_place() {
        for (template, reason) in [
            (json!({}), "job.template.spec: Required value"),
            (json!({"spec": {"containers": []}}), "job.template.spec.containers: Required value"),
            (json!({"spec": {"containers": 5}}), "job.template: invalid type"),
            (
                json!({"spec": {"containers": containers(), "restartPolicy": "Always"}}),
                "job.template.spec.restartPolicy: \"Always\" must be",
            ),
            (json!({"spec": {"containers": containers(), "backoffLimit": 1}}), "job.template.spec.backoffLimit: unknown field"),
            (json!({"spec": {"containers": [{"name": "a", "imag": "b"}]}}), "job.template.spec.containers[0].imag: unknown field"),
        ] {
            let error = parse(&template).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
        let never = json!({"metadata": null, "spec": {"containers": containers(), "restartPolicy": "Never", "volumes": []}});
        assert!(parse(&never).is_ok());
    }
}
