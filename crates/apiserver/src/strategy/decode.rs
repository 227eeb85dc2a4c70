//! What the decoder of upstream refuses and the types' own decoder lets pass: text that is no quantity.

use kinds::Resource;
use serde_json::Value;

use super::shape::{self, Shape};
use crate::error::ApiError;

/// Refuses an object with a malformed quantity. To be called with the JSON of every object that enters, before it is decoded.
pub fn decode_check(resource: &Resource, object: &Value) -> Result<(), ApiError> {
    check(object, &shape::of(resource)).map_err(|error| {
        let Resource { kind, version, .. } = resource;
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
    })
}

fn check(value: &Value, shape: &Shape) -> Result<(), kinds::quantity::ParseQuantityError> {
    match (shape, value) {
        (Shape::Quantity, Value::String(text)) => text.parse::<kinds::Quantity>().map(drop),
        (Shape::Quantity, Value::Number(number)) => number.to_string().parse::<kinds::Quantity>().map(drop),
        (Shape::Object(_) | Shape::Map(_), Value::Object(fields)) => {
            fields.iter().try_for_each(|(key, value)| check(value, &shape::child(shape, key)))
        }
        (Shape::List(item), Value::Array(items)) => items.iter().try_for_each(|value| check(value, item)),
        _ => Ok(()),
    }
}
