//! The way back: an update that stalls can be undone, if the set asks for it.
//!
//! It goes back to the current revision, and only if the replicas have been available all at once before, so that there is
//! something good to go back to, and if the update revision is to blame: a pod of it is not available or can't be created.
//! Afterwards the current revision is the wanted one, so there is nothing more to go back to: a set goes back once for each
//! template it is given.

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::spec::Strategy;
use super::template::{recorded, same, to_value};
use super::{Action, Round, conditions};

impl Round<'_> {
    /// Sets the template back to the current revision, once it is known that the set has stalled on the way to another, and
    /// its status to be says so still.
    pub(super) fn rollback(&self, status: &StatefulSetStatus) -> Option<Action> {
        let set = &self.observed.set;
        let may = self.spec.extensions.auto_rollback && !self.spec.is_paused() && self.spec.strategy != Strategy::OnDelete;
        let stalled = set.status.as_ref().is_some_and(conditions::is_stalled) && conditions::is_stalled(status);
        let should = may && stalled && conditions::was_available(set) && self.update_is_to_blame();
        let template = should.then(|| recorded(self.revisions.current)).flatten()?;
        if same(&to_value(&template), &to_value(&self.spec.wanted.template)) {
            return None;
        }
        let seconds = self.spec.extensions.progress_deadline;
        let trouble = self.waiting_on.as_ref().map(|waiting| format!(": the set {waiting}")).unwrap_or_default();
        Some(Action::RollBack {
            from: self.revisions.update_name().to_owned(),
            to: self.revisions.current_name().to_owned(),
            resource_version: set.metadata.resource_version.clone().unwrap_or_default(),
            template: Box::new(template),
            because: format!("it made no progress for {seconds} s{trouble}"),
        })
    }

    fn update_is_to_blame(&self) -> bool {
        let (current, update) = (self.revisions.current_name(), self.revisions.update_name());
        let fails = self.members.replicas.iter().any(|member| member.revision == update && !member.is_available());
        let is_not_created = || self.actions.iter().any(|action| action.creates_at(update));
        current != update && (fails || is_not_created())
    }
}
