//! When a probe is due and what its results mean.
