//! Whether one rule allows one request.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Ask, Asked, Target};

/// Stands for every verb, group, resource and path.
pub(super) const ALL: &str = "*";

/// Whether the rule allows the request.
pub fn allows(rule: &PolicyRule, ask: &Ask<'_>) -> bool {
    names(&rule.verbs, ask.verb)
        && match ask.target {
            Target::Path(path) => rule.non_resource_urls.iter().flatten().any(|pattern| covers_path(pattern, path)),
            Target::Resource(asked) => on_resource(rule, &asked),
        }
}

fn on_resource(rule: &PolicyRule, asked: &Asked<'_>) -> bool {
    let resources = rule.resources.as_deref().unwrap_or_default();
    let resource_names = rule.resource_names.as_deref().unwrap_or_default();
    names(rule.api_groups.as_deref().unwrap_or_default(), asked.group)
        && resources.iter().any(|resource| covers_resource(resource, asked.resource, asked.subresource))
        && (resource_names.is_empty() || resource_names.iter().any(|name| name == asked.name))
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == ALL || own == wanted)
}

/// `pods`, `pods/log`, `*/scale` or `*`.
fn covers_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        _ if pattern == ALL => true,
        None => subresource.is_empty() && pattern == resource,
        Some((parent, part)) => part == subresource && !subresource.is_empty() && (parent == ALL || parent == resource),
    }
}

/// A path, or the beginning of paths followed by a star.
pub(super) fn covers_path(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|beginning| path.starts_with(beginning.trim_end_matches('*')))
}

/// The rules of who may do everything.
pub fn everything() -> [PolicyRule; 2] {
    let all = || vec![ALL.to_owned()];
    [
        PolicyRule { api_groups: Some(all()), resources: Some(all()), verbs: all(), ..PolicyRule::default() },
        PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() },
    ]
}
