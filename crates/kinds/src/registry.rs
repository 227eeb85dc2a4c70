//! THE table of what is served. Routes, discovery, OpenAPI, storage keys and printed columns all come from here: a new
//! resource is a row, plus a strategy in the API server only where it differs.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as EventsEvent;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::columns::{self, Printer};
use crate::object::Codec;
use crate::schema_name as schema;
use crate::set_kind::{STEADFAST_CODEC, STEADFAST_GROUP};

/// Whether objects of a resource live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// A path below an object that has verbs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `get`, `update`, `patch` of the status alone.
    Status,
    /// `autoscaling/v1` Scale.
    Scale,
    /// Assigns a pod to a node.
    Binding,
    /// Asks a pod to go, if its disruption budget allows it.
    Eviction,
    /// A container's log.
    Log,
    /// Runs a command in a container.
    Exec,
    /// Joins a container's first process.
    Attach,
    /// Carries connections to a pod's ports.
    PortForward,
    /// Adds containers to a pod that is there.
    EphemeralContainers,
    /// Issues a token for a service account.
    Token,
    /// Removes a namespace's finalizers.
    Finalize,
}

impl Subresource {
    /// Whether a request becomes a connection of its own, to the pod.
    pub fn connects(self) -> bool {
        matches!(self, Self::Exec | Self::Attach | Self::PortForward)
    }

    /// The path segment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Token => "token",
            Self::Finalize => "finalize",
        }
    }
}

/// A field that a field selector can ask for, besides `metadata.name` and `metadata.namespace`, which every resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As it stands in the selector: `spec.nodeName`.
    pub name: &'static str,
    /// Where it is in the stored object. The first of these places that holds a text that is not empty counts.
    pub places: &'static [&'static [&'static str]],
    /// The value of an object that has none.
    pub absent: &'static str,
}

const fn at(name: &'static str, places: &'static [&'static [&'static str]]) -> SelectableField {
    SelectableField { name, places, absent: "" }
}

/// One row: a resource that is served.
#[derive(Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub subresources: &'static [Subresource],
    /// The first segment of the storage key. Two rows with the same value are two views of the same objects.
    pub storage: &'static str,
    /// Whether a whole collection can be deleted by one request.
    pub delete_collection: bool,
    /// Whether `metadata.generation` counts the changes of the specification.
    pub generation: bool,
    /// Whether a deletion is answered with the deleted object instead of a Status.
    pub returns_deleted: bool,
    pub fields: &'static [SelectableField],
    pub printer: &'static Printer,
    pub codec: Codec,
}

impl Resource {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `pods` or `statefulsets.apps`, as error messages name a resource.
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The kind of a list of these.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The row whose kind is stored: another one only if this row is a second view of the same objects.
    pub fn stored(&self) -> &'static Self {
        RESOURCES.iter().find(|row| row.storage == self.storage).expect("a row finds itself at least")
    }

    /// Whether objects of this resource live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

use Scope::{Cluster, Namespaced};
use Subresource::{Attach, Binding, EphemeralContainers, Eviction, Exec, Finalize, Log, PortForward, Scale, Status, Token};

macro_rules! row {
    ($type:ty, $group:literal / $version:literal, $scope:ident, $plural:literal, $singular:literal
     $(, short: $short:expr)? $(, categories: $categories:expr)? $(, sub: $sub:expr)? $(, storage: $storage:literal)?
     $(, delete_collection: $collection:literal)? $(, generation: $generation:literal)? $(, returns_deleted: $returns:literal)?
     $(, fields: $fields:expr)? $(, print: $printer:ident)?) => {
        Resource {
            group: $group,
            version: $version,
            kind: <$type as k8s_openapi::Resource>::KIND,
            plural: $plural,
            singular: $singular,
            short_names: row!(@or $($short)?, &[]),
            categories: row!(@or $($categories)?, &[]),
            scope: $scope,
            subresources: row!(@or $($sub)?, &[]),
            storage: row!(@or $($storage)?, $plural),
            delete_collection: row!(@or $($collection)?, true),
            generation: row!(@or $($generation)?, false),
            returns_deleted: row!(@or $($returns)?, false),
            fields: row!(@or $($fields)?, &[]),
            printer: row!(@or $(&columns::$printer)?, &columns::PLAIN),
            codec: Codec::of::<$type>({
                const PARTS: [&str; 6] = schema::parts($group, $version, <$type as k8s_openapi::Resource>::KIND);
                const NAME: [u8; schema::length(&PARTS)] = schema::joined(&PARTS);
                schema::text(&NAME)
            }),
        }
    };
    (@or , $default:expr) => { $default };
    (@or $value:expr, $default:expr) => { $value };
}

