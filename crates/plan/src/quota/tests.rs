use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kinds::registry;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn row(plural: &str) -> &'static Resource {
    registry::find("", "v1", plural).unwrap()
}

fn quota(spec: Value) -> ResourceQuota {
    serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec})).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

/// A pod of one container with these resources.
fn asking(resources: Value) -> Pod {
    pod(json!({"containers": [{"name": "c", "resources": resources}]}))
}

fn shown(usage: &Usage) -> String {
    usage.iter().map(|(name, amount)| format!("{name}={}", amount.text())).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_kind_is_counted_as_quotas_name_it() {
    let container =
        |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": "512Mi"}, "limits": {"cpu": "1"}}});
    let of_pod = pod(json!({
        "containers": [container("a", "250m"), container("b", "250m")],
        "initContainers": [container("big", "2")],
    }));
    assert_eq!(
        shown(&usage(row("pods"), &of_pod, NOW)),
        "count/pods=1 cpu=2 limits.cpu=2 memory=1Gi pods=1 requests.cpu=2 requests.memory=1Gi"
    );
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"spec": {"storageClassName": "local", "resources": {"requests": {"storage": "1536Mi"}}}})).unwrap();
    assert_eq!(
        shown(&usage(row("persistentvolumeclaims"), &claim, NOW)),
        "count/persistentvolumeclaims=1 local.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         local.storageclass.storage.k8s.io/requests.storage=1536Mi persistentvolumeclaims=1 requests.storage=1536Mi"
    );
    let service: Service = serde_json::from_value(json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}})).unwrap();
    assert_eq!(shown(&usage(row("services"), &service, NOW)), "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2");
    assert_eq!(shown(&usage(row("configmaps"), &ConfigMap::default(), NOW)), "configmaps=1 count/configmaps=1");
    let set = registry::find("apps", "v1", "statefulsets").unwrap();
    assert_eq!(shown(&usage::count(set, 3)), "count/statefulsets.apps=3");
}

#[test]
fn a_pod_that_has_ended_is_counted_and_uses_nothing() {
    let mut ended = asking(json!({"requests": {"cpu": "1"}}));
    ended.status.get_or_insert_default().phase = Some("Failed".to_owned());
    assert_eq!(shown(&usage(row("pods"), &ended, NOW)), "count/pods=1");
    let mut going = asking(json!({"requests": {"cpu": "1"}}));
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    going.metadata.deletion_grace_period_seconds = Some(30);
    let later = |seconds| NOW + jiff::SignedDuration::from_secs(seconds);
    assert!(usage(row("pods"), &going, later(30)).contains_key("pods") && !usage(row("pods"), &going, later(31)).contains_key("pods"));
}

fn exceeds(quota: &ResourceQuota, used_by: &[Pod], new: &Pod) -> Option<String> {
    let used = used(quota, row("pods"), used_by.iter().map(|pod| pod as &dyn Object), NOW);
    Claim { resource: row("pods"), object: new, old: None }.exceeds(quota, &used, NOW)
}

