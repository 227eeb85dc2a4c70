//! The control plane as a whole, without containers.
//!
//! [`Cluster`] runs the real API server and store with the real controllers and simulated nodes. Between the StatefulSet
//! controller and the server lies a [`Wire`], which can do one thing wrong: let the controller die after a write, show it
//! an old list when it starts anew, or keep an event from it. [`history`] judges what the store went through, commit by
//! commit, by the rules the planner's model checker uses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod cluster;
mod connection;
pub mod history;
mod perturbation;
pub mod random;
mod wire;

pub use cluster::{Cluster, Foundation, until, user_roles};
pub use perturbation::Perturbation;
pub use wire::Wire;
