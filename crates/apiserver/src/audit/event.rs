//! One record, as a line of JSON: upstream's `audit.k8s.io/v1` Event.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::policy::{Level, Stage};
use crate::auth::Identity;

/// One record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event<'a> {
    pub kind: &'static str,
    pub api_version: &'static str,
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: &'a str,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub request_uri: &'a str,
    pub verb: &'a str,
    pub user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<User<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[_]>::is_empty")]
    pub source_ips: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<&'a ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<&'a RawValue>,
    pub request_received_timestamp: String,
    pub stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<&'static str, String>,
}

/// Who asked.
#[derive(Debug, Serialize)]
pub struct User<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> From<&'a Identity> for User<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self { username: &identity.user, uid: &identity.uid, groups: &identity.groups, extra: &identity.extra }
    }
}

/// How it was answered: a Status that does not say that it is one.
#[derive(Debug, Serialize)]
pub struct ResponseStatus<'a> {
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a StatusDetails>,
    code: i32,
}

/// Always empty.
#[derive(Debug, Default, Serialize)]
struct Metadata {}

impl<'a> From<&'a Status> for ResponseStatus<'a> {
    fn from(told: &'a Status) -> Self {
        let Status { status, message, reason, details, code, .. } = told;
        Self {
            metadata: Metadata {},
            status: status.as_deref(),
            message: message.as_deref(),
            reason: reason.as_deref(),
            details: details.as_ref(),
            code: code.unwrap_or_default(),
        }
    }
}

/// What of the API was asked for.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub resource: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub api_group: &'static str,
    pub api_version: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub subresource: &'static str,
}

/// A time to the microsecond.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// An object as it is put on record.
pub fn object(json: &[u8], without_managed_fields: bool) -> Option<Box<RawValue>> {
    if !without_managed_fields {
        return serde_json::from_slice(json).ok();
    }
    let mut value: Value = serde_json::from_slice(json).ok()?;
    let forget = |object: &mut Value| {
        let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
        meta.map(|meta| meta.remove("managedFields"));
    };
    forget(&mut value);
    value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(forget);
    RawValue::from_string(value.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_as_they_are_or_without_the_account_of_who_owns_what() {
        let json = br#"{"metadata":{"name":"a","managedFields":[1]},"items":[{"metadata":{"managedFields":[2],"name":"b"}}]}"#;
        assert_eq!(object(json, false).unwrap().get().as_bytes(), json);
        let stripped = object(json, true).unwrap();
        assert!(!stripped.get().contains("managedFields") && stripped.get().contains(r#""name":"b""#), "{stripped}");
        assert!(object(b"no JSON", false).is_none());
    }

    #[test]
    fn times_have_six_digits() {
        assert_eq!(time(Timestamp::new(1, 5_000).unwrap()), "1970-01-01T00:00:01.000005Z");
    }
}
