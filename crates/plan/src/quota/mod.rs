//! What the objects of a namespace use of its ResourceQuotas.
//!
//! The API server asks [`Claim::exceeds`] before it stores an object; the controller keeps what is used in the quota's status,
//! for people to see. Both count by the same functions.

mod scope;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kinds::{Object, Quantity, Resource};

pub use usage::{Amount, Usage, usage};

/// Resources that each container has to say, in a namespace that limits them.
const TO_BE_SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// An object that is about to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub resource: &'static Resource,
    pub object: &'a dyn Object,
    /// What is there, when the object is changed.
    pub old: Option<&'a dyn Object>,
}

/// What a quota limits, by name.
fn hard(quota: &ResourceQuota) -> BTreeMap<String, Text> {
    quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default()
}

impl Claim<'_> {
    /// Whether the quota limits something that the object uses.
    pub fn concerns(&self, quota: &ResourceQuota, now: Timestamp) -> bool {
        let uses = usage(self.resource, self.object, now);
        scope::includes(quota, self.object) && hard(quota).keys().any(|name| uses.contains_key(name) || must_say(self.object, name))
    }

    /// Why the object can't be stored; `used` is what all objects that the quota includes use, an older state of this one too.
    pub fn exceeds(&self, quota: &ResourceQuota, used: &Usage, now: Timestamp) -> Option<String> {
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let limits = hard(quota);
        if let Some(pod) = self.object.downcast_ref::<Pod>().filter(|_| self.old.is_none())
            && let Some(missing) = missing(pod, &limits)
        {
            return Some(format!("failed quota: {name}: must specify {missing}"));
        }
        let mut asked = usage(self.resource, self.object, now);
        if let Some(old) = self.old.filter(|old| scope::includes(quota, *old)) {
            let before = usage(self.resource, old, now);
            asked = usage::beyond(&asked, &before);
        }
        let too_much: Vec<_> = limits.iter().filter(|(resource, limit)| is_too_much(resource, limit, &asked, used)).collect();
        let show = |amounts: &Usage| {
            let shown =
                |(resource, _): &(&String, &Text)| format!("{resource}={}", amounts.get(*resource).copied().unwrap_or_default().text());
            too_much.iter().map(shown).collect::<Vec<_>>().join(",")
        };
        let limited: Vec<_> = too_much.iter().map(|(resource, limit)| format!("{resource}={}", limit.0)).collect();
        let (requested, already) = (show(&asked), show(used));
        (!too_much.is_empty())
            .then(|| format!("exceeded quota: {name}, requested: {requested}, used: {already}, limited: {}", limited.join(",")))
    }
}

fn is_too_much(resource: &str, limit: &Text, asked: &Usage, used: &Usage) -> bool {
    let amount = |usage: &Usage| usage.get(resource).map(|amount| amount.quantity).unwrap_or_default();
    let asked = amount(asked);
    asked > Quantity::default() && amount(used) + asked > limit.0.parse().unwrap_or_default()
}

fn must_say(object: &dyn Object, name: &str) -> bool {
    TO_BE_SAID.contains(&name) && object.downcast_ref::<Pod>().is_some()
}

/// What the containers of a pod don't say and have to: `limits.cpu for: a,b; requests.memory for: a`.
fn missing(pod: &Pod, limits: &BTreeMap<String, Text>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let silent = |name: &str| -> BTreeSet<String> {
        containers().filter(|container| !says(container, name)).map(|container| container.name.clone()).collect()
    };
    let wanted = limits.keys().filter(|name| TO_BE_SAID.contains(&name.as_str()));
    let missing = wanted.map(|name| (name, silent(name))).filter(|(_, silent)| !silent.is_empty());
    let told: Vec<_> = missing.map(|(name, silent)| format!("{name} for: {}", silent.into_iter().collect::<Vec<_>>().join(","))).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn says(container: &Container, name: &str) -> bool {
    let resources = container.resources.clone().unwrap_or_default();
    let (list, resource) = match name.split_once('.') {
        Some(("limits", resource)) => (resources.limits, resource),
        Some((_, resource)) => (resources.requests, resource),
        None => (resources.requests, name),
    };
    list.is_some_and(|list| list.contains_key(resource))
}

/// What these objects use of a quota: those it does not include use nothing.
pub fn used<'a>(quota: &ResourceQuota, resource: &Resource, objects: impl IntoIterator<Item = &'a dyn Object>, now: Timestamp) -> Usage {
    let mut sum = Usage::new();
    for object in objects.into_iter().filter(|object| scope::includes(quota, *object)) {
        usage::add(&mut sum, &usage(resource, object, now));
    }
    sum
}

/// What so many objects of a kind use that only their number counts of.
pub fn counted(quota: &ResourceQuota, resource: &Resource, count: usize) -> Usage {
    if scope::is_limited(quota) { Usage::new() } else { usage::count(resource, count) }
}

/// The status that says what is used of a quota; `None` if it says so already.
pub fn status(quota: &ResourceQuota, used: &Usage) -> Option<ResourceQuotaStatus> {
    let limits = hard(quota);
    let amounts = limits.keys().map(|name| (name.clone(), Text(used.get(name).copied().unwrap_or_default().text())));
    let amounts: BTreeMap<_, _> = amounts.collect();
    let status = ResourceQuotaStatus { hard: Some(limits), used: Some(amounts) };
    (quota.status.as_ref() != Some(&status)).then_some(status)
}

/// Adds what is used.
pub fn add(sum: &mut Usage, more: &Usage) {
    usage::add(sum, more);
}

#[cfg(test)]
mod tests;
