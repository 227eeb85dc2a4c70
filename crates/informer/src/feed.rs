//! Feeds a view from a list and a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::ObjectKey;
use kube::Resource;

use crate::Watched;
use crate::source::Sink;
use crate::view::Shared;

/// Puts what it is told into a view.
pub(crate) struct Feed<K> {
    shared: Arc<Shared<K>>,
    /// The list that is being received. The view doesn't change, nor its revision, before the list is whole.
    listed: BTreeMap<ObjectKey, Arc<K>>,
}

impl<K: Watched> Feed<K> {
    pub(crate) fn new(shared: Arc<Shared<K>>) -> Self {
        Self { shared, listed: BTreeMap::new() }
    }
}

impl<K: Watched> Sink for Feed<K> {
    fn begin_list(&mut self) {
        self.shared.begin_list();
        self.listed.clear();
    }

    fn listed(&mut self, object: &str) -> Result<(), serde_json::Error> {
        let object: K = decode(object)?;
        self.listed.insert(key_of(&object), Arc::new(object));
        Ok(())
    }

    fn end_list(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        let revision = listed.values().map(|object| revision_of(&**object)).max().unwrap_or(0);
        self.shared.take_over(listed, revision);
    }

    fn changed(&mut self, object: &str) -> Result<(), serde_json::Error> {
        let object: K = decode(object)?;
        let revision = revision_of(&object);
        self.shared.put(key_of(&object), Some(Arc::new(object)), revision);
        Ok(())
    }

    fn deleted(&mut self, object: &str) -> Result<(), serde_json::Error> {
        let object: K = decode(object)?;
        self.shared.put(key_of(&object), None, revision_of(&object));
        Ok(())
    }
}

/// From bytes, as the API server reads objects: so the program has one decoder per kind.
fn decode<K: Watched>(object: &str) -> Result<K, serde_json::Error> {
    serde_json::from_slice(object.as_bytes())
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

/// The `resourceVersion` as a number; a server whose versions are no numbers gets no order from us.
fn revision_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
