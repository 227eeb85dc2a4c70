//! State in memory, for the stores that keep it elsewhere as well: all entries at one revision, the recent past, and those who watch.

mod state;
mod watch;

pub(crate) use state::State;
pub(crate) use watch::{Hub, lock};
