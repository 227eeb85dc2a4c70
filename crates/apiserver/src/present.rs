//! Stored JSON in the form that the client asked for: as it is, as rows of a Table, or metadata alone.

use bytes::Bytes;
use http_body_util::BodyExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::columns::{self, Column, Printer};
use kinds::{Resource, managed_fields};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::document;
use crate::error::ApiError;
use crate::media::Presentation;
use crate::query::Query;
use crate::respond::{self, Body};
use crate::sending::Joined;

/// What a Table's rows carry besides their cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// How objects are answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Form {
    pub presentation: Presentation,
    pub include: Include,
}

impl Form {
    /// Reads `includeObject`.
    pub fn new(presentation: Presentation, query: &Query) -> Self {
        let include = match query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        Self { presentation, include }
    }

    /// Whether objects go out as they are stored.
    pub fn is_plain(&self) -> bool {
        self.presentation == Presentation::Plain
    }
}

/// What a list says about itself.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListHead {
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<usize>,
}

/// One object. A Table names its columns only if `headers` says so.
pub fn object(resource: &Resource, json: &Bytes, form: Form, headers: bool) -> Result<Bytes, ApiError> {
    match form.presentation {
        Presentation::Plain => document::served(resource, json),
        Presentation::Metadata { version } => metadata(json, version),
        Presentation::Table { version } => {
            let head = ListHead { resource_version: head(json)?.metadata.resource_version.unwrap_or_default(), ..ListHead::default() };
            table((resource, resource.printer), std::slice::from_ref(json), &head, form.include, version, headers)
        }
    }
}

/// The scale of an object as a Table, or nothing if the client did not ask for one.
pub fn scale(resource: &Resource, json: &Bytes, form: Form) -> Result<Option<Bytes>, ApiError> {
    let Presentation::Table { version } = form.presentation else { return Ok(None) };
    let head = ListHead { resource_version: head(json)?.metadata.resource_version.unwrap_or_default(), ..ListHead::default() };
    table((resource, &columns::SCALE), std::slice::from_ref(json), &head, form.include, version, true).map(Some)
}

/// A list. Plain lists are the stored texts, one after the other, which are copied only as they are sent.
pub fn list(resource: &Resource, items: Vec<Bytes>, head: &ListHead, form: Form) -> Result<Body, ApiError> {
    let head_json = serde_json::to_string(head).unwrap_or_default();
    match form.presentation {
        Presentation::Plain => {
            let served = items.into_iter().map(|json| document::served(resource, &json));
            Ok(joined(&resource.list_kind(), &resource.api_version(), &head_json, served.collect::<Result<Vec<_>, _>>()?))
        }
        Presentation::Metadata { version } => {
            let items = items.iter().map(|json| metadata(json, version));
            let items = items.collect::<Result<Vec<_>, ApiError>>()?;
            Ok(joined("PartialObjectMetadataList", &format!("meta.k8s.io/{version}"), &head_json, items))
        }
        Presentation::Table { version } => {
            table((resource, resource.printer), &items, head, form.include, version, true).map(respond::full)
        }
    }
}

fn joined(kind: &str, api_version: &str, head: &str, items: Vec<Bytes>) -> Body {
    let before = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{head},"items":["#);
    Joined::new(before.into(), items, b"]}").boxed_unsync()
}

#[derive(Deserialize)]
struct Head {
    metadata: ObjectMeta,
}

fn head(json: &[u8]) -> Result<Head, ApiError> {
    serde_json::from_slice(json).map_err(|error| undecodable(&error))
}

/// The metadata alone, as it stands in the text.
fn metadata(json: &[u8], version: &str) -> Result<Bytes, ApiError> {
    let metadata = std::str::from_utf8(json).ok().and_then(managed_fields::metadata);
    let metadata = metadata.ok_or_else(|| ApiError::internal("a stored object has no metadata"))?;
    Ok(format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{metadata}}}"#).into())
}

fn undecodable(error: &serde_json::Error) -> ApiError {
    ApiError::internal(format!("stored metadata does not decode: {error}"))
}

fn table(
    (resource, printer): (&Resource, &Printer),
    items: &[Bytes],
    head: &ListHead,
    include: Include,
    version: &'static str,
    headers: bool,
) -> Result<Bytes, ApiError> {
    let now = Timestamp::now();
    let row = |json: &Bytes| -> Result<Value, ApiError> {
        let stored = (resource.stored().codec.from_json)(json)
            .map_err(|error| ApiError::internal(format!("a stored {} does not decode: {error}", resource.kind)))?;
        let cells = (printer.cells)(&*stored, now);
        let object = match include {
            Include::None => Value::Null,
            Include::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": stored.meta(),
            }),
            Include::Object => document::read(resource, json)?.to_value(),
        };
        Ok(json!({"cells": cells, "object": object}))
    };
    let columns = headers.then(|| definitions(printer));
    let rows = items.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let table = json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": head,
        "columnDefinitions": columns, "rows": rows,
    });
    Ok(Bytes::from(table.to_string()))
}

fn definitions(printer: &Printer) -> Vec<Value> {
    let column = |column: &Column| {
        json!({
            "name": column.name, "type": column.data_type, "format": column.format, "description": column.description,
            "priority": i32::from(column.wide),
        })
    };
    printer.columns.iter().map(column).collect()
}
