//! Ephemeral containers: added to a pod that is there, and never changed.

use k8s_openapi::api::core::v1::{EphemeralContainer, PodSpec};

use super::container;
use super::volume::Volumes;
use crate::field::{FieldError, Path};
use crate::strategy::check;

/// What they can't have, in upstream's words.
const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";

/// Refuses them where they can't be.
pub(super) fn none(spec: &PodSpec, path: &Path, why: &str) -> Option<FieldError> {
    let any = spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty());
    any.then(|| FieldError::forbidden(path.child("ephemeralContainers"), why))
}

/// What is wrong with a pod's ephemeral containers, compared to those it had.
pub(super) fn validate_update(spec: &PodSpec, old: &PodSpec) -> Vec<FieldError> {
    let path = Path::new("spec").child("ephemeralContainers");
    let added = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let volumes = Volumes::of(spec, &[]);
    let mut errors: Vec<FieldError> =
        added.iter().enumerate().flat_map(|(index, each)| validate(each, spec, &path.index(index), &volumes)).collect();
    let lasting = plan::pod::roles(spec).map(|(_, container)| container.name.as_str());
    // Theirs are not at fault if a name is there twice.
    let taken = lasting.map(|name| (path.clone(), name));
    let names = added.iter().enumerate().map(|(index, each)| (path.index(index).child("name"), each.name.as_str()));
    errors.extend(check::unique(taken.chain(names).filter(|(_, name)| !name.is_empty())));
    for before in old.ephemeral_containers.iter().flatten() {
        match added.iter().find(|each| each.name == before.name) {
            None => errors.push(fixed(&path, &before.name, "removed")),
            Some(now) if !check::same(now, before) => errors.push(fixed(&path, &before.name, "changed")),
            Some(_) => {}
        }
    }
    errors
}

fn fixed(path: &Path, name: &str, done: &str) -> FieldError {
    FieldError::forbidden(path.clone(), format!("existing ephemeral containers {name:?} may not be {done}\n"))
}

fn validate(each: &EphemeralContainer, spec: &PodSpec, path: &Path, volumes: &Volumes) -> Vec<FieldError> {
    let mut errors = container::validate(&plan::pod::ephemeral(each), path, volumes, false);
    if let Some(target) = check::some(each.target_container_name.as_ref())
        && !plan::pod::roles(spec).any(|(_, container)| container.name == target)
    {
        errors.push(FieldError::not_found(path.child("targetContainerName"), target));
    }
    let has_resources = each.resources.as_ref().is_some_and(|resources| *resources != Default::default());
    let fields = [
        ("lifecycle", each.lifecycle.is_some()),
        ("livenessProbe", each.liveness_probe.is_some()),
        ("ports", each.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
        ("readinessProbe", each.readiness_probe.is_some()),
        ("resizePolicy", each.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty())),
        ("resources", has_resources),
        ("restartPolicy", each.restart_policy.is_some()),
        ("startupProbe", each.startup_probe.is_some()),
    ];
    errors.extend(fields.into_iter().filter(|(_, set)| *set).map(|(field, _)| FieldError::forbidden(path.child(field), FORBIDDEN)));
    for (index, mount) in each.volume_mounts.iter().flatten().enumerate() {
        let path = path.child("volumeMounts").index(index);
        for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            errors.extend(check::some(value.as_ref()).map(|_| FieldError::forbidden(path.child(field), FORBIDDEN)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use crate::strategy::Strategy;
    use crate::strategy::pod::Pods;

    /// A pod with these ephemeral containers.
    fn pod(added: Value) -> Pod {
        let spec = json!({ "containers": [{ "name": "main", "image": "i:1" }], "ephemeralContainers": added });
        let mut pod = serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap();
        Pods.default(&mut pod);
        pod
    }

    fn errors(added: Value, old: Value) -> Vec<String> {
        let (mut new, old) = (pod(added), pod(old));
        Pods.prepare_ephemeral_update(&mut new, &old);
        Pods.validate_ephemeral_update(&new, &old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn containers_may_be_added_and_nothing_else_changes() {
        let (one, two) = (json!({ "name": "a", "image": "i" }), json!({ "name": "b", "image": "i", "targetContainerName": "main" }));
        assert!(errors(json!([one]), json!([])).is_empty());
        assert!(errors(json!([two, one]), json!([one])).is_empty());
        let mut new = pod(json!([one]));
        new.spec.as_mut().unwrap().containers[0].image = Some("other".to_owned());
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        let old = pod(json!([]));
        Pods.prepare_ephemeral_update(&mut new, &old);
        assert_eq!(new, pod(json!([one])));
        // A usual change leaves them alone.
        assert!(Pods.validate_update(&new, &new).is_empty(), "{:?}", Pods.validate_update(&new, &new));
        assert!(!Pods.validate_update(&new, &old).is_empty() && !Pods.validate(&new).is_empty());
    }

    #[test]
    fn what_they_can_not_be_is_refused_in_upstreams_words() {
        let one = json!({ "name": "a", "image": "i" });
        for (added, error) in [
            (json!([]), "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"a\" may not be removed\n"),
            (
                json!([{ "name": "a", "image": "j" }]),
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"a\" may not be changed\n",
            ),
            (json!([one, { "name": "main", "image": "i" }]), "spec.ephemeralContainers[1].name: Duplicate value: \"main\""),
            (json!([one, { "name": "b" }]), "spec.ephemeralContainers[1].image: Required value"),
            (
                json!([one, { "name": "b", "image": "i", "targetContainerName": "none" }]),
                "spec.ephemeralContainers[1].targetContainerName: Not found: \"none\"",
            ),
            (
                json!([one, { "name": "b", "image": "i", "ports": [{ "containerPort": 80 }] }]),
                "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                json!([one, { "name": "b", "image": "i", "livenessProbe": { "exec": { "command": ["true"] } } }]),
                "spec.ephemeralContainers[1].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            ),
            (
                json!([one, { "name": "b", "image": "i", "resources": { "limits": { "cpu": "1" } } }]),
                "spec.ephemeralContainers[1].resources: Forbidden: cannot be set for an Ephemeral Container",
            ),
        ] {
            assert_eq!(errors(added, json!([one])), [error]);
        }
    }
}
