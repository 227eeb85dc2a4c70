//! The functional core: every decision of Steadfast as a pure function from what is observed to what is to be done.
//!
//! Nothing here knows a clock, randomness, I/O, logging or an async runtime. Time enters as an argument.

pub mod access;
pub mod binding;
pub mod disruption;
pub mod election;
pub mod endpoints;
pub mod events;
pub mod fairness;
pub mod forecast;
pub mod garbage;
pub mod namespaces;
pub mod nodes;
pub mod pod;
pub mod pod_security;
pub mod probe;
pub mod quota;
pub mod schedule;
pub mod servers;
pub mod service;
pub mod statefulset;
pub mod zone;
