//! Names and addresses, as DNS answers them.
