use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn judged(standard: Standard, spec: &Value) -> String {
    let spec = serde_json::from_value(spec.clone()).unwrap();
    describe(&violations(standard, &ObjectMeta::default(), &spec))
}

/// A pod that keeps the restricted level.
fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "emptyDir": {}}],
        "containers": [
            {"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}},
        ],
    })
}

/// The good pod with something else at a place.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[field] = value;
    spec
}

#[test]
fn a_hardened_pod_keeps_every_level() {
    for level in Level::ALL {
        assert_eq!(judged(Standard::latest(level), &good()), "", "{level:?}");
    }
}

#[test]
fn a_plain_pod_keeps_the_baseline_and_is_told_all_that_it_lacks_for_more() {
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(judged(Standard::latest(Level::Baseline), &plain), "");
    assert_eq!(
        judged(Standard::latest(Level::Restricted), &plain),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn each_rule_of_the_baseline_names_what_it_forbids() {
    let container = "/containers/0/securityContext";
    for (pointer, value, expected) in [
        ("/hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        ("/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}]), "hostPort (container \"a\" uses hostPort 80)"),
        (
            "/containers/0/livenessProbe",
            json!({"httpGet": {"host": "10.0.0.1", "port": 80}}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (&format!("{container}/privileged"), json!(true), "privileged (container \"a\" must not set securityContext.privileged=true)"),
        (
            &format!("{container}/procMount"),
            json!("Unmasked"),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({"type": "spc_t", "user": "root"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        ("/securityContext/sysctls", json!([{"name": "kernel.msgmax", "value": "1"}]), "forbidden sysctls (kernel.msgmax)"),
        (
            "/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            &format!("{container}/appArmorProfile"),
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ] {
        let spec = with(pointer, value);
        for level in [Level::Baseline, Level::Restricted] {
            assert_eq!(judged(Standard::latest(level), &spec), expected, "{pointer}");
        }
        assert_eq!(judged(Standard::latest(Level::Privileged), &spec), "");
    }
}

#[test]
fn the_restricted_level_has_a_stricter_rule_in_place_of_some() {
    let added = with("/containers/0/securityContext/capabilities/add", json!(["CHOWN", "SYS_ADMIN"]));
    let path = with("/volumes", json!([{"name": "etc", "hostPath": {"path": "/etc"}}]));
    let unconfined = with("/securityContext/seccompProfile", json!({"type": "Unconfined"}));
    let seccomp = "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")";
    for (spec, baseline, restricted) in [
        (
            added,
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (path, "hostPath volumes (volume \"etc\")", "restricted volume types (volume \"etc\" uses restricted volume type \"hostPath\")"),
        (unconfined, seccomp, seccomp),
        (
            with("/securityContext/runAsNonRoot", json!(false)),
            "",
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (with("/securityContext/runAsUser", json!(0)), "", "runAsUser=0 (pod must not set runAsUser=0)"),
    ] {
        assert_eq!(judged(Standard::latest(Level::Baseline), &spec), baseline);
        assert_eq!(judged(Standard::latest(Level::Restricted), &spec), restricted);
    }
}

#[test]
fn an_older_version_knows_fewer_rules() {
    let standard = |minor| Standard { level: Level::Baseline, minor: Some(minor) };
    let probe = with("/containers/0/livenessProbe", json!({"tcpSocket": {"host": "h", "port": 80}}));
    let sysctl = with("/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem", "value": "1"}]));
    assert!(judged(standard(33), &probe).is_empty() && !judged(standard(34), &probe).is_empty());
    assert!(!judged(standard(31), &sysctl).is_empty() && judged(standard(32), &sysctl).is_empty());
}

fn labelled(labels: &[(&str, &str)]) -> (Policy, Vec<BadLabel>) {
    let labels: BTreeMap<_, _> =
        labels.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), (*value).to_owned())).collect();
    policy(Some(&labels))
}

#[test]
fn labels_name_a_standard_for_each_mode() {
    let privileged = Standard::latest(Level::Privileged);
    assert_eq!(policy(None).0, Policy { enforce: privileged, audit: privileged, warn: privileged });
    let (policy, bad) =
        labelled(&[("enforce", "baseline"), ("enforce-version", "v1.30"), ("warn", "restricted"), ("audit-version", "latest")]);
    let enforce = Standard { level: Level::Baseline, minor: Some(30) };
    assert_eq!((policy.enforce, policy.audit, policy.warn), (enforce, privileged, Standard::latest(Level::Restricted)));
    assert_eq!((enforce.to_string(), policy.warn.to_string(), bad), ("baseline:v1.30".into(), "restricted:latest".into(), vec![]));
    // Who is enforced upon without being told of warnings is warned of the same.
    assert_eq!(labelled(&[("enforce", "restricted")]).0.warn, Standard::latest(Level::Restricted));
    assert_eq!(labelled(&[("enforce", "restricted"), ("warn", "privileged")]).0.warn, privileged);
}

#[test]
fn labels_that_can_not_be_read_count_as_the_strictest() {
    let (policy, bad) = labelled(&[("enforce", "strict"), ("warn-version", "1.30")]);
    assert_eq!(policy.enforce, Standard::latest(Level::Restricted));
    let bad: Vec<_> = bad.into_iter().map(|bad| (bad.label, bad.value, bad.detail)).collect();
    assert_eq!(
        bad,
        [
            ("pod-security.kubernetes.io/enforce".into(), "strict".into(), "must be one of privileged, baseline, restricted"),
            ("pod-security.kubernetes.io/warn-version".into(), "1.30".into(), "must be \"latest\" or \"v1.x\""),
        ] as [(String, String, &str); 2]
    );
}
