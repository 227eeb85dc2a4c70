//! The Kubernetes API over a [`store::Store`].

pub mod admit;
pub mod auth;
pub mod discovery;
pub mod error;
pub mod field;
pub mod keys;
pub mod openapi;
pub mod patch;
pub mod strategy;
