//! Keeps account of who owns what, for every write: `metadata.managedFields` as clients send them, and as they become.

use http::header::USER_AGENT;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kinds::Resource;
use kinds::registry::Subresource;
use serde_json::{Map, Value};

use crate::apply::{self, Claim, Operation, Outline, Owner, Owners, Schema, Set};
use crate::context::Context;
use crate::deletion;
use crate::query::Query;
use crate::writes::{Part, Target};

/// Bytes of a manager's name at most.
pub const MAX_MANAGER: usize = 128;

/// Whose name changes are kept under: what they call themselves, or else what their program is called.
pub fn manager<'a>(context: &Context<'a>, query: &'a Query) -> &'a str {
    if let Some(named) = query.get("fieldManager") {
        return named;
    }
    let agent = context.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let program = agent.split('/').next().unwrap_or_default();
    let program = program.get(..MAX_MANAGER).unwrap_or(program);
    if program.is_empty() { part_of_the_system(&context.user.user) } else { program }
}

/// The name of a part of the control plane by the user it acts as: that of upstream's program which does the same. Who leaves to it what
/// it owns knows it by this name.
fn part_of_the_system(user: &str) -> &str {
    let part = user.strip_prefix("system:").unwrap_or_default();
    match part.split_once(':') {
        Some(("node", _) | ("steadfast", "simulated-nodes")) => "kubelet",
        Some(("controller", _)) => "kube-controller-manager",
        Some(("serviceaccount", account)) => account.rsplit(':').next().unwrap_or("unknown"),
        None if !part.is_empty() => part,
        _ => "unknown",
    }
}

/// The time of a change as accounts keep it.
pub fn now() -> String {
    deletion::now().to_string()
}

/// What someone can own by a request for this part of an object.
pub fn claim<'a>(target: Target<'a>, part: Part, operation: Operation, now: &'a str) -> Claim<'a> {
    let Target { resource, manager, subresource, .. } = target;
    Claim {
        schema: Schema::of(resource),
        owner: Owner::new(manager, operation, &resource.api_version(), subresource),
        ignored: ignored(resource, part),
        now,
    }
}

/// What requests for a part can't change, whatever they say.
fn ignored(resource: &Resource, part: Part) -> Set<'static> {
    match part {
        Part::Main if resource.subresources.contains(&Subresource::Status) => Set::of_fields(&["status"]),
        Part::Status => Set::of_fields(&["spec"]),
        Part::Ephemeral => Set::of_fields(&["status"]),
        Part::Main | Part::Internal => Set::default(),
    }
}

/// The account that a change starts from.
pub enum Account {
    /// The stored one.
    Kept,
    /// None, on demand: nobody owns anything, and nobody will before something is applied.
    Ended,
    /// One that the client sends.
    Given(String),
}

/// What a client says about the account with an object that it sends. What can't be read changes nothing.
pub fn supplied(entries: Option<Vec<ManagedFieldsEntry>>, target: Target<'_>) -> Account {
    let entries = entries.unwrap_or_default();
    if entries.is_empty() || !target.subresource.is_empty() {
        return Account::Kept;
    }
    if entries == [ManagedFieldsEntry::default()] {
        return Account::Ended;
    }
    let text = serde_json::to_value(&entries).ok().and_then(canonical).unwrap_or_default();
    let written = Outline::of(&text).and_then(|outline| Some(Owners::read(&outline)?.write())).unwrap_or_default();
    if written.is_empty() { Account::Kept } else { Account::Given(written) }
}

/// The same as JSON text, with the JSON inside the elements of paths written as we write it.
fn canonical(mut entries: Value) -> Option<String> {
    for entry in entries.as_array_mut()? {
        if let Some(fields) = entry.get_mut("fieldsV1").map(Value::take) {
            entry["fieldsV1"] = canonical_fields(fields)?;
        }
    }
    Some(entries.to_string())
}

fn canonical_fields(fields: Value) -> Option<Value> {
    let Value::Object(fields) = fields else { return None };
    let field = |(name, below): (String, Value)| {
        let name = match name.split_once(':') {
            Some((choice @ ("k" | "v"), json)) => format!("{choice}:{}", serde_json::from_str::<Value>(json).ok()?),
            _ => name,
        };
        Some((name, canonical_fields(below)?))
    };
    fields.into_iter().map(field).collect::<Option<Map<_, _>>>().map(Value::Object)
}

/// The account after a change. When an account can't be kept, there is none, as upstream has it.
pub fn after(claim: &Claim<'_>, account: Account, kept: &str, old: &str, new: &str) -> String {
    let creates = old == NOTHING;
    let base = match &account {
        Account::Kept => kept,
        Account::Ended => "",
        Account::Given(text) => text,
    };
    apply::updated(claim, base, old, new, creates).unwrap_or_else(|| {
        tracing::warn!(kept = %kept.len(), "managedFields could not be kept up to date; they are dropped");
        String::new()
    })
}

/// The text of an object that is not there.
pub const NOTHING: &str = "{}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_system_have_names() {
        for (user, name) in [
            ("system:kube-scheduler", "kube-scheduler"),
            ("system:kube-controller-manager", "kube-controller-manager"),
            ("system:controller:statefulset-controller", "kube-controller-manager"),
            ("system:node:a", "kubelet"),
            ("system:steadfast:simulated-nodes", "kubelet"),
            ("system:serviceaccount:kube-system:backup", "backup"),
            ("jane", "unknown"),
            ("system:a:b", "unknown"),
        ] {
            assert_eq!(part_of_the_system(user), name, "{user}");
        }
    }
}
