//! What is explored.

use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::extensions::{IN_PLACE_UPDATE, UPDATE_ORDER};
use kinds::gate::PRE_DELETE;
use serde_json::{Value, json};

use crate::walk::Dice;

/// A pod of this image never becomes ready.
pub const BROKEN: &str = "broken";

/// Something that the user changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Image(&'static str),
    Scale(i32),
    Partition(i32),
    Start(i32),
    /// Whether claims are deleted with the set, and when it is scaled down.
    Retention(bool, bool),
    /// Whether rollouts stand still.
    Pause(bool),
    /// Ordinals that are passed over.
    Reserve(&'static str),
    /// The pod at this ordinal becomes the primary one, all others replicas.
    Promote(u32),
    /// The set is deleted without its pods, and created again.
    Recreate,
    /// The set is deleted with all that belongs to it.
    Delete,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The controller dies in the middle of a round.
    Crash,
    /// The view of one kind of object stands still for a while.
    Lag,
    /// The controller starts anew with an old view.
    OldView,
    /// A pod ends.
    Fail,
    /// A pod is no longer ready.
    Unready,
    /// A pod's container ends again and again.
    Loop,
    /// Somebody deletes a pod.
    Delete,
    /// A node is not heard of for a while.
    Loss,
    /// A pod takes long to start: it is on a node, but does not run yet.
    Slow,
}

impl Fault {
    /// What befalls pods, and the controller while it writes.
    const BEFALLING: [Self; 7] = [Self::Crash, Self::Fail, Self::Unready, Self::Loop, Self::Delete, Self::Loss, Self::Slow];
    /// What keeps the controller from seeing what is.
    const BLINDING: [Self; 2] = [Self::Lag, Self::OldView];

    fn all() -> Vec<Self> {
        [&Self::BEFALLING[..], &Self::BLINDING[..]].concat()
    }
}

/// A set, and what may happen to it.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Names it in a command that replays a failure.
    pub name: String,
    pub set: StatefulSet,
    /// What the user will change: each list in its order, the lists among each other in any order, at any time.
    pub changes: Vec<Vec<Change>>,
    /// How often something may go wrong.
    pub faults: u8,
    /// What may go wrong.
    pub kinds: Vec<Fault>,
}

/// How the pods of a set are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Rolling,
    /// `RollingUpdate` without its block.
    NoBlock,
    Partition,
    TwoAtOnce,
    OnDelete,
}

impl Strategy {
    const ALL: [Self; 5] = [Self::Rolling, Self::NoBlock, Self::Partition, Self::TwoAtOnce, Self::OnDelete];

    fn name(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::NoBlock => "no-block",
            Self::Partition => "partition",
            Self::TwoAtOnce => "two-at-once",
            Self::OnDelete => "on-delete",
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Rolling => json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            Self::NoBlock => json!({"type": "RollingUpdate"}),
            Self::Partition => json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
            Self::TwoAtOnce => json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}),
            Self::OnDelete => json!({"type": "OnDelete"}),
        }
    }
}

/// How a set is put together.
struct Form {
    parallel: bool,
    strategy: Strategy,
    /// The retention policy of its claims, if it has claims.
    claims: Option<(bool, bool)>,
    replicas: i32,
    min_ready_seconds: i32,
}

impl Form {
    fn name(&self) -> String {
        let policy = if self.parallel { "parallel" } else { "ordered" };
        let claims = match self.claims {
            None => "no-claims".to_owned(),
            Some((deleted, scaled)) => format!("{}-{}", word(deleted), word(scaled)).to_lowercase(),
        };
        format!("{policy}/{}/{claims}", self.strategy.name())
    }

    fn set(&self) -> StatefulSet {
        let policy = if self.parallel { "Parallel" } else { "OrderedReady" };
        let mut spec = json!({
            "replicas": self.replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "podManagementPolicy": policy, "updateStrategy": self.strategy.value(), "minReadySeconds": self.min_ready_seconds,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}},
        });
        if let Some((deleted, scaled)) = self.claims {
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
            spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": word(deleted), "whenScaled": word(scaled)});
        }
        let meta = json!({"name": "web", "namespace": "default", "uid": "web~0", "generation": 1});
        let value = json!({"metadata": meta, "spec": spec});
        serde_json::from_value(value).unwrap_or_default()
    }
}

