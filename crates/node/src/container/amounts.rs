//! Requests and limits as the kernel takes them.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use kinds::Quantity;
use plan::pod::{Role, quality_of_service, request, roles};
use runtime::Resources;

/// The kernel's accounting period for CPU quotas.
const PERIOD_MICROSECONDS: i64 = 100_000;

/// What one container may use.
pub(crate) fn of_container(spec: &PodSpec, container: &Container, memory_capacity: i64) -> Resources {
    let resources = container.resources.clone().unwrap_or_default();
    let requested = quantity(&resources, "cpu", false).or_else(|| quantity(&resources, "cpu", true));
    Resources {
        cpu_shares: Some(shares(requested.unwrap_or_default())),
        oom_score_adjust: Some(oom_score_adjust(spec, container, memory_capacity)),
        ..limits(quantity(&resources, "cpu", true), quantity(&resources, "memory", true))
    }
}

/// What all containers of a pod may use together. Only what every container limits is limited.
pub(crate) fn of_pod(spec: &PodSpec) -> Resources {
    let total = |name: &str| {
        let long_lived = roles(spec).filter(|(role, _)| *role != Role::Init);
        long_lived
            .map(|(_, container)| quantity(container.resources.as_ref()?, name, true))
            .try_fold(Quantity::default(), |sum, limit| Some(sum + limit?))
    };
    // An init container may need more than the others together.
    let peak = |name: &str, all: Quantity| {
        let each = roles(spec).filter_map(|(_, container)| quantity(container.resources.as_ref()?, name, true));
        each.fold(all, Quantity::max)
    };
    let limit = |name: &str| total(name).map(|all| peak(name, all));
    Resources { cpu_shares: Some(shares(request(spec, "cpu"))), ..limits(limit("cpu"), limit("memory")) }
}

fn limits(cpu: Option<Quantity>, memory: Option<Quantity>) -> Resources {
    let cpu = cpu.filter(|cpu| cpu.signum() > 0);
    let memory = memory.filter(|memory| memory.signum() > 0);
    Resources {
        cpu_quota_us: cpu.map(|cpu| (cpu.milli_value().saturating_mul(PERIOD_MICROSECONDS) / 1000).max(1000)),
        cpu_period_us: cpu.map(|_| PERIOD_MICROSECONDS.unsigned_abs()),
        memory_limit: memory.map(Quantity::value),
        ..Resources::default()
    }
}

fn shares(cpu: Quantity) -> u64 {
    (cpu.milli_value().max(0).unsigned_abs().saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Who the kernel ends first when memory is short: those who asked for little.
fn oom_score_adjust(spec: &PodSpec, container: &Container, capacity: i64) -> i32 {
    match quality_of_service(spec) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let asked = container.resources.as_ref().and_then(|resources| quantity(resources, "memory", false)).unwrap_or_default();
            let share = i128::from(asked.value()) * 1000 / i128::from(capacity.max(1));
            i32::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
        }
    }
}

/// A request (or limit) of a container.
pub(crate) fn quantity(resources: &ResourceRequirements, name: &str, limit: bool) -> Option<Quantity> {
    let amounts = if limit { &resources.limits } else { &resources.requests };
    amounts.as_ref()?.get(name)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(containers: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": containers })).unwrap()
    }

    #[test]
    fn requests_are_shares_and_limits_are_quotas() {
        let spec = spec(
            json!([{ "name": "a", "resources": { "requests": { "cpu": "500m", "memory": "256Mi" }, "limits": { "cpu": "1500m", "memory": "512Mi" } } }]),
        );
        let resources = of_container(&spec, &spec.containers[0], 1 << 30);
        assert_eq!((resources.cpu_shares, resources.cpu_quota_us, resources.cpu_period_us), (Some(512), Some(150_000), Some(100_000)));
        assert_eq!((resources.memory_limit, resources.oom_score_adjust), (Some(512 << 20), Some(750)));
    }

    #[test]
    fn a_container_without_requests_gets_the_least() {
        let spec = spec(json!([{ "name": "a" }]));
        let resources = of_container(&spec, &spec.containers[0], 1 << 30);
        assert_eq!((resources.cpu_shares, resources.memory_limit, resources.oom_score_adjust), (Some(2), None, Some(1000)));
    }

    #[test]
    fn a_pod_is_limited_only_if_all_its_containers_are() {
        let limited = json!({ "name": "a", "resources": { "limits": { "memory": "1Mi", "cpu": "1" } } });
        assert_eq!(of_pod(&spec(json!([limited, limited]))).memory_limit, Some(2 << 20));
        assert_eq!(of_pod(&spec(json!([limited, { "name": "b" }]))).memory_limit, None);
    }
}
