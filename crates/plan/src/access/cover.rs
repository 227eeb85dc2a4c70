//! Whether rules that someone grants go beyond those that they have, so that nobody gives away what they don't hold.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Who;
use super::rules::{ALL, covers_path};

/// Parts that granted rules are taken apart into, at most. What is beyond has to be covered by one rule as a whole.
const PARTS: usize = 10_000;

/// What of the granted rules is beyond those that are held, in the smallest parts.
pub fn beyond(held: &[&PolicyRule], granted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut left = PARTS;
    let mut missing = Vec::new();
    for rule in granted {
        let count = count(rule);
        let parts = if count <= left { parts(rule) } else { vec![rule.clone()] };
        left = left.saturating_sub(count);
        missing.extend(parts.into_iter().filter(|part| !held.iter().any(|rule| covers(rule, part))));
    }
    missing
}

/// How many parts a rule has.
fn count(rule: &PolicyRule) -> usize {
    let length = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
    let names = length(&rule.resource_names).max(1);
    let targets = length(&rule.api_groups).saturating_mul(length(&rule.resources)).saturating_mul(names);
    targets.saturating_add(length(&rule.non_resource_urls)).saturating_mul(rule.verbs.len())
}

/// The refusal of a grant, or nothing if all of it is held.
pub fn refusal(who: Who<'_>, held: &[&PolicyRule], granted: &[PolicyRule]) -> Option<String> {
    let missing = beyond(held, granted);
    if missing.is_empty() {
        return None;
    }
    let lines: BTreeSet<_> = compact(missing).iter().map(shown).collect();
    let lines: Vec<_> = lines.into_iter().collect();
    Some(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        list(who.groups),
        lines.join("\n")
    ))
}

/// A rule with one verb on one thing for each combination.
fn parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for url in rule.non_resource_urls.iter().flatten() {
            parts.push(PolicyRule { non_resource_urls: one(url), verbs: verbs.clone(), ..PolicyRule::default() });
        }
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let part = PolicyRule { api_groups: one(group), resources: one(resource), verbs: verbs.clone(), ..PolicyRule::default() };
                match rule.resource_names.as_deref().unwrap_or_default() {
                    [] => parts.push(part),
                    names => parts.extend(names.iter().map(|name| PolicyRule { resource_names: one(name), ..part.clone() })),
                }
            }
        }
    }
    parts
}

fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let wanted = part.resource_names.as_deref().unwrap_or_default();
    holds(Some(&rule.verbs), Some(&part.verbs), |own, verb| own == verb)
        && holds(rule.api_groups.as_ref(), part.api_groups.as_ref(), |own, group| own == group)
        && holds(rule.resources.as_ref(), part.resources.as_ref(), covers_resource)
        && holds(rule.non_resource_urls.as_ref(), part.non_resource_urls.as_ref(), covers_path)
        && (names.is_empty() || !wanted.is_empty() && wanted.iter().all(|name| names.contains(name)))
}

fn holds(own: Option<&Vec<String>>, wanted: Option<&Vec<String>>, fits: impl Fn(&str, &str) -> bool) -> bool {
    wanted.into_iter().flatten().all(|wanted| own.into_iter().flatten().any(|own| own == ALL || fits(own, wanted)))
}

fn covers_resource(own: &str, wanted: &str) -> bool {
    let of_all = || wanted.split_once('/').zip(own.strip_prefix("*/")).is_some_and(|((_, part), own)| own == part);
    own == wanted || of_all()
}

/// The same with the verbs on one resource in one rule.
fn compact(parts: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut together: BTreeMap<String, PolicyRule> = BTreeMap::new();
    let (paths, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.non_resource_urls.is_some());
    for part in others {
        let target = shown(&PolicyRule { verbs: Vec::new(), ..part.clone() });
        match together.get_mut(&target) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => drop(together.insert(target, part)),
        }
    }
    paths.into_iter().chain(together.into_values()).collect()
}

fn shown(rule: &PolicyRule) -> String {
    let fields = [
        ("APIGroups", rule.api_groups.as_deref()),
        ("Resources", rule.resources.as_deref()),
        ("NonResourceURLs", rule.non_resource_urls.as_deref()),
        ("ResourceNames", rule.resource_names.as_deref()),
        ("Verbs", Some(rule.verbs.as_slice())),
    ];
    let said = fields.into_iter().filter_map(|(name, values)| Some((name, values.filter(|values| !values.is_empty())?)));
    let said: Vec<_> = said.map(|(name, values)| format!("{name}:{}", list(values))).collect();
    format!("{{{}}}", said.join(", "))
}

/// `["a" "b"]`.
fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
