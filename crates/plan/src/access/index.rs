//! All roles and bindings, kept so that a question takes a few look-ups.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kinds::{Object, ObjectKey, Resource, Selector};

use super::{Ask, Decision, Who, rules};

/// Roles and bindings. Changes are told by [`Index::put`] and [`Index::remove`]; after some of them, and before the next question,
/// [`Index::settle`] makes them count for aggregated roles, too.
#[derive(Clone, Debug, Default)]
pub struct Index {
    cluster_roles: BTreeMap<String, Arc<ClusterRole>>,
    /// The rules of roles that are put together from others.
    aggregated: BTreeMap<String, Arc<Vec<PolicyRule>>>,
    /// Whether a role of the cluster has changed since those were put together.
    unsettled: bool,
    roles: BTreeMap<ObjectKey, Arc<Role>>,
    /// Bindings of the whole cluster have an empty namespace.
    bindings: BTreeMap<ObjectKey, Arc<Binding>>,
    users: HashMap<String, BTreeSet<ObjectKey>>,
    groups: HashMap<String, BTreeSet<ObjectKey>>,
}

#[derive(Debug)]
struct Binding {
    key: ObjectKey,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// What someone may do in a namespace.
#[derive(Debug, Default)]
pub struct Granted<'a> {
    pub rules: Vec<&'a PolicyRule>,
    /// Bindings that lead nowhere, in words.
    pub errors: Vec<String>,
}

impl Granted<'_> {
    /// The errors in one text; empty if there are none.
    pub fn error(&self) -> String {
        match self.errors.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}

impl Index {
    /// Takes in a new or changed object; those of other kinds say nothing.
    pub fn put(&mut self, object: &dyn Object) {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let key = ObjectKey::new(namespace, name);
        if let Some(role) = object.downcast_ref::<ClusterRole>() {
            self.cluster_roles.insert(name.to_owned(), Arc::new(role.clone()));
            self.unsettled = true;
        } else if let Some(role) = object.downcast_ref::<Role>() {
            self.roles.insert(key, Arc::new(role.clone()));
        } else if let Some(RoleBinding { role_ref, subjects, .. }) = object.downcast_ref::<RoleBinding>() {
            self.bind(Binding { key, role: role_ref.clone(), subjects: subjects.clone().unwrap_or_default() });
        } else if let Some(ClusterRoleBinding { role_ref, subjects, .. }) = object.downcast_ref::<ClusterRoleBinding>() {
            self.bind(Binding { key, role: role_ref.clone(), subjects: subjects.clone().unwrap_or_default() });
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, resource: &Resource, key: &ObjectKey) {
        match resource.kind {
            "ClusterRole" => {
                self.cluster_roles.remove(&key.name);
                self.unsettled = true;
            }
            "Role" => drop(self.roles.remove(key)),
            _ => self.unbind(key),
        }
    }

    /// Ends a batch of changes: putting the rules of aggregated roles together takes a look at all roles.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.aggregate();
        }
    }

    fn bind(&mut self, binding: Binding) {
        self.unbind(&binding.key);
        for subject in &binding.subjects {
            if let Some((list, name)) = self.list(subject, &binding.key.namespace) {
                list.entry(name).or_default().insert(binding.key.clone());
            }
        }
        self.bindings.insert(binding.key.clone(), Arc::new(binding));
    }

    fn unbind(&mut self, key: &ObjectKey) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            let Some((list, name)) = self.list(subject, &key.namespace) else { continue };
            if let Some(keys) = list.get_mut(&name) {
                keys.remove(key);
                if keys.is_empty() {
                    list.remove(&name);
                }
            }
        }
    }

    /// Where a subject's bindings are listed, and under which name.
    fn list(&mut self, subject: &Subject, namespace: &str) -> Option<(&mut HashMap<String, BTreeSet<ObjectKey>>, String)> {
        match subject.kind.as_str() {
            "Group" => Some((&mut self.groups, subject.name.clone())),
            _ => Some((&mut self.users, user_of(subject, namespace)?)),
        }
    }

    /// Puts the rules of all aggregated roles together anew: one may take in others.
    fn aggregate(&mut self) {
        let is_aggregated = |role: &&String| self.cluster_roles.get(*role).is_some_and(|role| role.aggregation_rule.is_some());
        let names = self.cluster_roles.keys().filter(is_aggregated);
        let together = names.map(|name| {
            let (mut all, mut said) = (Vec::new(), HashSet::new());
            self.collect(name, &mut BTreeSet::new(), &mut all);
            all.retain(|rule| said.insert(parts(rule)));
            (name.clone(), Arc::new(all.into_iter().cloned().collect()))
        });
        self.aggregated = together.collect();
    }

    fn collect<'a>(&'a self, name: &'a str, seen: &mut BTreeSet<&'a str>, all: &mut Vec<&'a PolicyRule>) {
        let Some(role) = self.cluster_roles.get(name).filter(|_| seen.insert(name)) else { return };
        let Some(aggregation) = &role.aggregation_rule else {
            return all.extend(role.rules.iter().flatten().filter(|rule| says_something(rule)));
        };
        let selectors: Vec<_> =
            aggregation.cluster_role_selectors.iter().flatten().filter_map(|one| Selector::from_label_selector(one).ok()).collect();
        for (other, role) in &self.cluster_roles {
            if selectors.iter().any(|selector| selector.matches(role.metadata.labels.as_ref())) {
                self.collect(other, seen, all);
            }
        }
    }

    /// Aggregated roles whose stored rules are not those that others give them, with those.
    pub fn outdated(&self) -> Vec<(&str, &[PolicyRule])> {
        let is_outdated = |name: &str, rules: &[PolicyRule]| {
            let stored = self.cluster_roles.get(name).and_then(|role| role.rules.as_deref());
            stored.unwrap_or_default() != rules
        };
        let all = self.aggregated.iter().map(|(name, rules)| (name.as_str(), rules.as_slice()));
        all.filter(|(name, rules)| is_outdated(name, rules)).collect()
    }

    /// The rules of a role; the error says that there is no such role.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&[PolicyRule], String> {
        let missing = |kind: &str| format!("{kind}.{} {:?} not found", super::GROUP, role.name);
        if role.kind == "Role" {
            let found = self.roles.get(&ObjectKey::new(namespace, &role.name)).ok_or_else(|| missing("role"))?;
            return Ok(found.rules.as_deref().unwrap_or_default());
        }
        if let Some(rules) = self.aggregated.get(&role.name) {
            return Ok(rules);
        }
        let found = self.cluster_roles.get(&role.name).ok_or_else(|| missing("clusterrole"))?;
        Ok(found.rules.as_deref().unwrap_or_default())
    }

    /// Whether the roles allow a request, and which one does.
    pub fn decide(&self, who: Who<'_>, ask: &Ask<'_>) -> Decision {
        let mut missing = Granted::default();
        for binding in self.bindings_of(who, ask.namespace()) {
            match self.rules_of(&binding.role, &binding.key.namespace) {
                Ok(of_role) if of_role.iter().any(|rule| rules::allows(rule, ask)) => return Decision::Allowed(binding.reason(who)),
                Ok(_) => {}
                Err(error) => missing.errors.push(error),
            }
        }
        let error = missing.error();
        Decision::Denied(if error.is_empty() { error } else { format!("RBAC: {error}") })
    }

    /// Everything that someone may do in a namespace, and in the whole cluster if it is empty.
    pub fn granted(&self, who: Who<'_>, namespace: &str) -> Granted<'_> {
        let mut granted = Granted::default();
        for binding in self.bindings_of(who, namespace) {
            match self.rules_of(&binding.role, &binding.key.namespace) {
                Ok(rules) => granted.rules.extend(rules),
                Err(error) => granted.errors.push(error),
            }
        }
        granted
    }

    /// The bindings that name someone: those of the whole cluster, then those of the namespace.
    fn bindings_of(&self, who: Who<'_>, namespace: &str) -> impl Iterator<Item = &Binding> {
        let of_groups = who.groups.iter().filter_map(|group| self.groups.get(group));
        let lists: Vec<_> = self.users.get(who.user).into_iter().chain(of_groups).collect();
        let places = [Some(""), Some(namespace).filter(|namespace| !namespace.is_empty())];
        let mut keys = Vec::new();
        for place in places.into_iter().flatten() {
            let begin = ObjectKey::new(place, "");
            for list in &lists {
                keys.extend(list.range(begin.clone()..).take_while(|key| key.namespace == place));
            }
        }
        keys.into_iter().filter_map(|key| self.bindings.get(key).map(|binding| &**binding))
    }
}

