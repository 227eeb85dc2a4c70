//! The roles and bindings that every cluster begins with.
//!
//! `data/roles.tsv` has a line for each rule: the role, its API groups (`core` for the one without a name, `url` for paths
//! outside the resources), the resources or paths, and the verbs.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::GROUP;

const ROLES: &str = include_str!("../../data/roles.tsv");
/// Marks what a cluster begins with.
const MARK: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Users who take a role over for themselves set it to false.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Labels of what another role takes in begin so.
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Roles that take in others, and by which of them they are taken in themselves.
const AGGREGATED: [(&str, Option<&str>); 3] = [("admin", None), ("edit", Some("admin")), ("view", Some("edit"))];

/// Who is bound to a role: the binding is called as the role.
const BINDINGS: [(&str, &str, &[&str]); 10] = [
    ("cluster-admin", "Group", &["system:masters"]),
    ("system:discovery", "Group", &["system:authenticated"]),
    ("system:basic-user", "Group", &["system:authenticated"]),
    ("system:public-info-viewer", "Group", &["system:authenticated", "system:unauthenticated"]),
    ("system:monitoring", "Group", &["system:monitoring"]),
    ("system:service-account-issuer-discovery", "Group", &["system:serviceaccounts"]),
    ("system:node-proxier", "User", &["system:kube-proxy"]),
    ("system:volume-scheduler", "User", &["system:kube-scheduler"]),
    ("system:steadfast:simulated-nodes", "User", &["system:steadfast:simulated-nodes"]),
    // Agents of nodes are judged by the objects of their node.
    ("system:node", "User", &[]),
];

/// The roles.
pub fn cluster_roles() -> Vec<ClusterRole> {
    let mut rules: BTreeMap<&str, Vec<PolicyRule>> = BTreeMap::new();
    for (role, rule) in ROLES.lines().filter_map(read) {
        rules.entry(role).or_default().push(rule);
    }
    let plain = rules.into_iter().map(|(name, rules)| role(name, rules));
    plain.chain(AGGREGATED.into_iter().map(|(name, of)| aggregated(name, of))).collect()
}

/// What the agents of all nodes may do, as far as it is about their own objects.
pub fn node_rules() -> Vec<PolicyRule> {
    ROLES.lines().filter_map(read).filter(|(role, _)| *role == "system:node").map(|(_, rule)| rule).collect()
}

/// The bindings.
pub fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    BINDINGS.into_iter().map(|(role, kind, names)| binding(role, kind, names)).collect()
}

/// A role for one user of the control plane, who is called as the role is.
pub fn for_user(name: &str, rules: Vec<PolicyRule>) -> (ClusterRole, ClusterRoleBinding) {
    (role(name, rules), binding(name, "User", &[name]))
}

/// Whether the server may add to a role or binding what it lacks.
pub(super) fn is_kept_up(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().and_then(|annotations| annotations.get(AUTO_UPDATE)).is_none_or(|kept_up| kept_up != "false")
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    let mut metadata = metadata(name);
    if let Some(target) = name.strip_prefix("system:aggregate-to-") {
        label(&mut metadata, target);
    }
    ClusterRole { metadata, rules: Some(rules), aggregation_rule: None }
}

fn aggregated(name: &str, part_of: Option<&str>) -> ClusterRole {
    let mut metadata = metadata(name);
    if let Some(other) = part_of {
        label(&mut metadata, other);
    }
    let wanted = BTreeMap::from([(format!("{AGGREGATE}{name}"), "true".to_owned())]);
    let selector = LabelSelector { match_labels: Some(wanted), match_expressions: None };
    ClusterRole { metadata, rules: None, aggregation_rule: Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) }) }
}

fn label(metadata: &mut ObjectMeta, target: &str) {
    metadata.labels.get_or_insert_default().insert(format!("{AGGREGATE}{target}"), "true".to_owned());
}

fn metadata(name: &str) -> ObjectMeta {
    let pair = |(key, value): (&str, &str)| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    ObjectMeta { name: Some(name.to_owned()), labels: pair(MARK), annotations: pair((AUTO_UPDATE, "true")), ..ObjectMeta::default() }
}

fn binding(role: &str, kind: &str, names: &[&str]) -> ClusterRoleBinding {
    let subject =
        |name: &&str| Subject { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: (*name).to_owned(), namespace: None };
    let subjects: Vec<_> = names.iter().map(subject).collect();
    ClusterRoleBinding {
        metadata: metadata(role),
        role_ref: RoleRef { api_group: Some(GROUP.to_owned()), kind: "ClusterRole".to_owned(), name: role.to_owned() },
        subjects: Some(subjects).filter(|subjects| !subjects.is_empty()),
    }
}

fn read(line: &str) -> Option<(&str, PolicyRule)> {
    let mut columns = line.split('\t');
    let (role, groups, targets, verbs) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let verbs = list(verbs);
    if groups == "url" {
        return Some((role, PolicyRule { non_resource_urls: Some(list(targets)), verbs, ..PolicyRule::default() }));
    }
    let groups = groups.split(',').map(|group| if group == "core" { String::new() } else { group.to_owned() }).collect();
    Some((role, PolicyRule { api_groups: Some(groups), resources: Some(list(targets)), verbs, ..PolicyRule::default() }))
}
