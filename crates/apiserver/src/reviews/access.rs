//! May someone do something?

use plan::access::{Ask, Asked, Decision, Target, Who};
use serde_json::{Value, json};

use super::Spec;
use crate::context::Context;
use crate::error::ApiError;
use crate::field::{FieldError, Path};

/// About who asks.
pub(super) async fn own(context: &Context<'_>, spec: &Spec) -> Result<Value, ApiError> {
    answer(context, context.user.who(), spec).await
}

/// About anyone.
pub(super) async fn subject(context: &Context<'_>, spec: &Spec) -> Result<Value, ApiError> {
    let (user, groups) = (spec.text(&["user"])?, spec.texts("groups")?);
    if user.is_empty() && groups.is_empty() {
        return Err(invalid(spec, "user", "", "at least one of user or group must be specified"));
    }
    answer(context, Who { user, groups: &groups }, spec).await
}

/// About anyone in one namespace.
pub(super) async fn local(context: &Context<'_>, spec: &Spec, namespace: &str) -> Result<Value, ApiError> {
    if spec.has("nonResourceAttributes") {
        return Err(invalid(spec, "nonResourceAttributes", "", "disallowed on this kind of request"));
    }
    let own = spec.text(&["resourceAttributes", "namespace"])?;
    if own != namespace {
        return Err(invalid(spec, "resourceAttributes.namespace", own, "must match metadata.namespace"));
    }
    subject(context, spec).await
}

async fn answer(context: &Context<'_>, who: Who<'_>, spec: &Spec) -> Result<Value, ApiError> {
    if spec.has("resourceAttributes") == spec.has("nonResourceAttributes") {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(invalid(spec, "resourceAttributes", "", why));
    }
    let ask = if spec.has("resourceAttributes") { about_resource(spec)? } else { about_path(spec)? };
    let decision = context.shared.authority.decide(who, &ask).await?;
    let mut status = json!({"allowed": decision.is_allowed()});
    match &decision {
        // What nothing forbids and nothing allows gets an error's text, if a binding leads nowhere.
        Decision::Denied(reason) if reason.starts_with("RBAC: ") => status["evaluationError"] = json!(reason["RBAC: ".len()..]),
        _ => {}
    }
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    Ok(status)
}

fn about_resource(spec: &Spec) -> Result<Ask<'_>, ApiError> {
    let text = |field| spec.text(&["resourceAttributes", field]);
    let asked = Asked {
        group: text("group")?,
        resource: text("resource")?,
        subresource: text("subresource")?,
        namespace: text("namespace")?,
        name: text("name")?,
        on_node: "",
    };
    Ok(Ask::on(text("verb")?, asked))
}

fn about_path(spec: &Spec) -> Result<Ask<'_>, ApiError> {
    let text = |field| spec.text(&["nonResourceAttributes", field]);
    Ok(Ask { verb: text("verb")?, target: Target::Path(text("path")?) })
}

fn invalid(spec: &Spec, field: &str, value: &str, why: &str) -> ApiError {
    let error = FieldError::invalid(Path::new("spec").child(field), value, why);
    ApiError::InvalidReview { group: spec.review.group, kind: spec.review.kind, errors: vec![error] }
}
