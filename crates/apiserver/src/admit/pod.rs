//! What every pod gets when it is created: a service account, a priority, and tolerations for a node that is briefly away.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

use super::read::Reader;
use super::{Request, service_account};
use crate::error::ApiError;

/// Seconds that a pod stays bound to a node that is not ready or not reachable.
const PATIENCE_SECONDS: i64 = 300;
const AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) async fn complete(reader: &Reader, request: &Request<'_>, pod: &mut Pod) -> Result<(), ApiError> {
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    service_account::complete(reader, request, spec).await?;
    tolerate(spec);
    prioritize(request, spec)
}

fn tolerate(spec: &mut PodSpec) {
    for taint in AWAY {
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.iter().any(|toleration| covers(toleration, taint)) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(PATIENCE_SECONDS),
                value: None,
            });
        }
    }
}

fn covers(toleration: &Toleration, taint: &str) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}

/// There are no PriorityClasses to look up: a pod has the default priority, or one of the two that are built in.
fn prioritize(request: &Request<'_>, spec: &mut PodSpec) -> Result<(), ApiError> {
    let class = spec.priority_class_name.as_deref().unwrap_or_default();
    let priority = match class {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        unknown => return Err(request.forbidden(&format!("no PriorityClass with name {unknown} was found"))),
    };
    if let Some(given) = spec.priority.filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(request.forbidden(&why));
    }
    spec.priority = Some(priority);
    spec.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    Ok(())
}