pub(crate) fn word(deletes: bool) -> &'static str {
    if deletes { "Delete" } else { "Retain" }
}

const RETENTION: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// All that can be explored exhaustively: up to three replicas, two changes of the template and two of the scale, every policy,
/// strategy and retention policy. `faults` is how often something goes wrong.
pub fn configurations(faults: u8) -> Vec<Configuration> {
    [false, true].into_iter().flat_map(|parallel| of_policy(parallel, faults)).collect()
}

fn of_policy(parallel: bool, faults: u8) -> Vec<Configuration> {
    let mut all = Vec::new();
    for strategy in Strategy::ALL {
        let form = |claims| Form { parallel, strategy, claims, replicas: 3, min_ready_seconds: 0 };
        all.push(update(&form(None), faults));
        all.push(rollout(&form(None), faults));
        let policies = if strategy == Strategy::Rolling { &RETENTION[..] } else { &RETENTION[3..] };
        all.extend(policies.iter().map(|policy| scale(&form(Some(*policy)), faults)));
    }
    let form = |claims, seconds| Form { parallel, strategy: Strategy::Rolling, claims, replicas: 2, min_ready_seconds: seconds };
    let down_and_up = || vec![vec![Change::Scale(1), Change::Scale(2)]];
    for policy in RETENTION {
        all.push(with("shrink", &form(Some(policy), 0), down_and_up(), faults));
        all.push(with("delete", &form(Some(policy), 0), vec![vec![Change::Delete], vec![Change::Scale(1)]], faults));
    }
    all.push(with("blind", &form(Some((false, true)), 0), down_and_up(), faults));
    all.push(with("blind", &form(None, 0), vec![vec![Change::Image("v2")]], faults));
    all.push(with("min-ready", &form(None, 5), vec![vec![Change::Image("v2")], vec![Change::Scale(3)]], faults));
    all.push(with("recreate", &form(Some((true, true)), 0), vec![vec![Change::Recreate], vec![Change::Image("v2")]], faults));
    all.push(with("start", &form(Some((false, true)), 0), vec![vec![Change::Start(1), Change::Start(0)]], faults));
    all.push(gated(&form(None, 0), faults));
    all.extend(extended(&form(None, 0), faults));
    all
}

/// What sets can ask for beyond upstream's fields.
fn extended(form: &Form, faults: u8) -> [Configuration; 4] {
    let update = || vec![Change::Image("v2")];
    let pauses = vec![Change::Pause(true), Change::Scale(3), Change::Pause(false)];
    let claims = Form { claims: Some((false, true)), ..*form };
    let three = Form { replicas: 3, ..*form };
    [
        with("paused", form, vec![update(), pauses], faults),
        with("reserved", &claims, vec![update(), vec![Change::Reserve("0,2"), Change::Reserve("")]], faults),
        asking(UPDATE_ORDER, ORDER, with("roles", &three, vec![update(), vec![Change::Promote(2), Change::Promote(0)]], faults)),
        asking(IN_PLACE_UPDATE, "true", with("in-place", form, vec![templates(form.strategy), vec![Change::Scale(3)]], faults)),
    ]
}

/// Replicas are updated before the primary.
const ORDER: &str = "role=replica,role=primary";

fn asking(annotation: &str, value: &str, mut configuration: Configuration) -> Configuration {
    let annotations = configuration.set.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation.to_owned(), value.to_owned());
    configuration
}

