//! What the store answers, in the words of the API.

use std::borrow::Cow;

use bytes::Bytes;
use kinds::{Object, Resource};
use serde_json::Value;
use store::{CommitError, Entry, ReadError, Store};

use crate::document;
use crate::error::ApiError;
use crate::keys;

/// An object as it is stored now.
#[derive(Debug)]
pub struct Current {
    pub entry: Entry,
    /// As the kind of the resource that was asked for, without `managedFields`.
    pub object: Box<dyn Object>,
    /// The stored text without `managedFields`.
    pub text: String,
    /// The stored `managedFields`; empty for none.
    pub managed: String,
}

impl Current {
    /// Decodes an entry.
    pub fn new(resource: &Resource, entry: Entry) -> Result<Self, ApiError> {
        let (text, managed) = document::split(entry.document.json());
        let object = document::read(resource, text.as_bytes())?;
        Ok(Self { entry, object, text, managed })
    }

    /// The object's text as the kind of a resource, without `managedFields`.
    pub fn text_as(&self, resource: &Resource) -> Cow<'_, str> {
        if std::ptr::eq(resource.stored(), resource) {
            Cow::Borrowed(&self.text)
        } else {
            Cow::Owned(String::from_utf8(self.object.to_json()).unwrap_or_default())
        }
    }

    /// The object as a tree, `managedFields` included.
    pub fn value(&self) -> Value {
        let mut value = self.object.to_value();
        if !self.managed.is_empty() {
            value["metadata"]["managedFields"] = serde_json::from_str(&self.managed).unwrap_or_default();
        }
        value
    }
}

/// The stored text of an object.
pub async fn json(store: &dyn Store, resource: &'static Resource, namespace: &str, name: &str) -> Result<Bytes, ApiError> {
    Ok(entry(store, resource, namespace, name).await?.document.json().clone())
}

/// The entry of an object.
pub async fn entry(store: &dyn Store, resource: &'static Resource, namespace: &str, name: &str) -> Result<Entry, ApiError> {
    let (entry, _) = store.get(&keys::object(resource, namespace, name)).await?;
    entry.ok_or_else(|| not_found(resource, name))
}

/// The object, decoded.
pub async fn current(store: &dyn Store, resource: &'static Resource, namespace: &str, name: &str) -> Result<Current, ApiError> {
    Current::new(resource, entry(store, resource, namespace, name).await?)
}

/// There is no such object.
pub fn not_found(resource: &'static Resource, name: &str) -> ApiError {
    ApiError::NotFound { resource, name: name.to_owned() }
}

/// Another write came first.
pub fn modified(resource: &'static Resource, name: &str) -> ApiError {
    let why = "the object has been modified; please apply your changes to the latest version and try again".to_owned();
    ApiError::Conflict { resource, name: name.to_owned(), why }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { wanted, oldest } => {
                Self::Expired { message: format!("The resourceVersion for the provided list is too old: {wanted} ({oldest})") }
            }
            ReadError::Future { wanted, newest } => Self::TooLargeRevision { wanted: wanted.0, current: newest.0 },
            ReadError::Unavailable(_) => Self::Unavailable { message: error.to_string() },
        }
    }
}

/// What a commit's failure means, a conflict excepted: what that means depends on the verb.
pub fn commit_error(error: &CommitError) -> ApiError {
    match error {
        CommitError::Conflict(_) => ApiError::internal("a conflict was met where none is possible"),
        CommitError::KeyTooLong { .. } => ApiError::bad_request(error.to_string()),
        CommitError::Overtaken => ApiError::Unavailable { message: format!("{error}, again and again; try again") },
        CommitError::DocumentTooLarge { .. } | CommitError::TooLargeForServer { .. } => {
            ApiError::TooLarge { message: format!("Request entity too large: {error}") }
        }
        CommitError::Unavailable(_) => ApiError::Unavailable { message: error.to_string() },
        CommitError::Uncertain(_) => ApiError::internal(error.to_string()),
    }
}
