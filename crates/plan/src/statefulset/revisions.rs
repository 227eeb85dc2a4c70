//! The history of a set's template.
//!
//! A template that equals a recorded one in meaning is that revision, whatever its bytes. Moreover a set whose generation
//! is still the one its status was made from has the template it had then: a server that begins to fill in a new default
//! causes no rollout.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::Value;

use super::membership::{Members, is_own};
use super::spec::Spec;
use super::template::{record, recorded, same, to_value};
use super::{Action, Observed};

const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// How much of the set's name the name of a revision has at most: with a dash and a hash of ten letters it is the value of a
/// label, which has room for 63. (Upstream takes more, and its sets with longer names can't create pods.)
const NAME_CUT: usize = 52;

/// The two revisions a rollout is about; the same one if there is no rollout.
pub(super) struct Chosen<'a> {
    pub(super) current: &'a ControllerRevision,
    pub(super) update: &'a ControllerRevision,
}

/// What comes before there are two revisions to choose.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) action: Action,
    /// How often, in the life of the set, a name was found taken; `None` if the action gives no name.
    pub(super) collisions: Option<i32>,
}

impl Chosen<'_> {
    pub(super) fn current_name(&self) -> &str {
        name(self.current)
    }

    pub(super) fn update_name(&self) -> &str {
        name(self.update)
    }
}

/// The current and the update revision, or what has to be done before they exist.
pub(super) fn choose<'a>(observed: &'a Observed, spec: &Spec<'_>) -> Result<Chosen<'a>, Box<Missing>> {
    let history = history(observed, spec);
    let update = update_revision(observed, spec, &history)?;
    let status = observed.set.status.as_ref();
    let named = status.and_then(|status| status.current_revision.as_deref());
    let current = history.iter().find(|revision| Some(name(revision)) == named).copied().unwrap_or(update);
    Ok(Chosen { current, update })
}

/// What the names of the revisions of a set begin with.
pub fn revision_prefix(set: &str) -> String {
    let cut = set.char_indices().nth(NAME_CUT).map_or(set.len(), |(end, _)| end);
    format!("{}-", &set[..cut])
}

/// Forgets the oldest revisions beyond the limit that nothing uses.
pub(super) fn surplus(observed: &Observed, spec: &Spec<'_>, chosen: &Chosen<'_>, members: &Members<'_>) -> Vec<Action> {
    let Some(limit) = spec.history_limit else { return Vec::new() };
    let history = history(observed, spec);
    if history.len() <= limit {
        return Vec::new();
    }
    let mut live: BTreeSet<_> = members.all().map(|member| member.revision).collect();
    live.extend([chosen.current_name(), chosen.update_name()]);
    let unused: Vec<_> = history.into_iter().filter(|revision| !live.contains(name(revision))).collect();
    let surplus = unused.len().saturating_sub(limit);
    unused[..surplus].iter().map(|revision| delete(revision)).collect()
}

/// The set's revisions, oldest first.
fn history<'a>(observed: &'a Observed, spec: &Spec<'_>) -> Vec<&'a ControllerRevision> {
    let mut history: Vec<_> = observed.revisions.iter().map(Arc::as_ref).filter(|revision| is_own(revision, spec)).collect();
    history.sort_by_key(|revision| (revision.revision, created(revision), name(revision)));
    history
}

fn update_revision<'a>(
    observed: &Observed,
    spec: &Spec<'_>,
    history: &[&'a ControllerRevision],
) -> Result<&'a ControllerRevision, Box<Missing>> {
    // To look at the templates costs more than all else that is planned.
    let known = known_by_generation(observed, history);
    if let Some(newest) = known.filter(|known| history.last().is_some_and(|newest| std::ptr::eq(*known, *newest))) {
        return Ok(newest);
    }
    let number = history.last().map_or(1, |newest| newest.revision.saturating_add(1));
    let template = &spec.wanted.template;
    // What is equal means the same, and costs no tree.
    let tree = LazyCell::new(|| to_value(template));
    let records =
        |revision: &&ControllerRevision| recorded(revision).is_some_and(|other| other == *template || same(&to_value(&other), &tree));
    match history.iter().rposition(records) {
        Some(newest) if newest + 1 == history.len() => Ok(history[newest]),
        Some(older) => Err(Box::new(Missing { action: renumber(history[older], number), collisions: None })),
        None => known.ok_or_else(|| Box::new(create(observed, spec, number))),
    }
}

/// The update revision of the status, if the set has not been changed since.
fn known_by_generation<'a>(observed: &Observed, history: &[&'a ControllerRevision]) -> Option<&'a ControllerRevision> {
    let status = observed.set.status.as_ref()?;
    let unchanged = status.observed_generation.is_some() && status.observed_generation == observed.set.metadata.generation;
    history.iter().find(|revision| unchanged && Some(name(revision)) == status.update_revision.as_deref()).copied()
}

fn create(observed: &Observed, spec: &Spec<'_>, number: i64) -> Missing {
    let template = &spec.wanted.template;
    let data = record(template);
    let first = observed.set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash(&data, first));
    let (name, collisions) = free_name(observed, spec, &data, first);
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(spec.namespace.to_owned()),
        labels: Some(labels),
        annotations: observed.set.metadata.annotations.clone(),
        owner_references: Some(vec![spec.owner()]),
        ..ObjectMeta::default()
    };
    let revision = ControllerRevision { metadata, data: Some(RawExtension(data)), revision: number };
    Missing { action: Action::CreateRevision(Box::new(revision)), collisions: Some(collisions) }
}

/// The name by the hash of the data, and the count of collisions that went into it; a name that another revision has is passed over.
fn free_name(observed: &Observed, spec: &Spec<'_>, data: &Value, first: i32) -> (String, i32) {
    let prefix = revision_prefix(spec.name);
    let taken: BTreeSet<_> = observed.revisions.iter().map(|revision| name(revision)).collect();
    let candidates = (first..=i32::MAX).map(|collisions| (format!("{prefix}{}", hash(data, collisions)), collisions));
    let mut free = candidates.filter(|(candidate, _)| !taken.contains(candidate.as_str()));
    free.next().unwrap_or_default()
}

fn renumber(revision: &ControllerRevision, number: i64) -> Action {
    let resource_version = revision.metadata.resource_version.clone().unwrap_or_default();
    Action::RenumberRevision { name: name(revision).to_owned(), resource_version, number }
}

fn delete(revision: &ControllerRevision) -> Action {
    Action::DeleteRevision { name: name(revision).to_owned(), uid: revision.metadata.uid.clone().unwrap_or_default() }
}

/// FNV-1 with 32 bits over the data and the decimal collision count; its decimal digits as letters that form no words.
pub(super) fn hash(data: &Value, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = format!("{data}{collisions}");
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| sum.wrapping_mul(0x0100_0193) ^ u32::from(byte));
    sum.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

fn created(revision: &ControllerRevision) -> Option<jiff::Timestamp> {
    revision.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_only_letters_that_form_no_words_and_depends_on_the_collisions() {
        let (first, second) = (hash(&Value::Null, 0), hash(&Value::Null, 1));
        assert_ne!(first, second);
        assert!(first.bytes().all(|byte| b"456789bcdf".contains(&byte)), "{first}");
    }
}
