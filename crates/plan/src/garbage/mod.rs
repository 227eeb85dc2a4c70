//! What goes when its owner goes.
//!
//! [`Graph`] knows every object by its uid, and each owner's dependents; a change costs what it changes. [`Graph::judge`]
//! says what is to be done about one object, and never guesses: an owner that the graph does not know is first to be looked
//! for on the server.

mod graph;
mod judge;

pub use graph::{Graph, Item, Owner};
pub use judge::{Action, Verdict};

/// The finalizer of an owner that goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that leaves its dependents behind.
pub const ORPHAN: &str = "orphan";

#[cfg(test)]
mod tests;
