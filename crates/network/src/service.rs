//! Services in the kernel.
