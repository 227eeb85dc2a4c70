//! Nobody gives rights that they don't have, unless they may do just that.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{Object, Resource};
use plan::access::rules::everything;
use plan::access::{Ask, Asked, GROUP, MASTERS, cover};

use super::node::forbidden;
use crate::context::Context;
use crate::error::ApiError;

/// A role or binding that is about to be stored.
struct Grant<'a> {
    context: &'a Context<'a>,
    resource: &'static Resource,
    namespace: &'a str,
    name: &'a str,
}

/// Refuses a role or binding that gives more than its author has.
pub async fn check(
    context: &Context<'_>,
    resource: &'static Resource,
    namespace: &str,
    new: &dyn Object,
    old: Option<&dyn Object>,
) -> Result<(), ApiError> {
    if resource.group != GROUP || context.user.is_in(MASTERS) || old.is_some_and(|old| only_lets_go(new, old)) {
        return Ok(());
    }
    let name = new.meta().name.as_deref().unwrap_or_default();
    let grant = Grant { context, resource, namespace, name };
    if let Some(role) = new.downcast_ref::<ClusterRole>() {
        if grant.may("escalate", resource.plural, name).await? {
            return Ok(());
        }
        grant.holds(role.rules.as_deref().unwrap_or_default()).await?;
        if role.aggregation_rule.is_some() && grant.holds(&everything()).await.is_err() {
            return Err(forbidden(resource, name, "must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    } else if let Some(role) = new.downcast_ref::<Role>() {
        if grant.may("escalate", resource.plural, name).await? {
            return Ok(());
        }
        grant.holds(role.rules.as_deref().unwrap_or_default()).await
    } else if let Some(RoleBinding { role_ref, .. }) = new.downcast_ref() {
        grant.binds(role_ref).await
    } else if let Some(ClusterRoleBinding { role_ref, .. }) = new.downcast_ref() {
        grant.binds(role_ref).await
    } else {
        Ok(())
    }
}

/// Whether a change is one by which objects end: owners and finalizers.
fn only_lets_go(new: &dyn Object, old: &dyn Object) -> bool {
    let rest = |object: &dyn Object| {
        let mut object = object.clone_object();
        let meta = object.meta_mut();
        let kept = std::mem::take(meta);
        *meta = ObjectMeta { owner_references: None, finalizers: None, managed_fields: None, resource_version: None, ..kept };
        object.to_json()
    };
    rest(new) == rest(old)
}

impl Grant<'_> {
    async fn may(&self, verb: &str, plural: &str, name: &str) -> Result<bool, ApiError> {
        let namespace = if plural == "clusterroles" && self.resource.kind == "ClusterRole" { "" } else { self.namespace };
        let ask = Ask::on(verb, Asked { group: GROUP, resource: plural, namespace, name, ..Asked::default() });
        Ok(self.context.shared.authority.decide(self.context.user.who(), &ask).await?.is_allowed())
    }

    async fn holds(&self, granted: &[PolicyRule]) -> Result<(), ApiError> {
        let index = self.context.shared.authority.index().await?;
        let who = self.context.user.who();
        let held = index.granted(who, self.namespace);
        let Some(mut why) = cover::refusal(who, &held.rules, granted) else { return Ok(()) };
        if !held.errors.is_empty() {
            why = format!("{why}; resolution errors: [{}]", held.errors.join(" "));
        }
        Err(forbidden(self.resource, self.name, &why))
    }

    async fn binds(&self, role: &RoleRef) -> Result<(), ApiError> {
        let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
        if self.may("bind", plural, &role.name).await? {
            return Ok(());
        }
        let index = self.context.shared.authority.index().await?;
        match index.rules_of(role, self.namespace) {
            Ok(rules) => self.holds(rules).await,
            Err(missing) => Err(ApiError::NotThere { group: GROUP, plural, name: role.name.clone(), message: missing }),
        }
    }
}
