//! Why a request would be refused.

use thiserror::Error;

/// The answer of an API server that does not do what it is asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("{kind} {name:?} already exists")]
    AlreadyExists { kind: &'static str, name: String },
    #[error("there is no {kind} {name:?}")]
    NotFound { kind: &'static str, name: String },
    /// It is another object, or has been changed since it was observed.
    #[error("{kind} {name:?} is not as it was observed")]
    Conflict { kind: &'static str, name: String },
}
