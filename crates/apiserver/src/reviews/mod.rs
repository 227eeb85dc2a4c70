//! Questions about who someone is and what they may do: created, answered, and not stored.
//!
//! They are read and answered as JSON trees. Few are asked, and a generated decoder for each would be most of their code.

use http::StatusCode;
use kinds::reviews::Review;
use serde_json::{Value, json};

use crate::context::Context;
use crate::decode;
use crate::error::ApiError;
use crate::respond::{self, Response};

mod access;
mod identity;
mod rules;

/// Answers a review.
pub async fn run(context: &Context<'_>, review: &'static Review, namespace: &str, body: &[u8]) -> Result<Response, ApiError> {
    let mut object = decode::review(review, context.headers, body)?;
    let spec = Spec { review, value: object.get("spec").cloned().unwrap_or_default() };
    let status = match review.kind {
        "TokenReview" => identity::token(context, &spec).await?,
        "SelfSubjectReview" => identity::own(context),
        "SelfSubjectRulesReview" => rules::own(context, &spec).await?,
        "SelfSubjectAccessReview" => access::own(context, &spec).await?,
        "LocalSubjectAccessReview" => access::local(context, &spec, namespace).await?,
        _ => access::subject(context, &spec).await?,
    };
    object["apiVersion"] = json!(review.api_version());
    object["kind"] = json!(review.kind);
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if review.kind == "SelfSubjectReview" {
        object["metadata"]["creationTimestamp"] = json!(crate::deletion::now().to_string());
    }
    object["status"] = status;
    // Its table of messages knows what is asked, not what is answered.
    Ok(respond::only_json(StatusCode::CREATED, &object))
}

/// What is asked.
struct Spec {
    review: &'static Review,
    value: Value,
}

impl Spec {
    /// A text at a path of fields; empty if there is none.
    fn text(&self, path: &[&str]) -> Result<&str, ApiError> {
        match self.at(path) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.mismatch(path, other, "string")),
        }
    }

    /// A list of texts.
    fn texts(&self, field: &str) -> Result<Vec<String>, ApiError> {
        let wrong = |other| self.mismatch(&[field], other, "[]string");
        match self.at(&[field]) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(item))).collect(),
            Some(other) => Err(wrong(other)),
        }
    }

    fn has(&self, field: &str) -> bool {
        self.at(&[field]).is_some_and(|value| !value.is_null())
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.value, |value, field| value.get(field))
    }

    fn mismatch(&self, path: &[&str], found: &Value, wanted: &str) -> ApiError {
        let found = match found {
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            _ => "object",
        };
        let kind = self.review.kind;
        ApiError::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field {kind}.spec.{} of \
             type {wanted}",
            path.join(".")
        ))
    }
}
