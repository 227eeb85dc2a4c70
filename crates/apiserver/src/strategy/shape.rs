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
    Object(Reference),
    /// A list of these.
    List(Box<Shape>),
    /// A map from text to these.
    Map(Box<Shape>),
    /// A resource quantity.
    Quantity,
    /// Text, a number, a truth value, or anything at all.
    Other,
}

/// Stands for a schema: schemas refer to one another in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference(usize);

impl Reference {
    pub fn object(self) -> &'static Object {
        &shapes().objects[self.0]
    }
}

/// The objects of one schema.
#[derive(Debug)]
pub struct Object {
    /// The schema's name, such as `io.k8s.api.core.v1.PodSpec`.
    pub name: String,
    /// Sorted by name; nothing where what the objects hold is not declared.
    pub fields: Box<[(String, Field)]>,
    /// Whether these objects are always seen as a whole.
    pub is_atomic: bool,
}

impl Object {
    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let place = self.fields.binary_search_by(|(own, _)| own.as_str().cmp(name)).ok()?;
        Some(&self.fields[place].1)
    }

    /// Whether there are no fields but those that are declared.
    pub fn is_closed(&self) -> bool {
        !self.name.ends_with(".RawExtension") && !self.name.ends_with(".FieldsV1")
    }
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    pub shape: Shape,
    /// How a patch merges it, if not by the default.
    pub rule: Option<&'static Rule>,
}

/// The objects of all schemas, and where each is.
struct Shapes {
    objects: Vec<Object>,
    places: HashMap<String, usize>,
}

/// The shape of a resource's objects.
pub fn of(resource: &Resource) -> Shape {
    named(resource.codec.schema_name).map_or(Shape::Other, Shape::Object)
}

/// A schema by its name.
pub fn named(schema: &str) -> Option<Reference> {
    shapes().places.get(schema).copied().map(Reference)
}

/// A field of an object of the shape; `None` when the shape is no object or has no such field.
pub fn field(shape: &Shape, name: &str) -> Option<&'static Field> {
    match shape {
        Shape::Object(reference) => reference.object().field(name),
        _ => None,
    }
}

/// What stands at a key of an object or map of the shape.
pub fn child(shape: &Shape, key: &str) -> Shape {
    match shape {
        Shape::Map(value) => (**value).clone(),
        _ => field(shape, key).map_or(Shape::Other, |field| field.shape.clone()),
    }
}

fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let schemas = schemas::bare();
        let places: HashMap<_, _> = schemas.keys().cloned().zip(0..).collect();
        let objects = schemas.iter().map(|(name, schema)| object_of(name, schema, &places)).collect();
        Shapes { objects, places }
    })
}

fn object_of(name: &str, schema: &Value, places: &HashMap<String, usize>) -> Object {
    let properties = schema.get("properties").and_then(Value::as_object);
    let field = |(field, schema): (&String, &Value)| {
        (field.clone(), Field { shape: shape_of(schema, places), rule: merge_keys::rule(name, field) })
    };
    let mut fields: Box<[_]> = properties.into_iter().flatten().map(field).collect();
    fields.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    let is_atomic = merge_keys::rule(name, merge_keys::WHOLE_TYPE).is_some_and(|rule| rule.list_type == "map:atomic");
    Object { name: name.to_owned(), fields, is_atomic }
}

fn shape_of(schema: &Value, places: &HashMap<String, usize>) -> Shape {
    if let Some(name) = schemas::reference(schema) {
        let quantity = name.ends_with(".api.resource.Quantity");
        let object = || places.get(name).map_or(Shape::Other, |place| Shape::Object(Reference(*place)));
        return if quantity { Shape::Quantity } else { object() };
    }
    match (schema.get("items"), schema.get("additionalProperties")) {
        (Some(items), _) => Shape::List(Box::new(shape_of(items, places))),
        (None, Some(values)) => Shape::Map(Box::new(shape_of(values, places))),
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
