//! Typed reads from the store.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::{Metadata, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kinds::{Object, Resource, registry};
use serde::de::DeserializeOwned;
use store::{Page, Range, ReadError, Revision, Store, WatchMessage};

use crate::error::ApiError;
use crate::{document, keys};

/// How long a read may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Reads objects of the kinds that admission asks for.
#[derive(Clone)]
pub(super) struct Reader {
    store: Arc<dyn Store>,
}

/// A served kind.
pub(super) trait Kind: Metadata<Ty = ObjectMeta> + DeserializeOwned {}

impl<K: Metadata<Ty = ObjectMeta> + DeserializeOwned> Kind for K {}

fn row<K: Kind>() -> Result<&'static Resource, ApiError> {
    registry::find_kind(K::GROUP, K::VERSION, K::KIND).ok_or_else(|| ApiError::internal(format!("{} is not served", K::KIND)))
}

fn decode<K: Kind>(json: &[u8]) -> Result<K, ApiError> {
    serde_json::from_slice(json).map_err(|error| ApiError::internal(format!("a stored {} can't be read: {error}", K::KIND)))
}

fn unavailable(error: ReadError) -> ApiError {
    ApiError::Unavailable { message: error.to_string() }
}

async fn in_time<T>(read: impl Future<Output = T>) -> Result<T, ApiError> {
    let late = |_| ApiError::Timeout { message: "the store did not answer in time".to_owned() };
    tokio::time::timeout(DEADLINE, read).await.map_err(late)
}

impl Reader {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// One object, as of now.
    pub(super) async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
        let key = keys::object(row::<K>()?, namespace, name);
        let (entry, _) = in_time(self.store.get(&key)).await?.map_err(unavailable)?;
        entry.map(|entry| decode(entry.document.json())).transpose()
    }

    /// All objects of a namespace, or of all namespaces when it is empty.
    pub(super) async fn list<K: Kind>(&self, namespace: &str) -> Result<Vec<K>, ApiError> {
        let page = self.page(row::<K>()?, namespace).await?;
        page.entries.iter().map(|entry| decode(entry.document.json())).collect()
    }

    /// All objects of a resource in a namespace, as its own kind, and as of when.
    pub(super) async fn objects(&self, resource: &Resource, namespace: &str) -> Result<(Vec<Box<dyn Object>>, Revision), ApiError> {
        let page = self.page(resource, namespace).await?;
        let objects = page.entries.iter().map(|entry| document::read(resource, entry.document.json())).collect::<Result<_, _>>()?;
        Ok((objects, page.revision))
    }

    /// How many objects of a resource there are in a namespace, and as of when.
    pub(super) async fn count(&self, resource: &Resource, namespace: &str) -> Result<(usize, Revision), ApiError> {
        let page = self.page(resource, namespace).await?;
        Ok((page.entries.len(), page.revision))
    }

    async fn page(&self, resource: &Resource, namespace: &str) -> Result<Page, ApiError> {
        let prefix = keys::collection(resource, namespace);
        let range = Range { prefix: &prefix, ..Range::default() };
        in_time(self.store.range(range)).await?.map_err(unavailable)
    }

    /// One object; when it is not there, it may take so long to appear.
    pub(super) async fn await_object<K: Kind>(&self, namespace: &str, name: &str, patience: Duration) -> Result<Option<K>, ApiError> {
        let key = keys::object(row::<K>()?, namespace, name);
        let (entry, revision) = in_time(self.store.get(&key)).await?.map_err(unavailable)?;
        if let Some(entry) = entry {
            return decode(entry.document.json()).map(Some);
        }
        let Ok(mut watch) = self.store.watch(&key, revision) else { return Ok(None) };
        let appears = async {
            loop {
                match watch.next().await {
                    Ok(WatchMessage::Event(event)) if *event.key == *key => {
                        if let Some(document) = &event.document {
                            return Some(document.json().clone());
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        match tokio::time::timeout(patience, appears).await {
            Ok(Some(json)) => decode(&json).map(Some),
            Ok(None) | Err(_) => Ok(None),
        }
    }
}