impl Binding {
    /// Why it allows someone what its role says.
    fn reason(&self, who: Who<'_>) -> String {
        let ObjectKey { namespace, name } = &self.key;
        let (kind, binding) = match namespace.as_str() {
            "" => ("ClusterRoleBinding", name.clone()),
            namespace => ("RoleBinding", format!("{name}/{namespace}")),
        };
        let names = |subject: &&Subject| match subject.kind.as_str() {
            "Group" => who.is_in(&subject.name),
            _ => user_of(subject, namespace).is_some_and(|user| user == who.user),
        };
        let subject = self.subjects.iter().find(names).map(|subject| shown(subject, namespace)).unwrap_or_default();
        format!("RBAC: allowed by {kind} {binding:?} of {} {:?} to {subject}", self.role.kind, self.role.name)
    }
}

/// What is the same in rules that are.
fn parts(rule: &PolicyRule) -> [Option<&[String]>; 5] {
    let PolicyRule { api_groups, non_resource_urls, resource_names, resources, verbs } = rule;
    let [groups, urls, names, resources] = [api_groups, non_resource_urls, resource_names, resources].map(Option::as_deref);
    [groups, urls, names, resources, Some(verbs)]
}

fn says_something(rule: &PolicyRule) -> bool {
    !rule.verbs.is_empty()
}

/// The user that a subject stands for, if it is none for a group.
fn user_of(subject: &Subject, namespace: &str) -> Option<String> {
    match subject.kind.as_str() {
        "User" => Some(subject.name.clone()),
        "ServiceAccount" => Some(format!("system:serviceaccount:{}:{}", place(subject, namespace)?, subject.name)),
        _ => None,
    }
}

fn place<'a>(subject: &'a Subject, namespace: &'a str) -> Option<&'a str> {
    let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    own.or(Some(namespace)).filter(|namespace| !namespace.is_empty())
}

fn shown(subject: &Subject, namespace: &str) -> String {
    let Subject { kind, name, .. } = subject;
    match place(subject, namespace) {
        Some(namespace) if kind == "ServiceAccount" => format!("{kind} \"{name}/{namespace}\""),
        _ => format!("{kind} {name:?}"),
    }
}
