//! How revisions may move.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Invariant, Judge, Verdict, image, name_of, ready_since, require, revision_of};

impl Judge<'_> {
    /// The newest revision of the template the set asks for.
    pub(super) fn update_revision(&self) -> Option<&str> {
        let fitting = self.history().filter(|revision| recorded_image(revision) == Some(self.template_image()));
        fitting.max_by_key(|revision| revision.revision).map(name_of)
    }

    /// The revision the status calls current, if it exists; else the update revision.
    pub(super) fn current_revision(&self) -> Option<&str> {
        let named = self.observed.set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let known = named.filter(|named| self.history().any(|revision| name_of(revision) == *named));
        known.or_else(|| self.update_revision())
    }

    /// The revisions that are the set's, or nobody's.
    fn history(&self) -> impl Iterator<Item = &ControllerRevision> {
        let is_foreign =
            |owner: &OwnerReference| owner.controller == Some(true) && Some(&owner.uid) != self.observed.set.metadata.uid.as_ref();
        let is_own = move |revision: &&ControllerRevision| !revision.metadata.owner_references.iter().flatten().any(is_foreign);
        self.observed.revisions.iter().map(AsRef::as_ref).filter(is_own)
    }

    /// During a pause a new pod has the current revision. Below the partition it the current revision, else the update revision.
    /// Without an update block either may do.
    pub(super) fn revision_of_new_pod(&self, ordinal: u32, pod: &Pod) -> Verdict {
        let (current, update, is) = (self.current_revision(), self.update_revision(), Some(revision_of(pod)));
        let allowed = match self.partition() {
            _ if self.is_paused() => is == current,
            Some(first) if ordinal < first => is == current,
            Some(_) => is == update,
            None if !self.updates_itself() => is == update,
            None => is == update || is == current,
        };
        require(allowed, Invariant::RevisionRules, || {
            format!("{} is created at {is:?}; the current revision is {current:?}, the update {update:?}", name_of(pod))
        })
    }

    /// A status that is about to be written.
    ///
    /// # Errors
    /// If it moves the current revision before the update is complete.
    pub fn status(&self, status: &StatefulSetStatus) -> Verdict {
        let before = self.observed.set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let (Some(before), Some(after)) = (before, status.current_revision.as_deref()) else { return Ok(()) };
        if before == after || self.current_revision() != Some(before) {
            return Ok(());
        }
        let has_it = |ordinal: u32| self.pods.get(&ordinal).is_some_and(|pod| revision_of(pod) == after && ready_since(pod).is_some());
        let lacking = self.wanted.iter().find(|ordinal| !has_it(**ordinal));
        let forgets = self.wanted.is_empty() && (self.is_paused() || self.partition().is_some_and(|first| first > 0));
        let complete = lacking.is_none() && !forgets && self.updates_itself() && self.update_revision() == Some(after);
        require(complete, Invariant::PromotedWhenComplete, || format!("{after} becomes current before {lacking:?} has it"))
    }

    /// A revision that is about to be recorded: of the template the set asks for, and newer than all others.
    ///
    /// # Errors
    /// If it is not needed.
    pub fn new_revision(&self, revision: &ControllerRevision) -> Verdict {
        let image = recorded_image(revision);
        let is_wanted = image == Some(self.template_image()) && self.update_revision().is_none();
        let newest = self.history().map(|revision| revision.revision).max().unwrap_or(0);
        require(is_wanted && revision.revision > newest, Invariant::RevisionRules, || format!("a revision of {image:?} is created"))
    }

    pub(super) fn renumbering(&self, name: &str, number: i64) -> Verdict {
        let newest = self.history().map(|revision| revision.revision).max().unwrap_or(0);
        let fits = self.update_revision() == Some(name) && number > newest;
        require(fits, Invariant::RevisionRules, || format!("{name} becomes number {number}"))
    }

    /// Nothing that a pod or the status names is forgotten.
    ///
    /// # Errors
    /// If it is in use.
    pub fn revision_deletion(&self, name: &str) -> Verdict {
        let used = self.pods.values().any(|pod| revision_of(pod) == name);
        let named = [self.current_revision(), self.update_revision()].contains(&Some(name));
        require(!used && !named, Invariant::HistoryInUseIsKept, || format!("{name} is deleted"))
    }
}

/// The image in the template that a revision holds.
fn recorded_image(revision: &ControllerRevision) -> Option<&str> {
    let containers = revision.data.as_ref()?.0.pointer("/spec/template/spec/containers/0/image")?;
    containers.as_str()
}

/// The image of the set's own template, for those who compare.
pub(crate) fn wanted_image(set: &k8s_openapi::api::apps::v1::StatefulSet) -> &str {
    set.spec.as_ref().map_or("", |spec| image(&spec.template))
}
