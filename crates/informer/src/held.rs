//! One object of a view: its text, and the object itself while it is looked at. A decoded object takes several times the memory
//! of its text, and most objects of a large cluster are looked at rarely.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kinds::managed_fields;
use kube::Resource;

use crate::feed::Decode;
use crate::view::locked;

#[derive(Debug)]
pub(crate) struct Held<K> {
    /// JSON. It may say who owns which field, which does not count.
    pub(crate) text: Bytes,
    /// The uid of the controlling owner.
    pub(crate) owner: Option<Box<str>>,
    decoded: Mutex<Option<Arc<K>>>,
    /// Whether anybody looked since [`Held::rest`].
    used: AtomicBool,
}

/// What became of an object that may rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Somebody looked at it: it is to be asked again.
    Awake,
    FallenAsleep,
    /// Nothing is to be done: it rests already, or somebody has it.
    Kept,
}

impl<K: Resource> Held<K> {
    /// An object that has just been read from this text.
    pub(crate) fn new(text: Bytes, object: K) -> Self {
        let mut owners = object.meta().owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str().into());
        Self { text, owner, decoded: Mutex::new(Some(Arc::new(object))), used: AtomicBool::new(true) }
    }
}

impl<K> Held<K> {
    /// The object. `None` can't be: the text was decoded before.
    pub(crate) fn get(&self, decode: Decode<K>) -> Option<Arc<K>> {
        let mut decoded = locked(&self.decoded);
        self.used.store(true, Ordering::Relaxed);
        if decoded.is_none() {
            *decoded = decode(&self.short()).ok().map(Arc::new);
        }
        decoded.clone()
    }

    /// Lets go of the object if nobody looked since the last call and nobody has it. While somebody has it, letting go would free
    /// nothing.
    pub(crate) fn rest(&self) -> Rest {
        let mut decoded = locked(&self.decoded);
        let looked_at = self.used.swap(false, Ordering::Relaxed);
        match decoded.as_ref() {
            Some(_) if looked_at => Rest::Awake,
            Some(object) if Arc::strong_count(object) > 1 => Rest::Kept,
            None => Rest::Kept,
            Some(_) => {
                let object = decoded.take();
                drop(decoded);
                drop(object);
                Rest::FallenAsleep
            }
        }
    }

    /// Whether both are the same version of the same object.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.short() == other.short()
    }

    /// The text without the account of who owns what.
    fn short(&self) -> Cow<'_, str> {
        managed_fields::split(str::from_utf8(&self.text).unwrap_or_default()).0
    }
}
