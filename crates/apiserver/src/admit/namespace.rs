//! A namespaced object needs a namespace that is not ending.

use k8s_openapi::api::core::v1::Namespace;
use kinds::registry;

use super::Request;
use super::read::Reader;

use crate::error::ApiError;

/// Namespaces the cluster can't do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn check(reader: &Reader, request: &Request<'_>) -> Result<(), ApiError> {
    let name = request.namespace;
    let Some(namespace) = reader.get::<Namespace>("", name).await? else {
        let resource = registry::find("", "v1", "namespaces").ok_or_else(|| ApiError::internal("namespaces are not served"))?;
        return Err(ApiError::NotFound { resource, name: name.to_owned() });
    };
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Terminating") || namespace.metadata.deletion_timestamp.is_some() {
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        return Err(request.forbidden(&why));
    }
    Ok(())
}

pub(super) fn check_delete(request: &Request<'_>) -> Result<(), ApiError> {
    let immortal = request.resource.kind == "Namespace" && IMMORTAL.contains(&request.name);
    if immortal { Err(request.forbidden("this namespace may not be deleted")) } else { Ok(()) }
}
