//! Which nodes are healthy.
