//! Real containers on this kernel. They need root and Debian's `busybox-static`.

mod attach;
mod exec;
mod isolation;
mod lifecycle;
mod node;
