//! What goes when its owner goes.
