//! Pods: the one kind whose state takes some reading.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, name, or_none, since, typed};

pub(crate) const POD: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready", "How many of the containers are ready to serve."),
        Column::text("Status", "The state of the pod and its containers in one word."),
        Column::text("Restarts", "How often the containers have been restarted, and when that happened last."),
        AGE,
        Column::wide("IP", "The address of the pod."),
        Column::wide("Node", "The node the pod is assigned to."),
        Column::wide("Nominated Node", "The node the pod waits for room on."),
        Column::wide("Readiness Gates", "How many of the further conditions of readiness are met."),
    ],
    cells: |object, now| cells(typed(object), now),
};

fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let status = pod.status.as_ref();
    let restarts = match summary.last_restart {
        Some(_) if summary.restarts == 0 => "0".to_owned(),
        Some(at) => format!("{} ({} ago)", summary.restarts, since(Some(&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at)), now)),
        None => summary.restarts.to_string(),
    };
    let address = status.and_then(|status| status.pod_ips.as_ref()?.first()).map(|ip| ip.ip.as_str());
    let address = address.or_else(|| status.and_then(|status| status.pod_ip.as_deref()));
    vec![
        name(&pod.metadata),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(restarts),
        age(&pod.metadata, now),
        Value::from(or_none(address)),
        Value::from(or_none(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()))),
        Value::from(or_none(status.and_then(|status| status.nominated_node_name.as_deref()))),
        Value::from(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let met = gates.iter().filter(|gate| condition(pod, &gate.condition_type).is_some_and(|(status, _)| status == "True"));
    if gates.is_empty() { "<none>".to_owned() } else { format!("{}/{}", met.count(), gates.len()) }
}

/// Status and reason of a condition.
fn condition<'a>(pod: &'a Pod, wanted: &str) -> Option<(&'a str, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == wanted)?;
    Some((&condition.status, condition.reason.as_deref()))
}

#[derive(Default)]
struct Summary {
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
    reason: String,
}

impl Summary {
    fn count(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        let finished = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.finished_at.as_ref());
        self.last_restart = self.last_restart.max(finished.map(|time| time.0));
    }
}

fn summarize(pod: &Pod) -> Summary {
    let default = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&default);
    let phase = status.phase.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let sidecars = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always")).count();
    let mut summary = Summary {
        total: spec.map_or(0, |spec| spec.containers.len()) + sidecars,
        reason: status.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or(phase).to_owned(),
        ..Summary::default()
    };
    if condition(pod, "PodScheduled").is_some_and(|(_, reason)| reason == Some("SchedulingGated")) {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let initialized = condition(pod, "Initialized").is_some_and(|(status, _)| status == "True");
    let initializing = read_init_containers(pod, status, &mut summary);
    if !initializing || initialized {
        read_containers(pod, status, &mut summary);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        match phase {
            _ if status.reason.as_deref() == Some("NodeLost") => "Unknown".clone_into(&mut summary.reason),
            "Succeeded" | "Failed" => {}
            _ => "Terminating".clone_into(&mut summary.reason),
        }
    }
    summary
}

/// Returns whether one of them keeps the pod from starting.
fn read_init_containers(pod: &Pod, status: &PodStatus, summary: &mut Summary) -> bool {
    let specs = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let is_sidecar = |name: &str| specs.iter().any(|spec| spec.name == name && spec.restart_policy.as_deref() == Some("Always"));
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        summary.count(container);
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref()).filter(|reason| !reason.is_empty());
        summary.reason = match (state.and_then(|state| state.terminated.as_ref()), waiting) {
            (Some(ended), _) if ended.exit_code == 0 => continue,
            _ if is_sidecar(&container.name) && container.started == Some(true) => {
                summary.ready += usize::from(container.ready);
                continue;
            }
            (Some(ended), _) => format!("Init:{}", ending(ended)),
            (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{}", specs.len()),
        };
        return true;
    }
    false
}

fn read_containers(pod: &Pod, status: &PodStatus, summary: &mut Summary) {
    let sidecars = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars: Vec<_> = sidecars.filter(|spec| spec.restart_policy.as_deref() == Some("Always")).map(|spec| &spec.name).collect();
    (summary.restarts, summary.last_restart) = (0, None);
    for container in status.init_container_statuses.iter().flatten().filter(|container| sidecars.contains(&&container.name)) {
        summary.count(container);
    }
    let mut any_running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        summary.count(container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        match (waiting, state.terminated) {
            (Some(reason), _) => summary.reason = reason,
            (None, Some(ended)) => summary.reason = ending(&ended),
            (None, None) if container.ready && state.running.is_some() => {
                any_running = true;
                summary.ready += 1;
            }
            (None, None) => {}
        }
    }
    if summary.reason == "Completed" && any_running {
        let ready = condition(pod, "Ready").is_some_and(|(status, _)| status == "True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ending(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(status: Value) -> Vec<Value> {
        let pod = json!({
            "metadata": {"name": "web-0", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": status,
        });
        cells(&serde_json::from_value(pod).unwrap(), "2026-01-01T00:05:00Z".parse().unwrap())
    }

    #[test]
    fn a_running_pod_shows_its_restarts_and_when_the_last_was() {
        let ended = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:02:00Z"}});
        let running = json!({"running": {}});
        let row = row(json!({"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 1, "image": "", "imageID": "", "state": running, "lastState": ended},
            {"name": "b", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": running},
        ]}));
        assert_eq!(row[1..6], [json!("1/2"), json!("Running"), json!("1 (3m ago)"), json!("5m"), json!("10.0.0.9")]);
    }

    #[test]
    fn the_status_names_what_keeps_the_pod_from_running() {
        let container = |state: Value| json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state});
        let crash = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let cases = [
            (json!({"phase": "Pending"}), "Pending"),
            (json!({"phase": "Running", "containerStatuses": [crash]}), "CrashLoopBackOff"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
            (json!({"phase": "Pending", "initContainerStatuses": [container(json!({"running": {}}))]}), "Init:0/2"),
            (json!({"phase": "Pending", "initContainerStatuses": [container(json!({"terminated": {"exitCode": 3}}))]}), "Init:ExitCode:3"),
            (
                json!({"phase": "Failed", "containerStatuses": [container(json!({"terminated": {"exitCode": 137, "signal": 9}}))]}),
                "Signal:9",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}))]}),
                "Completed",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(row(status.clone())[2], json!(expected), "{status}");
        }
    }
}
