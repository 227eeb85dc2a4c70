//! Which volume a claim gets.
