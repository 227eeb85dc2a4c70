//! Ordered, named, stateful instances.
