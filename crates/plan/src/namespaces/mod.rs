//! How a namespace ends, and what each begins with.
