//! The near future of one set: a copy of its objects, which plans and pods change as an API server and nodes would.
//!
//! [`World`] holds the copy. Running the planner over it, forward, tells what would happen before anything does; the
//! planner's own tests look at every step of it.
//!
//! # Assumptions
//! * Pods start and stop within a few seconds. Which ones never become ready is for the caller to say.
//! * Claims are bound when a pod needs them, and finalizers are removed by those who set them.

mod budgets;
mod changes;
mod claims;
mod garbage;
mod living;
mod places;
mod pods;
mod presumption;
mod refusal;
mod run;
mod steps;
mod verdict;
mod world;

pub use budgets::BudgetOutlook;
pub use changes::{FieldChange, changes};
pub use claims::{ClaimOutlook, Fate};
pub use places::Places;
pub use pods::{is_pending, is_ready};
pub use refusal::Refused;
pub use run::{Forecast, NewPods, Present, Totals, foresee};
pub use steps::{Reason, Step};
pub use verdict::Verdict;
pub use world::World;

#[cfg(test)]
pub(crate) use living::annotate;

#[cfg(test)]
mod tests;
