//! An OpenAPI 2.0 document in the protobuf form that kubectl reads: Gnostic's `openapi.v2.Document`.

use serde_json::Value;

use protobuf::{put_bytes, put_message, put_number};

/// The form's media type.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same as clients ask for it: an `@` is not allowed in the name of a type, and the same clients can't read it in an answer.
const ASKED_FOR: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Whether a client asks for the form.
pub fn is_accepted(accept: &str) -> bool {
    [MEDIA_TYPE, ASKED_FOR].iter().any(|name| accept.contains(name))
}

/// How a JSON value is written.
enum Form {
    Text,
    Flag,
    /// Anything, as YAML, which JSON is.
    Any,
    Message(&'static Message),
    /// Inside a message that has only this numbered field.
    Within(u64, &'static Form),
    /// A list: each item by itself.
    Each(&'static Form),
    /// An object: each key and value as a message of the two.
    Named(&'static Form),
    /// A parameter, whose message depends on where it is.
    Parameter,
}

/// The fields of a message by their names in JSON, and the number under which fields with names like `x-...` are.
struct Message {
    fields: &'static [(&'static str, u64, Form)],
    extensions: u64,
}

use Form::{Any, Each, Flag, Named, Text, Within};

const TEXTS: Form = Each(&Text);
static SCHEMA_FORM: Form = Form::Message(&SCHEMA);
static NAMED_SCHEMAS: Form = Named(&SCHEMA_FORM);
static PATHS: Form = Named(&Form::Message(&PATH));
static RESPONSES: Form = Named(&Within(1, &Form::Message(&RESPONSE)));

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 8, Within(2, &PATHS)),
        ("definitions", 9, Within(1, &NAMED_SCHEMAS)),
    ],
    extensions: 16,
};
static INFO: Message = Message { fields: &[("title", 1, Text), ("version", 2, Text)], extensions: 7 };
static PATH: Message = Message {
    fields: &[
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Each(&Form::Parameter)),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, TEXTS),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, TEXTS),
        ("consumes", 7, TEXTS),
        ("parameters", 8, Each(&Form::Parameter)),
        ("responses", 9, Within(1, &RESPONSES)),
    ],
    extensions: 13,
};
static RESPONSE: Message = Message { fields: &[("description", 1, Text), ("schema", 2, Within(1, &SCHEMA_FORM))], extensions: 5 };
static BODY: Message = Message {
    fields: &[("description", 1, Text), ("name", 2, Text), ("in", 3, Text), ("required", 4, Flag), ("schema", 5, Form::Message(&SCHEMA))],
    extensions: 6,
};
static IN_QUERY: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ],
    extensions: 23,
};
static IN_PATH: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ],
    extensions: 22,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("uniqueItems", 16, Flag),
        ("required", 19, TEXTS),
        ("enum", 20, Each(&Any)),
        ("additionalProperties", 21, Within(1, &SCHEMA_FORM)),
        ("type", 22, Within(1, &Text)),
        ("items", 23, Within(1, &SCHEMA_FORM)),
        ("allOf", 24, Each(&SCHEMA_FORM)),
        ("properties", 25, Within(1, &NAMED_SCHEMAS)),
    ],
    extensions: 31,
};

/// The document as a message.
pub fn encoded(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_fields(&mut out, &DOCUMENT, document);
    out
}

fn put_fields(out: &mut Vec<u8>, message: &Message, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, form)) = message.fields.iter().find(|(own, ..)| own == name) {
            put(out, *number, form, value);
        } else if name.starts_with("x-") {
            put_message(out, message.extensions, |out| {
                put_bytes(out, 1, name.as_bytes());
                put(out, 2, &Any, value);
            });
        }
    }
}

fn put(out: &mut Vec<u8>, number: u64, form: &Form, value: &Value) {
    match form {
        Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Flag => put_number(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Any => put_message(out, number, |out| put_bytes(out, 2, value.to_string().as_bytes())),
        Form::Message(message) => put_message(out, number, |out| put_fields(out, message, value)),
        Within(inner, form) => put_message(out, number, |out| put(out, *inner, form, value)),
        Each(form) => value.as_array().into_iter().flatten().for_each(|item| put(out, number, form, item)),
        Named(form) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                put_message(out, number, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    put(out, 2, form, value);
                });
            }
        }
        Form::Parameter => put_message(out, number, |out| put_message(out, 1, |out| put_parameter(out, value))),
    }
}

fn put_parameter(out: &mut Vec<u8>, value: &Value) {
    match value.get("in").and_then(Value::as_str) {
        Some("body") => put_message(out, 1, |out| put_fields(out, &BODY, value)),
        Some("query") => put_message(out, 2, |out| put_message(out, 3, |out| put_fields(out, &IN_QUERY, value))),
        _ => put_message(out, 2, |out| put_message(out, 4, |out| put_fields(out, &IN_PATH, value))),
    }
}