const POD_SUBRESOURCES: &[Subresource] = &[Status, Binding, Eviction, Log, Exec, Attach, PortForward, EphemeralContainers];

const POD_FIELDS: &[SelectableField] = &[
    at("spec.nodeName", &[&["spec", "nodeName"]]),
    at("spec.restartPolicy", &[&["spec", "restartPolicy"]]),
    at("spec.schedulerName", &[&["spec", "schedulerName"]]),
    at("spec.serviceAccountName", &[&["spec", "serviceAccountName"]]),
    SelectableField { absent: "false", ..at("spec.hostNetwork", &[&["spec", "hostNetwork"]]) },
    at("status.phase", &[&["status", "phase"]]),
    at("status.podIP", &[&["status", "podIP"]]),
    at("status.nominatedNodeName", &[&["status", "nominatedNodeName"]]),
];

const EVENT_FIELDS: &[SelectableField] = &[
    at("involvedObject.kind", &[&["involvedObject", "kind"]]),
    at("involvedObject.namespace", &[&["involvedObject", "namespace"]]),
    at("involvedObject.name", &[&["involvedObject", "name"]]),
    at("involvedObject.uid", &[&["involvedObject", "uid"]]),
    at("involvedObject.apiVersion", &[&["involvedObject", "apiVersion"]]),
    at("involvedObject.resourceVersion", &[&["involvedObject", "resourceVersion"]]),
    at("involvedObject.fieldPath", &[&["involvedObject", "fieldPath"]]),
    at("reason", &[&["reason"]]),
    at("type", &[&["type"]]),
    at("source", &[&["source", "component"], &["reportingComponent"]]),
    at("reportingComponent", &[&["reportingComponent"]]),
];

/// The same places under the names they have in `events.k8s.io`.
const EVENTS_FIELDS: &[SelectableField] = &[
    at("regarding.kind", &[&["involvedObject", "kind"]]),
    at("regarding.namespace", &[&["involvedObject", "namespace"]]),
    at("regarding.name", &[&["involvedObject", "name"]]),
    at("regarding.uid", &[&["involvedObject", "uid"]]),
    at("regarding.apiVersion", &[&["involvedObject", "apiVersion"]]),
    at("regarding.resourceVersion", &[&["involvedObject", "resourceVersion"]]),
    at("regarding.fieldPath", &[&["involvedObject", "fieldPath"]]),
    at("reason", &[&["reason"]]),
    at("type", &[&["type"]]),
    at("reportingController", &[&["reportingComponent"]]),
];

const NODE_FIELDS: &[SelectableField] = &[SelectableField { absent: "false", ..at("spec.unschedulable", &[&["spec", "unschedulable"]]) }];

const SERVICE_FIELDS: &[SelectableField] = &[at("spec.clusterIP", &[&["spec", "clusterIP"]]), at("spec.type", &[&["spec", "type"]])];

const STATEFUL_SETS: Resource = row!(StatefulSet, "apps" / "v1", Namespaced, "statefulsets", "statefulset", short: &["sts"],
    categories: &["all"], sub: &[Status, Scale], generation: true, print: STATEFUL_SET);

