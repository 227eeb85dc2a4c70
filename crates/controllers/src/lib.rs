//! The controllers: one loop, observe, plan, execute ([`runtime`]), and a short shell per planner.
//!
//! A controller is a client of the API server like any other. It observes through the shared [`Informers`], decides with a
//! pure function of `plan`, and acts through `kube::Client`.

pub mod binding;
mod clock;
pub mod disruption;
pub mod election;
pub mod endpoints;
mod exec;
pub mod fence;
pub mod garbage;
mod gone;
mod informers;
mod inventory;
pub mod namespaces;
pub mod nodes;
pub mod quota;
pub mod rights;
pub mod roster;
pub mod runtime;
pub mod scheduler;
pub mod service_accounts;
pub mod statefulset;

pub use clock::Clock;
pub use informers::Informers;
pub use inventory::Inventory;

/// Tells users what a controller does.
fn recorder(client: kube::Client, component: &'static str, clock: Clock) -> events::Recorder {
    let source = events::Source { component, host: String::new() };
    events::Recorder::start(client, source, Box::new(move || clock.now()))
}

#[cfg(test)]
mod tests;
