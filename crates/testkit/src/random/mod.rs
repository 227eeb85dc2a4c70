//! Random use of the API by several clients at once, judged by a model afterwards.
//!
//! * [`run`] is the workload: writers create, change and delete a few objects in all the ways there are, readers list in pages, watchers
//!   watch and resume. It knows nothing of what is right; everything that was asked and answered goes into a [`History`].
//! * [`judge`] knows nothing of the workload: it compares the history with the sequence of commits and a model of one object. What was
//!   acknowledged is in the sequence once, and after all that was acknowledged before it was asked; what was refused could be refused
//!   at some moment while it was asked; every list is the state at its revision; every watch tells the sequence, once and in order.
//! * The server is reached through a [`Door`], which whoever runs it closes and opens: what is under way then has an unknown outcome.

mod client;
mod dice;
mod door;
mod faulty;
mod history;
mod judge;
mod model;
mod reader;
mod remote;
mod server;
mod watcher;

use std::sync::Arc;

use tokio::task::JoinSet;

pub use dice::Dice;
pub use door::Door;
pub use faulty::{Fault, Faulty};
pub use history::{Answer, Call, Commit, End, Form, History, Listing, Page, Record, Told, Watching};
pub use judge::{Shown, Verdict, judge};
pub use model::{KINDS, Kind, NAMES, Object, Op, Pairs, QUIET, State};
pub use remote::remote;
pub use server::{Disturbances, in_process};

/// What a workload is made of.
#[derive(Clone, Debug)]
pub struct Workload {
    pub seed: u64,
    pub kinds: &'static [Kind],
    pub writers: u64,
    /// Calls of each writer.
    pub calls: u64,
    pub readers: u64,
    pub watchers: u64,
}

/// Runs a workload to its end. `last` tells when all is written, by the last revision: then watchers go on until they have seen it.
pub async fn run(workload: &Workload, door: &Arc<Door>, record: &Arc<Record>) {
    let dice = |role: u64, number: u64| Dice::new(workload.seed.wrapping_mul(1_000_003).wrapping_add(role * 1000 + number));
    let (last, mut readers) = (tokio::sync::watch::Sender::new(None), JoinSet::new());
    let mut writers = JoinSet::new();
    for number in 0..workload.watchers {
        let watcher = watcher::Watcher::new(workload, number, dice(3, number), door, record);
        readers.spawn(watcher.run(last.subscribe()));
    }
    for number in 0..workload.readers {
        readers.spawn(reader::run(workload.kinds, dice(2, number), Arc::clone(door), Arc::clone(record), last.subscribe()));
    }
    for number in 0..workload.writers {
        let writer = client::Writer::new(workload, number, dice(1, number), door, record);
        writers.spawn(writer.run(workload.calls));
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends");
    }
    last.send_replace(Some(reader::newest(door, workload.kinds).await));
    while let Some(ended) = readers.join_next().await {
        ended.expect("a reader ends");
    }
}
