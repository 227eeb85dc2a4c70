//! Who may do what, by upstream's rules for roles and bindings (`rbac.authorization.k8s.io`) and for nodes.
//!
//! [`Index`] decides from the roles and bindings there are; [`nodes`] what a node's agent may do; [`cover`] whether a grant gives
//! more than its author has; [`bootstrap`] holds the roles that every cluster begins with.

pub mod bootstrap;
pub mod cover;
mod index;
pub mod nodes;
mod reconcile;
mod references;
pub mod restriction;
pub mod rules;

pub use index::{Granted, Index};
pub use reconcile::{reconcile_binding, reconcile_role};
pub use references::{Reference, refers};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Members may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";

/// Someone who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
}

impl Who<'_> {
    /// Whether they are in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub verb: &'a str,
    pub target: Target<'a>,
}

/// What the verb is done to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    Resource(Asked<'a>),
    /// A path outside the resources: `/version`.
    Path(&'a str),
}

/// A resource, or a part of it. Texts are empty for "none" and "all".
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The node whose pods alone are asked for, by a field selector.
    pub on_node: &'a str,
}

impl<'a> Ask<'a> {
    /// A verb on a resource.
    pub fn on(verb: &'a str, asked: Asked<'a>) -> Self {
        Self { verb, target: Target::Resource(asked) }
    }

    /// The namespace that is asked about; empty for all, and for paths.
    pub fn namespace(&self) -> &'a str {
        match self.target {
            Target::Resource(asked) => asked.namespace,
            Target::Path(_) => "",
        }
    }
}

/// Whether something may be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed(String),
    /// The reason is often empty: nothing allows it.
    Denied(String),
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allowed(reason) | Self::Denied(reason) => reason,
        }
    }
}

#[cfg(test)]
mod tests;
