//! Why a request is refused, and the `Status` that says so, worded as upstream's
//! (`k8s.io/apimachinery/pkg/api/errors`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};
use kinds::Resource;
use thiserror::Error;

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
    #[error("{} {name:?} not found", resource.qualified())]
    NotFound { resource: &'static Resource, name: String },
    /// A path of the API that names no resource.
    #[error("the server could not find the requested resource")]
    NoRoute,
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
            Self::Forbidden { .. } | Self::ForbiddenPath { .. } => (403, "Forbidden"),
            Self::NotFound { .. } | Self::NoRoute | Self::NoPath => (404, "NotFound"),
            Self::InvalidOptions { .. } | Self::InvalidScale { .. } => (422, "Invalid"),
            Self::ContinueExpired { .. } => (410, "Expired"),
            Self::TooLargeRevision { .. } => (504, "Timeout"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed"),
            Self::NotAcceptable { .. } => (406, "NotAcceptable"),
            Self::UnsupportedMediaType { .. } => (415, "UnsupportedMediaType"),
            Self::AlreadyExists { .. } => (409, "AlreadyExists"),
            Self::Conflict { .. } => (409, "Conflict"),
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
            reason: Some(reason.to_owned()),
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
        let about = |resource: &Resource, name: &str, kind: &str| StatusDetails {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            group: Some(resource.group.to_owned()).filter(|group| !group.is_empty()),
            kind: Some(kind.to_owned()),
            ..StatusDetails::default()
        };
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Forbidden { resource, name, .. }
            | Self::Conflict { resource, name, .. } => Some(about(resource, name, resource.plural)),
            Self::Invalid { resource, name, errors } => {
                Some(StatusDetails { causes: Some(causes(errors)), ..about(resource, name, resource.kind) })
            }
            Self::InvalidScale { name, errors } => Some(StatusDetails {
                name: Some(name.clone()),
                group: Some("autoscaling".to_owned()),
                kind: Some("Scale".to_owned()),
                causes: Some(causes(errors)),
                ..StatusDetails::default()
            }),
            Self::InvalidOptions { kind, errors } => Some(StatusDetails {
                group: Some("meta.k8s.io".to_owned()),
                kind: Some((*kind).to_owned()),
                causes: Some(causes(errors)),
                ..StatusDetails::default()
            }),
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

fn causes(errors: &[FieldError]) -> Vec<StatusCause> {
    let cause = |error: &FieldError| StatusCause {
        field: Some(error.path.to_string()),
        message: Some(error.message()),
        reason: Some(error.reason.code().to_owned()),
    };
    errors.iter().map(cause).collect()
}

fn invalid_message(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> String {
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [one] => format!("{kind} {name:?} is invalid: {one}"),
        many => format!("{kind} {name:?} is invalid: [{}]", many.join(", ")),
    }
}
