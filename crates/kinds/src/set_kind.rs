//! The two names under which sets are served: Kubernetes' own, and ours, so that our controller can work beside another one.
//!
//! A set of our group has the shape of a StatefulSet. To every rule it *is* one: only on the wire its group differs.

use std::any::Any;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::object::{Codec, Object};
use crate::registry::{self, Resource};

/// The group of sets that are ours alone.
pub const STEADFAST_GROUP: &str = "apps.steadfast.dev";

/// Which sets are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetKind {
    /// `statefulsets.apps`, which a cluster's own controller may look after.
    #[default]
    Apps,
    /// `statefulsets.apps.steadfast.dev`.
    Steadfast,
}

impl SetKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Apps, Self::Steadfast];

    /// The API group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Steadfast => STEADFAST_GROUP,
        }
    }

    /// The `apiVersion` of a set, as its dependents' owner references name it.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Apps => "apps/v1",
            Self::Steadfast => "apps.steadfast.dev/v1",
        }
    }

    /// Whether an `apiVersion` is of this group, in whatever version.
    pub fn has_version(self, api_version: &str) -> bool {
        api_version.strip_prefix(self.group()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// How these sets are served.
    ///
    /// # Panics
    /// Never: a test visits both.
    pub fn resource(self) -> &'static Resource {
        registry::find(self.group(), "v1", "statefulsets").expect("both kinds of sets are in the registry")
    }
}

impl SetKind {
    /// Reads a set of this kind from JSON text.
    pub fn read(self, json: &[u8]) -> Result<StatefulSet, serde_json::Error> {
        match self {
            Self::Apps => serde_json::from_slice(json),
            Self::Steadfast => {
                let mut value: Value = serde_json::from_slice(json)?;
                if let Some(version) = value.get_mut("apiVersion").filter(|version| **version == json!(self.api_version())) {
                    *version = Self::Apps.api_version().into();
                }
                // By way of the text, so that the program has one decoder of sets.
                serde_json::from_slice(value.to_string().as_bytes())
            }
        }
    }

    /// A set as one of this kind, as compact JSON.
    pub fn write(self, set: &StatefulSet) -> Vec<u8> {
        match self {
            Self::Apps => set.to_json(),
            Self::Steadfast => {
                let mut value = (set as &dyn Object).to_value();
                value["apiVersion"] = self.api_version().into();
                value.to_string().into_bytes()
            }
        }
    }
}

/// A set of our own group. Whoever asks for its type gets the [`StatefulSet`] inside.
#[derive(Clone, Debug)]
struct SteadfastSet(StatefulSet);

impl Object for SteadfastSet {
    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }

    fn to_json(&self) -> Vec<u8> {
        SetKind::Steadfast.write(&self.0)
    }

    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.0
    }
}

/// Reads and describes sets of our own group, with the reading code of StatefulSets.
pub(crate) const STEADFAST_CODEC: Codec = Codec {
    from_json: |json| Ok(Box::new(SteadfastSet(SetKind::Steadfast.read(json)?))),
    schema_name: STEADFAST_SCHEMA,
    #[cfg(feature = "schemas")]
    schema: |generator| generator.subschema_for::<crate::schemas::SteadfastSet>(),
};

/// The schema of a StatefulSet under a name of its own.
pub(crate) const STEADFAST_SCHEMA: &str = "dev.steadfast.apps.v1.StatefulSet";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_served_and_only_their_own_owners_are_theirs() {
        for kind in SetKind::ALL {
            assert_eq!((kind.resource().group, kind.resource().api_version().as_str()), (kind.group(), kind.api_version()));
            let of_kind: Vec<_> = SetKind::ALL.into_iter().filter(|other| kind.has_version(other.api_version())).collect();
            assert_eq!(of_kind, [kind]);
        }
        assert!(SetKind::Apps.has_version("apps/v1beta1") && !SetKind::Apps.has_version("v1"));
    }

    #[test]
    fn a_set_of_our_group_is_a_stateful_set_that_keeps_its_group_on_the_wire() {
        let given = json!({"apiVersion": "apps.steadfast.dev/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": {}, "template": {}}});
        let mut object = STEADFAST_CODEC.from_value(&given).unwrap();
        assert_eq!(object.downcast_ref::<StatefulSet>().unwrap().spec.as_ref().unwrap().replicas, Some(3));
        object.downcast_mut::<StatefulSet>().unwrap().spec.as_mut().unwrap().replicas = Some(4);
        let written: Value = serde_json::from_slice(&object.to_json()).unwrap();
        assert_eq!((&written["apiVersion"], &written["spec"]["replicas"]), (&given["apiVersion"], &json!(4)));
        assert!(STEADFAST_CODEC.from_value(&json!({"apiVersion": "apps/v2", "kind": "StatefulSet"})).is_err());
    }
}
