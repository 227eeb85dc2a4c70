//! Who may do what.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, name, typed};

const COLUMNS: &[Column] = &[
    NAME,
    Column::text("Role", "The role that is given."),
    AGE,
    Column::wide("Users", "The users it is given to."),
    Column::wide("Groups", "The groups it is given to."),
    Column::wide("ServiceAccounts", "The service accounts it is given to."),
];

pub(crate) const ROLE_BINDING: Printer = Printer {
    columns: COLUMNS,
    cells: |object, now| {
        let RoleBinding { metadata, role_ref, subjects } = typed(object);
        cells(metadata, role_ref, subjects.as_deref(), now)
    },
};

pub(crate) const CLUSTER_ROLE_BINDING: Printer = Printer {
    columns: COLUMNS,
    cells: |object, now| {
        let ClusterRoleBinding { metadata, role_ref, subjects } = typed(object);
        cells(metadata, role_ref, subjects.as_deref(), now)
    },
};

fn cells(metadata: &ObjectMeta, role: &RoleRef, subjects: Option<&[Subject]>, now: Timestamp) -> Vec<Value> {
    let of_kind = |kind: &str| {
        let subjects = subjects.unwrap_or_default().iter().filter(|subject| subject.kind == kind);
        let names = subjects.map(|subject| match &subject.namespace {
            Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", subject.name),
            _ => subject.name.clone(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    let role = Value::from(format!("{}/{}", role.kind, role.name));
    vec![name(metadata), role, age(metadata, now), of_kind("User"), of_kind("Group"), of_kind("ServiceAccount")]
}
