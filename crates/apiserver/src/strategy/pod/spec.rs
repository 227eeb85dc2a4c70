//! A pod's specification as a whole.

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSecurityContext, PodSpec};

use super::volume::Volumes;
use super::{container, resources, scheduling, volume};
use crate::field::{FieldError, Path};
use crate::strategy::{check, names};

/// What is wrong with a specification. `claims` names the volumes that the pod's owner adds.
pub(super) fn validate(spec: &PodSpec, path: &Path, claims: &[&str]) -> Vec<FieldError> {
    let mut errors = volume::validate_all(spec, path);
    errors.extend(container::validate_all(spec, path, &Volumes::of(spec, claims)));
    errors.extend(policies(spec, path));
    errors.extend(names_and_numbers(spec, path));
    errors.extend(scheduling::validate(spec, path));
    errors.extend(spec.security_context.iter().flat_map(|context| security_context(context, &path.child("securityContext"))));
    errors.extend(dns(spec, path));
    errors.extend(spec.resources.iter().flat_map(|each| resources::validate(each, &path.child("resources"))));
    errors.extend(others(spec, path));
    errors
}

fn policies(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let dns = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let restart = ["Always", "OnFailure", "Never"];
    let preemption = ["Never", "PreemptLowerPriority"];
    [
        check::required_one_of(path.child("restartPolicy"), spec.restart_policy.as_ref(), &restart),
        check::required_one_of(path.child("dnsPolicy"), spec.dns_policy.as_ref(), &dns),
        check::one_of(path.child("preemptionPolicy"), spec.preemption_policy.as_ref(), &preemption),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn names_and_numbers(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(check::maybe_named(path.child("serviceAccountName"), spec.service_account_name.as_ref(), names::dns_subdomain));
    errors.extend(check::maybe_named(path.child("nodeName"), spec.node_name.as_ref(), names::dns_subdomain));
    errors.extend(check::maybe_named(path.child("hostname"), spec.hostname.as_ref(), names::dns_label));
    errors.extend(check::maybe_named(path.child("subdomain"), spec.subdomain.as_ref(), names::dns_label));
    errors.extend(check::maybe_named(path.child("priorityClassName"), spec.priority_class_name.as_ref(), names::dns_subdomain));
    errors.extend(check::maybe_named(path.child("runtimeClassName"), spec.runtime_class_name.as_ref(), names::dns_subdomain));
    let scheduler = spec.scheduler_name.as_ref();
    errors.extend(check::maybe_named(path.child("schedulerName"), scheduler, names::qualified));
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive"));
    }
    errors
}

fn security_context(context: &PodSecurityContext, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let range = "must be between 0 and 2147483647, inclusive";
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group), ("fsGroup", context.fs_group)] {
        let bad = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id));
        errors.extend(bad.map(|id| FieldError::invalid(path.child(field), id, range)));
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        if !(0..=i64::from(i32::MAX)).contains(group) {
            errors.push(FieldError::invalid(path.child("supplementalGroups").index(index), *group, range));
        }
    }
    let change = ["Always", "OnRootMismatch"];
    errors.extend(check::one_of(path.child("fsGroupChangePolicy"), context.fs_group_change_policy.as_ref(), &change));
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let part =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        let path = path.child("sysctls").index(index).child("name");
        if sysctl.name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if sysctl.name.len() > 253 || !sysctl.name.split(['.', '/']).all(part) {
            let detail =
                "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(path, sysctl.name.as_str(), detail));
        }
    }
    errors
}

/// As many name servers as the C library asks.
const MAX_NAME_SERVERS: usize = 3;
/// As many search domains as upstream lets pass.
const MAX_SEARCHES: usize = 32;

fn dns(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let own = PodDNSConfig::default();
    let config = spec.dns_config.as_ref().unwrap_or(&own);
    let path = path.child("dnsConfig");
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        errors.push(FieldError::required(path.child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"));
    }
    if servers.len() > MAX_NAME_SERVERS {
        let detail = format!("must not have more than {MAX_NAME_SERVERS} nameservers");
        errors.push(FieldError::invalid(path.child("nameservers"), check::shown(&servers), detail));
    }
    errors.extend(servers.iter().enumerate().filter_map(|(index, server)| check::ip(path.child("nameservers").index(index), server)));
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(path.child("searches"), check::shown(&searches), detail));
    }
    for (index, search) in searches.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        let wrong = if search == "." { None } else { names::dns_subdomain(name.trim_start_matches('-')) };
        errors.extend(wrong.map(|wrong| FieldError::invalid(path.child("searches").index(index), search.as_str(), wrong)));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        let name = option.name.as_deref().unwrap_or_default();
        let path = path.child("options").index(index);
        errors.extend(name.is_empty().then(|| FieldError::required(path, "must not be empty")));
    }
    errors
}

fn others(spec: &PodSpec, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index);
        errors.extend(check::ip(path.child("ip"), &alias.ip));
        for name in alias.hostnames.iter().flatten() {
            errors.extend(names::dns_subdomain(name).map(|wrong| FieldError::invalid(path.child("hostnames"), name.as_str(), wrong)));
        }
    }
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        errors.extend(names::qualified(&gate.condition_type).map(|wrong| FieldError::invalid(path, gate.condition_type.as_str(), wrong)));
    }
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = path.child("schedulingGates").index(index);
        errors.extend(names::qualified(&gate.name).map(|wrong| FieldError::invalid(path, gate.name.as_str(), wrong)));
    }
    if spec.resource_claims.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(FieldError::forbidden(path.child("resourceClaims"), "claims to devices are not supported"));
    }
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path.child("shareProcessNamespace"), true, detail));
    }
    errors
}

/// What its author may not have meant.
pub(super) fn warnings(spec: &PodSpec, path: &Path) -> Vec<String> {
    let period = spec.termination_grace_period_seconds.filter(|period| *period < 0);
    let negative = period.map(|_| {
        format!("{}: must be >= 0; negative values are invalid and will be treated as 1", path.child("terminationGracePeriodSeconds"))
    });
    let duplicates = spec.containers.iter().enumerate().flat_map(|(index, container)| {
        let path = path.child("containers").index(index).child("env");
        let variables = container.env.iter().flatten().enumerate();
        let named = variables.map(move |(index, variable)| (path.index(index), variable.name.as_str()));
        check::unique(named).into_iter().map(|error| {
            format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                error.path,
                error.value.unwrap_or_default()
            )
        })
    });
    negative.into_iter().chain(duplicates).collect()
}
