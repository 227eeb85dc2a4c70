//! Memory that has come free.

#![expect(unsafe_code, reason = "a call into the allocator, which has no other form")]

/// Gives it back to the system. Left alone, the allocator does so only in the course of other work, of which a server at rest has
/// none.
pub(crate) fn give_back() {
    // SAFETY: it takes no pointer and may be called from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
