//! Who is this?

use serde_json::{Value, json};

use super::Spec;
use crate::auth::Identity;
use crate::context::Context;
use crate::error::ApiError;

/// Who asks.
pub(super) fn own(context: &Context<'_>) -> Value {
    json!({"userInfo": shown(context.user)})
}

/// Whose a token is.
pub(super) async fn token(context: &Context<'_>, spec: &Spec) -> Result<Value, ApiError> {
    let (token, audiences) = (spec.text(&["token"])?, spec.texts("audiences")?);
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    Ok(match context.shared.authenticator.bearer(token, &audiences).await? {
        Some((identity, audiences)) => json!({"authenticated": true, "user": shown(&identity), "audiences": audiences}),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    })
}

fn shown(identity: &Identity) -> Value {
    let Identity { user, groups, uid, extra } = identity;
    let mut shown = json!({"username": user, "groups": groups});
    if !uid.is_empty() {
        shown["uid"] = json!(uid);
    }
    if !extra.is_empty() {
        shown["extra"] = json!(extra);
    }
    shown
}
