//! The baseline level: nothing that is known to lead out of a container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{AppArmorProfile, Lifecycle, LifecycleHandler, Probe, SELinuxOptions, WindowsSecurityContextOptions};

use super::subject::{Contained, Subject, named, plural, quoted, setters, sorted, uses};
use super::{Rule, Violation, rule, yielding};

/// In upstream's order.
pub(super) const RULES: &[Rule] = &[
    rule(0, app_armor),
    yielding(capabilities),
    rule(0, host_namespaces),
    yielding(host_path),
    rule(0, host_ports),
    rule(34, hosts_of_probes),
    rule(0, privileged),
    rule(0, proc_mount),
    rule(0, selinux),
    yielding(seccomp),
    rule(0, sysctls),
    rule(0, host_process),
];

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that concern the pod alone, and the minor version since which they count as such.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
/// Types of processes that SELinux confines, and the minor version since which they may be asked for.
const SELINUX_TYPES: [(&str, u32); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    let unconfined = |profile: Option<&AppArmorProfile>| {
        profile.is_some_and(|profile| !matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost"))
    };
    let pod = unconfined(subject.security.and_then(|security| security.app_armor_profile.as_ref()));
    let containers = subject.containers_with(|security| unconfined(security.app_armor_profile.as_ref()));
    let confines = |profile: &str| matches!(profile, "" | "runtime/default") || profile.starts_with("localhost/");
    let annotations = subject.meta.annotations.iter().flatten();
    let annotated = annotations
        .filter(|(key, profile)| key.starts_with(APP_ARMOR_ANNOTATION) && !confines(profile))
        .map(|(key, profile)| format!("annotation {key}={profile:?}"));
    let fields = setters(pod, &containers).map(|who| format!("{who} must not set AppArmor profile type to \"Unconfined\""));
    let details: Vec<_> = fields.into_iter().chain(annotated).collect();
    if details.is_empty() { None } else { Violation::new(&plural("forbidden AppArmor profile", details.len()), details.join(", ")) }
}

fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    added_beyond(subject, &CAPABILITIES).and_then(|detail| Violation::new("non-default capabilities", detail))
}

/// Which containers add capabilities that are none of these.
pub(super) fn added_beyond(subject: &Subject<'_>, allowed: &[&str]) -> Option<String> {
    let added = |container: &Contained<'_>| -> Vec<String> {
        let capabilities = container.security.and_then(|security| security.capabilities.as_ref());
        let added = capabilities.and_then(|capabilities| capabilities.add.clone()).unwrap_or_default();
        added.into_iter().filter(|capability| !allowed.contains(&capability.as_str())).collect()
    };
    let bad: BTreeSet<String> = subject.containers.iter().flat_map(added).collect();
    let containers = subject.containers_that(|container| !added(container).is_empty());
    (!bad.is_empty()).then(|| {
        let bad = quoted(bad.iter().map(String::as_str));
        format!("{} must not include {bad} in securityContext.capabilities.add", named("container", &containers))
    })
}

fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let asked = [("hostIPC=true", spec.host_ipc), ("hostNetwork=true", spec.host_network), ("hostPID=true", spec.host_pid)];
    let asked: Vec<_> = asked.into_iter().filter(|(_, asked)| *asked == Some(true)).map(|(name, _)| name).collect();
    if asked.is_empty() { None } else { Violation::new("host namespaces", asked.join(", ")) }
}

fn host_path(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let names: Vec<_> = volumes.map(|volume| volume.name.as_str()).collect();
    if names.is_empty() { None } else { Violation::new("hostPath volumes", named("volume", &names)) }
}

fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let taken = |container: &Contained<'_>| -> Vec<i32> {
        container.ports.iter().filter_map(|port| port.host_port).filter(|port| *port != 0).collect()
    };
    let ports: BTreeSet<String> = subject.containers.iter().flat_map(taken).map(|port| port.to_string()).collect();
    let containers = subject.containers_that(|container| !taken(container).is_empty());
    if ports.is_empty() {
        return None;
    }
    let (word, verb) = (plural("hostPort", ports.len()), uses(containers.len()));
    let ports: Vec<_> = ports.into_iter().collect();
    Violation::new("hostPort", format!("{} {verb} {word} {}", named("container", &containers), ports.join(", ")))
}

fn hosts_of_probes(subject: &Subject<'_>) -> Option<Violation> {
    let hosts: BTreeSet<_> = sorted(subject.containers.iter().flat_map(hosts_asked));
    let containers: Vec<_> = sorted(subject.containers_that(|container| !sorted(hosts_asked(container)).is_empty())).into_iter().collect();
    if hosts.is_empty() {
        return None;
    }
    let (word, verb) = (plural("probe or lifecycle host", hosts.len()), uses(containers.len()));
    Violation::new("probe or lifecycle host", format!("{} {verb} {word} {}", named("container", &containers), quoted(hosts)))
}

