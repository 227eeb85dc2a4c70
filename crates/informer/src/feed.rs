//! Feeds a view from a list and a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::{ObjectKey, managed_fields};
use kube::Resource;

use crate::Watched;
use crate::held::Held;
use crate::source::{Sink, Text};
use crate::view::Shared;

/// Reads an object from the server's text.
pub type Decode<K> = fn(&str) -> Result<K, serde_json::Error>;

/// Puts what it is told into a view.
pub(crate) struct Feed<K> {
    shared: Arc<Shared<K>>,
    decode: Decode<K>,
    /// The list that is being received. The view doesn't change, nor its revision, before the list is whole.
    listed: BTreeMap<ObjectKey, Arc<Held<K>>>,
    /// The newest revision in it.
    revision: u64,
}

/// What the server told of one object.
struct Told<K> {
    key: ObjectKey,
    version: Option<String>,
    revision: u64,
    held: Arc<Held<K>>,
}

impl<K: Watched> Feed<K> {
    pub(crate) fn new(shared: Arc<Shared<K>>, decode: Decode<K>) -> Self {
        Self { shared, decode, listed: BTreeMap::new(), revision: 0 }
    }

    /// A server whose versions are no numbers gets no order from us. Nobody here asks who owns which field; a server keeps that when an
    /// object is written back without it.
    fn read(&self, text: Text<'_>) -> Result<Told<K>, serde_json::Error> {
        let (short, _) = managed_fields::split(text.as_str());
        let object = (self.decode)(&short)?;
        let version = object.meta().resource_version.clone();
        let revision = version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        Ok(Told { key: key_of(&object), version, revision, held: Arc::new(Held::new(text.keep(&short), object)) })
    }
}

impl<K: Watched> Sink for Feed<K> {
    fn begin_list(&mut self) {
        self.shared.begin_list();
        self.listed.clear();
        self.revision = 0;
    }

    fn listed(&mut self, object: Text<'_>) -> Result<(), serde_json::Error> {
        let Told { key, revision, held, .. } = self.read(object)?;
        self.revision = self.revision.max(revision);
        self.listed.insert(key, held);
        Ok(())
    }

    fn end_list(&mut self) {
        self.shared.take_over(std::mem::take(&mut self.listed), self.revision);
    }

    fn changed(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error> {
        let Told { key, version, revision, held } = self.read(object)?;
        self.shared.put(key, Some(held), revision);
        Ok(version)
    }

    fn deleted(&mut self, object: Text<'_>) -> Result<Option<String>, serde_json::Error> {
        let Told { key, version, revision, .. } = self.read(object)?;
        self.shared.put(key, None, revision);
        Ok(version)
    }
}

/// From bytes, as the API server reads objects: so the program has one decoder per kind.
pub(crate) fn decode<K: Watched>(object: &str) -> Result<K, serde_json::Error> {
    let mut object: K = serde_json::from_slice(object.as_bytes())?;
    object.meta_mut().managed_fields = None;
    Ok(object)
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}
