//! A writer: draws operations on what it knows, which is often old.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::Request;
use serde_json::{Value, json};

use super::door::{Door, Said};
use super::history::{Answer, Call, Record};
use super::model::{FINALIZERS, Kind, LABELS, NAMES, Object, Op, Pairs, Preconditions, State};
use super::{Dice, Workload};

/// One client that writes.
pub struct Writer {
    kinds: &'static [Kind],
    number: u64,
    dice: Dice,
    door: Arc<Door>,
    record: Arc<Record>,
    /// What it saw last of each object.
    known: HashMap<Object, State>,
}

impl Writer {
    pub fn new(workload: &Workload, number: u64, dice: Dice, door: &Arc<Door>, record: &Arc<Record>) -> Self {
        let (door, record) = (Arc::clone(door), Arc::clone(record));
        Self { kinds: workload.kinds, number, dice, door, record, known: HashMap::new() }
    }

    /// Makes so many calls, one after the other.
    pub async fn run(mut self, calls: u64) {
        for call in 0..calls {
            let (kind, name) = (self.dice.pick(self.kinds), *self.dice.pick(&NAMES));
            let object = Object { kind, name };
            let op = self.draw(object, call);
            let object = if matches!(op, Op::DeleteCollection { .. }) { Object { name: "", ..object } } else { object };
            let begin = self.record.tick();
            let said = self.door.ask(request(self.number, object, &op)).await;
            let answer = said.map_or(Answer::Unknown, answer);
            let end = if answer == Answer::Unknown { u64::MAX } else { self.record.tick() };
            self.learn(object, &answer);
            let writer = self.number;
            self.record.note(|history| history.calls.push(Call { writer, object, op, begin, end, answer }));
        }
    }

    fn learn(&mut self, object: Object, answer: &Answer) {
        match answer {
            Answer::Object(state) => drop(self.known.insert(object, state.clone())),
            Answer::Gone(_) | Answer::Refused { code: 404, .. } => drop(self.known.remove(&object)),
            Answer::Refused { .. } | Answer::Unknown => {}
        }
    }

    fn draw(&mut self, object: Object, call: u64) -> Op {
        let mark = ("mark".to_owned(), format!("{}-{call}", self.number));
        let known = self.known.get(&object).cloned();
        if known.is_none() && self.dice.one_in(2) {
            return Op::Create { labels: self.labels(), finalizers: self.finalizers(4), mark };
        }
        let revision = known.as_ref().map(|state| state.revision).filter(|_| self.dice.one_in(2));
        match self.dice.roll(16) {
            0 | 1 => Op::Get,
            2 => Op::Create { labels: self.labels(), finalizers: self.finalizers(4), mark },
            3 | 4 => Op::Replace { revision, labels: self.labels(), finalizers: self.finalizers(4), mark },
            5 | 6 => Op::JsonPatch { test: self.dice.one_in(3).then(|| self.label()), label: self.label(), mark },
            7 | 8 => {
                let finalizers = self.dice.one_in(3).then(|| self.finalizers(3));
                Op::MergePatch { revision, labels: self.label_changes(), finalizers, mark }
            }
            9 | 10 => {
                let (add, remove) = (self.finalizers(3), self.finalizers(2));
                let remove = remove.difference(&add).cloned().collect();
                Op::StrategicPatch { revision, labels: self.label_changes(), add, remove, mark }
            }
            11 | 12 => {
                let mark = (format!("applied-{}", self.number), mark.1);
                Op::Apply { force: self.dice.one_in(2), labels: self.labels(), mark }
            }
            13 | 14 => self.deletion(known.as_ref(), revision),
            _ => match self.dice.one_in(3) {
                true => Op::DeleteCollection { selector: Some(self.label()) },
                false => self.deletion(known.as_ref(), revision),
            },
        }
    }

    fn deletion(&mut self, known: Option<&State>, revision: Option<u64>) -> Op {
        let uid = known.map(|state| state.uid.clone()).filter(|_| self.dice.one_in(2));
        let policy = *self.dice.pick(&[None, None, Some("Background"), Some("Foreground"), Some("Orphan")]);
        Op::Delete { preconditions: Preconditions { uid, revision }, policy }
    }

    fn label(&mut self) -> (String, String) {
        ((*self.dice.pick(&LABELS)).to_owned(), (*self.dice.pick(&["1", "2"])).to_owned())
    }

    fn labels(&mut self) -> Pairs {
        (0..=self.dice.roll(2)).map(|_| self.label()).collect()
    }

    fn label_changes(&mut self) -> BTreeMap<String, Option<String>> {
        let mut changes: BTreeMap<_, _> = self.labels().into_iter().map(|(key, value)| (key, Some(value))).collect();
        if self.dice.one_in(2) {
            changes.insert(self.label().0, None);
        }
        changes
    }