#[test]
fn what_is_too_much_is_told_with_what_is_used_and_what_is_allowed() {
    let quota = quota(json!({"hard": {"requests.cpu": "1", "requests.memory": "1Gi", "pods": "10"}}));
    let pod = asking(json!({"requests": {"cpu": "600m", "memory": "512Mi"}}));
    assert_eq!(exceeds(&quota, &[], &pod), None);
    assert_eq!(
        exceeds(&quota, std::slice::from_ref(&pod), &pod).unwrap(),
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let big = asking(json!({"requests": {"cpu": "2", "memory": "2Gi"}}));
    assert_eq!(
        exceeds(&quota, &[], &big).unwrap(),
        "exceeded quota: q, requested: requests.cpu=2,requests.memory=2Gi, used: requests.cpu=0,requests.memory=0, limited: requests.cpu=1,requests.memory=1Gi"
    );
}

#[test]
fn what_is_limited_has_to_be_said_by_each_container() {
    let quota = quota(json!({"hard": {"limits.cpu": "1", "requests.memory": "1Gi"}}));
    let pod = pod(json!({"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}]}));
    assert_eq!(exceeds(&quota, &[], &pod).unwrap(), "failed quota: q: must specify limits.cpu for: b; requests.memory for: a,b");
}

#[test]
fn a_change_is_charged_for_what_it_adds() {
    let quota = quota(json!({"hard": {"requests.storage": "3Gi"}}));
    let claim = |size: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({"spec": {"resources": {"requests": {"storage": size}}}})).unwrap()
    };
    let (old, row) = (claim("2Gi"), row("persistentvolumeclaims"));
    let used = used(&quota, row, [&old as &dyn Object], NOW);
    for (size, refused) in [("3Gi", false), ("1Gi", false), ("4Gi", true)] {
        let new = claim(size);
        let claim = Claim { resource: row, object: &new, old: Some(&old) };
        assert_eq!(claim.exceeds(&quota, &used, NOW).is_some(), refused, "{size}");
    }
}

#[test]
fn a_scope_includes_some_pods_only() {
    let classed = |class: &str| pod(json!({"priorityClassName": class, "containers": [{"name": "c"}]}));
    let selector = |operator: &str, values: &[&str]| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    let plain = asking(json!({}));
    let elsewhere = pod(json!({"containers": [], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "k", "namespaces": ["other"]}]}}}));
    for (spec, pod, included) in [
        (json!({}), &plain, true),
        (json!({"scopes": ["BestEffort"]}), &plain, true),
        (json!({"scopes": ["BestEffort"]}), &asking(json!({"limits": {"cpu": "1"}})), false),
        (json!({"scopes": ["NotBestEffort", "NotTerminating"]}), &asking(json!({"limits": {"cpu": "1"}})), true),
        (json!({"scopes": ["Terminating"]}), &pod(json!({"activeDeadlineSeconds": 1, "containers": []})), true),
        (json!({"scopes": ["Terminating"]}), &plain, false),
        (json!({"scopes": ["PriorityClass"]}), &plain, false),
        (selector("In", &["high"]), &classed("high"), true),
        (selector("In", &["high"]), &classed("low"), false),
        (selector("NotIn", &["high"]), &plain, true),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), &elsewhere, true),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), &plain, false),
    ] {
        assert_eq!(scope::includes(&quota(spec.clone()), pod), included, "{spec}");
    }
    assert!(!scope::includes(&quota(json!({"scopes": ["BestEffort"]})), &ConfigMap::default()));
    assert!(counted(&quota(json!({"scopes": ["BestEffort"]})), row("configmaps"), 3).is_empty());
}

#[test]
fn a_status_that_is_right_is_not_written_again() {
    let mut quota = quota(json!({"hard": {"pods": "10", "requests.memory": "1Gi", "secrets": "5"}}));
    let mut used = used(&quota, row("pods"), [&asking(json!({"requests": {"memory": "512Mi"}})) as &dyn Object], NOW);
    add(&mut used, &counted(&quota, row("secrets"), 2));
    let status = super::status(&quota, &used).unwrap();
    let told = serde_json::to_value(&status.used).unwrap();
    assert_eq!(told, json!({"pods": "1", "requests.memory": "512Mi", "secrets": "2"}));
    quota.status = Some(status);
    assert_eq!(super::status(&quota, &used), None);
}

proptest! {
    /// Whatever pods ask for in whatever order: those that are let in never use more than the quota allows.
    #[test]
    fn what_is_let_in_fits(limit in 0..5000u32, most in 0..6usize, asked in proptest::collection::vec(0..3000u32, 0..12)) {
        let quota = quota(json!({"hard": {"requests.cpu": format!("{limit}m"), "pods": most.to_string()}}));
        let mut pods = Vec::new();
        for cpu in asked {
            let pod = asking(json!({"requests": {"cpu": format!("{cpu}m")}}));
            if exceeds(&quota, &pods, &pod).is_none() {
                pods.push(pod);
            }
        }
        let used = used(&quota, row("pods"), pods.iter().map(|pod| pod as &dyn Object), NOW);
        let cpu = used.get("requests.cpu").copied().unwrap_or_default().quantity;
        prop_assert!(cpu.milli_value() <= i64::from(limit) && pods.len() <= most);
    }
}
