//! What a StatefulSet can ask for beyond upstream's fields: annotations under `steadfast.dev/`.
//!
//! They are read here and nowhere else: the API server refuses those that are malformed, and the planner follows the rest.

use std::collections::BTreeMap;

use crate::gate::{Gate, PRE_DELETE};
use crate::ordinals::Reserved;
use crate::selector::{is_label_key, is_label_value};

/// How long nothing may come forward until the set counts as stalled, in seconds.
pub const PROGRESS_DEADLINE: &str = "steadfast.dev/progress-deadline-seconds";
/// Whether an update that stalls is taken back.
pub const AUTO_ROLLBACK: &str = "steadfast.dev/auto-rollback";
/// In which order an update replaces pods.
pub const UPDATE_ORDER: &str = "steadfast.dev/update-order";
/// Ordinals that are passed over.
pub const RESERVED_ORDINALS: &str = "steadfast.dev/reserved-ordinals";
/// Whether rollouts stand still.
pub const PAUSED: &str = "steadfast.dev/paused";
/// Whether a pod whose images alone differ is updated without being replaced.
pub const IN_PLACE_UPDATE: &str = "steadfast.dev/in-place-update";

/// The pod condition with which a node remembers that a pod which is not ready now has been so before. The times of conditions are
/// whole seconds, too coarse to tell that of a young pod.
pub const HAS_BEEN_READY: &str = "steadfast.dev/HasBeenReady";

/// As upstream's Deployment.
const DEFAULT_PROGRESS_DEADLINE: u32 = 600;

/// What a set asks for. What it doesn't mention, or mentions in a way that can't be read, is as by default.
#[derive(Clone, Debug, PartialEq)]
pub struct Extensions {
    /// In seconds.
    pub progress_deadline: u32,
    pub auto_rollback: bool,
    pub update_order: UpdateOrder,
    pub reserved_ordinals: Reserved,
    pub paused: bool,
    pub in_place_update: bool,
    pub gate: Option<Gate>,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            progress_deadline: DEFAULT_PROGRESS_DEADLINE,
            auto_rollback: false,
            update_order: UpdateOrder::default(),
            reserved_ordinals: Reserved::default(),
            paused: false,
            in_place_update: false,
            gate: None,
        }
    }
}

/// An annotation that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub annotation: &'static str,
    pub value: String,
    /// What is wrong with it, in a form that follows the value.
    pub reason: String,
}

/// How the value of an annotation gets into the extensions; the error says what is wrong with it.
type Reader = fn(&mut Extensions, &str) -> Result<(), String>;

/// All annotations: a new one is a row here.
const ANNOTATIONS: &[(&str, Reader)] = &[
    (PROGRESS_DEADLINE, |extensions, text| seconds(text).map(|seconds| extensions.progress_deadline = seconds)),
    (AUTO_ROLLBACK, |extensions, text| flag(text).map(|flag| extensions.auto_rollback = flag)),
    (UPDATE_ORDER, |extensions, text| UpdateOrder::parse(text).map(|order| extensions.update_order = order)),
    (RESERVED_ORDINALS, |extensions, text| Reserved::parse(text).map(|reserved| extensions.reserved_ordinals = reserved)),
    (PAUSED, |extensions, text| flag(text).map(|flag| extensions.paused = flag)),
    (IN_PLACE_UPDATE, |extensions, text| flag(text).map(|flag| extensions.in_place_update = flag)),
    (PRE_DELETE, |extensions, text| Gate::parse(text).map(|gate| extensions.gate = Some(gate))),
];

impl Extensions {
    /// What the annotations of a set ask for, and those that can't be read.
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> (Self, Vec<Malformed>) {
        let mut extensions = Self::default();
        let mut malformed = Vec::new();
        for (annotation, read) in ANNOTATIONS {
            let Some(value) = annotations.and_then(|annotations| annotations.get(*annotation)) else { continue };
            if let Err(reason) = read(&mut extensions, value) {
                malformed.push(Malformed { annotation, value: value.clone(), reason });
            }
        }
        (extensions, malformed)
    }
}

/// In which order an update replaces pods: `role=replica,*,role=master`. A label, or with an `@` before it an annotation, and
/// its value make a rank; `*` is the rank of the pods that none of the others fits, which is otherwise the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateOrder(Vec<Rank>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rank {
    Label { key: String, value: String },
    Annotation { key: String, value: String },
    Others,
}

impl UpdateOrder {
    /// Reads entries that commas separate.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let ranks = entries.map(rank).collect::<Result<Vec<_>, _>>()?;
        match ranks.iter().enumerate().find(|(index, rank)| ranks[..*index].contains(rank)) {
            Some((index, _)) => Err(format!("entry {index} stands twice")),
            None => Ok(Self(ranks)),
        }
    }

    /// Whether there is no order but that of the ordinals.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rank of a pod with these labels and annotations: lower ones come first.
    pub fn rank(&self, labels: Option<&BTreeMap<String, String>>, annotations: Option<&BTreeMap<String, String>>) -> usize {
        let has = |map: Option<&BTreeMap<String, String>>, key: &str, value: &str| {
            map.and_then(|map| map.get(key)).is_some_and(|found| found == value)
        };
        let fits = |rank: &Rank| match rank {
            Rank::Label { key, value } => has(labels, key, value),
            Rank::Annotation { key, value } => has(annotations, key, value),
            Rank::Others => false,
        };
        let others = || self.0.iter().position(|rank| *rank == Rank::Others);
        self.0.iter().position(fits).or_else(others).unwrap_or(self.0.len())
    }
}