/// The hosts that a container's probes and hooks are to reach.
fn hosts_asked<'a>(container: &Contained<'a>) -> Vec<&'a str> {
    let of_probe = |probe: &'a Probe| {
        let http = probe.http_get.as_ref().and_then(|get| get.host.as_deref());
        http.into_iter().chain(probe.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref()))
    };
    let of_hook = |hook: &'a LifecycleHandler| {
        let http = hook.http_get.as_ref().and_then(|get| get.host.as_deref());
        http.into_iter().chain(hook.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref()))
    };
    let hooks = |lifecycle: &'a Lifecycle| lifecycle.post_start.iter().chain(&lifecycle.pre_stop);
    let probes = container.probes.into_iter().flatten().flat_map(of_probe);
    probes.chain(container.lifecycle.into_iter().flat_map(hooks).flat_map(of_hook)).collect()
}

fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let containers = subject.containers_with(|security| security.privileged == Some(true));
    if containers.is_empty() {
        return None;
    }
    Violation::new("privileged", format!("{} must not set securityContext.privileged=true", named("container", &containers)))
}

fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_users_of_its_own() {
        return None;
    }
    let asked = |container: &Contained<'_>| container.security.and_then(|security| security.proc_mount.clone()).unwrap_or_default();
    let other = |mount: &str| !matches!(mount, "" | "Default");
    let containers = subject.containers_that(|container| other(&asked(container)));
    let mounts: BTreeSet<_> = subject.containers.iter().map(asked).filter(|mount| other(mount)).collect();
    if containers.is_empty() {
        return None;
    }
    let mounts = quoted(mounts.iter().map(String::as_str));
    Violation::new("procMount", format!("{} must not set securityContext.procMount to {mounts}", named("container", &containers)))
}

fn selinux(subject: &Subject<'_>) -> Option<Violation> {
    let allowed = |type_: &str| SELINUX_TYPES.iter().any(|(known, since)| *known == type_ && *since <= subject.minor);
    let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let bad_type = |options: &SELinuxOptions| options.type_.as_ref().is_some_and(|type_| !allowed(type_));
    let bad = |options: &SELinuxOptions| bad_type(options) || says(&options.user) || says(&options.role);
    let of_pod = subject.security.and_then(|security| security.se_linux_options.as_ref());
    let containers = subject.containers_with(|security| security.se_linux_options.as_ref().is_some_and(bad));
    let who = setters(of_pod.is_some_and(bad), &containers)?;
    let of_containers = subject.containers.iter().filter_map(|container| container.security?.se_linux_options.as_ref());
    let all: Vec<_> = of_pod.into_iter().chain(of_containers).collect();
    let types: BTreeSet<_> = all.iter().filter(|options| bad_type(options)).filter_map(|options| options.type_.as_deref()).collect();
    let types = (!types.is_empty()).then(|| format!("{} {}", plural("type", types.len()), quoted(types)));
    let user = all.iter().any(|options| says(&options.user)).then(|| "user may not be set".to_owned());
    let role = all.iter().any(|options| says(&options.role)).then(|| "role may not be set".to_owned());
    let what: Vec<_> = types.into_iter().chain(user).chain(role).collect();
    Violation::new("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")))
}

fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    forbidden_seccomp(subject).and_then(|detail| Violation::new("seccompProfile", detail))
}

/// Whether a process with such a profile is confined.
pub(super) fn confines(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

/// Who says that system calls are not to be confined.
pub(super) fn forbidden_seccomp(subject: &Subject<'_>) -> Option<String> {
    let of_pod = subject.security.and_then(|security| security.seccomp_profile.as_ref()).map(|profile| profile.type_.as_str());
    let of = |container: &Contained<'_>| container.security?.seccomp_profile.as_ref().map(|profile| profile.type_.clone());
    let bad = |profile: &str| !confines(profile);
    let containers = subject.containers_that(|container| of(container).is_some_and(|profile| bad(&profile)));
    let who = setters(of_pod.is_some_and(bad), &containers)?;
    let values: BTreeSet<_> =
        of_pod.map(str::to_owned).into_iter().chain(subject.containers.iter().filter_map(of)).filter(|profile| bad(profile)).collect();
    Some(format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values.iter().map(String::as_str))))
}

fn sysctls(subject: &Subject<'_>) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= subject.minor);
    let asked = subject.security.iter().flat_map(|security| security.sysctls.iter().flatten());
    let bad: Vec<_> = asked.map(|sysctl| sysctl.name.as_str()).filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { Violation::new("forbidden sysctls", bad.join(", ")) }
}

fn host_process(subject: &Subject<'_>) -> Option<Violation> {
    let asks = |options: Option<&WindowsSecurityContextOptions>| options.is_some_and(|options| options.host_process == Some(true));
    let pod = asks(subject.security.and_then(|security| security.windows_options.as_ref()));
    let containers = subject.containers_with(|security| asks(security.windows_options.as_ref()));
    let who = setters(pod, &containers)?;
    Violation::new("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
