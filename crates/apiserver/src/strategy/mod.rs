//! What differs from kind to kind: defaults, what a client may set, validation. Everything else is the same code for all.
//!
//! A [`Strategy`] is written for the kind's own type; [`Erased`] is the same behind `dyn Object`, as the verbs use it.

use std::any::Any;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::ServiceAccount;
use kinds::{Object, Resource, STEADFAST_GROUP};
use plan::access::GROUP as ACCESS;

use crate::field::FieldError;

mod check;
mod config_map;
mod controller_revision;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod limit_range;
pub mod metadata;
pub mod names;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
pub(crate) mod priority_class;
mod resource_quota;
mod role;
mod role_binding;
mod secret;
pub(crate) mod service;
pub mod shape;
mod stateful_set;
mod storage_class;
#[cfg(test)]
mod tests;

/// Rules of one kind. Every method is pure; each has upstream's generic behaviour as its default.
pub trait Strategy: Send + Sync {
    /// The kind these rules are for.
    type Kind: Any;

    /// Fills in what the client left out. Runs on every object that enters, before admission.
    fn default(&self, _object: &mut Self::Kind) {}

    /// Clears what a client may not set when it creates an object (its status, for example).
    fn prepare_create(&self, _object: &mut Self::Kind) {}

    /// Restores what a client may not change through the main resource (its status, for example).
    fn prepare_update(&self, _object: &mut Self::Kind, _old: &Self::Kind) {}

    /// Restores everything but what the status subresource may change.
    fn prepare_status_update(&self, _object: &mut Self::Kind, _old: &Self::Kind) {}

    /// Restores everything but the containers that are added to a pod.
    fn prepare_ephemeral_update(&self, _object: &mut Self::Kind, _old: &Self::Kind) {}

    /// Whether the change is one of the specification, so that `metadata.generation` grows.
    fn spec_changed(&self, _object: &Self::Kind, _old: &Self::Kind) -> bool {
        false
    }

    /// What is wrong with a new object, its metadata excepted.
    fn validate(&self, _object: &Self::Kind) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with a change, its metadata excepted. `validate` does not run as well: call it where upstream does.
    fn validate_update(&self, object: &Self::Kind, _old: &Self::Kind) -> Vec<FieldError> {
        self.validate(object)
    }

    /// What is wrong with a change of the status.
    fn validate_status_update(&self, _object: &Self::Kind, _old: &Self::Kind) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with the containers that are added to a pod.
    fn validate_ephemeral_update(&self, _object: &Self::Kind, _old: &Self::Kind) -> Vec<FieldError> {
        Vec::new()
    }

    /// What may be wrong with a name, in upstream's words; `None` when it is good.
    fn validate_name(&self, name: &str) -> Option<String> {
        crate::strategy::names::dns_subdomain(name)
    }

    /// Whether a PUT without `resourceVersion` overwrites what is there.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Warnings the client sees when it creates or changes such an object.
    fn warnings(&self, _object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }

    /// Seconds the object may take to end when a delete request names none; 0 deletes at once.
    fn grace_period_seconds(&self, _object: &Self::Kind) -> i64 {
        0
    }
}

/// A [`Strategy`] behind `dyn Object`.
pub trait Erased: Send + Sync {
    fn default(&self, object: &mut dyn Object);
    fn prepare_create(&self, object: &mut dyn Object);
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_status_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_ephemeral_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool;
    fn validate(&self, object: &dyn Object) -> Vec<FieldError>;
    fn validate_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError>;
    fn validate_status_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError>;
    fn validate_ephemeral_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError>;
    fn validate_name(&self, name: &str) -> Option<String>;
    fn allow_unconditional_update(&self) -> bool;
    fn warnings(&self, object: &dyn Object) -> Vec<String>;
    fn grace_period_seconds(&self, object: &dyn Object) -> i64;
}

/// Gives a strategy its erased form.
pub struct Typed<S>(pub S);

/// The rules of a kind that needs none of its own.
pub struct Plain<K>(PhantomData<fn() -> K>);

impl<K> Plain<K> {
    /// Rules that differ in nothing.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Default for Plain<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Any> Strategy for Plain<K> {
    type Kind = K;
}

