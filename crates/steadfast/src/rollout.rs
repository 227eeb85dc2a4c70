//! `steadfast rollout`: what kubectl's verbs of the name do, and pause and resume, which it refuses for StatefulSets.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::jiff::{Timestamp, Unit};
use kinds::extensions::PAUSED;
use plan::statefulset::{WaitingOn, template_in};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::arguments::{RolloutVerb, Target};
use crate::connect::{Server, connect};
use crate::failure::Failure;
use crate::output::say;
use crate::status::{Portrait, Views, portray};

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// A wait without end, near enough.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Does what the verb says.
pub async fn run(verb: RolloutVerb) -> Result<ExitCode, Failure> {
    match verb {
        RolloutVerb::Pause(target) => Work::on(&target).await?.pause(true).await?,
        RolloutVerb::Resume(target) => Work::on(&target).await?.pause(false).await?,
        RolloutVerb::Undo { target, to_revision } => Work::on(&target).await?.undo(to_revision).await?,
        RolloutVerb::Restart(target) => Work::on(&target).await?.restart().await?,
        RolloutVerb::Status { target, timeout } => Work::on(&target).await?.follow(timeout).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A set that something is to be done about.
struct Work {
    server: Server,
    set: StatefulSet,
    name: String,
}

impl Work {
    async fn on(target: &Target) -> Result<Self, Failure> {
        let server = connect(&target.connection).await?;
        let name = target.set.0.clone();
        let found = server.find(&server.namespace, &name).await?;
        let missing = || Failure::NoSuchSet { namespace: server.namespace.clone(), name: name.clone() };
        Ok(Self { set: found.ok_or_else(missing)?, name, server })
    }

    fn is_paused(&self) -> bool {
        self.set.metadata.annotations.as_ref().and_then(|all| all.get(PAUSED)).is_some_and(|value| value == "true")
    }

    async fn pause(&self, pause: bool) -> Result<(), Failure> {
        let done = if pause { "paused" } else { "resumed" };
        if self.is_paused() == pause {
            return Err(Failure::Message(format!("statefulset {} is {}", self.name, if pause { "already paused" } else { "not paused" })));
        }
        let value = if pause { json!("true") } else { Value::Null };
        self.patch(MERGE, &json!({"metadata": {"annotations": {PAUSED: value}}})).await?;
        self.say(done);
        Ok(())
    }

    async fn restart(&self) -> Result<(), Failure> {
        if self.is_paused() {
            return Err(Failure::Message(format!("statefulset {0} is paused; first `steadfast rollout resume sts/{0}`", self.name)));
        }
        let now = Timestamp::now().round(Unit::Second).unwrap_or_else(|_| Timestamp::now()).to_string();
        self.patch(MERGE, &json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: now}}}}})).await?;
        self.say("restarted");
        Ok(())
    }

    /// A revision holds the patch that brings its template back.
    async fn undo(&self, number: i64) -> Result<(), Failure> {
        let history = self.history().await?;
        let revision =
            wanted_revision(&history, number).map_err(|reason| Failure::Message(format!("statefulset {}: {reason}", self.name)))?;
        let newest = history.last().and_then(template_in);
        if newest == template_in(revision) {
            self.say(&format!("skipped rollback (current template already matches revision {})", revision.revision));
            return Ok(());
        }
        let data = revision.data.as_ref().map(|data| &data.0).unwrap_or(&Value::Null);
        self.patch(STRATEGIC, data).await?;
        self.say("rolled back");
        Ok(())
    }

    /// The set's revisions, oldest first.
    async fn history(&self) -> Result<Vec<ControllerRevision>, Failure> {
        let uid = self.set.metadata.uid.as_deref();
        let mut history: Vec<ControllerRevision> = self.server.list(Some(&self.server.namespace)).await?;
        history.retain(|revision| {
            let mut owners = revision.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
        });
        history.sort_by_key(|revision| revision.revision);
        Ok(history)
    }

    async fn patch(&self, media: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{}?fieldManager=steadfast-rollout", self.server.namespace, self.name);
        let doing = format!("change statefulset {}", self.name);
        self.server.send(&doing, Method::PATCH, &path, media, body.to_string().into_bytes()).await?;
        Ok(())
    }

    fn say(&self, done: &str) {
        say(&format!("statefulset.apps/{} {done}\n", self.name));
    }

    /// Tells of each step until the rollout is complete, stalls, or takes too long.
    async fn follow(&self, timeout: u64) -> Result<(), Failure> {
        let patience = if timeout == 0 { FOR_EVER } else { Duration::from_secs(timeout).min(FOR_EVER) };
        let deadline = Instant::now() + patience;
        let views = Views::open(&self.server).await?;
        let mut changes = views.changes();
        let mut told = String::new();
        loop {
            let set = views.sets().into_iter().find(|set| set.metadata.name.as_ref() == Some(&self.name));
            let missing = || Failure::NoSuchSet { namespace: self.server.namespace.clone(), name: self.name.clone() };
            let set = set.ok_or_else(missing)?;
            let portrait = portray(&views.surroundings().observed(set.clone()), Timestamp::now());
            let progress = Progress::of(&set, &portrait);
            let line = format!("{}: {progress}", self.name);
            if line != told {
                say(&format!("{line}\n"));
                told = line;
            }
            match progress {
                Progress::Complete(_) => return Ok(()),
                Progress::Stalled(reason) => return Err(Failure::Message(format!("the rollout of {} stalls: {reason}", self.name))),
                Progress::UnderWay(_) => {}
            }
            tokio::select! {
                () = changes.next() => {}
                () = sleep_until(deadline) => {
                    return Err(Failure::Message(format!("the rollout was not complete within {timeout} s: {told}")));
                }
            }
        }
    }
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// It is complete, as far as the set wants it to be.
    Complete(String),
    /// The controller has given up, for this reason.
    Stalled(String),
    UnderWay(String),
}

