//! What an object must be, or becomes, before it is stored, as far as that depends on other objects: its namespace exists, a
//! pod has its service account, a service its address, and all of it is within the limits of the namespace.
//!
//! A verb calls [`Admission::admit`] after defaults and before `prepare_*` and validation, for the main resource only (not
//! for subresources), commits under [`Admitted::guards`], and lets go of it once the change is committed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kinds::{Object, Resource};
use store::{Change, Commit, CommitError, Event, Expected, Guard, Store};

use crate::auth::Identity;
use crate::error::ApiError;

mod address;
mod claim;
mod limit_range;
mod namespace;
mod pod;
mod pod_security;
mod priority;
mod quota;
mod random;
mod read;
mod service;
mod service_account;
#[cfg(test)]
mod tests;

pub use address::{Range, RangeError};
use read::Reader;
use service::Addresses;

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write that asks for admission.
#[derive(Debug)]
pub struct Request<'a> {
    pub resource: &'static Resource,
    pub operation: Operation,
    /// Empty for a cluster-scoped object.
    pub namespace: &'a str,
    /// The object's name; generated already.
    pub name: &'a str,
    /// The object as it is stored; `None` when it is created.
    pub old: Option<&'a dyn Object>,
    pub user: &'a Identity,
    /// Whether nothing is to be kept of this.
    pub dry_run: bool,
}

impl Request<'_> {
    /// The refusal of this request, in upstream's words.
    fn forbidden(&self, why: &str) -> ApiError {
        let message = format!("{} {:?} is forbidden: {why}", self.resource.qualified(), self.name);
        ApiError::Forbidden { resource: self.resource, name: self.name.to_owned(), message }
    }

    fn creates(&self) -> bool {
        self.operation == Operation::Create
    }
}

/// What is held for an object until it is stored. Dropped before, it is as if the object had not been admitted.
#[must_use = "what is not held is given to others"]
#[derive(Debug, Default)]
pub struct Admitted {
    /// What the object's author should know.
    pub warnings: Vec<String>,
    address: Option<service::Claimed>,
    /// Held until the object is stored, so that the next one in its namespace is counted with it.
    quota: Option<quota::Reserved>,
}

impl Admitted {
    /// What the object has to be committed under where other servers use the store as well.
    pub fn guards(&self, store: &dyn Store) -> Vec<Guard> {
        if !store.is_shared() {
            return Vec::new();
        }
        let address = self.address.iter().map(service::Claimed::guard);
        address.chain(self.quota.iter().map(|quota| &quota.guard)).cloned().collect()
    }

    /// Stores a new object. That goes on to its end though nobody may wait for it any more: what an object holds can't be given to
    /// others while it may yet be stored.
    pub async fn store(self, store: &Arc<dyn Store>, key: String, change: Change) -> Result<Arc<Event>, CommitError> {
        let takes_nothing = self.address.is_none() && self.quota.is_none();
        let store = Arc::clone(store);
        let storing = async move {
            let guards = self.guards(&*store);
            store.commit_guarded(Commit { key: &key, expected: Expected::Absent, change, guards: &guards }).await
        };
        if takes_nothing {
            return storing.await;
        }
        tokio::spawn(storing).await.unwrap_or_else(|error| Err(CommitError::Unavailable(error.to_string().into())))
    }
}

/// The admission of one API server. All methods can be called from any task at once.
#[derive(Clone)]
pub struct Admission {
    reader: Reader,
    addresses: Addresses,
    quotas: quota::Locks,
}

impl Admission {
    /// Admission over a store, with services' addresses from this range. Reads all services to know what is taken.
    pub async fn open(store: Arc<dyn Store>, services: Range) -> Result<Self, ApiError> {
        let reader = Reader::new(Arc::clone(&store));
        let addresses = Addresses::new(services, store);
        addresses.know().await?;
        Ok(Self { reader, addresses, quotas: quota::Locks::default() })
    }

    /// Refuses the request, or completes the object. What a dry run takes is given back when [`Admitted`] is dropped.
    pub async fn admit(&self, request: &Request<'_>, object: &mut dyn Object) -> Result<Admitted, ApiError> {
        if request.operation == Operation::Delete {
            namespace::check_delete(request)?;
            return Ok(Admitted::default());
        }
        if request.creates() && request.resource.is_namespaced() {
            namespace::check(&self.reader, request).await?;
        }
        let address = self.complete(request, object).await?;
        let warnings = pod_security::check(&self.reader, request, object).await?;
        let quota = quota::reserve(&self.quotas, &self.reader, request, object).await?;
        Ok(Admitted { warnings, address, quota })
    }

    /// Completes the object as its kind is; returns the address that was taken for it.
    async fn complete(&self, request: &Request<'_>, object: &mut dyn Object) -> Result<Option<service::Claimed>, ApiError> {
        if let Some(pod) = object.downcast_mut::<Pod>() {
            if request.creates() {
                pod::complete(&self.reader, request, pod).await?;
            }
        } else if let Some(claim) = object.downcast_mut::<PersistentVolumeClaim>() {
            claim::complete(&self.reader, request, claim).await?;
        } else if let Some(volume) = object.downcast_mut::<PersistentVolume>() {
            if request.creates() {
                claim::protect(&mut volume.metadata, claim::VOLUME_PROTECTION);
            }
        } else if let Some(service) = object.downcast_mut::<Service>() {
            return service::complete(&self.addresses, request, service).await;
        } else if let Some(class) = object.downcast_ref::<PriorityClass>() {
            priority::check_class(&self.reader, request, class).await?;
        }
        Ok(None)
    }
}
