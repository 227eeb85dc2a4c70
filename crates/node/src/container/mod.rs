//! From a pod's specification to what the runtime is told: pure functions, one aspect per module.

pub(crate) mod amounts;
pub(crate) mod downward;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod security;
pub(crate) mod specification;
pub(crate) mod user;

/// The container can't be made as its specification says; nothing but a change of it, or of what it refers to, helps.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecificationError {
    #[error("{kind} \"{name}\" not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("field path {0:?} is not supported")]
    FieldPath(String),
    #[error("resource {0:?} is not supported")]
    ResourceName(String),
    #[error("volume {0:?} is not one of the pod's volumes")]
    NoVolume(String),
    #[error("{0} is not supported by this node")]
    Unsupported(String),
    #[error("no command is specified, neither by the container nor by its image")]
    NoCommand,
    #[error("container has runAsNonRoot and image will run as root")]
    RunsAsRoot,
    #[error("container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root")]
    UserNotNumeric(String),
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}
