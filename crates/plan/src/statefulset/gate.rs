//! The pre-delete gate: before a healthy pod is taken away, a hook has to succeed in it.
//!
//! How far the hook of a pod is stands in the pod's annotations; whether it runs at this moment, only the one who runs it
//! knows. A pass counts for what it was given for, and only as long as the pod is to be taken away for it: as soon as a plan
//! no longer wants that, the marks are taken off again, and the hook will run anew. So a hook runs at least once before the
//! pod goes, and may run more often.
//!
//! Pods that have nothing to hand over pass without the hook: those that don't run, were never ready at their revision, or
//! whose containers fail again and again.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kinds::gate::{Command, EVICTION_LIFE, EVICTION_REQUESTED, Gate, Hook, Marks, OnTimeout, PASSED, PROGRESS, Progress, Reason};

use super::action::{Mark, Marking};
use super::member::{Health, Member};
use super::spec::Spec;
use super::{Action, DeleteReason, Round, WaitingOn};

/// The shortest time a try gets, however little is left until the deadline.
const SHORTEST_TRY: SignedDuration = SignedDuration::from_secs(1);

/// One try of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRun {
    pub reason: Reason,
    /// `None` if the pod has no container.
    pub container: Option<String>,
    pub command: Vec<String>,
    /// After this time the try has failed.
    pub timeout: SignedDuration,
    /// What is on record once the try has begun.
    pub progress: Progress,
}

impl HookRun {
    /// The marks of the pod before the try. An earlier pass was for something else.
    pub fn begun(&self) -> Vec<Marking> {
        vec![(PROGRESS, Some(self.progress.text())), (PASSED, None)]
    }

    /// The marks of the pod after the try.
    pub fn marks(&self, result: Result<(), String>, now: Timestamp) -> Vec<Marking> {
        match result {
            Ok(()) => passed(&self.progress, now),
            Err(message) => vec![(PROGRESS, Some(self.progress.clone().failed(message, now).text()))],
        }
    }
}

/// The marks of a pod that may go.
pub(super) fn passed(progress: &Progress, now: Timestamp) -> Vec<Marking> {
    vec![(PROGRESS, Some(progress.text())), (PASSED, Some(now.to_string()))]
}

/// What a pod is to be taken away for. A pass is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose<'a> {
    Update { wanted: &'a str },
    ScaleDown,
    Eviction,
}

impl<'a> Purpose<'a> {
    /// `None` for what happens to pods that have nothing to hand over.
    fn of(reason: &'a DeleteReason) -> Option<Self> {
        match reason {
            DeleteReason::ScaledDown => Some(Self::ScaleDown),
            DeleteReason::Outdated { wanted, .. } => Some(Self::Update { wanted }),
            DeleteReason::Ended | DeleteReason::Stuck { .. } => None,
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::Update { .. } => Reason::Update,
            Self::ScaleDown => Reason::ScaleDown,
            Self::Eviction => Reason::Eviction,
        }
    }
}

impl fmt::Display for Purpose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update { wanted } => write!(f, "{} {wanted}", self.reason()),
            Self::ScaleDown | Self::Eviction => self.reason().fmt(f),
        }
    }
}

/// Where a pod stands before its gate.
pub(super) enum Verdict {
    Open,
    /// Something about the hook is to be put on record.
    Mark {
        mark: Mark,
        annotations: Vec<Marking>,
        trouble: Option<String>,
    },
    /// The hook is a pod, and its next try can begin.
    Create {
        pod: Box<Pod>,
        trouble: Option<String>,
    },
    Wait {
        trouble: Option<String>,
        until: Option<Timestamp>,
    },
    Run(Box<HookRun>),
}

