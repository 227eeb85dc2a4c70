//! Who owns which field of an object, and what applying a configuration makes of it: upstream's rules of server-side apply.
//!
//! Everything here is pure and works on JSON texts. An object's texts are those that are stored, without `managedFields`.

mod compare;
mod fields;
mod items;
pub mod last_applied;
mod merge;
mod outline;
mod owners;
mod prune;
mod schema;
mod set;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::LazyLock;

pub use compare::Changes;
pub use outline::{Json, Kind, Outline, Outlined};
pub use owners::{Entry, Fields, Operation, Owner, Owners};
pub use schema::Schema;
pub use set::Set;

/// Who owns what an object had before its first configuration was applied, when nobody kept account of it.
const BEFORE: &str = "before-first-apply";

/// What nobody owns, as the server keeps it or as it only says which object is meant.
const UNOWNED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// What nobody owns.
fn unowned() -> &'static Set<'static> {
    static SET: LazyLock<Set<'static>> = LazyLock::new(|| Set::of_fields(UNOWNED));
    &SET
}

/// What of an object can be owned, and by whom it is claimed.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    pub schema: Schema,
    pub owner: Owner<'a>,
    /// Fields that whoever asks can't change where they ask.
    pub ignored: Set<'a>,
    /// RFC 3339.
    pub now: &'a str,
}

/// A configuration that is applied.
#[derive(Debug)]
pub struct Application<'a> {
    pub claim: Claim<'a>,
    pub configuration: &'a Outline<'a>,
    /// Takes what others own.
    pub force: bool,
    /// What may be taken from others even without force.
    pub allowed: Set<'a>,
}

/// What applying a configuration came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The object as JSON; not yet known to be a valid one.
    pub object: String,
    /// Its `managedFields`; empty for none.
    pub managed: String,
}

/// Fields that another owns and that the configuration would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other, as messages name it.
    pub owner: String,
    pub fields: Vec<String>,
}

/// Why a configuration is not applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is wrong with it.
    Faults(Vec<String>),
    Conflicts(Vec<Conflict>),
}

/// Applies a configuration to an object as it is now; to `{}`, if there is none.
pub fn apply<'a>(application: &'a Application<'a>, live: &'a Outline<'a>, mut owners: Owners<'a>) -> Result<Applied, Refusal> {
    let Application { claim: Claim { schema, owner, ignored, now }, configuration, force, allowed } = application;
    let mut fields = fields::fields(configuration.root(), *schema).map_err(Refusal::Faults)?;
    fields.leave_out(ignored);
    fields.subtract(unowned());
    let fields = Fields::Set(fields);
    let before = owners.take(owner);
    let is_same = before.as_ref().is_some_and(|entry| entry.fields == fields);
    // Who applies all they applied before gives nothing up.
    let last =
        before.as_ref().filter(|_| !is_same).filter(|entry| entry.owner.api_version == owner.api_version).map(|entry| entry.fields.set());
    let object = merged(application, live, last.as_deref(), &owners, &fields.set());
    let broken = || Refusal::Faults(vec!["the merged object is no JSON".to_owned()]);
    let outline = Outline::of(&object).ok_or_else(broken)?;
    let managed = {
        let changes = Changes::between(live, &outline, *schema).outside(ignored).without(unowned());
        let mut owners = owners;
        let conflicts = if *force { Vec::new() } else { conflicts(&owners, &changes, &owner.api_version, allowed) };
        if !conflicts.is_empty() {
            return Err(Refusal::Conflicts(conflicts));
        }
        owners.yield_to(&changes, &owner.api_version);
        let entry = match before {
            Some(before) if is_same && changes.is_empty() => before,
            before => {
                let fields = before.filter(|_| is_same).map_or(fields, |before| before.fields);
                Entry { owner: owner.clone(), time: Some(Cow::Borrowed(now)), fields }
            }
        };
        owners.0.push(entry);
        owners.write()
    };
    drop(outline);
    Ok(Applied { object, managed })
}

/// The object with the configuration in it, and without what the manager no longer applies. `last` is what it applied last time.
fn merged(application: &Application<'_>, live: &Outline<'_>, last: Option<&Set<'_>>, others: &Owners<'_>, fields: &Set<'_>) -> String {
    let Application { claim: Claim { schema, owner, .. }, configuration, .. } = application;
    let mut merged = String::with_capacity(live.root().raw().len() + configuration.root().raw().len());
    merge::merge(Some(live.root()), Some(configuration.root()), *schema, &mut merged);
    let last = last.filter(|last| !last.is_within(fields));
    let (Some(last), Some(outline)) = (last, Outline::of(&merged)) else { return merged };
    let mut pruned = String::with_capacity(merged.len());
    prune::prune(outline.root(), *schema, last, &others.all(&owner.api_version).union(fields), &mut pruned);
    pruned
}

fn conflicts(owners: &Owners<'_>, changes: &Changes<'_>, api_version: &str, allowed: &Set<'_>) -> Vec<Conflict> {
    let mut others: Vec<_> = owners.0.iter().filter(|entry| entry.owner.api_version == api_version).collect();
    others.sort_by(|left, right| left.owner.cmp(&right.owner));
    let conflict = |entry: &Entry<'_>| {
        let fields = entry.fields.set().intersection(&changes.changed).difference(allowed);
        (!fields.is_empty()).then(|| Conflict { owner: entry.owner.to_string(), fields: fields.paths() })
    };
    others.into_iter().filter_map(conflict).collect()
}

/// Who owns what after someone changed an object from one state to another. `managed` is the account so far; nobody begins
/// one for an object that exists.
pub fn updated(claim: &Claim<'_>, managed: &str, old: &str, new: &str, creates: bool) -> Option<String> {
    let (old, new) = (Outline::of(old)?, Outline::of(new)?);
    let changes = Changes::between(&old, &new, claim.schema).outside(&claim.ignored).without(unowned());
    if changes.is_empty() {
        return Some(managed.to_owned());
    }
    let account = account(managed)?;
    let mut owners = Owners::kept(&account)?;
    if !owners.0.is_empty() || creates {
        owners.update(&changes, claim.owner.clone(), claim.now);
    }
    Some(owners.write())
}

/// The account of an object that nobody kept account of: what there is, somebody once updated.
pub fn before_first_apply<'a>(claim: &Claim<'a>, live: &'a Outline<'a>, nothing: &'a Outline<'a>) -> Owners<'a> {
    let changes = Changes::between(nothing, live, claim.schema).outside(&claim.ignored).without(unowned());
    let mut owners = Owners::default();
    owners.update(&changes, Owner::new(BEFORE, Operation::Update, &claim.owner.api_version, ""), claim.now);
    owners
}

/// The texts of `managedFields`, taken apart; empty is nobody.
pub fn account(managed: &str) -> Option<Outline<'_>> {
    Outline::of(if managed.is_empty() { "null" } else { managed })
}

/// Whether two accounts say the same but for times.
pub fn same_account(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let (Some(one), Some(other)) = (account(one), account(other)) else { return false };
    matches!((Owners::kept(&one), Owners::kept(&other)), (Some(one), Some(other)) if one.same_fields(&other))
}
