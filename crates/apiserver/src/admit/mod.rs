//! What an object must be, or becomes, before it is stored.

use kinds::{Object, Resource};

use crate::auth::Identity;

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write that asks for admission.
#[derive(Debug)]
pub struct Request<'a> {
    pub resource: &'static Resource,
    pub operation: Operation,
    /// Empty for a cluster-scoped object.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object as it is stored; `None` when it is created.
    pub old: Option<&'a dyn Object>,
    pub user: &'a Identity,
    /// Whether nothing is to be kept of this.
    pub dry_run: bool,
}
