//! Pre-delete hooks that are pods of their own.
//!
//! Each try is one pod, whose name follows from the pod that is to go and from what is on record about it. So a try that was
//! begun is found again by whoever comes next, and none is begun twice. The pod that is to go owns it; it never has what
//! would make it one of the set's.
//!
//! One try follows another only when the pod of the first is gone. A pod of a hook that nothing asks for is deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kinds::gate::{Gate, HOOK_FOR, OnTimeout, PASSED, PROGRESS, Progress, Reason, hook_labels};
use serde_json::json;

use super::action::Mark;
use super::gate::{Verdict, deadline, passed};
use super::identity::ordinal_of;
use super::member::{Member, phase, start_trouble};
use super::revisions::hash;
use super::{Action, Round};

/// With a dash before and a hash of ten letters behind, it leaves this much of a name of 63 characters.
const INFIX: &str = "-hook-";
const LONGEST_STEM: usize = 63 - INFIX.len() - 10;
/// How much of what a container said at its end is told.
const LONGEST_MESSAGE: usize = 512;

/// The pod for which a hook runs in this one.
pub fn hook_owner(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.labels.as_ref().filter(|labels| labels.contains_key(HOOK_FOR))?;
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    owner.filter(|owner| owner.kind == "Pod")
}

/// Whether a pod runs a hook for one of the set's of this name.
pub fn is_hook_pod(set: &str, pod: &Pod) -> bool {
    hook_owner(pod).is_some_and(|owner| ordinal_of(set, &owner.name).is_some())
}

/// How a try stands.
enum Outcome {
    Succeeded,
    Failed(String),
    /// Somebody deleted it before it ended.
    Leaves,
    UnderWay {
        /// What keeps it from starting.
        trouble: Option<String>,
    },
}

impl Round<'_> {
    /// Puts on record that a hook begins: its pod follows from that.
    pub(super) fn begin_hook(&self, reason: Reason, purpose: String) -> Verdict {
        let begun = Progress::begun(purpose, self.now).text();
        let annotations = vec![(PROGRESS, Some(begun)), (PASSED, None)];
        Verdict::Mark { mark: Mark::GateBegun { reason }, annotations, trouble: None }
    }

    /// Where the try stands that is on record; `None` if its pod is not there.
    pub(super) fn try_under_way(&self, gate: &Gate, member: &Member<'_>, reason: Reason, progress: &Progress) -> Option<Verdict> {
        let name = name(member, progress);
        let pod = self.hook_pods(member.uid()).find(|pod| name_of(pod) == name)?;
        let trouble = match outcome(pod) {
            Outcome::Succeeded => {
                let annotations = passed(progress, self.now);
                return Some(Verdict::Mark { mark: Mark::GatePassed { reason }, annotations, trouble: None });
            }
            Outcome::Failed(message) => return Some(self.failed(reason, progress, message)),
            Outcome::Leaves => return Some(Verdict::Wait { trouble: progress.trouble(), until: None }),
            Outcome::UnderWay { trouble } => trouble,
        };
        let end = deadline(pod.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0), gate);
        let last = deadline(progress.started_at.0, gate);
        match gate.on_timeout {
            OnTimeout::Proceed if last <= self.now => None,
            _ if end <= self.now => {
                let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
                Some(self.failed(reason, progress, format!("it did not end within {} s{why}", gate.timeout.as_secs())))
            }
            OnTimeout::Proceed => Some(wait(trouble, progress, end.min(last))),
            OnTimeout::Wait => Some(wait(trouble, progress, end)),
        }
    }

    fn failed(&self, reason: Reason, progress: &Progress, message: String) -> Verdict {
        let after = progress.clone().failed(message.clone(), self.now);
        let (annotations, trouble) = (vec![(PROGRESS, Some(after.text()))], after.trouble());
        Verdict::Mark { mark: Mark::GateFailed { reason, message }, annotations, trouble }
    }

    /// The pod of the next try, once that of the last one is gone.
    pub(super) fn next_try(&self, template: &PodTemplateSpec, member: &Member<'_>, reason: Reason, progress: &Progress) -> Verdict {
        let name = name(member, progress);
        let labels = hook_labels(template, member.name());
        if self.spec.selector.matches(Some(&labels)) {
            let trouble = "the labels of the hook's pod match the selector of the set".to_owned();
            return Verdict::Wait { trouble: Some(trouble), until: None };
        }
        if self.hook_pods(member.uid()).next().is_some() {
            return Verdict::Wait { trouble: progress.trouble(), until: None };
        }
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(self.spec.namespace.to_owned()),
            labels: Some(labels),
            annotations: template.metadata.as_ref().and_then(|metadata| metadata.annotations.clone()),
            owner_references: Some(vec![owner(member)]),
            ..ObjectMeta::default()
        };
        let mut spec = template.spec.clone().unwrap_or_default();
        spec.restart_policy = Some("Never".to_owned());
        let told = self.told(member, reason);
        let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        containers.for_each(|container| tell(container, &told));
        let pod = Box::new(Pod { metadata, spec: Some(spec), status: None });
        Verdict::Create { pod, trouble: progress.trouble() }
    }

    fn told(&self, member: &Member<'_>, reason: Reason) -> Vec<EnvVar> {
        let address = member.pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let values = [
            ("POD_NAME", member.name().to_owned()),
            ("POD_IP", address),
            ("ORDINAL", member.ordinal.to_string()),
            ("REASON", reason.to_string()),
            ("REPLICAS", self.spec.replicas.to_string()),
        ];
        values.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() }).into()
    }

    /// The pods of hooks that the pod with this uid owns.
    pub(super) fn hook_pods<'b>(&'b self, uid: &'b str) -> impl Iterator<Item = &'b Pod> {
        let all = self.observed.hook_pods.iter().map(Arc::as_ref);
        all.filter(move |pod| hook_owner(pod).is_some_and(|owner| owner.uid == uid))
    }

    /// Whether the pod of a hook works for another pod of the set.
    pub(super) fn hook_works_elsewhere(&self, member: &Member<'_>) -> bool {
        let elsewhere = |pod: &&Arc<Pod>| hook_owner(pod).is_some_and(|owner| owner.uid != member.uid());
        let mut others = self.observed.hook_pods.iter().filter(elsewhere);
        others.any(|pod| matches!(outcome(pod), Outcome::UnderWay { .. }))
    }

    /// The pod of the try on record stays: something waits for it.
    pub(super) fn keep_hook_pod(&mut self, member: &Member<'_>, progress: &Progress) {
        self.kept_hook_pods.insert(name(member, progress));
    }

    /// Deletes the pods of hooks that nothing waits for.
    pub(super) fn drop_hook_pods(&mut self) {
        let kept: &BTreeSet<String> = &self.kept_hook_pods;
        let left = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_none() && !kept.contains(name_of(pod));
        let deletions = self.observed.hook_pods.iter().filter(left).filter_map(|pod| {
            let ordinal = ordinal_of(self.spec.name, &hook_owner(pod)?.name)?;
            Some(Action::DeleteHookPod { ordinal, name: name_of(pod).to_owned(), uid: pod.metadata.uid.clone()? })
        });
        self.actions.extend(deletions);
    }
}

