//! What a client is asked to do, and what it says came of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A resource as discovery describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// Whether a whole collection can be deleted by one request.
    pub collection: bool,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As the server's errors name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// The format of a patch.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Patch {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Create,
    Read,
    List,
    Replace,
    Patch,
    Delete,
    DeleteCollection,
    /// Watches the object with this name from now on; answered when the first event has come.
    Watch,
    /// Answered with all events of that watch, when the object was deleted.
    Events,
}

/// One request. What does not matter to its verb is empty.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub verb: Verb,
    pub resource: Resource,
    pub namespace: Option<String>,
    pub name: String,
    pub body: Value,
    pub patch: Option<Patch>,
    /// Who applies.
    pub manager: String,
    /// Whether an apply takes over what others own.
    pub force: bool,
    pub dry_run: bool,
    pub label_selector: String,
    pub field_selector: String,
    /// How many objects a page of a list has; 0 if it has all. The answer is the whole list.
    pub limit: u32,
    /// Only the object with this uid is deleted.
    pub uid: Option<String>,
}

/// What the server refuses with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// Absent where the client does not tell it.
    pub code: Option<u64>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    /// Which object, and which of its fields; null where the client does not tell it.
    #[serde(default)]
    pub details: Value,
}

/// A client written by others.
pub trait Client: Send {
    /// Does what is asked; the answer is an object, a list, or `{"events": [...]}`. Panics where the client itself fails.
    fn call(&mut self, request: &Request) -> Result<Value, Failure>;

    /// Whether it can delete only the object that it means.
    fn has_preconditions(&self) -> bool {
        true
    }
}