/// A set whose pods go after a hook, which is a pod. Wishes come and go.
fn gated(form: &Form, faults: u8) -> Configuration {
    let changes = vec![vec![Change::Image("v2"), Change::Image("v1")], vec![Change::Scale(1), Change::Scale(2)]];
    let gate = json!({"job": {"template": {"spec": {"containers": [{"name": "leave", "image": "tools"}]}}}});
    let mut gated = asking(PRE_DELETE, &gate.to_string(), with("gate", form, changes, faults));
    gated.kinds = vec![Fault::Crash, Fault::Delete];
    gated
}

/// Two changes of the template of two replicas, and nothing else.
fn rollout(form: &Form, faults: u8) -> Configuration {
    let form = Form { replicas: 2, ..*form };
    with("rollout", &form, vec![templates(form.strategy)], faults)
}

/// A broken first update must be possible to leave; under `OnDelete` it is the user who leaves it.
fn templates(strategy: Strategy) -> Vec<Change> {
    match strategy {
        Strategy::OnDelete => vec![Change::Image("v2"), Change::Image("v1")],
        _ => vec![Change::Image(BROKEN), Change::Image("v2")],
    }
}

/// Two changes of the template while the scale changes too.
fn update(form: &Form, faults: u8) -> Configuration {
    let mut changes = vec![templates(form.strategy), vec![Change::Scale(2)]];
    if form.strategy == Strategy::Partition {
        changes.push(vec![Change::Partition(1)]);
    }
    with("update", form, changes, faults)
}

/// Down and up again during an update.
fn scale(form: &Form, faults: u8) -> Configuration {
    let form = Form { replicas: 2, ..*form };
    with("scale", &form, vec![vec![Change::Scale(1), Change::Scale(3)], vec![Change::Image("v2")]], faults)
}

fn with(story: &str, form: &Form, changes: Vec<Vec<Change>>, faults: u8) -> Configuration {
    let kinds = if story == "blind" { Fault::BLINDING.to_vec() } else { Fault::BEFALLING.to_vec() };
    Configuration { name: format!("{story}/{}/{faults}", form.name()), set: form.set(), changes, faults, kinds }
}

/// The configuration of a seed: up to five replicas, many changes and faults.
pub fn random(seed: u64) -> Configuration {
    let mut dice = Dice::new(seed);
    let claims = (dice.below(4) > 0).then(|| (dice.flip(), dice.flip()));
    let (parallel, strategy) = (dice.flip(), Strategy::ALL[dice.below(Strategy::ALL.len())]);
    let form = Form { parallel, strategy, claims, replicas: 1 + dice.number(5), min_ready_seconds: dice.number(2) * 5 };
    let images: &[&str] = if strategy == Strategy::OnDelete { &["v1", "v2", "v3"] } else { &["v1", "v2", "v3", BROKEN] };
    let mut changes = vec![
        (0..5).map(|_| Change::Image(images[dice.below(images.len())])).collect(),
        (0..4).map(|_| Change::Scale(dice.number(6))).collect(),
    ];
    changes.push(match strategy {
        Strategy::Rolling | Strategy::Partition | Strategy::TwoAtOnce => (0..3).map(|_| Change::Partition(dice.number(5))).collect(),
        Strategy::NoBlock | Strategy::OnDelete => vec![],
    });
    let rest = |dice: &mut Dice| match dice.below(4) {
        0 => Change::Start(dice.number(3)),
        1 => Change::Recreate,
        _ => Change::Retention(dice.flip(), dice.flip()),
    };
    changes.push((0..2).map(|_| rest(&mut dice)).collect());
    let extension = |dice: &mut Dice| match dice.below(3) {
        0 => Change::Pause(dice.flip()),
        1 => Change::Reserve(["", "0", "1,3"][dice.below(3)]),
        _ => Change::Promote(dice.below(4) as u32),
    };
    changes.push((0..4).map(|_| extension(&mut dice)).collect());
    let mut random = Configuration { name: "random".to_owned(), set: form.set(), changes, faults: 12, kinds: Fault::all() };
    for (annotation, value) in [(IN_PLACE_UPDATE, "true"), (UPDATE_ORDER, ORDER)] {
        if dice.flip() {
            random = asking(annotation, value, random);
        }
    }
    random
}
