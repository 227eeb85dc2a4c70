//! A watcher: begins with a list or where it was, takes some events, and begins again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::door::Door;
use super::history::{End, Form, Record, Told, Watching};
use super::model::{Kind, NAMES, State};
use super::reader::{get, list, name, query_of, selector};
use super::{Dice, Workload};

/// How long anything may take: a hang, not a speed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One client that watches one kind.
pub struct Watcher {
    kind: &'static Kind,
    selector: Option<(String, String)>,
    dice: Dice,
    door: Arc<Door>,
    record: Arc<Record>,
    /// Up to where it was told; nothing if it has to list.
    position: Option<u64>,
}

impl Watcher {
    pub fn new(workload: &Workload, number: u64, mut dice: Dice, door: &Arc<Door>, record: &Arc<Record>) -> Self {
        let kind = &workload.kinds[number as usize % workload.kinds.len()];
        // The first of each kind sees everything.
        let selector = if (number as usize) < workload.kinds.len() { None } else { selector(&mut dice) };
        Self { kind, selector, dice, door: Arc::clone(door), record: Arc::clone(record), position: None }
    }

    /// One that sees everything of a kind.
    pub fn of_all(kind: &'static Kind, dice: Dice, door: &Arc<Door>, record: &Arc<Record>) -> Self {
        Self { kind, selector: None, dice, door: Arc::clone(door), record: Arc::clone(record), position: None }
    }

    /// Watches until it has come to the last revision.
    pub async fn run(mut self, last: watch::Receiver<Option<u64>>) {
        loop {
            let Some(after) = self.position else {
                self.position = list(self.kind, self.selector.clone(), self.dice.roll(3), &self.door, &self.record).await;
                continue;
            };
            if last.borrow().is_some_and(|last| after >= last) {
                return;
            }
            let watching = self.watch(after, &last).await;
            let (end, position) = (watching.end, self.resumes_at(&watching));
            self.record.note(|history| history.watchings.push(watching));
            match end {
                End::Stalled => return,
                End::Expired => self.position = None,
                End::Cut => self.position = Some(position),
            }
            if self.dice.one_in(3) {
                tokio::time::sleep(Duration::from_millis(self.dice.roll(8))).await;
            }
        }
    }

    /// Where it was told up to; or now and then anywhere before, as one who saves its place too seldom.
    fn resumes_at(&mut self, watching: &Watching) -> u64 {
        let until = watching.until();
        if self.dice.one_in(5) { until - self.dice.roll(until - watching.after + 1) } else { until }
    }

    async fn watch(&mut self, after: u64, last: &watch::Receiver<Option<u64>>) -> Watching {
        let (kind, selector) = (self.kind, self.selector.clone());
        let mut watching = Watching { kind, selector, after, told: Vec::new(), end: End::Cut, at: 0 };
        let query =
            format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={after}{}", query_of(self.selector.as_ref()));
        let wanted = self.dice.roll(40) as usize;
        match self.door.stream(get(&format!("{}?{query}", kind.path()))).await {
            None => {}
            Some(Err(said)) if said.status == 410 => watching.end = End::Expired,
            Some(Err(said)) => panic!("a watch is refused: {said:?}"),
            Some(Ok(mut lines)) => {
                while watching.told.len() <= wanted && last.borrow().is_none_or(|last| watching.until() < last) {
                    let Ok(line) = tokio::time::timeout(PATIENCE, lines.next()).await else {
                        watching.end = End::Stalled;
                        break;
                    };
                    let Some(line) = line else { break };
                    match told(&line) {
                        Some(told) => watching.told.push(told),
                        None => {
                            assert_eq!(line.pointer("/object/code"), Some(&Value::from(410)), "a watch fails: {line}");
                            watching.end = End::Expired;
                            break;
                        }
                    }
                }
            }
        }
        watching.at = self.record.tick();
        watching
    }
}

fn told(line: &Value) -> Option<Told> {
    let object = &line["object"];
    let form = match line["type"].as_str()? {
        "ADDED" => Form::Added,
        "MODIFIED" => Form::Modified,
        "DELETED" => Form::Deleted,
        "BOOKMARK" => return object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok().map(Told::Bookmark),
        _ => return None,
    };
    let (name, state) = (name(object), State::of(object)?);
    // Of the objects of others it is known only that they were told.
    Some(if NAMES.contains(&name.as_str()) { Told::Event { form, name, state } } else { Told::Bookmark(state.revision) })
}
