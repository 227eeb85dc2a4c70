//! What the nodes write, one request each.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use informer::Api;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, PodStatus};
use kinds::ObjectKey;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Writes the status of a pod that is still at this version.
    ReportPod {
        key: ObjectKey,
        resource_version: Option<String>,
        status: Box<PodStatus>,
    },
    DeletePod {
        key: ObjectKey,
        uid: Option<String>,
    },
    CreateVolume(Box<PersistentVolume>),
    DeleteVolume {
        name: String,
        uid: Option<String>,
    },
}

/// Why a request failed.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Api(Box<kube::Error>),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    NoAnswer,
    #[error("the request panicked")]
    Panicked,
}

impl RequestError {
    /// Whether the live view was older than the server's state.
    pub(super) fn is_stale(&self) -> bool {
        is_code(self, 409)
    }
}

/// Whether the server answered with this code.
pub(super) fn is_code(error: &RequestError, code: u16) -> bool {
    matches!(error, RequestError::Api(error) if matches!(&**error, kube::Error::Api(status) if status.code == code))
}

/// Waits for the answer to a request, but not for ever.
pub(super) async fn answered<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    match timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| RequestError::Api(Box::new(error))),
        Err(_) => Err(RequestError::NoAnswer),
    }
}

/// Makes the request. The answer is the version a pod has by it. A panic on the way is a failure like any other.
pub(super) async fn execute(client: &Client, action: &Action) -> Result<Option<u64>, RequestError> {
    let guarded = AssertUnwindSafe(request(client, action)).catch_unwind().await;
    guarded.unwrap_or(Err(RequestError::Panicked))
}

async fn request(client: &Client, action: &Action) -> Result<Option<u64>, RequestError> {
    match action {
        Action::ReportPod { key, resource_version, status } => report(client, key, resource_version.as_deref(), status).await,
        Action::DeletePod { key, uid } => {
            let parameters = DeleteParams { grace_period_seconds: Some(0), ..of_uid(uid.clone()) };
            gone(answered(pods(client, key).delete(&key.name, &parameters)).await)
        }
        Action::CreateVolume(volume) => match answered(volumes(client).create(&PostParams::default(), volume)).await {
            Err(error) if !is_code(&error, 409) => Err(error),
            _ => Ok(None),
        },
        Action::DeleteVolume { name, uid } => gone(answered(volumes(client).delete(name, &of_uid(uid.clone()))).await),
    }
}

async fn report(client: &Client, key: &ObjectKey, resource_version: Option<&str>, status: &PodStatus) -> Result<Option<u64>, RequestError> {
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": resource_version}, "status": status}));
    match answered(pods(client, key).patch_status(&key.name, &PatchParams::default(), &patch)).await {
        Ok(pod) => Ok(version(&pod)),
        Err(error) if is_code(&error, 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object is gone, or another one has its name: both is what was wanted.
fn gone<T>(answer: Result<T, RequestError>) -> Result<Option<u64>, RequestError> {
    match answer {
        Err(error) if !is_code(&error, 404) && !is_code(&error, 409) => Err(error),
        _ => Ok(None),
    }
}

fn of_uid(uid: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::default() }
}

/// The version of an object, for comparisons.
pub(super) fn version(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_deref()?.parse().ok()
}

fn pods(client: &Client, key: &ObjectKey) -> Api<Pod> {
    Api::namespaced(client.clone(), &key.namespace)
}

fn volumes(client: &Client) -> Api<PersistentVolume> {
    Api::all(client.clone())
}
