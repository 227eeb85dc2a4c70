//! Containers: names, images, ports, variables, mounts.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, EnvVarSource, PodSpec, SecurityContext, VolumeMount};

use super::volume::Volumes;
use super::{handler, resources};
use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

/// The containers of a pod, those that run before the others included.
pub(super) fn validate_all(spec: &PodSpec, path: &Path, volumes: &Volumes) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let place = path.child("containers");
    if spec.containers.is_empty() {
        errors.push(FieldError::required(place.clone(), ""));
    }
    let initial = spec.init_containers.as_deref().unwrap_or_default();
    let initial_place = path.child("initContainers");
    for (index, container) in spec.containers.iter().enumerate() {
        errors.extend(validate(container, &place.index(index), volumes, false));
    }
    for (index, container) in initial.iter().enumerate() {
        errors.extend(validate(container, &initial_place.index(index), volumes, true));
    }
    let named = |place: Path, list: &[Container]| -> Vec<(Path, String)> {
        list.iter().enumerate().map(|(index, container)| (place.index(index).child("name"), container.name.clone())).collect()
    };
    let all: Vec<_> = named(place.clone(), &spec.containers).into_iter().chain(named(initial_place, initial)).collect();
    errors.extend(check::unique(all.iter().filter(|(_, name)| !name.is_empty()).map(|(path, name)| (path.clone(), name.as_str()))));
    errors.extend(host_port_conflicts(&spec.containers, &place));
    if spec.host_network == Some(true) {
        errors.extend(host_network_ports(&spec.containers, &place));
    }
    errors
}

/// One container.
pub(super) fn validate(container: &Container, path: &Path, volumes: &Volumes, initial: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(check::named(path.child("name"), &container.name, names::dns_label));
    errors.extend(image(container.image.as_deref().unwrap_or_default(), path.child("image")));
    errors.extend(policies(container, path, initial));
    errors.extend(handler::validate(container, path, initial));
    errors.extend(ports(container.ports.as_deref().unwrap_or_default(), &path.child("ports")));
    errors.extend(variables(container, path));
    errors.extend(mounts(container.volume_mounts.as_deref().unwrap_or_default(), &path.child("volumeMounts"), volumes));
    errors.extend(devices(container, &path.child("volumeDevices"), volumes));
    errors.extend(container.resources.iter().flat_map(|resources| resources::validate(resources, &path.child("resources"))));
    errors.extend(container.security_context.iter().flat_map(|context| security_context(context, &path.child("securityContext"))));
    errors
}

fn image(image: &str, path: Path) -> Option<FieldError> {
    if image.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    (image.trim() != image).then(|| FieldError::invalid(path, image, "must not have leading or trailing whitespace"))
}

fn policies(container: &Container, path: &Path, initial: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let pull = ["Always", "IfNotPresent", "Never"];
    errors.extend(check::required_one_of(path.child("imagePullPolicy"), container.image_pull_policy.as_ref(), &pull));
    let message = ["FallbackToLogsOnError", "File"];
    errors.extend(check::required_one_of(path.child("terminationMessagePolicy"), container.termination_message_policy.as_ref(), &message));
    let restart: &[&str] = if initial { &["Always", "OnFailure", "Never"] } else { &["Always", "Never", "OnFailure"] };
    errors.extend(check::one_of(path.child("restartPolicy"), container.restart_policy.as_ref(), restart));
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let path = path.child("resizePolicy").index(index);
        errors.extend(check::required_one_of(path.child("resourceName"), Some(&policy.resource_name), &["cpu", "memory"]));
        let restart = ["NotRequired", "RestartContainer"];
        errors.extend(check::required_one_of(path.child("restartPolicy"), Some(&policy.restart_policy), &restart));
    }
    errors
}

fn ports(ports: &[ContainerPort], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        errors.extend(handler::port_name(path.child("name"), port.name.as_ref()));
        let place = path.child("containerPort");
        if port.container_port == 0 {
            errors.push(FieldError::required(place, ""));
        } else {
            errors.extend(names::port_number(port.container_port).map(|wrong| FieldError::invalid(place, port.container_port, wrong)));
        }
        let host = port.host_port.unwrap_or(0);
        if host != 0 {
            errors.extend(names::port_number(host).map(|wrong| FieldError::invalid(path.child("hostPort"), host, wrong)));
        }
        errors.extend(check::required_one_of(path.child("protocol"), port.protocol.as_ref(), &["SCTP", "TCP", "UDP"]));
    }
    let named =
        ports.iter().enumerate().filter_map(|(index, port)| Some((path.index(index).child("name"), check::some(port.name.as_ref())?)));
    errors.extend(check::unique(named));
    errors
}

/// Two containers can't have one port of the host.
fn host_port_conflicts(containers: &[Container], path: &Path) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (number, port) in container.ports.iter().flatten().enumerate().filter(|(_, port)| port.host_port.unwrap_or(0) != 0) {
            let host = (port.protocol.as_deref().unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default(), port.host_port);
            if !seen.insert(host) {
                let text = format!("{}/{}/{}", host.0, host.1, host.2.unwrap_or(0));
                errors.push(FieldError::duplicate(path.index(index).child("ports").index(number).child("hostPort"), text));
            }
        }
    }
    errors
}

fn host_network_ports(containers: &[Container], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (number, port) in container.ports.iter().flatten().enumerate() {
            if port.host_port.unwrap_or(0) != port.container_port {
                let path = path.index(index).child("ports").index(number).child("containerPort");
                errors.push(FieldError::invalid(path, port.container_port, "must match `hostPort` when `hostNetwork` is true"));
            }
        }
    }
    errors
}

