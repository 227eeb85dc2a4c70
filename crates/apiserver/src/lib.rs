//! The Kubernetes API over a [`store::Store`].

pub mod admit;
pub mod error;
pub mod field;
pub mod key;
pub mod patch;
pub mod strategy;
