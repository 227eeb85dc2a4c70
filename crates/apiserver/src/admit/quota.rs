//! ResourceQuotas: an object is stored only if what its namespace uses, with it, is within every quota.
//!
//! What is used is counted from the store, not remembered, so it can't drift. The lock of the namespace is held from the
//! counting until the object is stored: of two that would fit alone and not together, the second is counted with the first. Between
//! servers that share a store, the guard of the namespace does the same: the second is refused by the store, and counted anew.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kinds::Object;
use plan::quota::{self, Claim};
use store::{Guard, Revision};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Request;
use super::read::Reader;
use crate::error::ApiError;

/// Namespaces share so many locks.
const LOCKS: usize = 64;

/// The locks of all namespaces.
#[derive(Clone)]
pub(super) struct Locks(Arc<[Arc<Mutex<()>>]>);

impl Default for Locks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Arc::default()).collect())
    }
}

impl Locks {
    async fn of(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        // The remainder is less than the number of locks.
        let index = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        Arc::clone(&self.0[index]).lock_owned().await
    }
}

/// What is held until a counted object is stored.
#[derive(Debug)]
pub(super) struct Reserved {
    _lock: OwnedMutexGuard<()>,
    pub(super) guard: Guard,
}

/// Refuses an object that is too much for a quota.
pub(super) async fn reserve(
    locks: &Locks,
    reader: &Reader,
    request: &Request<'_>,
    object: &dyn Object,
) -> Result<Option<Reserved>, ApiError> {
    if !request.resource.is_namespaced() || !(request.creates() || changes_use(object)) {
        return Ok(None);
    }
    let now = Timestamp::now();
    let claim = Claim { resource: request.resource, object, old: request.old };
    let concerned = |quotas: &mut Vec<ResourceQuota>| quotas.retain(|quota| claim.concerns(quota, now));
    let mut quotas = reader.list::<ResourceQuota>(request.namespace).await?;
    concerned(&mut quotas);
    if quotas.is_empty() {
        return Ok(None);
    }
    let lock = locks.of(request.namespace).await;
    let (stored, revision) = stored(reader, request, object).await?;
    for quota in &quotas {
        let used = match &stored {
            Stored::Objects(objects) => quota::used(quota, request.resource, objects.iter().map(|object| &**object), now),
            Stored::Count(count) => quota::counted(quota, request.resource, *count),
        };
        if let Some(why) = claim.exceeds(quota, &used, now) {
            return Err(request.forbidden(&why));
        }
    }
    Ok(Some(Reserved { _lock: lock, guard: Guard::new("quota", request.namespace, revision) }))
}

/// Whether a change of such an object can make it use more.
fn changes_use(object: &dyn Object) -> bool {
    object.downcast_ref::<PersistentVolumeClaim>().is_some() || object.downcast_ref::<Service>().is_some()
}

/// What there is of a kind in a namespace, as far as quotas look at it.
enum Stored {
    Objects(Vec<Box<dyn Object>>),
    Count(usize),
}

async fn stored(reader: &Reader, request: &Request<'_>, object: &dyn Object) -> Result<(Stored, Revision), ApiError> {
    let looks_inside = changes_use(object) || object.downcast_ref::<Pod>().is_some();
    if looks_inside {
        let (objects, revision) = reader.objects(request.resource, request.namespace).await?;
        Ok((Stored::Objects(objects), revision))
    } else {
        let (count, revision) = reader.count(request.resource, request.namespace).await?;
        Ok((Stored::Count(count), revision))
    }
}
