//! Why an operation for a pod failed.

use std::io;

use image::ImageError;
use network::NetworkError;
use runtime::RuntimeError;

use crate::container::SpecificationError;

/// One failed operation; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error("{0}")]
    Specification(#[from] SpecificationError),
    #[error("failed to pull image \"{image}\": {}", chain(.source))]
    Pull {
        image: String,
        #[source]
        source: ImageError,
    },
    #[error("image \"{image}\": {}", chain(.source))]
    Image {
        image: String,
        #[source]
        source: ImageError,
    },
    #[error("{}", chain(.0))]
    Root(#[source] ImageError),
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Volume { volume: String, message: String },
    #[error("unable to find target container {0:?}: it does not run")]
    NoTarget(String),
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Network(#[from] NetworkError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Api(#[from] Box<kube::Error>),
    #[error("{0}")]
    Hook(String),
    #[error("it took longer than {0} s")]
    Deadline(u64),
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<kube::Error> for OperationError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl OperationError {
    /// As in a container's waiting state.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Specification(_) => "CreateContainerConfigError",
            Self::Pull { .. } => "ErrImagePull",
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Image { .. } => "ImageInspectError",
            Self::Runtime(RuntimeError::CannotRun(_)) => "RunContainerError",
            _ => "CreateContainerError",
        }
    }

    /// The API object is gone, or is another one now.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Api(error) => matches!(&**error, kube::Error::Api(status) if matches!(status.code, 404 | 409)),
            _ => false,
        }
    }
}
