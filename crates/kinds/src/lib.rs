//! The vocabulary of Steadfast: newtypes over Kubernetes' names, the [`Object`] seam that lets one code path serve every
//! kind, label [`Selector`]s, [`Quantity`] arithmetic, and [`registry`], the one table of what is served.
//!
//! This crate knows no clock, no I/O and no async runtime.

pub mod columns;
pub mod extensions;
pub mod gate;
pub mod managed_fields;
pub mod merge_keys;
pub mod names;
pub mod object;
pub mod ordinals;
pub mod quantity;
pub mod quoted;
pub mod registry;
pub mod reviews;
mod schema_name;
#[cfg(feature = "schemas")]
pub mod schemas;
pub mod selector;
mod set_kind;

pub use extensions::Extensions;
pub use names::{ObjectKey, Ordinal, Uid};
pub use object::{Codec, Decoded, Object};
pub use ordinals::Ordinals;
pub use quantity::Quantity;
pub use registry::{Resource, Scope};
pub use selector::Selector;
pub use set_kind::{STEADFAST_GROUP, SetKind};

/// The version of Kubernetes whose API is spoken, and that it is ours.
pub const KUBERNETES_VERSION: &str = "v1.36.2+steadfast";

/// Stands in the extensions of an answer whose body is, piece by piece, what the server keeps in memory anyway: who keeps such a piece
/// takes no memory more. Only who asks in the server's own process is answered so.
#[derive(Clone, Copy, Debug)]
pub struct KeptAnyway;
