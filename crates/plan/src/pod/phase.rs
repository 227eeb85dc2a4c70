//! How far the pod is: which init container it is at, its phase, its quality of service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kinds::Quantity;

use super::Stage;
use super::observed::Observed;
use super::unit::{Role, Unit, roles, units};

/// Init containers that have not done their part, by name, in order; empty once a main container was started here.
pub(super) fn incomplete_inits(observed: &Observed<'_>) -> Vec<String> {
    if units(observed).any(|unit| unit.role == Role::Main && unit.began_here()) {
        return Vec::new();
    }
    let incomplete = |unit: &Unit<'_>| match unit.role {
        Role::Init => !unit.is_done(),
        Role::Sidecar => !unit.is_started(),
        Role::Main | Role::Ephemeral => false,
    };
    units(observed).filter(incomplete).map(|unit| unit.name()).collect()
}

/// The containers that should run now: sidecars that were reached, the current init container, or the main containers; and those that
/// were added to look into the pod, however far it is.
pub(super) fn to_start(observed: &Observed<'_>) -> BTreeSet<String> {
    let incomplete = incomplete_inits(observed);
    let Some(current) = incomplete.first() else {
        return units(observed).filter(|unit| unit.role != Role::Init).map(|unit| unit.name()).collect();
    };
    let mut wanted = BTreeSet::from([current.clone()]);
    let before = units(observed).take_while(|unit| unit.spec.name != *current);
    wanted.extend(before.filter(|unit| unit.role == Role::Sidecar).map(|unit| unit.name()));
    wanted.extend(observed.ephemeral.iter().map(|container| container.name.clone()));
    wanted
}

/// An init container failed for good.
fn init_failed(observed: &Observed<'_>) -> bool {
    let over = |unit: Unit<'_>| unit.role == Role::Init && unit.is_over() && !unit.is_done();
    units(observed).any(over) && !incomplete_inits(observed).is_empty()
}

/// All main containers are over, or can never begin.
pub(super) fn completed(observed: &Observed<'_>) -> bool {
    let mut mains = units(observed).filter(|unit| unit.role == Role::Main).peekable();
    init_failed(observed) || (mains.peek().is_some() && mains.all(|unit| unit.is_over()))
}

/// `status.phase`. A terminal phase never changes.
pub(super) fn phase(observed: &Observed<'_>, stage: Stage) -> &'static str {
    match observed.recorded_end() {
        Some("Succeeded") => return "Succeeded",
        Some(_) => return "Failed",
        None => {}
    }
    let nothing_runs = units(observed).all(|unit| unit.seen.running().is_none());
    if stage == Stage::Ending && nothing_runs {
        let well = observed.rejection.is_none() && units(observed).filter(|unit| unit.role == Role::Main).all(ended_well);
        return if well { "Succeeded" } else { "Failed" };
    }
    let begun = |unit: Unit<'_>| unit.role != Role::Main || unit.seen.latest().is_some();
    match incomplete_inits(observed).is_empty() && units(observed).all(begun) {
        true => "Running",
        false => "Pending",
    }
}

fn ended_well(unit: Unit<'_>) -> bool {
    unit.seen.ended().is_some_and(|ended| ended.exit_code == 0)
}

/// `status.qosClass`: Guaranteed if every container limits cpu and memory to what it requests, BestEffort if none asks for
/// anything, else Burstable.
pub fn quality_of_service(spec: &PodSpec) -> &'static str {
    let mut guaranteed = true;
    let mut anything = false;
    for (_, container) in roles(spec) {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) = (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(&requests, name), amount(&limits, name));
            anything |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (anything, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn amount(amounts: &BTreeMap<String, Amount>, name: &str) -> Option<Quantity> {
    amounts.get(name)?.0.parse().ok().filter(|quantity: &Quantity| quantity.signum() > 0)
}
