//! Claims get a class when they name none, and volumes and claims in use are protected from deletion.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::Quantity;

use super::read::Reader;
use super::{Request, limit_range};
use crate::error::ApiError;

/// Keeps a claim while a pod uses it.
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while a claim is bound to it.
pub(super) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Marks the class of claims that name none.
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// The older form of `storageClassName`.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) async fn complete(reader: &Reader, request: &Request<'_>, claim: &mut PersistentVolumeClaim) -> Result<(), ApiError> {
    limit_range::check_claim(reader, request, claim).await?;
    if request.creates() {
        protect(&mut claim.metadata, CLAIM_PROTECTION);
        return choose_class(reader, claim).await;
    }
    match request.old.and_then(|old| old.downcast_ref::<PersistentVolumeClaim>()) {
        Some(old) if asked(claim) > asked(old) => check_growth(reader, request, old).await,
        _ => Ok(()),
    }
}

/// Adds a finalizer.
pub(super) fn protect(meta: &mut ObjectMeta, finalizer: &str) {
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|name| name == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
}

async fn choose_class(reader: &Reader, claim: &mut PersistentVolumeClaim) -> Result<(), ApiError> {
    let annotated = claim.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(CLASS_ANNOTATION));
    match &mut claim.spec {
        Some(spec) if spec.storage_class_name.is_none() && !annotated => {
            spec.storage_class_name = default_class(reader.list("").await?);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The newest class that is marked as the default; of several equally new, the first by name.
fn default_class(mut classes: Vec<StorageClass>) -> Option<String> {
    classes.retain(|class| {
        class.metadata.annotations.as_ref().and_then(|annotations| annotations.get(IS_DEFAULT)).is_some_and(|is| is == "true")
    });
    classes.sort_by_key(|class| (Reverse(class.metadata.creation_timestamp.as_ref().map(|time| time.0)), class.metadata.name.clone()));
    classes.into_iter().next()?.metadata.name
}

fn asked(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.parse().ok()
}

async fn check_growth(reader: &Reader, request: &Request<'_>, claim: &PersistentVolumeClaim) -> Result<(), ApiError> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
    let class = if class.is_empty() { None } else { reader.get::<StorageClass>("", class).await? };
    if class.is_some_and(|class| class.allow_volume_expansion == Some(true)) {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(request.forbidden(why))
}
