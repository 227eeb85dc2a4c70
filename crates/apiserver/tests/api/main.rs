//! The API server as its clients see it: over the embedded store, through its own doors.

mod errors;
mod harness;
mod lists;
mod network;
mod objects;
mod tables;
mod watches;
