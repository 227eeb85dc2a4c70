//! The update phase: replicas at another revision than the wanted one are replaced, highest ordinal first.
//!
//! An update never makes more than `maxUnavailable` replicas unavailable. In parallel, replicas that are unavailable anyway
//! are replaced beyond that, as it costs nothing; without that rule a first broken revision would use the whole budget up
//! and could never be left again.
//!
//! Ordered sets update only while every replica is available. There one trap remains: a replica that can't become available
//! at its revision would hold back the very revision that mends it. Such a replica is *stuck* and is replaced without
//! waiting, if nothing healthy can be lost by it: it has never been ready, or a container of it fails again and again. A
//! replica that was ready once may recover, and is waited for. A replica that has ended is none of this: it is created anew
//! anyway.
//!
//! With an update order, pods are replaced rank by rank, each ranked by the labels and annotations it has at that moment: no
//! batch spans two ranks, and the next one begins when every replica is available again.

use super::member::{Health, Member};
use super::spec::Strategy;
use super::{DeleteReason, Round, WaitingOn};

impl<'a> Round<'a> {
    pub(super) fn roll_out(&mut self) {
        let outdated = self.outdated();
        match self.spec.strategy {
            Strategy::OnDelete => self.leave_to_user(&outdated),
            Strategy::RollingUpdate { .. } if outdated.is_empty() => self.note_partition(),
            Strategy::RollingUpdate { .. } if self.spec.is_paused() => self.wait_for(WaitingOn::Paused { pods: outdated.len() }),
            Strategy::RollingUpdate { max_unavailable, .. } => {
                let unavailable = self.unavailable();
                let budget = (max_unavailable as usize).saturating_sub(unavailable);
                let mut deleted = 0;
                if !self.spec.ordered {
                    deleted += self.replace_unavailable(&outdated);
                }
                deleted += match self.spec.extensions.update_order.is_empty() {
                    true => self.replace_within(budget, &outdated),
                    false if unavailable == 0 => self.replace_within(budget, &self.first_rank(&outdated)),
                    false => 0,
                };
                if deleted == 0 {
                    self.wait_for(WaitingOn::Budget { unavailable, most: max_unavailable });
                }
            }
        }
    }

    /// The revision a stuck replica is to have instead of its own.
    pub(super) fn wanted_instead(&self, member: &Member<'_>) -> Option<String> {
        let is_left = member.health.is_ready() || member.health == Health::Ended || member.terminating;
        if self.spec.strategy == Strategy::OnDelete || self.spec.is_paused() || is_left {
            return None;
        }
        let wanted = if self.is_held_back(member.ordinal) { self.revisions.current_name() } else { self.revisions.update_name() };
        let stuck = member.revision != wanted && (member.was_never_ready() || member.is_hopeless());
        stuck.then(|| wanted.to_owned())
    }

    /// Replaces the lowest stuck replica.
    pub(super) fn replace_stuck(&mut self) {
        let members = self.members;
        let stuck = members.replicas.iter().find_map(|member| Some((member, self.wanted_instead(member)?)));
        if let Some((member, wanted)) = stuck {
            self.delete_stuck(member, wanted);
        }
    }

    pub(super) fn delete_stuck(&mut self, member: &Member<'_>, wanted: String) {
        let revision = member.revision.to_owned();
        self.delete(member, DeleteReason::Stuck { revision, wanted });
    }

    /// The replicas that the rollout has still to replace, lowest first.
    fn outdated(&self) -> Vec<&'a Member<'a>> {
        let (first, update) = (self.spec.rollout_start(), self.revisions.update_name());
        let members = self.members.replicas.iter();
        let left = |member: &&Member<'_>| {
            member.ordinal >= first && member.revision != update && !member.terminating && member.health != Health::Ended
        };
        members.filter(left).collect()
    }

    /// How many replicas don't serve, those that don't exist included.
    fn unavailable(&self) -> usize {
        let available = self.members.replicas.iter().filter(|member| member.is_available()).count();
        (self.spec.replicas as usize).saturating_sub(available)
    }

    fn replace_unavailable(&mut self, outdated: &[&Member<'_>]) -> usize {
        let unavailable: Vec<_> = outdated.iter().rev().filter(|member| !member.is_available()).collect();
        unavailable.iter().for_each(|member| self.delete_outdated(member));
        unavailable.len()
    }

    fn replace_within(&mut self, budget: usize, outdated: &[&Member<'_>]) -> usize {
        let available: Vec<_> = outdated.iter().rev().filter(|member| member.is_available()).take(budget).collect();
        available.iter().for_each(|member| self.delete_outdated(member));
        available.len()
    }

    /// Those whose turn it is by their rank.
    fn first_rank<'m>(&self, outdated: &[&'m Member<'m>]) -> Vec<&'m Member<'m>> {
        let order = &self.spec.extensions.update_order;
        let rank = |member: &Member<'_>| order.rank(member.pod.metadata.labels.as_ref(), member.pod.metadata.annotations.as_ref());
        let first = outdated.iter().map(|member| rank(member)).min();
        outdated.iter().filter(|member| Some(rank(member)) == first).copied().collect()
    }

    fn delete_outdated(&mut self, member: &Member<'_>) {
        let (revision, wanted) = (member.revision.to_owned(), self.revisions.update_name().to_owned());
        self.delete(member, DeleteReason::Outdated { revision, wanted });
    }

    fn leave_to_user(&mut self, outdated: &[&Member<'_>]) {
        if let Some(highest) = outdated.last() {
            self.wait_for(WaitingOn::UserDeletion { pod: highest.name().to_owned(), others: outdated.len() - 1 });
        }
    }

    fn note_partition(&mut self) {
        let update = self.revisions.update_name();
        let pods = self.members.replicas.iter().filter(|member| member.revision != update).count();
        if pods > 0 {
            self.wait_for(WaitingOn::Partition { pods });
        }
    }
}
