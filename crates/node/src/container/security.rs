//! What a container's processes may do.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SecurityContext};
use runtime::{CAPABILITIES, Seccomp, Security};

use super::SpecificationError;

/// What a container may do when nothing is said: the set that container runtimes agree on.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The container's settings, the pod's where it has none.
pub(crate) fn security(pod: Option<&PodSecurityContext>, container: Option<&SecurityContext>) -> Result<Security, SpecificationError> {
    let context = container.cloned().unwrap_or_default();
    let privileged = context.privileged == Some(true);
    let profile = context.seccomp_profile.as_ref().or_else(|| pod?.seccomp_profile.as_ref());
    let seccomp = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") if !privileged => Seccomp::RuntimeDefault,
        Some("Localhost") => return Err(SpecificationError::Unsupported("seccompProfile of type Localhost".to_owned())),
        _ => Seccomp::Unconfined,
    };
    let capabilities = match privileged {
        true => CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect(),
        false => capabilities(context.capabilities.as_ref()),
    };
    Ok(Security {
        privileged,
        read_only_root: context.read_only_root_filesystem == Some(true),
        no_new_privileges: context.allow_privilege_escalation == Some(false) && !privileged,
        capabilities,
        seccomp,
        unmasked_proc: context.proc_mount.as_deref() == Some("Unmasked"),
    })
}

/// The default set, less what is dropped, and what is added. `ALL` is understood in both.
fn capabilities(change: Option<&Capabilities>) -> Vec<String> {
    let plain = |names: Option<&Vec<String>>| -> Vec<String> {
        let name = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
        names.into_iter().flatten().map(name).collect()
    };
    let add = plain(change.and_then(|change| change.add.as_ref()));
    let drop = plain(change.and_then(|change| change.drop.as_ref()));
    let drops_all = drop.iter().any(|name| name == "ALL");
    let adds_all = add.iter().any(|name| name == "ALL");
    let granted = |name: &&&str| {
        let added = add.iter().any(|other| other == **name) || adds_all;
        let dropped = drop.iter().any(|other| other == **name) || (drops_all && !add.iter().any(|other| other == **name));
        (added || DEFAULT.contains(*name)) && !dropped
    };
    CAPABILITIES.iter().filter(granted).map(|name| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(add: &[&str], drop: &[&str]) -> Vec<String> {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        capabilities(Some(&Capabilities { add: names(add), drop: names(drop) }))
    }

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default() {
        assert_eq!(capabilities(None).len(), 14);
        assert_eq!(granted(&["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(granted(&["ALL"], &[]).len(), 41);
        assert!(granted(&["CAP_SYS_TIME"], &["KILL"]).contains(&"CAP_SYS_TIME".to_owned()));
        assert!(!granted(&[], &["kill"]).contains(&"CAP_KILL".to_owned()));
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let profile = |kind: &str| Some(k8s_openapi::api::core::v1::SeccompProfile { type_: kind.to_owned(), localhost_profile: None });
        let pod = PodSecurityContext { seccomp_profile: profile("RuntimeDefault"), ..PodSecurityContext::default() };
        assert_eq!(security(Some(&pod), None).unwrap().seccomp, Seccomp::RuntimeDefault);
        let own = SecurityContext { seccomp_profile: profile("Unconfined"), ..SecurityContext::default() };
        assert_eq!(security(Some(&pod), Some(&own)).unwrap().seccomp, Seccomp::Unconfined);
    }
}
