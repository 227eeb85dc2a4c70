//! Which addresses are behind a Service.
