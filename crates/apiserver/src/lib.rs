//! The Kubernetes API over a [`store::Store`].

pub mod admit;
pub mod auth;
pub mod error;
pub mod field;
pub mod keys;
pub mod patch;
pub mod strategy;
