//! The shapes of the served types: which field holds what. Built once from the types' schemas, for code that walks JSON
//! before it becomes a typed object.

use std::collections::HashMap;
use std::sync::OnceLock;

use kinds::Resource;
use kinds::merge_keys::{self, Rule};
use serde_json::Value;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An object of this schema.
    Object(String),
    /// A list of these.
    List(Box<Shape>),
    /// A map from text to these.
    Map(Box<Shape>),
    /// A resource quantity.
    Quantity,
    /// Text, a number, a truth value, or anything at all.
    Other,
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    pub shape: Shape,
    /// How a patch merges it, if not by the default.
    pub rule: Option<&'static Rule>,
}

type Objects = HashMap<String, HashMap<String, Field>>;

/// The shape of a resource's objects.
pub fn of(resource: &Resource) -> Shape {
    Shape::Object(resource.codec.schema_name.to_owned())
}

/// A field of an object of the shape; `None` when the shape is no object or has no such field.
pub fn field(shape: &Shape, name: &str) -> Option<&'static Field> {
    match shape {
        Shape::Object(schema) => objects().get(schema)?.get(name),
        _ => None,
    }
}

/// The fields of the objects of a schema; `None` if they are none that are known.
pub fn object(schema: &str) -> Option<(&'static str, &'static HashMap<String, Field>)> {
    let (name, fields) = objects().get_key_value(schema)?;
    (!fields.is_empty()).then_some((name.as_str(), fields))
}

/// Whether the objects of a schema are always seen as a whole.
pub fn is_atomic(schema: &str) -> bool {
    merge_keys::rule(schema, merge_keys::WHOLE_TYPE).is_some_and(|rule| rule.list_type == "map:atomic")
}

/// What stands at a key of an object or map of the shape.
pub fn child(shape: &Shape, key: &str) -> Shape {
    match shape {
        Shape::Map(value) => (**value).clone(),
        _ => field(shape, key).map_or(Shape::Other, |field| field.shape.clone()),
    }
}

fn objects() -> &'static Objects {
    static OBJECTS: OnceLock<Objects> = OnceLock::new();
    OBJECTS.get_or_init(|| schemas::bare().iter().map(|(name, schema)| (name.clone(), fields_of(name, schema))).collect())
}

fn fields_of(schema_name: &str, schema: &Value) -> HashMap<String, Field> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let field =
        |(name, schema): (&String, &Value)| (name.clone(), Field { shape: shape_of(schema), rule: merge_keys::rule(schema_name, name) });
    properties.into_iter().flatten().map(field).collect()
}

fn shape_of(schema: &Value) -> Shape {
    if let Some(name) = schemas::reference(schema) {
        return if name.ends_with(".api.resource.Quantity") { Shape::Quantity } else { Shape::Object(name.to_owned()) };
    }
    match (schema.get("items"), schema.get("additionalProperties")) {
        (Some(items), _) => Shape::List(Box::new(shape_of(items))),
        (None, Some(values)) => Shape::Map(Box::new(shape_of(values))),
        (None, None) => Shape::Other,
    }
}

#[cfg(test)]
mod tests {
    use kinds::registry;

    use super::*;

    #[test]
    fn the_walk_reaches_the_quantities_of_a_container_in_a_stateful_set() {
        let mut shape = of(registry::find("apps", "v1", "statefulsets").unwrap());
        for key in ["spec", "template", "spec"] {
            shape = child(&shape, key);
        }
        assert_eq!(field(&shape, "containers").unwrap().rule.unwrap().patch_merge_key, "name");
        let Shape::List(mut shape) = child(&shape, "containers") else { panic!("containers are a list") };
        for key in ["resources", "limits", "cpu"] {
            *shape = child(&shape, key);
        }
        assert_eq!(*shape, Shape::Quantity);
    }
}