impl Progress {
    fn of(set: &Arc<StatefulSet>, portrait: &Portrait) -> Self {
        let status = set.status.as_ref();
        let stalled = status.and_then(|status| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.find(|condition| condition.type_ == "Stalled" && condition.status == "True")
        });
        let is_observed = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
        let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
        let is_told = status.and_then(|status| status.update_revision.as_ref()) == Some(&portrait.update_revision);
        match (stalled, &portrait.waiting_on) {
            (Some(condition), _) if is_observed => Self::Stalled(condition.message.clone().unwrap_or_default()),
            _ if !is_observed || !is_told || !portrait.next.is_empty() => Self::UnderWay(format!("{updated} pods updated so far")),
            (_, None) => Self::Complete(format!("complete, {updated} pods at revision {}", portrait.update_revision)),
            (_, Some(WaitingOn::Partition { .. })) => Self::Complete(format!("complete down to the partition, {updated} pods updated")),
            (_, Some(waiting)) => Self::UnderWay(format!("{updated} pods updated so far; it {waiting}")),
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete(text) | Self::UnderWay(text) => f.write_str(text),
            Self::Stalled(reason) => write!(f, "stalled: {reason}"),
        }
    }
}

/// The revision of a number; 0 is the one before the newest.
fn wanted_revision(history: &[ControllerRevision], number: i64) -> Result<&ControllerRevision, String> {
    let numbers = || history.iter().map(|revision| revision.revision.to_string()).collect::<Vec<_>>().join(", ");
    match number {
        0 => history.iter().nth_back(1).ok_or_else(|| "there is no last revision to roll back to".to_owned()),
        _ => history
            .iter()
            .find(|revision| revision.revision == number)
            .ok_or_else(|| format!("there is no revision {number}; there are {}", numbers())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: i64) -> ControllerRevision {
        ControllerRevision { revision: number, ..ControllerRevision::default() }
    }

    #[test]
    fn zero_is_the_revision_before_the_newest() {
        let history = [revision(2), revision(5), revision(7)];
        let number = |wanted| wanted_revision(&history, wanted).map(|revision| revision.revision);
        assert_eq!((number(0), number(2)), (Ok(5), Ok(2)));
        assert_eq!(number(3), Err("there is no revision 3; there are 2, 5, 7".to_owned()));
        assert!(wanted_revision(&history[..1], 0).is_err());
    }

    #[test]
    fn a_rollout_is_complete_when_nothing_is_waited_for() {
        let set = |status: Value| -> Arc<StatefulSet> {
            serde_json::from_value(json!({"metadata": {"name": "web", "generation": 2}, "status": status})).map(Arc::new).unwrap()
        };
        let portrait = |waiting: Option<WaitingOn>| Portrait {
            namespace: "default".into(),
            name: "web".into(),
            replicas: 3,
            ready: 3,
            update_revision: "web-2".into(),
            current_revision: None,
            waiting_on: waiting,
            next: Vec::new(),
            tiles: Vec::new(),
        };
        let done = json!({"replicas": 3, "observedGeneration": 2, "updatedReplicas": 3, "updateRevision": "web-2"});
        let mut stalled = done.clone();
        stalled["conditions"] = json!([{"type": "Stalled", "status": "True", "message": "waits for web-2"}]);
        let mut old = done.clone();
        old["observedGeneration"] = json!(1);
        let of = |status: &Value, waiting| Progress::of(&set(status.clone()), &portrait(waiting));
        assert!(matches!(of(&done, None), Progress::Complete(_)));
        assert!(matches!(of(&done, Some(WaitingOn::Partition { pods: 1 })), Progress::Complete(_)));
        assert!(matches!(of(&done, Some(WaitingOn::PodGone { pod: "web-2".into() })), Progress::UnderWay(_)));
        assert!(matches!(of(&old, None), Progress::UnderWay(_)));
        assert_eq!(of(&stalled, None), Progress::Stalled("waits for web-2".into()));
    }
}
