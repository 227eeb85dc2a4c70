//! The replicas phase: every wanted ordinal has its pod; every other pod goes.
//!
//! Ordered sets take one step at a time, up the ordinals, but for one thing: pods that an update has deleted together come
//! back together. Such a batch is recognised by what is observed: a rollout is on its way, nothing is condemned, and every
//! replica has been there since the specification last changed (which the conditions remember), so that a missing one is
//! not one that a start or a scale-up has still to create in turn. Then the walk goes on past replicas that are missing,
//! leave, or are new, while with them no more than `maxUnavailable` are unavailable. That is safe, as the update took those
//! down at once under the same budget: none of them was needed by the others to be up. Replicas below the partition, and
//! those of an older revision, hold the walk up as ever.

use std::ops::ControlFlow;

use kinds::Ordinal;

use super::identity::{new_pod, repaired, unmounted_claim};
use super::member::{Health, Member};
use super::spec::Strategy;
use super::template::{Template, recorded};
use super::{Action, DeleteReason, MOST_CREATIONS, Round, WaitingOn, conditions};

/// How the walk up the ordinals goes on after one of them.
enum Step {
    /// It is available.
    On,
    /// It is not, but a batch would go on past it.
    Past,
    Stop,
}

impl Round<'_> {
    /// Up the ordinals, to the first that is not available, or as far as a batch reaches. Then a stuck replica further up
    /// may be replaced, if nothing else is done.
    pub(super) fn ordered_replicas(&mut self) -> ControlFlow<()> {
        let walk = self.walk();
        if walk.is_break() && !self.moves_pods() {
            self.replace_stuck();
        }
        walk
    }

    fn walk(&mut self) -> ControlFlow<()> {
        let ordinals = self.spec.ordinals.clone();
        let (first, mut room) = (self.spec.rollout_start(), if self.batch_comes_back() { self.spec.batch() } else { 1 });
        let mut walk = ControlFlow::Continue(());
        for (ordinal, slot) in self.members.slots(&ordinals) {
            let step = match slot {
                Some(member) => self.ordered_replica(member),
                None => {
                    self.create(ordinal);
                    Step::Past
                }
            };
            match step {
                Step::On => {}
                Step::Past if room > 1 && ordinal >= first => {
                    room -= 1;
                    walk = ControlFlow::Break(());
                }
                Step::Past | Step::Stop => return ControlFlow::Break(()),
            }
        }
        walk
    }

    /// Whether a pod comes or goes already: then none goes as well.
    fn moves_pods(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::CreatePod { .. } | Action::DeletePod { .. }))
    }

    /// Whether what is missing was taken away by an update.
    fn batch_comes_back(&self) -> bool {
        let rolls_out = self.revisions.current_name() != self.revisions.update_name() && !self.spec.is_paused();
        rolls_out && self.members.condemned.is_empty() && conditions::all_were_created(&self.observed.set)
    }

    fn ordered_replica(&mut self, member: &Member<'_>) -> Step {
        self.keep_claims_of_replica(member);
        if member.health == Health::Ended {
            if !self.moves_pods() {
                self.replace_ended(member);
            }
            return Step::Stop;
        }
        if !member.is_available() {
            return match self.wanted_instead(member) {
                Some(_) if self.moves_pods() => Step::Stop,
                Some(wanted) => {
                    self.delete_stuck(member, wanted);
                    Step::Stop
                }
                None => {
                    self.wait_for_member(member);
                    let of_batch = member.terminating || member.revision == self.revisions.update_name();
                    if of_batch { Step::Past } else { Step::Stop }
                }
            };
        }
        if self.repair(member).is_continue() { Step::On } else { Step::Stop }
    }

    /// Every wanted ordinal at once.
    pub(super) fn parallel_replicas(&mut self) {
        let ordinals = self.spec.ordinals.clone();
        let mut creations = 0;
        for (ordinal, slot) in self.members.slots(&ordinals) {
            match slot {
                None if creations == MOST_CREATIONS => break,
                None => {
                    creations += 1;
                    self.create(ordinal);
                }
                Some(member) => self.parallel_replica(member),
            }
        }
    }

    /// Those that an update may touch are left to it.
    fn parallel_replica(&mut self, member: &Member<'_>) {
        self.keep_claims_of_replica(member);
        if member.health == Health::Ended {
            return self.replace_ended(member);
        }
        if member.ordinal < self.spec.rollout_start()
            && let Some(wanted) = self.wanted_instead(member)
        {
            return self.delete_stuck(member, wanted);
        }
        if !member.is_available() {
            self.wait_for_member(member);
        }
        let _ = self.repair(member);
    }

    /// Whatever becomes of the pod, its claims stay: they may still be its own from when it was condemned, and would go with
    /// it. A pod that has not begun to run gets those back that are missing.
    fn keep_claims_of_replica(&mut self, member: &Member<'_>) {
        self.keep_claims(member, member.health == Health::Pending);
    }

    /// One step down the condemned, highest first.
    pub(super) fn ordered_condemned(&mut self) -> ControlFlow<()> {
        let members = self.members;
        members.condemned.iter().for_each(|member| self.keep_claims(member, false));
        let Some(highest) = members.condemned.first() else { return ControlFlow::Continue(()) };
        let lowest_unavailable = members.condemned.iter().rfind(|member| !member.is_available());
        let is_first = lowest_unavailable.is_some_and(|lowest| lowest.ordinal == highest.ordinal);
        let given_up = highest.was_never_ready() || highest.is_hopeless() || highest.health == Health::Ended;
        if highest.terminating || !(highest.is_available() || is_first || given_up) {
            self.wait_for_member(highest);
        } else {
            self.delete(highest, DeleteReason::ScaledDown);
        }
        ControlFlow::Break(())
    }

    /// All condemned at once.
    pub(super) fn parallel_condemned(&mut self) {
        let members = self.members;
        for member in &members.condemned {
            self.keep_claims(member, false);
            match member.terminating {
                true => self.wait_for_member(member),
                false => self.delete(member, DeleteReason::ScaledDown),
            }
        }
    }

    /// Takes a pod away as soon as its gate lets it; or updates it in place, where that does as well.
    pub(super) fn delete(&mut self, member: &Member<'_>, reason: DeleteReason) {
        if !self.passes_gate(member, &reason) {
            return;
        }
        let action = self.update_in_place(member, &reason).unwrap_or_else(|| {
            let (name, uid) = (member.name().to_owned(), member.uid().to_owned());
            Action::DeletePod { ordinal: member.ordinal(), name, uid, reason }
        });
        self.actions.push(action);
    }

    pub(super) fn wait_for_member(&mut self, member: &Member<'_>) {
        let pod = member.name().to_owned();
        self.wait_for(match member.health {
            _ if member.terminating => WaitingOn::PodGone { pod },
            Health::Ready { available_at: at } => WaitingOn::PodAvailable { pod, at },
            _ => WaitingOn::PodReady { pod, trouble: member.trouble() },
        });
    }

    /// A pod that has ended makes way for a new one.
    fn replace_ended(&mut self, member: &Member<'_>) {
        match member.replaced_at {
            _ if member.terminating => self.wait_for_member(member),
            Some(at) => self.wait_for(WaitingOn::EarlyEnd { pod: member.name().to_owned(), at, why: member.end() }),
            None => self.delete(member, DeleteReason::Ended),
        }
    }

    /// Claims first, then the pod; or neither.
    fn create(&mut self, ordinal: u32) {
        match self.creation(ordinal) {
            Ok(actions) => self.actions.extend(actions),
            Err(waiting) => self.wait_for(waiting),
        }
    }

    fn creation(&mut self, ordinal: u32) -> Result<Vec<Action>, WaitingOn> {
        if let Some(stranger) = self.members.strangers.get(&ordinal) {
            let pod = self.spec.pod_name(ordinal);
            let leaves = stranger.metadata.deletion_timestamp.is_some();
            return Err(if leaves { WaitingOn::PodGone { pod } } else { WaitingOn::NameTaken { pod } });
        }
        let mut actions = self.claims_before_pod(ordinal)?;
        let (revision, template) = self.origin(ordinal)?;
        let pod = Box::new(new_pod(&self.spec, ordinal, revision, template));
        actions.push(Action::CreatePod { ordinal: Ordinal(ordinal), pod });
        Ok(actions)
    }

    /// The revision, by name and template, that a pod at an ordinal is created from.
    fn origin(&self, ordinal: u32) -> Result<(&str, &Template<'_>), WaitingOn> {
        if !self.is_held_back(ordinal) || self.revisions.current_name() == self.revisions.update_name() {
            return Ok((self.revisions.update_name(), &self.update_template));
        }
        let current = self.current_template.get_or_init(|| recorded(self.revisions.current).map(Template::Owned));
        let unreadable = || WaitingOn::UnreadableRevision { revision: self.revisions.current_name().to_owned() };
        Ok((self.revisions.current_name(), current.as_ref().ok_or_else(unreadable)?))
    }

    /// Whether an ordinal keeps the current revision. During a pause all do, as if the partition were at the top. Without an update block it does while the rollout, on its way down,
    /// has not come to it: while a higher one serves at the current revision. (In parallel such a pod would be replaced
    /// before it is ready, so it isn't created.)
    pub(super) fn is_held_back(&self, ordinal: u32) -> bool {
        if self.spec.is_paused() {
            return true;
        }
        match self.spec.strategy {
            Strategy::OnDelete => false,
            Strategy::RollingUpdate { partition: Some(_), .. } => ordinal < self.spec.rollout_start(),
            Strategy::RollingUpdate { partition: None, .. } => {
                let current = self.revisions.current_name();
                let higher = self.members.replicas.iter().rev().take_while(|member| member.ordinal > ordinal);
                self.spec.ordered && higher.into_iter().any(|member| member.is_available() && member.revision == current)
            }
        }
    }

    /// Labels as they should be. A living pod can't get other volumes.
    fn repair(&mut self, member: &Member<'_>) -> ControlFlow<()> {
        if let Some(claim) = unmounted_claim(member.pod, &self.spec, member.ordinal, &mut self.claim_name) {
            self.wait_for(WaitingOn::StorageDiffers { pod: member.name().to_owned(), claim });
            return ControlFlow::Break(());
        }
        if let Some(pod) = repaired(member.pod, member.ordinal) {
            self.actions.push(Action::UpdatePod { ordinal: member.ordinal(), pod: Box::new(pod) });
        }
        ControlFlow::Continue(())
    }
}
