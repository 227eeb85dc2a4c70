//! What a person sees of an object: the columns of the Table that `kubectl get` asks for, and their cells, as upstream prints them.
//!
//! Everything here is pure: who prints passes the time in.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use crate::object::Object;

mod access;
pub mod age;
mod cluster;
mod event;
mod network;
mod pod;
mod policy;
mod storage;
mod workload;

pub(crate) use access::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
pub(crate) use cluster::{CONFIG_MAP, LEASE, NAMESPACE, NODE, SECRET};
pub(crate) use event::EVENT;
pub(crate) use network::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
pub(crate) use pod::POD;
pub(crate) use policy::{CREATED, PRIORITY_CLASS, RESOURCE_QUOTA};
pub(crate) use storage::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS};
pub use workload::SCALE;
pub(crate) use workload::{CONTROLLER_REVISION, POD_DISRUPTION_BUDGET, STATEFUL_SET};

/// One column of a Table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer` or `boolean`, as in OpenAPI.
    pub data_type: &'static str,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Shown by `-o wide` only.
    pub wide: bool,
}

impl Column {
    const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, data_type: "string", format: "", description, wide: false }
    }

    const fn number(name: &'static str, description: &'static str) -> Self {
        Self { data_type: "integer", ..Self::text(name, description) }
    }

    const fn wide(name: &'static str, description: &'static str) -> Self {
        Self { wide: true, ..Self::text(name, description) }
    }
}

const NAME: Column = Column {
    format: "name",
    ..Column::text("Name", "Name is unique within its namespace or, for a cluster-scoped kind, within the cluster.")
};
const AGE: Column = Column::text("Age", "The time since the object was created.");

/// How objects of one kind are printed.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    pub columns: &'static [Column],
    /// One cell for each column.
    pub cells: fn(&dyn Object, Timestamp) -> Vec<Value>,
}

/// Name and age: enough for kinds that have nothing else to show.
pub(crate) const PLAIN: Printer =
    Printer { columns: &[NAME, AGE], cells: |object, now| vec![name(object.meta()), age(object.meta(), now)] };

/// The object as the kind its row says it is.
fn typed<K: 'static>(object: &dyn Object) -> &K {
    object.downcast_ref().expect("the registry pairs each kind with its own printer")
}

fn name(meta: &ObjectMeta) -> Value {
    Value::from(meta.name.as_deref().unwrap_or_default())
}

fn age(meta: &ObjectMeta, now: Timestamp) -> Value {
    Value::from(since(meta.creation_timestamp.as_ref(), now))
}

fn since(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| age::human(now.duration_since(time.0)))
}

fn or_none(text: Option<&str>) -> &str {
    or(text, "<none>")
}

fn or<'a>(text: Option<&'a str>, otherwise: &'a str) -> &'a str {
    text.filter(|text| !text.is_empty()).unwrap_or(otherwise)
}

fn pairs<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    or_none(Some(&pairs.join(","))).to_owned()
}

/// The first three, and how many more there are.
fn first_three(all: &[String], none: &str) -> String {
    const SHOWN: usize = 3;
    match all {
        [] => none.to_owned(),
        few if few.len() <= SHOWN => few.join(","),
        many => format!("{} + {} more...", many[..SHOWN].join(","), many.len() - SHOWN),
    }
}
