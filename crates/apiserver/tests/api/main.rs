//! The API server as its clients see it: over the embedded store, through its own doors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod access;
mod apply;
mod audit;
mod errors;
mod evictions;
mod harness;
mod limits;
mod lists;
mod network;
mod objects;
mod streams;
mod tables;
mod watches;
mod wire;
