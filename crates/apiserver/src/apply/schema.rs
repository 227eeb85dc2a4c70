//! How a value of a kind is owned: as a whole, field by field, or item by item.

use kinds::Resource;
use kinds::merge_keys::Rule;

use crate::strategy::shape::{self, Object, Reference, Shape};

/// How a value is owned.
#[derive(Clone, Copy, Debug)]
pub enum Schema {
    /// As a whole.
    Leaf,
    /// Field by field; there are no other fields than these.
    Object(&'static Object),
    /// Key by key.
    Map(&'static Shape),
    /// Item by item; an item is its value.
    Set,
    /// Item by item; an item is known by these fields of it.
    Keyed { keys: &'static str, item: &'static Shape },
}

/// Fields of upstream's types that are there even when nothing is in them. So who fills them does not thereby own them.
const ALWAYS_THERE: &[(&str, &[&str])] = &[
    ("PodTemplateSpec", &["metadata", "spec"]),
    ("StatefulSetSpec", &["template", "updateStrategy"]),
    ("PodSpec", &["containers"]),
    ("ServiceStatus", &["loadBalancer"]),
    ("PersistentVolumeClaimSpec", &["resources"]),
    ("NodeStatus", &["nodeInfo", "daemonEndpoints"]),
    ("NodeDaemonEndpoints", &["kubeletEndpoint"]),
    ("Event", &["involvedObject", "source", "regarding"]),
    ("EndpointSlice", &["endpoints", "ports"]),
];

/// Fields by which list items are known, and that upstream fills in when an item leaves them out.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "\"TCP\"")];

impl Schema {
    /// The schema of a resource's objects.
    pub fn of(resource: &Resource) -> Self {
        shape::named(resource.codec.schema_name).map_or(Self::Leaf, Self::of_object)
    }

    fn of_object(reference: Reference) -> Self {
        let object = reference.object();
        if object.fields.is_empty() { Self::Leaf } else { Self::Object(object) }
    }

    fn of_shape(shape: &'static Shape, rule: Option<&'static Rule>) -> Self {
        let list_type = rule.map_or("", |rule| rule.list_type);
        match shape {
            Shape::Object(object) if list_type == "map:granular" || list_type.is_empty() && !object.object().is_atomic => {
                Self::of_object(*object)
            }
            Shape::Map(value) if list_type != "map:atomic" => Self::Map(value),
            Shape::List(item) => match (list_type, rule) {
                ("set", _) => Self::Set,
                ("map", Some(rule)) => Self::Keyed { keys: rule.list_map_keys, item },
                _ => Self::Leaf,
            },
            _ => Self::Leaf,
        }
    }

    /// The schema of a field or a key; `None` for a field that the object doesn't have.
    pub fn child(self, name: &str) -> Option<Self> {
        match self {
            Self::Object(object) => object.field(name).map(|field| Self::of_shape(&field.shape, field.rule)),
            Self::Map(value) => Some(Self::of_shape(value, None)),
            _ => None,
        }
    }

    /// The schema of a list's items.
    pub fn item(self) -> Self {
        match self {
            Self::Keyed { item, .. } => Self::of_shape(item, None),
            _ => Self::Leaf,
        }
    }

    /// Whether it is owned as a whole.
    pub fn is_leaf(self) -> bool {
        matches!(self, Self::Leaf)
    }

    /// What upstream has in place of a field that is absent.
    pub fn in_place_of(self, field: &str) -> Option<&'static str> {
        let Self::Object(object) = self else { return None };
        let is_root = object.field("apiVersion").is_some() && object.field("metadata").is_some();
        let short = object.name.rsplit('.').next().unwrap_or(&object.name);
        let there = is_root && matches!(field, "metadata" | "spec" | "status")
            || ALWAYS_THERE.iter().any(|(own, names)| *own == short && names.contains(&field));
        if !there {
            return None;
        }
        Some(if matches!(object.field(field)?.shape, Shape::List(_)) { "null" } else { "{}" })
    }

    /// What a key field is when an item leaves it out, as JSON.
    pub fn key_default(key: &str) -> Option<&'static str> {
        KEY_DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, default)| *default)
    }
}