fn typed<K: 'static>(object: &dyn Object) -> &K {
    object.downcast_ref().expect("the registry pairs each kind with its own strategy")
}

fn typed_mut<K: 'static>(object: &mut dyn Object) -> &mut K {
    object.downcast_mut().expect("the registry pairs each kind with its own strategy")
}

impl<S: Strategy> Erased for Typed<S> {
    fn default(&self, object: &mut dyn Object) {
        self.0.default(typed_mut(object));
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        self.0.prepare_create(typed_mut(object));
    }
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        self.0.prepare_update(typed_mut(object), typed(old));
    }
    fn prepare_status_update(&self, object: &mut dyn Object, old: &dyn Object) {
        self.0.prepare_status_update(typed_mut(object), typed(old));
    }
    fn prepare_ephemeral_update(&self, object: &mut dyn Object, old: &dyn Object) {
        self.0.prepare_ephemeral_update(typed_mut(object), typed(old));
    }
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        self.0.spec_changed(typed(object), typed(old))
    }
    fn validate(&self, object: &dyn Object) -> Vec<FieldError> {
        self.0.validate(typed(object))
    }
    fn validate_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        self.0.validate_update(typed(object), typed(old))
    }
    fn validate_status_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        self.0.validate_status_update(typed(object), typed(old))
    }
    fn validate_ephemeral_update(&self, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
        self.0.validate_ephemeral_update(typed(object), typed(old))
    }
    fn validate_name(&self, name: &str) -> Option<String> {
        self.0.validate_name(name)
    }
    fn allow_unconditional_update(&self) -> bool {
        self.0.allow_unconditional_update()
    }
    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        self.0.warnings(typed(object))
    }
    fn grace_period_seconds(&self, object: &dyn Object) -> i64 {
        self.0.grace_period_seconds(typed(object))
    }
}

/// The rules of a resource.
pub fn of(resource: &Resource) -> &'static dyn Erased {
    static SERVICE_ACCOUNTS: Typed<Plain<ServiceAccount>> = Typed(Plain::new());
    match (resource.group, resource.kind) {
        ("", "Namespace") => &Typed(namespace::Namespaces),
        ("", "Node") => &Typed(node::Nodes),
        ("", "Pod") => &Typed(pod::Pods),
        ("", "Service") => &Typed(service::Services),
        ("", "ConfigMap") => &Typed(config_map::ConfigMaps),
        ("", "Secret") => &Typed(secret::Secrets),
        ("", "ServiceAccount") => &SERVICE_ACCOUNTS,
        ("", "PersistentVolume") => &Typed(persistent_volume::PersistentVolumes),
        ("", "PersistentVolumeClaim") => &Typed(persistent_volume_claim::PersistentVolumeClaims),
        ("", "Endpoints") => &Typed(endpoints::EndpointsStrategy),
        ("", "Event") => &Typed(event::Events),
        ("events.k8s.io", "Event") => &Typed(event::NewEvents),
        ("", "LimitRange") => &Typed(limit_range::LimitRanges),
        ("", "ResourceQuota") => &Typed(resource_quota::ResourceQuotas),
        ("scheduling.k8s.io", "PriorityClass") => &Typed(priority_class::PriorityClasses),
        ("apps" | STEADFAST_GROUP, "StatefulSet") => &Typed(stateful_set::StatefulSets),
        ("apps", "ControllerRevision") => &Typed(controller_revision::ControllerRevisions),
        ("discovery.k8s.io", "EndpointSlice") => &Typed(endpoint_slice::EndpointSlices),
        ("storage.k8s.io", "StorageClass") => &Typed(storage_class::StorageClasses),
        ("coordination.k8s.io", "Lease") => &Typed(lease::Leases),
        (ACCESS, "Role") => &Typed(role::Roles),
        (ACCESS, "ClusterRole") => &Typed(role::ClusterRoles),
        (ACCESS, "RoleBinding") => &Typed(role_binding::RoleBindings),
        (ACCESS, "ClusterRoleBinding") => &Typed(role_binding::ClusterRoleBindings),
        ("policy", "PodDisruptionBudget") => &Typed(pod_disruption_budget::PodDisruptionBudgets),
        (group, kind) => unreachable!("a row without a strategy: {kind} of {group:?}; a test visits every row"),
    }
}