fn rank(entry: &str) -> Result<Rank, String> {
    if entry == "*" {
        return Ok(Rank::Others);
    }
    let (key, value) = entry.split_once('=').ok_or_else(|| format!("{entry:?} must be key=value, @key=value or *"))?;
    let (name, is_annotation) = key.strip_prefix('@').map_or((key, false), |name| (name, true));
    if !is_label_key(name) {
        return Err(format!("{name:?} in {entry:?} can't be the key of a label or annotation"));
    }
    let (key, value) = (name.to_owned(), value.to_owned());
    match is_annotation {
        true => Ok(Rank::Annotation { key, value }),
        false if is_label_value(&value) => Ok(Rank::Label { key, value }),
        false => Err(format!("{value:?} in {entry:?} can't be the value of a label")),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be 'true' or 'false'".to_owned()),
    }
}

fn seconds(text: &str) -> Result<u32, String> {
    let number = text.parse::<i32>().ok().filter(|number| *number > 0).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number of seconds from 1 to {}", i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: &str = r#"{"exec":{"command":["leave"]}}"#;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_mentioned_is_as_by_default() {
        assert_eq!(Extensions::read(None), (Extensions::default(), vec![]));
        assert_eq!(Extensions::read(Some(&map(&[("steadfast.dev/other", "x"), ("paused", "true")]))).0, Extensions::default());
        assert_eq!(Extensions::default().progress_deadline, 600);
    }

    #[test]
    fn each_annotation_is_read() {
        let annotations = map(&[
            (PROGRESS_DEADLINE, "30"),
            (AUTO_ROLLBACK, "true"),
            (UPDATE_ORDER, "role=replica"),
            (RESERVED_ORDINALS, "1,3-5"),
            (PAUSED, "true"),
            (IN_PLACE_UPDATE, "true"),
            (PRE_DELETE, GATE),
        ]);
        let wanted = Extensions {
            progress_deadline: 30,
            auto_rollback: true,
            update_order: UpdateOrder(vec![Rank::Label { key: "role".to_owned(), value: "replica".to_owned() }]),
            reserved_ordinals: Reserved::parse("1,3-5").unwrap(),
            paused: true,
            in_place_update: true,
            gate: Some(Gate::parse(GATE).unwrap()),
        };
        assert_eq!(Extensions::read(Some(&annotations)), (wanted, vec![]));
    }

    #[test]
    fn what_can_not_be_read_is_told_and_counts_as_absent() {
        let cases = [
            (PROGRESS_DEADLINE, "0", "must be a whole number of seconds from 1 to 2147483647"),
            (PROGRESS_DEADLINE, "1m", "must be a whole number of seconds from 1 to 2147483647"),
            (AUTO_ROLLBACK, "yes", "must be 'true' or 'false'"),
            (UPDATE_ORDER, "replica", "\"replica\" must be key=value, @key=value or *"),
            (UPDATE_ORDER, "*,role=a,*", "entry 2 stands twice"),
            (UPDATE_ORDER, "a b=c", "\"a b\" in \"a b=c\" can't be the key of a label or annotation"),
            (UPDATE_ORDER, "a=b c", "\"b c\" in \"a=b c\" can't be the value of a label"),
            (RESERVED_ORDINALS, "5-3", "the range 5-3 ends before it begins"),
            (PAUSED, "", "must be 'true' or 'false'"),
            (PRE_DELETE, "{}", "must have exec or job"),
        ];
        for (annotation, value, reason) in cases {
            let malformed = Malformed { annotation, value: value.to_owned(), reason: reason.to_owned() };
            assert_eq!(Extensions::read(Some(&map(&[(annotation, value)]))), (Extensions::default(), vec![malformed]));
        }
    }

    #[test]
    fn pods_are_ranked_by_the_first_entry_that_fits() {
        let order = UpdateOrder::parse("role=replica, *, @example.com/state=busy, role=master").unwrap();
        let rank = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| order.rank(Some(&map(labels)), Some(&map(annotations)));
        assert_eq!(rank(&[("role", "replica")], &[("example.com/state", "busy")]), 0);
        assert_eq!(rank(&[("role", "other")], &[]), 1);
        assert_eq!(rank(&[("role", "master")], &[("example.com/state", "busy")]), 2);
        assert_eq!(rank(&[("role", "master")], &[("example.com/state", "idle")]), 3);
        assert_eq!(UpdateOrder::parse("role=replica").unwrap().rank(None, None), 1);
        assert_eq!(UpdateOrder::default().rank(None, None), 0);
    }
}
