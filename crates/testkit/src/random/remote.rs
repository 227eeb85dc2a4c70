//! A workload on a server that is somewhere else: the sequence of commits is what a watch of each kind tells, from before the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::history::{Commit, End, Form, Told};
use super::model::Object;
use super::watcher::Watcher;
use super::{Dice, Door, History, Record, Workload, reader, run};

/// Runs a workload through a door that others open and close, and gives its history. The server must keep the history of all of it.
pub async fn remote(workload: &Workload, door: &Arc<Door>, record: &Arc<Record>) -> History {
    // Watches of their own, whose record is not judged but believed.
    let (scribes, last) = (Arc::new(Record::default()), tokio::sync::watch::Sender::new(None));
    let mut following = JoinSet::new();
    for (number, kind) in workload.kinds.iter().enumerate() {
        let scribe = Watcher::of_all(kind, Dice::new(number as u64), door, &scribes);
        following.spawn(scribe.run(last.subscribe()));
    }
    scribes.began(workload.kinds.len()).await;
    run(workload, door, record).await;
    last.send_replace(Some(reader::newest(door, workload.kinds).await));
    while let Some(ended) = following.join_next().await {
        ended.expect("a scribe ends");
    }
    let mut history = record.taken();
    history.commits = commits(scribes.taken());
    history.others = true;
    history
}

fn commits(scribed: History) -> Vec<Commit> {
    let mut commits = BTreeMap::new();
    for watching in &scribed.watchings {
        assert_eq!(watching.end, End::Cut, "a scribe of {} missed something after {}", watching.kind.plural, watching.after);
        for told in &watching.told {
            let Told::Event { form, name, state } = told else { continue };
            let Some(object) = Object::of(watching.kind, name) else { continue };
            let state = (*form != Form::Deleted).then(|| state.clone());
            commits.insert(told.revision(), Commit { revision: told.revision(), object, state });
        }
    }
    commits.into_values().collect()
}
