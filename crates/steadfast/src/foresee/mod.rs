//! `steadfast plan`: what would happen if manifests were applied. Nothing is ever written.
//!
//! The API server says, by dry runs, what it would make of each manifest; the StatefulSet planner is then run forward over a
//! copy of the live objects.

mod manifests;
mod present;
mod print;
mod proposal;
mod resources;
mod three_way;

use std::collections::BTreeSet;
use std::process::ExitCode;

use k8s_openapi::api::apps::v1::StatefulSet;
use plan::forecast::{FieldChange, Forecast, NewPods, foresee};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use manifests::ManifestError;
pub use present::Surroundings;

use crate::arguments::{Format, Plan};
use crate::colour::Palette;
use crate::connect::{connect, decode};
use crate::failure::Failure;
use present::{Changes, Scene};
use proposal::{Proposal, Refusal, propose};

/// What would happen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    sets: Vec<Forecast>,
    objects: Vec<ObjectReport>,
    /// What could not be seen, and what that means.
    blind_spots: Vec<String>,
}

/// What would become of one object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReport {
    api_version: String,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    action: ObjectAction,
    changes: Vec<FieldChange>,
    refusals: Vec<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ObjectAction {
    Create,
    Change,
    Keep,
    /// The API server would not do it.
    Refuse,
}

/// Tells what would happen. The exit code says whether anything would.
pub async fn run(arguments: Plan) -> Result<ExitCode, Failure> {
    let manifests = manifests::read(&arguments).await?;
    let server = connect(&arguments.connection).await?;
    let proposals = propose(&server, manifests).await?;
    let new_pods = if arguments.assume_broken { NewPods::NeverReady } else { NewPods::BecomeReady };
    let sets: Vec<_> = proposals.iter().filter(|proposal| is_set(proposal) && proposal.outcome.is_ok()).collect();
    let namespaces: BTreeSet<&str> = sets.iter().map(|set| set.namespace.as_str()).collect();
    let scene = if sets.is_empty() { Scene::default() } else { Scene::of(&server, namespaces).await? };
    let changes = Changes { claims: typed(&proposals, "PersistentVolumeClaim"), budgets: typed(&proposals, "PodDisruptionBudget") };
    let forecasts = sets.iter().filter_map(|proposal| {
        let after = read_set(proposal.outcome.as_ref().ok()?)?;
        Some(foresee(scene.present(after, proposal.live.as_ref().and_then(read_set), &changes, new_pods)))
    });
    let sets = forecasts.collect();
    let report = Report { sets, objects: proposals.iter().map(ObjectReport::of).collect(), blind_spots: scene.blind_spots };
    match arguments.output {
        Format::Text => print!("{}", print::text(&report, Palette::of_standard_output())),
        format => print!("{}", crate::output::structured(&report, format)?),
    }
    Ok(report.exit_code())
}

fn is_set(proposal: &Proposal) -> bool {
    proposal.kind == "StatefulSet" && proposal.api_version.starts_with("apps/")
}

fn read_set(value: &Value) -> Option<StatefulSet> {
    decode(&value.to_string()).ok()
}

/// What would be there of one kind of the core.
fn typed<K: DeserializeOwned>(proposals: &[Proposal], kind: &str) -> Vec<K> {
    let outcomes = proposals.iter().filter(|proposal| proposal.kind == kind).filter_map(|proposal| proposal.outcome.as_ref().ok());
    outcomes.filter_map(|object| decode(&object.to_string()).ok()).collect()
}

impl ObjectReport {
    fn of(proposal: &Proposal) -> Self {
        let changes = proposal.difference();
        let action = match (&proposal.live, &proposal.outcome) {
            (_, Err(_)) => ObjectAction::Refuse,
            (None, Ok(_)) => ObjectAction::Create,
            (Some(_), Ok(_)) if changes.is_empty() => ObjectAction::Keep,
            (Some(_), Ok(_)) => ObjectAction::Change,
        };
        let Proposal { api_version, kind, namespace, name, outcome, .. } = proposal.clone();
        Self { api_version, kind, namespace, name, action, changes, refusals: outcome.err().unwrap_or_default() }
    }
}

impl Report {
    fn exit_code(&self) -> ExitCode {
        let any = |action: ObjectAction| self.objects.iter().any(|object| object.action == action);
        let moves = self.sets.iter().any(|set| !set.steps.is_empty());
        if any(ObjectAction::Refuse) {
            ExitCode::FAILURE
        } else if moves || any(ObjectAction::Create) || any(ObjectAction::Change) {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn count(&self, action: ObjectAction) -> usize {
        self.objects.iter().filter(|object| object.action == action).count()
    }
}
