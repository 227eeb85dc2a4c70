//! What every pod gets when it is created: what its namespace sets by default, a service account, a priority, and tolerations for
//! a node that is briefly away.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

use super::read::Reader;
use super::{Request, limit_range, priority, service_account};
use crate::error::ApiError;

/// Seconds that a pod stays bound to a node that is not ready or not reachable.
const PATIENCE_SECONDS: i64 = 300;
const AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) async fn complete(reader: &Reader, request: &Request<'_>, pod: &mut Pod) -> Result<(), ApiError> {
    limit_range::complete_pod(reader, request, pod).await?;
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    service_account::complete(reader, request, spec).await?;
    tolerate(spec);
    priority::complete(reader, request, spec).await
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