impl Round<'_> {
    /// Whether a pod may be taken away now. If not, what opens its gate is planned, and it is waited for.
    pub(super) fn passes_gate(&mut self, member: &Member<'_>, reason: &DeleteReason) -> bool {
        self.gated.insert(member.ordinal);
        Purpose::of(reason).is_none_or(|purpose| self.opens(member, purpose))
    }

    fn opens(&mut self, member: &Member<'_>, purpose: Purpose<'_>) -> bool {
        let trouble = match self.verdict(member, purpose) {
            Verdict::Open => return true,
            Verdict::Mark { mark, annotations, trouble } => {
                self.mark(member, mark, annotations);
                trouble
            }
            Verdict::Create { pod, trouble } => {
                self.actions.push(Action::CreateHookPod { ordinal: member.ordinal(), pod });
                trouble
            }
            Verdict::Wait { trouble, until } => {
                self.recheck_at = self.recheck_at.into_iter().chain(until).min();
                trouble
            }
            Verdict::Run(run) => {
                let trouble = run.progress.trouble();
                let (name, uid) = (member.name().to_owned(), member.uid().to_owned());
                let resource_version = member.pod.metadata.resource_version.clone().unwrap_or_default();
                self.actions.push(Action::RunGate { ordinal: member.ordinal(), name, uid, resource_version, run });
                trouble
            }
        };
        if let Some(progress) = recorded(member, &purpose.to_string()) {
            self.keep_hook_pod(member, &progress);
        }
        self.wait_for(WaitingOn::Gate { pod: member.name().to_owned(), reason: purpose.reason(), trouble });
        false
    }

    fn verdict(&self, member: &Member<'_>, purpose: Purpose<'_>) -> Verdict {
        let gate = self.spec.extensions.gate.as_ref().filter(|gate| gate.holds(purpose.reason()));
        let Some(gate) = gate.filter(|_| has_something_to_hand_over(member)) else { return Verdict::Open };
        let (marks, text) = (Marks::of(member.pod.metadata.annotations.as_ref()), purpose.to_string());
        if marks.passed_for(&text) {
            return Verdict::Open;
        }
        let earlier = marks.progress.filter(|progress| progress.purpose == text);
        if self.observed.running_hooks.contains(member.uid()) {
            return Verdict::Wait { trouble: earlier.and_then(|progress| progress.trouble()), until: None };
        }
        let reason = purpose.reason();
        let progress = match (earlier, &gate.hook) {
            (Some(earlier), _) => earlier,
            (None, Hook::Exec(_)) => Progress::begun(text, self.now),
            (None, Hook::Job(_)) => return self.begin_hook(reason, text),
        };
        if let Some(verdict) = self.try_under_way(gate, member, reason, &progress) {
            return verdict;
        }
        let due = progress.due_at().filter(|at| *at > self.now);
        let deadline = deadline(progress.started_at.0, gate);
        match gate.on_timeout {
            OnTimeout::Proceed if deadline <= self.now => {
                let (annotations, trouble) = (passed(&progress, self.now), progress.trouble());
                Verdict::Mark { mark: Mark::GateGivenUp { reason }, annotations, trouble }
            }
            OnTimeout::Proceed if due.is_some_and(|at| at > deadline) => {
                Verdict::Wait { trouble: progress.trouble(), until: Some(deadline) }
            }
            _ if due.is_some() => Verdict::Wait { trouble: progress.trouble(), until: due },
            _ => match &gate.hook {
                Hook::Exec(command) => self.run(gate, command, member, reason, progress),
                Hook::Job(template) => self.next_try(template, member, reason, &progress),
            },
        }
    }

    fn run(&self, gate: &Gate, command: &Command, member: &Member<'_>, reason: Reason, progress: Progress) -> Verdict {
        let left = match gate.on_timeout {
            OnTimeout::Wait => gate.timeout,
            OnTimeout::Proceed => gate.timeout - self.now.duration_since(progress.started_at.0),
        };
        let first = member.pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone());
        Verdict::Run(Box::new(HookRun {
            reason,
            container: command.container.clone().or(first),
            command: command.command.iter().map(|word| expanded(word, &self.spec, member, reason)).collect(),
            timeout: left.max(SHORTEST_TRY),
            progress,
        }))
    }

    /// Runs the hook of one pod that is to be evicted, unless another hook of the set is to run anyway; takes marks off
    /// where nothing asks for them any more.
    pub(super) fn settle_gates(&mut self) {
        let members = self.members;
        let mut stale = Vec::new();
        for member in members.all().filter(|member| !member.terminating && !self.gated.contains(&member.ordinal)).collect::<Vec<_>>() {
            let marks = Marks::of(member.pod.metadata.annotations.as_ref());
            match marks.eviction.and_then(|asked| asked.checked_add(EVICTION_LIFE).ok()).filter(|end| *end > self.now) {
                Some(end) => self.evict(member, &marks, end),
                None if marks.any && !self.observed.running_hooks.contains(member.uid()) => stale.push(member),
                None => {}
            }
        }
        self.drop_hook_pods();
        stale.into_iter().for_each(|member| self.unmark(member));
    }

    fn evict(&mut self, member: &Member<'_>, marks: &Marks, end: Timestamp) {
        self.recheck_at = self.recheck_at.into_iter().chain([end]).min();
        let begins = |action: &Action| {
            matches!(action, Action::RunGate { .. } | Action::CreateHookPod { .. } | Action::MarkPod { mark: Mark::GateBegun { .. }, .. })
        };
        let runs_another = self.actions.iter().any(begins) || self.hook_works_elsewhere(member);
        let gate = self.spec.extensions.gate.as_ref().filter(|gate| gate.holds(Reason::Eviction));
        if gate.is_none() || runs_another || marks.passed_for(&Purpose::Eviction.to_string()) {
            return;
        }
        // Who evicts sees the mark alone, so a pod that may go without the hook gets it too.
        if self.opens(member, Purpose::Eviction) {
            let progress = Progress::begun(Purpose::Eviction.to_string(), self.now);
            self.mark(member, Mark::GateNotNeeded, passed(&progress, self.now));
        }
    }

    fn unmark(&mut self, member: &Member<'_>) {
        self.mark(member, Mark::GateStale, [PROGRESS, PASSED, EVICTION_REQUESTED].map(|name| (name, None)).into());
    }

    pub(super) fn mark(&mut self, member: &Member<'_>, mark: Mark, annotations: Vec<Marking>) {
        let (name, uid) = (member.name().to_owned(), member.uid().to_owned());
        let resource_version = member.pod.metadata.resource_version.clone().unwrap_or_default();
        self.actions.push(Action::MarkPod { ordinal: member.ordinal(), name, uid, resource_version, mark, annotations });
    }
}

