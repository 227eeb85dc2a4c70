//! What may someone do in a namespace?

use k8s_openapi::api::rbac::v1::PolicyRule;
use plan::access::nodes;
use serde_json::{Map, Value, json};

use super::Spec;
use crate::context::Context;
use crate::error::ApiError;

/// About who asks.
pub(super) async fn own(context: &Context<'_>, spec: &Spec) -> Result<Value, ApiError> {
    let namespace = spec.text(&["namespace"])?;
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let index = context.shared.authority.index().await?;
    let who = context.user.who();
    let granted = index.granted(who, namespace);
    let mut errors = granted.errors.clone();
    if nodes::node_of(who).is_some() {
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    let (paths, resources): (Vec<_>, Vec<_>) = granted.rules.iter().partition(|rule| rule.non_resource_urls.is_some());
    let shown = |rules: Vec<&&PolicyRule>| rules.into_iter().map(|rule| shown(rule)).collect::<Vec<_>>();
    let mut status = json!({"resourceRules": shown(resources), "nonResourceRules": shown(paths), "incomplete": !errors.is_empty()});
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join(", "));
    }
    Ok(status)
}

fn shown(rule: &PolicyRule) -> Value {
    let fields = [
        ("verbs", Some(&rule.verbs)),
        ("apiGroups", rule.api_groups.as_ref()),
        ("resources", rule.resources.as_ref()),
        ("resourceNames", rule.resource_names.as_ref()),
        ("nonResourceURLs", rule.non_resource_urls.as_ref()),
    ];
    let said = fields.into_iter().filter_map(|(name, list)| Some((name.to_owned(), json!(list?))));
    Value::Object(said.collect::<Map<_, _>>())
}
