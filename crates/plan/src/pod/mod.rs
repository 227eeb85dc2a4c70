//! What a pod on this node needs next.
