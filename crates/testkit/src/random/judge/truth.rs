//! The sequence of commits: what it says of each object at each revision, and what is known of when each was made.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::random::history::{Answer, Call, History};
use crate::random::model::{Kind, Object, State};

/// The states that an object went through, by revision; `None` where it is not there.
pub type States = BTreeMap<u64, Option<State>>;

/// The sequence, with indexes.
pub struct Truth {
    pub objects: BTreeMap<Object, States>,
    /// When something was answered, and the highest revision that had been told by then.
    floors: Vec<(u64, u64)>,
    /// When a write was asked that came to a revision, and the lowest such revision from then on.
    ceilings: Vec<(u64, u64)>,
}

impl Truth {
    pub fn of(history: &History) -> Self {
        let mut objects: BTreeMap<Object, States> = BTreeMap::new();
        for commit in &history.commits {
            objects.entry(commit.object).or_default().insert(commit.revision, commit.state.clone());
        }
        Self { objects, floors: floors(history), ceilings: ceilings(history) }
    }

    /// What was at an object's place after a revision.
    pub fn at(&self, object: Object, revision: u64) -> Option<&State> {
        self.objects.get(&object)?.range(..=revision).next_back()?.1.as_ref()
    }

    /// What was there before a commit.
    pub fn before(&self, object: Object, revision: u64) -> Option<&State> {
        self.at(object, revision - 1)
    }

    /// All objects of a kind at a revision, in order of their names.
    pub fn all_at(&self, kind: &Kind, revision: u64) -> Vec<(&'static str, &State)> {
        let objects = self.objects.keys().filter(|object| object.kind == kind);
        objects.filter_map(|object| Some((object.name, self.at(*object, revision)?))).collect()
    }

    /// The commits to a kind after one revision, up to another.
    pub fn commits(&self, kind: &Kind, after: u64, until: u64) -> Vec<(u64, Object)> {
        let of = |(object, states): (&Object, &States)| -> Vec<_> {
            states.range((Bound::Excluded(after), Bound::Included(until.max(after)))).map(|(revision, _)| (*revision, *object)).collect()
        };
        let mut commits: Vec<_> = self.objects.iter().filter(|(object, _)| object.kind == kind).flat_map(of).collect();
        commits.sort_unstable();
        commits
    }

    /// The highest revision that was told before a moment: whatever is asked then must know of it.
    pub fn floor(&self, moment: u64) -> u64 {
        let found = self.floors.partition_point(|(end, _)| *end < moment);
        if found == 0 { 0 } else { self.floors[found - 1].1 }
    }

    /// What was answered at a moment can't know of this revision or later ones.
    pub fn ceiling(&self, moment: u64) -> u64 {
        let found = self.ceilings.partition_point(|(begin, _)| *begin <= moment);
        self.ceilings.get(found).map_or(u64::MAX, |(_, revision)| *revision)
    }

    /// What was at an object's place at some moment between two.
    pub fn possible(&self, object: Object, begin: u64, end: u64) -> Vec<Option<&State>> {
        let (floor, ceiling) = (self.floor(begin), self.ceiling(end));
        let mut possible = vec![self.at(object, floor)];
        if let Some(states) = self.objects.get(&object).filter(|_| floor + 1 < ceiling) {
            possible.extend(states.range(floor + 1..ceiling).map(|(_, state)| state.as_ref()));
        }
        possible
    }

    /// What must hold of the sequence by itself: no revision twice or left out, and every change somebody's.
    pub fn judge(&self, history: &History) -> Vec<String> {
        let mut faults = Vec::new();
        for (before, after) in history.restarts.iter().filter(|(before, after)| after < before) {
            faults.push(format!("the store was at revision {before}, and at {after} when it was opened again"));
        }
        for pair in history.revisions.windows(2).filter(|pair| pair[1] != pair[0] + 1) {
            faults.push(format!("after revision {} comes {}", pair[0], pair[1]));
        }
        faults.extend(self.unexplained(history));
        faults
    }

