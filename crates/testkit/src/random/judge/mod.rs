//! What must hold of a history, whoever made it.

mod calls;
mod truth;
mod views;

use super::history::{Answer, History};
use truth::Truth;

/// What a history showed; or what is wrong with it, in a sentence each.
pub type Verdict = Result<Shown, Vec<String>>;

/// How much there was to judge: a workload that shows little proves little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub commits: usize,
    pub conflicts: usize,
    pub unknown: usize,
    pub lists: usize,
    pub events: usize,
    /// Watches and lists that the compaction ended.
    pub expired: usize,
}

impl Shown {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            conflicts: self.conflicts + other.conflicts,
            unknown: self.unknown + other.unknown,
            lists: self.lists + other.lists,
            events: self.events + other.events,
            expired: self.expired + other.expired,
        }
    }
}

/// Faults told at most.
const MOST: usize = 8;

/// Judges a history.
pub fn judge(history: &History) -> Verdict {
    let truth = Truth::of(history);
    let mut faults = truth.judge(history);
    faults.extend(calls::judge(history, &truth));
    faults.extend(views::judge(history, &truth));
    if faults.is_empty() {
        return Ok(shown(history));
    }
    faults.truncate(MOST);
    Err(faults)
}

fn shown(history: &History) -> Shown {
    let answered = |wanted: fn(&Answer) -> bool| history.calls.iter().filter(|call| wanted(&call.answer)).count();
    let ended = |end| history.watchings.iter().filter(|watching| watching.end == end).count();
    Shown {
        commits: history.commits.len(),
        conflicts: answered(|answer| matches!(answer, Answer::Refused { code: 409, .. })),
        unknown: answered(|answer| *answer == Answer::Unknown),
        lists: history.listings.iter().filter(|listing| listing.whole).count(),
        events: history.watchings.iter().map(|watching| watching.told.len()).sum(),
        expired: ended(super::End::Expired) + history.listings.iter().filter(|listing| listing.expired.is_some()).count(),
    }
}
