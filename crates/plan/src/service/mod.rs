//! What the kernel must know to make Services work.
