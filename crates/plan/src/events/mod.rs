//! What is written of what happens: events that say the same again are counted, many that say almost the same are combined, and a
//! storm about one object is cut.
//!
//! The numbers and the order of the steps are those of upstream's correlator.

use jiff::{SignedDuration, Timestamp};

use self::bounded::Bounded;

mod bounded;

/// How many event writes about one object are let through at once, as upstream.
pub const BURST: u32 = 25;
/// After how long one more is, as upstream.
pub const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// From how many messages of one reason on they are combined, as upstream.
pub const SIMILAR: usize = 10;
/// How long after the last of them, as upstream.
pub const SIMILAR_FOR: SignedDuration = SignedDuration::from_secs(600);
/// How many events, objects and reasons are remembered, each, as upstream.
pub const REMEMBERED: usize = 4096;

/// What happened, as far as it tells events apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Happening {
    /// The object it happened to: group, version, kind, namespace, name and uid in some form.
    pub object: String,
    /// The part of the object.
    pub field_path: String,
    /// Of what severity.
    pub severity: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// An event that is not there yet.
    Create { message: String },
    /// One more of an event that was written.
    Count { name: String, count: i32, message: String },
    /// Nothing: there is too much about this object.
    Drop,
}

/// One writer's memory of what it wrote. It is bounded; what is forgotten is written anew.
#[derive(Debug)]
pub struct Correlator {
    written: Bounded<Happening, Written>,
    budgets: Bounded<String, Budget>,
    similar: Bounded<Happening, Similar>,
}

#[derive(Debug, Default)]
struct Written {
    name: String,
    count: i32,
}

/// Different messages of one reason.
#[derive(Debug)]
struct Similar {
    messages: Vec<String>,
    last: Timestamp,
}

impl Default for Correlator {
    fn default() -> Self {
        Self { written: Bounded::new(REMEMBERED), budgets: Bounded::new(REMEMBERED), similar: Bounded::new(REMEMBERED) }
    }
}

impl Correlator {
    /// What to write of what happened, and under which identity it is remembered.
    pub fn decide(&mut self, happening: &Happening, now: Timestamp) -> (Happening, Decision) {
        let (identity, message) = self.combine(happening, now);
        let budget = self.budgets.entry(happening.object.clone(), || Budget { left: BURST, since: now });
        if !budget.take(now) {
            return (identity, Decision::Drop);
        }
        let decision = match self.written.get(&identity) {
            Some(written) => Decision::Count { name: written.name.clone(), count: written.count.saturating_add(1), message },
            None => Decision::Create { message },
        };
        (identity, decision)
    }

    /// An event was written under this name.
    pub fn wrote(&mut self, identity: Happening, name: String, count: i32) {
        *self.written.entry(identity, Written::default) = Written { name, count };
    }

    /// An event is there no more: it expired, or somebody deleted it.
    pub fn lost(&mut self, identity: &Happening) {
        self.written.remove(identity);
    }

    /// One identity for all messages of a reason, once there are many.
    fn combine(&mut self, happening: &Happening, now: Timestamp) -> (Happening, String) {
        let kind = Happening { message: String::new(), ..happening.clone() };
        let similar = self.similar.entry(kind.clone(), || Similar { messages: Vec::new(), last: now });
        if now.duration_since(similar.last) > SIMILAR_FOR {
            similar.messages.clear();
        }
        similar.last = now;
        if !similar.messages.contains(&happening.message) {
            similar.messages.push(happening.message.clone());
        }
        if similar.messages.len() < SIMILAR {
            return (happening.clone(), happening.message.clone());
        }
        similar.messages.remove(0);
        (kind, format!("(combined from similar events): {}", happening.message))
    }
}

/// How many event writes an object may still cause.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When the last one was added back.
    since: Timestamp,
}

impl Budget {
    /// Whether there was one left.
    fn take(&mut self, now: Timestamp) -> bool {
        let earned = now.duration_since(self.since).as_secs().max(0) / REFILL.as_secs();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(object: &str, message: &str) -> Happening {
        Happening {
            object: object.to_owned(),
            field_path: String::new(),
            severity: "Normal",
            reason: "Pulling",
            message: message.to_owned(),
        }
    }

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn created(correlator: &mut Correlator, happening: &Happening, name: &str) {
        let (identity, decision) = correlator.decide(happening, START);
        assert_eq!(decision, Decision::Create { message: happening.message.clone() });
        correlator.wrote(identity, name.to_owned(), 1);
    }

    #[test]
    fn the_same_again_is_counted_and_what_was_lost_is_written_anew() {
        let mut correlator = Correlator::default();
        let happening = happening("a", "pulling");
        created(&mut correlator, &happening, "a.1");
        for count in 2..4 {
            let (identity, decision) = correlator.decide(&happening, START);
            assert_eq!(decision, Decision::Count { name: "a.1".to_owned(), count, message: "pulling".to_owned() });
            correlator.wrote(identity, "a.1".to_owned(), count);
        }
        let (identity, _) = correlator.decide(&happening, START);
        correlator.lost(&identity);
        created(&mut correlator, &happening, "a.2");
        let part = Happening { field_path: "spec.containers{b}".to_owned(), ..happening };
        created(&mut correlator, &part, "a.3");
    }

    #[test]
    fn many_messages_of_one_reason_become_one_event_until_it_is_quiet() {
        let mut correlator = Correlator::default();
        for number in 1..SIMILAR {
            created(&mut correlator, &happening("a", &number.to_string()), "a.x");
        }
        let (identity, decision) = correlator.decide(&happening("a", "tenth"), START);
        assert_eq!(decision, Decision::Create { message: "(combined from similar events): tenth".to_owned() });
        correlator.wrote(identity, "a.combined".to_owned(), 1);
        let (_, decision) = correlator.decide(&happening("a", "eleventh"), START);
        let message = "(combined from similar events): eleventh".to_owned();
        assert_eq!(decision, Decision::Count { name: "a.combined".to_owned(), count: 2, message });
        let later = START + SIMILAR_FOR + SignedDuration::from_secs(1);
        let (_, decision) = correlator.decide(&happening("a", "twelfth"), later);
        assert_eq!(decision, Decision::Create { message: "twelfth".to_owned() });
    }

    #[test]
    fn a_storm_is_cut_and_earns_one_more_write_after_the_refill() {
        let mut correlator = Correlator::default();
        let mut through = |object: &str, now| correlator.decide(&happening(object, "again"), now).1 != Decision::Drop;
        assert_eq!((0..100).filter(|_| through("a", START)).count(), BURST as usize);
        assert!(through("b", START));
        let later = START + REFILL;
        assert_eq!([through("a", later), through("a", later)], [true, false]);
    }
}
