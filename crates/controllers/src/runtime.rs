//! The loop every controller is.
