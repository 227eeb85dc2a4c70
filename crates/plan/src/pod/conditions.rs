//! The pod's conditions.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::extensions::HAS_BEEN_READY;

use super::Action;
use super::observed::{Observed, Sandbox};
use super::phase::incomplete_inits;
use super::unit::{Unit, units};

/// A condition's verdict: holds, or doesn't for this reason.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    const HOLDS: Self = Self { holds: true, reason: None, message: None };

    fn fails(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }

    fn of(holds: bool) -> Self {
        Self { holds, reason: None, message: None }
    }
}

/// All conditions: those of others as recorded, the node's own computed.
pub(super) fn conditions(observed: &Observed<'_>, phase: &str, now: Timestamp) -> Vec<PodCondition> {
    let recorded = observed.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let sandbox_ready = observed.sandbox == Sandbox::Ready && observed.attached && observed.address.is_some();
    let containers = containers_ready(observed, phase);
    let ready = ready(observed, recorded, phase);
    let loses_readiness = !ready.holds && loses_readiness(observed, recorded);
    let own = [
        ("PodReadyToStartContainers", Verdict::of(sandbox_ready)),
        ("Initialized", initialized(observed, phase)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::HOLDS),
    ];
    let is_own = |name: &str| own.iter().any(|(own, _)| *own == name) || loses_readiness && name == HAS_BEEN_READY;
    let mut all: Vec<PodCondition> = recorded.iter().filter(|condition| !is_own(&condition.type_)).cloned().collect();
    all.extend(own.into_iter().map(|(name, verdict)| condition(observed, recorded, name, verdict, now)));
    all.extend(loses_readiness.then(|| condition(observed, recorded, HAS_BEEN_READY, Verdict::HOLDS, now)));
    all
}

/// Whether a pod that is to stay was ready until now, for the first time. One that is leaving needs no memory.
fn loses_readiness(observed: &Observed<'_>, recorded: &[PodCondition]) -> bool {
    let holds = |name: &str| recorded.iter().any(|condition| condition.type_ == name && condition.status == "True");
    holds("Ready") && !holds(HAS_BEEN_READY) && observed.pod.metadata.deletion_timestamp.is_none()
}

/// A condition whose transition time is kept as long as its status is.
fn condition(observed: &Observed<'_>, recorded: &[PodCondition], name: &str, verdict: Verdict, now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let same = recorded.iter().find(|condition| condition.type_ == name && condition.status == status);
    let since = same.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or(Time(super::status::whole_seconds(now)))),
        observed_generation: observed.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn initialized(observed: &Observed<'_>, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { holds: true, reason: Some("PodCompleted"), message: None };
    }
    match incomplete_inits(observed) {
        none if none.is_empty() => Verdict::HOLDS,
        some => Verdict::fails("ContainersNotInitialized", Some(format!("containers with incomplete status: [{}]", some.join(" ")))),
    }
}

fn containers_ready(observed: &Observed<'_>, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::fails("PodCompleted", None),
        "Failed" => return Verdict::fails("PodFailed", None),
        _ => {}
    }
    let unready: Vec<_> = units(observed).filter(|unit| unit.role.counts() && !unit.is_ready()).map(|unit| unit.name()).collect();
    match unready.is_empty() {
        true => Verdict::HOLDS,
        false => {
            let images: String = units(observed).filter_map(|unit| missing_image(observed, &unit)).collect();
            let message = format!("containers with unready status: [{}]{images}", unready.join(" "));
            Verdict::fails("ContainersNotReady", Some(message))
        }
    }
}

/// Why a container that runs has not got the image yet that it is to have now.
fn missing_image(observed: &Observed<'_>, unit: &Unit<'_>) -> Option<String> {
    let runs_another = unit.seen.running().is_some() && unit.has_other_image();
    let action = Action::PrepareImage { container: unit.name(), attempt: unit.seen.next_attempt() };
    let failure = observed.failures.get(&action).filter(|_| runs_another)?;
    Some(format!("; container {} can't get its new image: {}: {}", unit.spec.name, failure.reason, failure.message))
}

/// Adds what a probe found, which upstream tells in events only.
fn with_probe_failure(observed: &Observed<'_>, verdict: Verdict) -> Verdict {
    let failure = units(observed).find_map(|unit| Some(format!("container {}: {}", unit.name(), unit.probe_failure()?)));
    let message = [verdict.message, failure].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Verdict { message: Some(message).filter(|message| !message.is_empty()), ..verdict }
}

/// The containers are ready, and so says every readiness gate.
fn ready(observed: &Observed<'_>, recorded: &[PodCondition], phase: &str) -> Verdict {
    let containers = containers_ready(observed, phase);
    if !containers.holds {
        return with_probe_failure(observed, containers);
    }
    let gates = observed.spec().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let open = |gate: &str| match recorded.iter().find(|condition| condition.type_ == gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(condition) if condition.status != "True" => {
            Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but {}", condition.status))
        }
        Some(_) => None,
    };
    let closed: Vec<_> = gates.iter().filter_map(|gate| open(&gate.condition_type)).collect();
    match closed.is_empty() {
        true => Verdict::HOLDS,
        false => Verdict::fails("ReadinessGatesNotReady", Some(closed.join(", "))),
    }
}