fn variables(container: &Container, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = path.child("env").index(index);
        errors.extend(check::named(path.child("name"), &variable.name, names::environment));
        errors.extend(variable.value_from.iter().flat_map(|source| variable_source(variable, source, &path.child("valueFrom"))));
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let path = path.child("envFrom").index(index);
        errors.extend(check::maybe_named(path.child("prefix"), source.prefix.as_ref(), names::environment));
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
            }
            (Some(_), Some(_)) => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
            (Some(map), None) => errors.extend(check::named(path.child("configMapRef").child("name"), &map.name, names::dns_subdomain)),
            (None, Some(secret)) => errors.extend(check::named(path.child("secretRef").child("name"), &secret.name, names::dns_subdomain)),
        }
    }
    errors
}

/// Fields of the pod that a variable can hold.
const POD_FIELDS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.hostname",
];

fn variable_source(variable: &EnvVar, source: &EnvVarSource, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut given = 0;
    if let Some(field) = &source.field_ref {
        given += 1;
        errors.extend(field_path(&field.field_path, path.child("fieldRef").child("fieldPath"), &POD_FIELDS));
    }
    if let Some(field) = &source.resource_field_ref {
        given += 1;
        errors.extend(check::required(path.child("resourceFieldRef").child("resource"), &field.resource));
    }
    if let Some(key) = &source.config_map_key_ref {
        given += 1;
        let path = path.child("configMapKeyRef");
        errors.extend(check::required(path.child("name"), &key.name));
        errors.extend(check::named(path.child("key"), &key.key, names::config_key));
    }
    if let Some(key) = &source.secret_key_ref {
        given += 1;
        let path = path.child("secretKeyRef");
        errors.extend(check::required(path.child("name"), &key.name));
        errors.extend(check::named(path.child("key"), &key.key, names::config_key));
    }
    if source.file_key_ref.is_some() {
        given += 1;
        errors.push(FieldError::forbidden(path.child("fileKeyRef"), "variables from files are not supported"));
    }
    if given == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(path.clone(), "", detail));
    } else if check::some(variable.value.as_ref()).is_some() {
        errors.push(FieldError::invalid(path.clone(), "", "may not be specified when `value` is not empty"));
    } else if given > 1 {
        errors.push(FieldError::invalid(path.clone(), "", "may not have more than one field specified at a time"));
    }
    errors
}

/// A path such as `metadata.name` or `metadata.labels['app']`.
pub(super) fn field_path(text: &str, path: Path, supported: &[&str]) -> Option<FieldError> {
    if text.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let subscript = text.strip_suffix("']").and_then(|text| text.split_once("['"));
    match subscript {
        Some(("metadata.labels" | "metadata.annotations", key)) => {
            names::qualified(&key.to_lowercase()).map(|wrong| FieldError::invalid(path, key, wrong))
        }
        Some(_) => Some(FieldError::invalid(path, text, "does not support subscript")),
        None if supported.contains(&text) => None,
        None => Some(FieldError::not_supported(path, text, supported)),
    }
}

fn mounts(mounts: &[VolumeMount], path: &Path, volumes: &Volumes) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        errors.extend(volume_name(&mount.name, path.child("name"), volumes));
        errors.extend(check::required(path.child("mountPath"), &mount.mount_path));
        let sub = check::some(mount.sub_path.as_ref());
        errors.extend(sub.and_then(|text| local_path(text, path.child("subPath"))));
        let expression = check::some(mount.sub_path_expr.as_ref());
        errors.extend(expression.and_then(|text| local_path(text, path.child("subPathExpr"))));
        if sub.is_some() && expression.is_some() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(path.child("subPathExpr"), expression.unwrap_or_default(), detail));
        }
        let propagation = ["None", "HostToContainer", "Bidirectional"];
        errors.extend(check::one_of(path.child("mountPropagation"), mount.mount_propagation.as_ref(), &propagation));
    }
    let paths = mounts.iter().enumerate().filter(|(_, mount)| !mount.mount_path.is_empty());
    for error in check::unique(paths.map(|(index, mount)| (path.index(index).child("mountPath"), mount.mount_path.as_str()))) {
        errors.push(FieldError::invalid(error.path, error.value.unwrap_or_default(), "must be unique"));
    }
    errors
}

fn devices(container: &Container, path: &Path, volumes: &Volumes) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        errors.extend(volume_name(&device.name, path.index(index).child("name"), volumes));
        errors.extend(check::required(path.index(index).child("devicePath"), &device.device_path));
    }
    errors
}

fn volume_name(name: &str, path: Path, volumes: &Volumes) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    (!volumes.contains(name)).then(|| FieldError::not_found(path, name))
}

/// A path that stays below the place it is relative to.
pub(super) fn local_path(text: &str, path: Path) -> Option<FieldError> {
    if text.starts_with('/') {
        return Some(FieldError::invalid(path, text, "must be a relative path"));
    }
    text.split('/').any(|part| part == "..").then(|| FieldError::invalid(path, text, "must not contain '..'"))
}

fn security_context(context: &SecurityContext, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(check::non_negative(path.child("runAsUser"), context.run_as_user));
    errors.extend(check::non_negative(path.child("runAsGroup"), context.run_as_group));
    errors.extend(check::one_of(path.child("procMount"), context.proc_mount.as_ref(), &["Default", "Unmasked"]));
    if context.allow_privilege_escalation == Some(false) && context.privileged == Some(true) {
        errors.push(FieldError::invalid(
            path.clone(),
            check::shown(context),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
    errors
}