fn wait(trouble: Option<String>, progress: &Progress, until: Timestamp) -> Verdict {
    let trouble = trouble.map(|trouble| format!("the pod of the hook: {trouble}"));
    Verdict::Wait { trouble: trouble.or_else(|| progress.trouble()), until: Some(until) }
}

/// The name of the pod of a try: other pods, purposes, beginnings and numbers of failures have other names.
fn name(member: &Member<'_>, progress: &Progress) -> String {
    let (failures, begun) = (progress.failures, progress.started_at.0.to_string());
    let hash = hash(&json!([member.uid(), progress.purpose, begun, failures]), 0);
    let stem = member.name();
    let stem = stem.get(..LONGEST_STEM).unwrap_or(stem).trim_end_matches(['-', '.']);
    format!("{stem}{INFIX}{hash}")
}

fn owner(member: &Member<'_>) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: member.name().to_owned(),
        uid: member.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Variables come first, so that those of the template may refer to them, and stand back behind its own of the same name.
fn tell(container: &mut Container, told: &[EnvVar]) {
    let own = container.env.take().unwrap_or_default();
    let is_own = |variable: &EnvVar| own.iter().any(|other| other.name == variable.name);
    let mut variables: Vec<_> = told.iter().filter(|variable| !is_own(variable)).cloned().collect();
    variables.extend(own);
    container.env = Some(variables);
    // What a failed hook wrote last is why it failed.
    container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
}

fn outcome(pod: &Pod) -> Outcome {
    match phase(pod) {
        // Whoever deletes it stops it, and what its containers then say is no success.
        _ if pod.metadata.deletion_timestamp.is_some() => Outcome::Leaves,
        Some("Succeeded") => Outcome::Succeeded,
        Some("Failed") => Outcome::Failed(failure(pod)),
        _ => Outcome::UnderWay { trouble: start_trouble(pod) },
    }
}

/// Why a pod failed: the first container that did, or what else is said of it.
fn failure(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "its pod failed".to_owned() };
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let ends = containers.filter_map(|container| Some((&container.name, container.state.as_ref()?.terminated.as_ref()?)));
    let Some((name, end)) = ends.into_iter().find(|(_, end)| end.exit_code != 0) else {
        let said = [&status.message, &status.reason].into_iter().flatten().find(|text| !text.is_empty());
        return said.map_or_else(|| "its pod failed".to_owned(), |text| format!("its pod failed: {}", tail(text)));
    };
    let said = end.message.as_deref().map(tail).filter(|said| !said.is_empty());
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    format!("container {name} ended with exit code {}{said}", end.exit_code)
}

/// The end of a text, without white space around it.
fn tail(text: &str) -> &str {
    let text = text.trim();
    let begins = text.char_indices().rev().map(|(index, _)| index).nth(LONGEST_MESSAGE - 1).unwrap_or(0);
    &text[begins..]
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}