    fn unexplained(&self, history: &History) -> Vec<String> {
        let mut by_mark: HashMap<&(String, String), &Call> = HashMap::new();
        by_mark.extend(history.calls.iter().filter_map(|call| Some((call.op.mark()?, call))));
        let mut faults = Vec::new();
        for (object, states) in &self.objects {
            let mut old: Option<&State> = None;
            for (revision, new) in states {
                if let Some(fault) = explain(history, &by_mark, *object, *revision, old, new.as_ref()) {
                    faults.push(fault);
                }
                old = new.as_ref();
            }
        }
        faults
    }
}

/// Why a change can't be: nobody asked for it, or not for that, or it was refused.
fn explain(
    history: &History,
    by_mark: &HashMap<&(String, String), &Call>,
    object: Object,
    revision: u64,
    old: Option<&State>,
    new: Option<&State>,
) -> Option<String> {
    let place = || format!("revision {revision} of {}/{}: {old:?} became {new:?}", object.kind.plural, object.name);
    let marks = new.iter().flat_map(|state| &state.annotations);
    let fresh = marks.filter(|(key, value)| old.is_none_or(|old| old.annotations.get(*key) != Some(*value)));
    let fresh: Vec<_> = fresh.map(|(key, value)| (key.clone(), value.clone())).collect();
    let [mark] = fresh.as_slice() else {
        let asked = |call: &&Call| call.object.kind == object.kind && (call.object.name.is_empty() || call.object == object);
        let happened = |call: &&Call| !matches!(call.answer, Answer::Refused { .. }) && call.op.makes(old, new);
        let someone = history.calls.iter().filter(asked).any(|call| happened(&call));
        return (!(someone || history.others && finishes(old, new))).then(|| format!("{}; nobody asked for it", place()));
    };
    let Some(call) = by_mark.get(mark) else { return Some(format!("{}; nobody leaves {mark:?}", place())) };
    if matches!(call.answer, Answer::Refused { .. }) {
        return Some(format!("{}, though it was refused: {call:?}", place()));
    }
    let acknowledged = |state: &State| state.revision == revision;
    if matches!(&call.answer, Answer::Object(state) if !acknowledged(state)) {
        return Some(format!("{}, for the second time: {call:?}", place()));
    }
    let right = call.object == object && call.op.makes(old, new) && is_met(call, old);
    (!right).then(|| format!("{}, which is not what was asked: {call:?}", place()))
}

/// Whether what an operation insists on was so.
fn is_met(call: &Call, old: Option<&State>) -> bool {
    !matches!(call.op.expectation(old), crate::random::model::Expectation::Refused(_))
}

/// What a garbage collector does: takes away a finalizer of its own, and with it the object.
fn finishes(old: Option<&State>, new: Option<&State>) -> bool {
    old.is_some_and(|old| old.terminating && new.is_none_or(|new| new.finalizers.is_subset(&old.finalizers)))
}

fn floors(history: &History) -> Vec<(u64, u64)> {
    let mut told: Vec<(u64, u64)> = Vec::new();
    for call in &history.calls {
        if let Answer::Object(state) = &call.answer {
            told.push((call.end, state.revision));
        }
    }
    for page in history.listings.iter().flat_map(|listing| &listing.pages) {
        told.push((page.end, page.revision));
    }
    told.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut told {
        highest = highest.max(*revision);
        *revision = highest;
    }
    told
}

fn ceilings(history: &History) -> Vec<(u64, u64)> {
    let written = |call: &Call| match &call.answer {
        Answer::Object(state) if call.op.mark().is_some() => Some((call.begin, state.revision)),
        _ => None,
    };
    let mut asked: Vec<_> = history.calls.iter().filter_map(written).collect();
    asked.sort_unstable();
    let mut lowest = u64::MAX;
    for (_, revision) in asked.iter_mut().rev() {
        lowest = lowest.min(*revision);
        *revision = lowest;
    }
    asked
}
