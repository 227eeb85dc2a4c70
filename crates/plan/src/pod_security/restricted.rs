//! The restricted level: what hardening asks for, too.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Volume;
use serde_json::Value;

use super::baseline::{added_beyond, confines, forbidden_seccomp};
use super::subject::{Contained, Subject, named, plural, quoted, setters, uses};
use super::{Rule, Violation, rule};

/// In upstream's order.
pub(super) const RULES: &[Rule] =
    &[rule(8, privilege_escalation), rule(22, capabilities), rule(0, volumes), rule(0, non_root), rule(23, user), rule(19, seccomp)];

/// Volumes that come from the cluster, not from the node.
const VOLUMES: [&str; 8] = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn privilege_escalation(subject: &Subject<'_>) -> Option<Violation> {
    let containers =
        subject.containers_that(|container| container.security.and_then(|security| security.allow_privilege_escalation) != Some(false));
    if containers.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named("container", &containers));
    Violation::new("allowPrivilegeEscalation != false", detail)
}

fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let drops_all = |container: &Contained<'_>| {
        let capabilities = container.security.and_then(|security| security.capabilities.as_ref());
        capabilities.is_some_and(|capabilities| capabilities.drop.iter().flatten().any(|dropped| dropped == "ALL"))
    };
    let keeping = subject.containers_that(|container| !drops_all(container));
    let keeping =
        (!keeping.is_empty()).then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &keeping)));
    let details: Vec<_> = keeping.into_iter().chain(added_beyond(subject, &["NET_BIND_SERVICE"])).collect();
    if details.is_empty() { None } else { Violation::new("unrestricted capabilities", details.join("; ")) }
}

fn volumes(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten();
    let bad: BTreeMap<_, _> = volumes.filter_map(|volume| Some((volume.name.as_str(), kind(volume)?))).collect();
    let names: Vec<_> = bad.keys().copied().collect();
    let kinds: std::collections::BTreeSet<_> = bad.values().map(String::as_str).collect();
    if bad.is_empty() {
        return None;
    }
    let (word, verb) = (plural("restricted volume type", kinds.len()), uses(names.len()));
    Violation::new("restricted volume types", format!("{} {verb} {word} {}", named("volume", &names), quoted(kinds)))
}

/// Which kind of volume it is, if not one of those that are allowed.
fn kind(volume: &Volume) -> Option<String> {
    let Ok(Value::Object(fields)) = kinds::object::to_tree(volume) else { return Some("unknown".to_owned()) };
    let kind = fields.keys().find(|field| *field != "name").map_or("unknown", String::as_str);
    (!VOLUMES.contains(&kind)).then(|| kind.to_owned())
}

fn non_root(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_users_of_its_own() {
        return None;
    }
    let reason = "runAsNonRoot != true";
    let of_pod = subject.security.and_then(|security| security.run_as_non_root);
    let of = |container: &Contained<'_>| container.security.and_then(|security| security.run_as_non_root);
    let roots = subject.containers_that(|container| of(container) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &roots) {
        return Violation::new(reason, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = subject.containers_that(|container| of(container).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    Violation::new(reason, format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &silent)))
}

fn user(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_users_of_its_own() {
        return None;
    }
    let pod = subject.security.and_then(|security| security.run_as_user) == Some(0);
    let who = setters(pod, &subject.containers_with(|security| security.run_as_user == Some(0)))?;
    Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    let reason = "seccompProfile";
    if let Some(detail) = forbidden_seccomp(subject) {
        return Violation::new(reason, detail);
    }
    let of_pod = subject.security.and_then(|security| security.seccomp_profile.as_ref());
    let silent = subject.containers_that(|container| container.security.is_none_or(|security| security.seccomp_profile.is_none()));
    if of_pod.is_some_and(|profile| confines(&profile.type_)) || silent.is_empty() {
        return None;
    }
    let who = named("container", &silent);
    Violation::new(reason, format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""))
}
