//! Why a request is refused, and the `Status` that says so, worded as upstream's
//! (`k8s.io/apimachinery/pkg/api/errors`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};
use kinds::Resource;
use thiserror::Error;

use crate::apply::Conflict;
use crate::field::FieldError;

/// Why a request is refused.
#[derive(Clone, Debug, Error)]
pub enum ApiError {
    #[error("{message}")]
    BadRequest { message: String },
    #[error("{message}")]
    Unauthorized { message: String },
    #[error("{message}")]
    Forbidden { resource: &'static Resource, name: String, message: String },
    /// The user may not do this to a resource, which need not be one that is served.
    #[error("{message}")]
    Denied { group: String, plural: String, name: String, message: String },
    /// Something that is referred to is not there.
    #[error("{message}")]
    NotThere { group: &'static str, plural: &'static str, name: String, message: String },
    #[error("{} {name:?} not found", resource.qualified())]
    NotFound { resource: &'static Resource, name: String },
    /// A path of the API that names no resource.
    #[error("the server could not find the requested resource")]
    NoRoute,
    /// A resource that is not served, of a group that is. Clients tell a refusal's text only if it comes in a Status.
    #[error("the server could not find the requested resource: {resource} is not served, kubectl api-resources lists what is")]
    NotServed { resource: String },
    /// A path outside the API; answered in plain text.
    #[error("404 page not found")]
    NoPath,
    /// A path outside the API that the user may not see.
    #[error("forbidden: User {user:?} cannot {verb} path {path:?}")]
    ForbiddenPath { user: String, verb: String, path: String },
    /// The query's options contradict each other.
    #[error("{}", invalid_message(kind, "meta.k8s.io", "", errors))]
    InvalidOptions { kind: &'static str, errors: Vec<FieldError> },
    /// The `autoscaling` Scale of an object is invalid.
    #[error("{}", invalid_message("Scale", "autoscaling", name, errors))]
    InvalidScale { name: String, errors: Vec<FieldError> },
    /// A question is none that can be answered.
    #[error("{}", invalid_message(kind, group, "", errors))]
    InvalidReview { group: &'static str, kind: &'static str, errors: Vec<FieldError> },
    /// The state that a list's `continue` token belongs to is no longer kept.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue \
         parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided \
         token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
         returned and now may show up in the list."
    )]
    ContinueExpired { token: String },
    /// The state asked for has not happened yet.
    #[error("Too large resource version: {wanted}, current: {current}")]
    TooLargeRevision { wanted: u64, current: u64 },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("{message}")]
    NotAcceptable { message: String },
    #[error("{message}")]
    UnsupportedMediaType { message: String },
    #[error("{} {name:?} already exists", resource.qualified())]
    AlreadyExists { resource: &'static Resource, name: String },
    #[error("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified())]
    Conflict { resource: &'static Resource, name: String, why: String },
    /// An applied configuration changes what others own.
    #[error("{}", conflicts_message(conflicts))]
    ApplyConflict { conflicts: Vec<Conflict> },
    /// An applied configuration does not fit the kind's schema. Upstream gives no reason, only a message.
    #[error("failed to create typed patch object ({object}): {}", faults_message(faults))]
    NotTyped { object: String, faults: Vec<String> },
    #[error("{}", invalid_message(resource.kind, resource.group, name, errors))]
    Invalid { resource: &'static Resource, name: String, errors: Vec<FieldError> },
    /// The resource version asked for is no longer kept.
    #[error("{message}")]
    Expired { message: String },
    #[error("{message}")]
    TooLarge { message: String },
    #[error("{message}")]
    TooManyRequests { message: String, retry_after_seconds: i32 },
    /// A pod may not be evicted now; clients tell by the cause that it is no limit on requests.
    #[error("{message}")]
    EvictionRefused { message: String, cause: &'static str, why: String, retry_after_seconds: i32 },
    #[error("{message}")]
    Internal { message: String },
    #[error("{message}")]
    Unavailable { message: String },
    #[error("{message}")]
    Timeout { message: String },
    /// The request can be read, but not carried out on the object as it is: a JSON patch whose test fails, for example.
    #[error("{message}")]
    Unprocessable { message: String },
}

impl ApiError {
    /// A request that can't be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into() }
    }

    /// Something of ours failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// The HTTP status code and the reason in the Status.
    pub fn code_and_reason(&self) -> (u16, &'static str) {
        match self {
            Self::BadRequest { .. } => (400, "BadRequest"),
            Self::Unauthorized { .. } => (401, "Unauthorized"),
            Self::Forbidden { .. } | Self::ForbiddenPath { .. } | Self::Denied { .. } => (403, "Forbidden"),
            Self::NotFound { .. } | Self::NotThere { .. } | Self::NoRoute | Self::NotServed { .. } | Self::NoPath => (404, "NotFound"),
            Self::InvalidOptions { .. } | Self::InvalidScale { .. } | Self::InvalidReview { .. } => (422, "Invalid"),
            Self::ContinueExpired { .. } => (410, "Expired"),
            Self::TooLargeRevision { .. } => (504, "Timeout"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed"),
            Self::NotAcceptable { .. } => (406, "NotAcceptable"),
            Self::UnsupportedMediaType { .. } => (415, "UnsupportedMediaType"),
            Self::AlreadyExists { .. } => (409, "AlreadyExists"),
            Self::Conflict { .. } | Self::ApplyConflict { .. } => (409, "Conflict"),
            Self::NotTyped { .. } => (500, ""),
            Self::Invalid { .. } | Self::Unprocessable { .. } => (422, "Invalid"),
            Self::Expired { .. } => (410, "Expired"),
            Self::TooLarge { .. } => (413, "RequestEntityTooLarge"),
            Self::TooManyRequests { .. } | Self::EvictionRefused { .. } => (429, "TooManyRequests"),
            Self::Internal { .. } => (500, "InternalError"),
            Self::Unavailable { .. } => (503, "ServiceUnavailable"),
            Self::Timeout { .. } => (504, "Timeout"),
        }
    }

    /// The Status that the client receives.
    pub fn status(&self) -> Status {
        let (code, reason) = self.code_and_reason();
        Status {
            code: Some(code.into()),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            status: Some("Failure".to_owned()),
            message: Some(self.to_string()),
            details: self.details(),
            metadata: self.list_meta(),
        }
    }

    fn list_meta(&self) -> ListMeta {
        match self {
            Self::ContinueExpired { token } => ListMeta { continue_: Some(token.clone()), ..ListMeta::default() },
            _ => ListMeta::default(),
        }
    }

    fn details(&self) -> Option<StatusDetails> {
        let about = |resource: &Resource, name: &str, kind: &str| named(resource.group, name, kind);
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Forbidden { resource, name, .. }
            | Self::Conflict { resource, name, .. } => Some(about(resource, name, resource.plural)),
            Self::Denied { group, plural, name, .. } => Some(named(group, name, plural)),
            Self::NotThere { group, plural, name, .. } => Some(named(group, name, plural)),
            Self::ApplyConflict { conflicts } => {
                Some(StatusDetails { causes: Some(conflict_causes(conflicts)), ..StatusDetails::default() })
            }
            Self::Invalid { resource, name, errors } => {
                Some(StatusDetails { causes: Some(causes(errors)), ..about(resource, name, resource.kind) })
            }
            Self::InvalidScale { name, errors } => {
                Some(StatusDetails { causes: Some(causes(errors)), ..named("autoscaling", name, "Scale") })
            }
            Self::InvalidOptions { kind, errors } => Some(StatusDetails { causes: Some(causes(errors)), ..named("meta.k8s.io", "", kind) }),
            Self::InvalidReview { group, kind, errors } => Some(StatusDetails { causes: Some(causes(errors)), ..named(group, "", kind) }),
            Self::TooLargeRevision { .. } => Some(StatusDetails {
                causes: Some(vec![StatusCause {
                    reason: Some("ResourceVersionTooLarge".to_owned()),
                    message: Some("Too large resource version".to_owned()),
                    field: None,
                }]),
                retry_after_seconds: Some(1),
                ..StatusDetails::default()
            }),
            Self::TooManyRequests { retry_after_seconds, .. } => {
                Some(StatusDetails { retry_after_seconds: Some(*retry_after_seconds), ..StatusDetails::default() })
            }
            Self::EvictionRefused { cause, why, retry_after_seconds, .. } => Some(StatusDetails {
                causes: Some(vec![StatusCause { reason: Some((*cause).to_owned()), message: Some(why.clone()), field: None }]),
                retry_after_seconds: Some(*retry_after_seconds).filter(|seconds| *seconds > 0),
                ..StatusDetails::default()
            }),
            _ => None,
        }
    }
}

fn named(group: &str, name: &str, kind: &str) -> StatusDetails {
    let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    StatusDetails { name: said(name), group: said(group), kind: Some(kind.to_owned()), ..StatusDetails::default() }
}

fn causes(errors: &[FieldError]) -> Vec<StatusCause> {
    let cause = |error: &FieldError| StatusCause {
        field: Some(error.path.to_string()),
        message: Some(error.message()),
        reason: Some(error.reason.code().to_owned()),
    };
    errors.iter().map(cause).collect()
}

fn conflict_causes(conflicts: &[Conflict]) -> Vec<StatusCause> {
    let causes = conflicts.iter().flat_map(|conflict| {
        conflict.fields.iter().map(|field| StatusCause {
            field: Some(field.clone()),
            message: Some(format!("conflict with {}", conflict.owner)),
            reason: Some("FieldManagerConflict".to_owned()),
        })
    });
    causes.collect()
}

fn conflicts_message(conflicts: &[Conflict]) -> String {
    let count: usize = conflicts.iter().map(|conflict| conflict.fields.len()).sum();
    if let ([Conflict { owner, fields }], 1) = (conflicts, count) {
        return format!("Apply failed with 1 conflict: conflict with {owner}: {}", fields.join(""));
    }
    let lines = conflicts.iter().map(|Conflict { owner, fields }| {
        fields.iter().fold(format!("conflicts with {owner}:"), |lines, field| format!("{lines}\n- {field}"))
    });
    format!("Apply failed with {count} conflicts: {}", lines.collect::<Vec<_>>().join("\n"))
}

fn faults_message(faults: &[String]) -> String {
    match faults {
        [one] => one.clone(),
        many => many.iter().fold("errors:".to_owned(), |lines, fault| format!("{lines}\n  {fault}")),
    }
}

fn invalid_message(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> String {
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [one] => format!("{kind} {name:?} is invalid: {one}"),
        many => format!("{kind} {name:?} is invalid: [{}]", many.join(", ")),
    }
}