    /// Each of them in one of so many cases.
    fn finalizers(&mut self, cases: u64) -> BTreeSet<String> {
        FINALIZERS.into_iter().filter(|_| self.dice.one_in(cases)).map(str::to_owned).collect()
    }
}

fn answer(said: Said) -> Answer {
    let Said { status, body } = said;
    if status >= 400 {
        return Answer::Refused { code: status, message: body["message"].as_str().unwrap_or_default().to_owned() };
    }
    match State::of(&body) {
        Some(state) => Answer::Object(state),
        None => Answer::Gone(body.pointer("/details/uid").and_then(Value::as_str).map(str::to_owned)),
    }
}

fn request(writer: u64, object: Object, op: &Op) -> Request<Vec<u8>> {
    let Object { kind, name } = object;
    let (method, path, content_type, body) = match op {
        Op::Get => ("GET", object.path(), "", Value::Null),
        Op::Create { .. } => ("POST", kind.path(), "json", kind.object(&metadata(name, op))),
        Op::Replace { .. } => ("PUT", object.path(), "json", kind.object(&metadata(name, op))),
        Op::JsonPatch { test, label, mark } => ("PATCH", object.path(), "json-patch+json", operations(test.as_ref(), label, mark)),
        Op::MergePatch { .. } => ("PATCH", object.path(), "merge-patch+json", json!({"metadata": metadata(name, op)})),
        Op::StrategicPatch { .. } => ("PATCH", object.path(), "strategic-merge-patch+json", json!({"metadata": metadata(name, op)})),
        Op::Apply { force, .. } => {
            let path = format!("{}?fieldManager=writer-{writer}&force={force}", object.path());
            ("PATCH", path, "apply-patch+yaml", kind.object(&metadata(name, op)))
        }
        Op::Delete { preconditions, policy } => ("DELETE", object.path(), "json", options(preconditions, *policy)),
        Op::DeleteCollection { selector } => {
            let selector = selector.as_ref().map(|(key, value)| format!("?labelSelector={key}%3D{value}"));
            ("DELETE", format!("{}{}", kind.path(), selector.unwrap_or_default()), "json", Value::Null)
        }
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", format!("application/{content_type}"));
    request.body(body).expect("the request is one")
}

fn metadata(name: &str, op: &Op) -> Value {
    let mut metadata = json!({"name": name});
    if let Some((key, value)) = op.mark() {
        metadata["annotations"] = json!({key: value});
    }
    match op {
        Op::Create { labels, finalizers, .. } => {
            metadata["labels"] = json!(labels);
            metadata["finalizers"] = json!(finalizers);
        }
        Op::Replace { revision, labels, finalizers, .. } => {
            metadata["labels"] = json!(labels);
            metadata["finalizers"] = json!(finalizers);
            insist(&mut metadata, *revision);
        }
        Op::MergePatch { revision, labels, finalizers, .. } => {
            metadata["labels"] = json!(labels);
            if let Some(finalizers) = finalizers {
                metadata["finalizers"] = json!(finalizers);
            }
            insist(&mut metadata, *revision);
        }
        Op::StrategicPatch { revision, labels, add, remove, .. } => {
            metadata["labels"] = json!(labels);
            metadata["finalizers"] = json!(add);
            metadata["$deleteFromPrimitiveList/finalizers"] = json!(remove);
            insist(&mut metadata, *revision);
        }
        Op::Apply { labels, .. } => metadata["labels"] = json!(labels),
        Op::Get | Op::JsonPatch { .. } | Op::Delete { .. } | Op::DeleteCollection { .. } => {}
    }
    metadata
}

fn insist(metadata: &mut Value, revision: Option<u64>) {
    if let Some(revision) = revision {
        metadata["resourceVersion"] = json!(revision.to_string());
    }
}

fn operations(test: Option<&(String, String)>, label: &(String, String), mark: &(String, String)) -> Value {
    let operation =
        |op: &str, map: &str, (key, value): &(String, String)| json!({"op": op, "path": format!("/metadata/{map}/{key}"), "value": value});
    let test = test.map(|test| operation("test", "labels", test));
    test.into_iter().chain([operation("add", "labels", label), operation("add", "annotations", mark)]).collect()
}

fn options(Preconditions { uid, revision }: &Preconditions, policy: Option<&str>) -> Value {
    let mut preconditions = json!({});
    if let Some(uid) = uid {
        preconditions["uid"] = json!(uid);
    }
    if let Some(revision) = revision {
        preconditions["resourceVersion"] = json!(revision.to_string());
    }
    json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions, "propagationPolicy": policy})
}
