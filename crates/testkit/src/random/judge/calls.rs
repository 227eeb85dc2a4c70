//! Every answer is one that the model gives at some moment between question and answer.

use super::truth::Truth;
use crate::random::history::{Answer, Call, History};
use crate::random::model::{Expectation, Object, Op, State};

pub fn judge(history: &History, truth: &Truth) -> Vec<String> {
    history.calls.iter().filter_map(|call| fault(call, truth).map(|why| format!("{why}: {call:?}"))).collect()
}

fn fault(call: &Call, truth: &Truth) -> Option<String> {
    let Call { op, object, begin, end, answer, .. } = call;
    match (op, answer) {
        (_, Answer::Unknown) | (Op::DeleteCollection { .. }, Answer::Gone(_) | Answer::Object(_)) => None,
        (Op::Get, Answer::Object(found)) => {
            let possible = truth.possible(*object, *begin, *end);
            (!possible.contains(&Some(found))).then(|| format!("what was read was not there; there was {possible:?}"))
        }
        (_, Answer::Refused { code, .. }) => refused(call, *code, truth),
        (Op::Delete { .. }, Answer::Object(left)) => marked(call, left, truth),
        (Op::Delete { .. }, Answer::Gone(uid)) => gone(call, uid.as_deref(), truth),
        (_, Answer::Object(written)) => acknowledged(call, written, truth),
        (_, Answer::Gone(_)) => Some("the answer to a write has no object".to_owned()),
    }
}

/// A refusal that the model gives for no state that was there meanwhile is a false one.
fn refused(call: &Call, code: u16, truth: &Truth) -> Option<String> {
    let possible = truth.possible(call.object, call.begin, call.end);
    let could_be = |state: &Option<&State>| match call.op.expectation(*state) {
        Expectation::Refused(expected) | Expectation::Either(expected) => expected == code,
        Expectation::Happens => false,
    };
    (!possible.iter().any(could_be)).then(|| format!("nothing that was there meanwhile is a reason to refuse; there was {possible:?}"))
}

/// What was acknowledged is in the sequence: after all that was told before it was asked, and before all that was asked after.
fn acknowledged(call: &Call, written: &State, truth: &Truth) -> Option<String> {
    let (floor, ceiling) = (truth.floor(call.begin), truth.ceiling(call.end));
    if written.revision <= floor || written.revision >= ceiling {
        return Some(format!("its revision is not above {floor} and below {ceiling}"));
    }
    let states = truth.objects.get(&call.object)?;
    match states.get(&written.revision) {
        Some(Some(state)) if state == written => None,
        // With its last finalizer, the object went.
        Some(None) if call.op.makes(truth.before(call.object, written.revision), None) => None,
        other => Some(format!("what was acknowledged is not what was committed, which is {other:?}")),
    }
}

/// The object is marked and held; or was so before.
fn marked(call: &Call, left: &State, truth: &Truth) -> Option<String> {
    let possible = truth.possible(call.object, call.begin, call.end);
    if !possible.contains(&Some(left)) {
        // A kind that is returned when it is gone, by its last state.
        return gone(call, Some(&left.uid), truth);
    }
    let held = left.terminating && !left.finalizers.is_empty();
    (!held).then(|| "a deletion leaves an object that is not marked, or not held".to_owned())
}

/// The object ended meanwhile.
fn gone(call: &Call, uid: Option<&str>, truth: &Truth) -> Option<String> {
    let (floor, ceiling) = (truth.floor(call.begin), truth.ceiling(call.end));
    let ended = |object: Object, revision: u64| {
        let before = truth.before(object, revision);
        before.is_some_and(|before| uid.is_none_or(|uid| before.uid == uid))
            && matches!(call.op.expectation(before), Expectation::Happens)
            && call.op.makes(before, None)
    };
    let states = truth.objects.get(&call.object)?;
    let found =
        floor + 1 < ceiling && states.range(floor + 1..ceiling).any(|(revision, state)| state.is_none() && ended(call.object, *revision));
    (!found).then(|| format!("no such end of the object is between revisions {floor} and {ceiling}"))
}