/// When a hook that began then has had its time.
pub(super) fn deadline(begun: Timestamp, gate: &Gate) -> Timestamp {
    begun.saturating_add(gate.timeout).unwrap_or(Timestamp::MAX)
}

/// What is on record about the hook for this purpose.
fn recorded(member: &Member<'_>, purpose: &str) -> Option<Progress> {
    let marks = Marks::of(member.pod.metadata.annotations.as_ref());
    marks.progress.filter(|progress| progress.purpose == purpose)
}

fn has_something_to_hand_over(member: &Member<'_>) -> bool {
    let runs = !matches!(member.health, Health::Ended | Health::Pending);
    runs && !member.was_never_ready() && !member.is_hopeless()
}

/// A word of the command with what the hook is told: `$(POD_NAME)`, `$(NAMESPACE)`, `$(ORDINAL)`, `$(REASON)`, `$(REPLICAS)`.
fn expanded(word: &str, spec: &Spec<'_>, member: &Member<'_>, reason: Reason) -> String {
    let values = [
        ("$(POD_NAME)", member.name().to_owned()),
        ("$(NAMESPACE)", spec.namespace.to_owned()),
        ("$(ORDINAL)", member.ordinal.to_string()),
        ("$(REASON)", reason.to_string()),
        ("$(REPLICAS)", spec.replicas.to_string()),
    ];
    values.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value))
}

/// The marks that an update inside the pod makes void.
pub(super) fn spent(pod: &Pod) -> Vec<Marking> {
    let has = |name: &&str| pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(*name));
    [PROGRESS, PASSED].into_iter().filter(has).map(|name| (name, None)).collect()
}
