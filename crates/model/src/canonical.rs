//! One form for states that mean the same, so that they are visited once.
//!
//! Versions and uids count up in a real cluster, and times go on, so no two states would ever be equal. Here the version of
//! an object is a sum over its content, its uid is its name and the lowest number that nothing refers to, and the clock
//! stands still but for the steps that tell a pod that was ready once from one that never was.

use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::forecast::World;
use serde::Serialize;

use crate::state::{Objects, State};

/// A set of sums, which need no further hashing.
pub(crate) type Sums = std::collections::HashSet<u64, BuildHasherDefault<AsIs>>;
/// What is known by sum.
pub(crate) type BySum<V> = std::collections::HashMap<u64, V, BuildHasherDefault<AsIs>>;

/// A running sum of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    pub(crate) fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(crate) fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.number(u64::from(byte)));
    }

    pub(crate) fn value(mut self) -> u64 {
        self.number(self.0 >> 32);
        self.0
    }
}

impl io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A hasher for numbers that are sums already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8) | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The version of an object in canonical form.
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Brings what has changed since `before` into canonical form.
pub(crate) fn changed(state: &mut State, before: &World) {
    state.world.now = Timestamp::UNIX_EPOCH;
    let names = [
        fresh_names(&state.world.pods, &before.pods),
        fresh_names(&state.world.claims, &before.claims),
        fresh_names(&state.world.revisions, &before.revisions),
    ];
    let [pods, claims, revisions] = names.map(|names| with_uids(state, names));
    let world = &mut state.world;
    settle(&mut world.pods, pods);
    settle(&mut world.claims, claims);
    settle(&mut world.revisions, revisions);
    if !Arc::ptr_eq(&world.set, &before.set) {
        set(&mut world.set);
    }
}

/// Gives a set the version of its content.
pub(crate) fn set(set: &mut Arc<StatefulSet>) {
    seal(Arc::make_mut(set));
}

/// The objects that were changed or created, and whether they were created.
fn fresh_names<K: Metadata<Ty = ObjectMeta>>(now: &Objects<K>, before: &Objects<K>) -> Vec<(String, bool)> {
    let changed = now.iter().filter(|(name, object)| before.get(*name).is_none_or(|old| !Arc::ptr_eq(old, object)));
    let is_new = |object: &K| object.metadata().uid.as_deref().is_some_and(|uid| uid.starts_with("foreseen-"));
    changed.map(|(name, object)| (name.clone(), is_new(object))).collect()
}

/// The names, and uids for those that need one.
fn with_uids(state: &State, names: Vec<(String, bool)>) -> Vec<(String, Option<String>)> {
    let free = |name: &str| {
        let mut uid = String::new();
        (0_u32..).find(|number| {
            uid.clear();
            let _ = write!(uid, "{name}~{number}");
            !state.mentions(&uid)
        });
        uid
    };
    names.into_iter().map(|(name, is_new)| (name.clone(), is_new.then(|| free(&name)))).collect()
}

fn settle<K: Metadata<Ty = ObjectMeta> + Clone + Serialize>(objects: &mut Objects<K>, names: Vec<(String, Option<String>)>) {
    for (name, uid) in names {
        let Some(object) = objects.get_mut(&name).map(Arc::make_mut) else { continue };
        if uid.is_some() {
            object.metadata_mut().uid = uid;
        }
        seal(object);
    }
}

fn seal<K: Metadata<Ty = ObjectMeta> + Serialize>(object: &mut K) {
    object.metadata_mut().resource_version = None;
    let mut sum = Sum::default();
    // A sum takes all that is written, and a Kubernetes object is always JSON.
    let _ = serde_json::to_writer(&mut sum, object);
    object.metadata_mut().resource_version = Some(sum.value().to_string());
}
