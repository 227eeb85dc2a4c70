//! The Kubernetes API over a [`store::Store`].
//!
//! A request passes through [`route`] (what it asks for), `auth` (who asks, and whether they may), `decode` (what they sent), then
//! its verb, which defaults, admits, validates and commits. What is stored is, byte for byte, what is served.
//!
//! Nobody in this process goes around it: [`Server::client`] is a client like any other, without a socket.

pub mod admit;
pub mod apply;
pub mod audit;
pub mod auth;
pub mod certificates;
mod config;
mod context;
mod decode;
mod deletion;
mod discovery;
mod document;
#[cfg(test)]
mod documents;
mod eager;
pub mod error;
mod eviction;
mod expiry;
mod fairness;
pub mod field;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod health;
pub mod keys;
mod list;
mod media;
mod metrics;
mod openapi;
mod ownership;
pub mod patch;
mod peers;
mod present;
mod protobuf;
mod query;
mod random;
mod respond;
mod reviews;
mod route;
mod selection;
mod sending;
mod serve;
mod server;
mod service;
mod stored;
pub mod strategy;
mod streams;
mod verbs;
mod views;
mod watching;
mod writes;

pub use config::{Config, Limits, NodeDialer, Stream, UserRole};
pub use respond::{Body, BodyError, Response};
pub use server::{InProcess, Server};