/// Every resource that is served, in discovery order. Of two views of the same objects, the one that is stored comes first.
pub static RESOURCES: &[Resource] = &[
    row!(Namespace, "" / "v1", Cluster, "namespaces", "namespace", short: &["ns"], sub: &[Status, Finalize], delete_collection: false,
         fields: &[at("status.phase", &[&["status", "phase"]])], print: NAMESPACE),
    row!(Node, "" / "v1", Cluster, "nodes", "node", short: &["no"], sub: &[Status], fields: NODE_FIELDS, print: NODE),
    row!(Pod, "" / "v1", Namespaced, "pods", "pod", short: &["po"], categories: &["all"], sub: POD_SUBRESOURCES,
         generation: true, returns_deleted: true, fields: POD_FIELDS, print: POD),
    row!(Service, "" / "v1", Namespaced, "services", "service", short: &["svc"], categories: &["all"], sub: &[Status],
         returns_deleted: true, fields: SERVICE_FIELDS, print: SERVICE),
    row!(ConfigMap, "" / "v1", Namespaced, "configmaps", "configmap", short: &["cm"], print: CONFIG_MAP),
    row!(Secret, "" / "v1", Namespaced, "secrets", "secret", fields: &[at("type", &[&["type"]])], print: SECRET),
    row!(ServiceAccount, "" / "v1", Namespaced, "serviceaccounts", "serviceaccount", short: &["sa"], sub: &[Token], returns_deleted: true),
    row!(PersistentVolume, "" / "v1", Cluster, "persistentvolumes", "persistentvolume", short: &["pv"], sub: &[Status],
         returns_deleted: true, print: PERSISTENT_VOLUME),
    row!(PersistentVolumeClaim, "" / "v1", Namespaced, "persistentvolumeclaims", "persistentvolumeclaim", short: &["pvc"], sub: &[Status],
         returns_deleted: true, print: PERSISTENT_VOLUME_CLAIM),
    row!(Endpoints, "" / "v1", Namespaced, "endpoints", "endpoints", short: &["ep"], print: ENDPOINTS),
    row!(Event, "" / "v1", Namespaced, "events", "event", short: &["ev"], fields: EVENT_FIELDS, print: EVENT),
    row!(LimitRange, "" / "v1", Namespaced, "limitranges", "limitrange", short: &["limits"], print: CREATED),
    row!(ResourceQuota, "" / "v1", Namespaced, "resourcequotas", "resourcequota", short: &["quota"], sub: &[Status], returns_deleted: true,
         print: RESOURCE_QUOTA),
    row!(EventsEvent, "events.k8s.io" / "v1", Namespaced, "events", "event", short: &["ev"], fields: EVENTS_FIELDS, print: EVENT),
    STATEFUL_SETS,
    row!(ControllerRevision, "apps" / "v1", Namespaced, "controllerrevisions", "controllerrevision", print: CONTROLLER_REVISION),
    row!(EndpointSlice, "discovery.k8s.io" / "v1", Namespaced, "endpointslices", "endpointslice", generation: true, print: ENDPOINT_SLICE),
    row!(StorageClass, "storage.k8s.io" / "v1", Cluster, "storageclasses", "storageclass", short: &["sc"], returns_deleted: true,
         print: STORAGE_CLASS),
    row!(PriorityClass, "scheduling.k8s.io" / "v1", Cluster, "priorityclasses", "priorityclass", short: &["pc"], generation: true,
         print: PRIORITY_CLASS),
    row!(Lease, "coordination.k8s.io" / "v1", Namespaced, "leases", "lease", print: LEASE),
    row!(PodDisruptionBudget, "policy" / "v1", Namespaced, "poddisruptionbudgets", "poddisruptionbudget", short: &["pdb"], sub: &[Status],
         generation: true, print: POD_DISRUPTION_BUDGET),
    // All below one prefix: who may do what is followed by one watch.
    row!(ClusterRole, "rbac.authorization.k8s.io" / "v1", Cluster, "clusterroles", "clusterrole", storage: "rbac.clusterroles",
         print: CREATED),
    row!(ClusterRoleBinding, "rbac.authorization.k8s.io" / "v1", Cluster, "clusterrolebindings", "clusterrolebinding",
         storage: "rbac.clusterrolebindings", print: CLUSTER_ROLE_BINDING),
    row!(Role, "rbac.authorization.k8s.io" / "v1", Namespaced, "roles", "role", storage: "rbac.roles", print: CREATED),
    row!(RoleBinding, "rbac.authorization.k8s.io" / "v1", Namespaced, "rolebindings", "rolebinding", storage: "rbac.rolebindings",
         print: ROLE_BINDING),
    Resource {
        group: STEADFAST_GROUP,
        short_names: &["ssts"],
        storage: "statefulsets.apps.steadfast.dev",
        codec: STEADFAST_CODEC,
        ..STATEFUL_SETS
    },
];

/// The row of a group, version and plural name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|row| row.group == group && row.version == version && row.plural == plural)
}

/// The row of a kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|row| row.group == group && row.version == version && row.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_found_by_path_and_by_kind() {
        for row in RESOURCES {
            assert!(std::ptr::eq(find(row.group, row.version, row.plural).unwrap(), row));
            assert!(std::ptr::eq(find_kind(row.group, row.version, row.kind).unwrap(), row));
        }
    }
}
