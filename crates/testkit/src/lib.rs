//! The control plane as a whole, without containers: `tests/` runs the real API server, store and controllers together.
