//! Everything that may happen to a StatefulSet, explored.
//!
//! A [`Configuration`] is a set, what its user will change, and how much may go wrong. [`explore`] visits every state that
//! any interleaving leads to: rounds of the controller, whole or cut short by a crash, from views that lag; pods that
//! start, fail, are deleted or lost with their node; the garbage collector; the user. [`walk`] goes a random way through
//! what is too large to be visited whole. After every step the [`invariants`] are checked, and from every state the set is
//! left alone until it settles, which must be as desired.
//!
//! # Assumptions
//! * The controller's views show its own writes before it plans again, except that after a restart any older view of a kind
//!   is possible.
//! * Requests carry the preconditions the plan names, and the API server honours them.
//! * An action that [`Action::relies_on_set`](plan::statefulset::Action::relies_on_set) is only carried out if the server
//!   itself still has the set as it was observed.
//! * Whoever is left alone has its nodes back and its views up to date.

mod canonical;
mod configuration;
mod controller;
mod event;
mod explore;
mod failure;
mod happen;
pub mod invariants;
mod settle;
mod state;
mod walk;

pub use configuration::{BROKEN, Change, Configuration, Fault, configurations, random};
pub use controller::Planner;
pub use event::Event;
pub use explore::{Explored, explore};
pub use failure::{Failure, replay};
pub use invariants::{Invariant, Violation};
pub use walk::walk;
