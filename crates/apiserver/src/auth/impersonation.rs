//! Acting as someone else, for those who may.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use plan::access::{Ask, Asked};

use super::{ANONYMOUS, AUTHENTICATED, Authority, Identity, UNAUTHENTICATED};
use crate::error::ApiError;
use crate::query::percent_decoded;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who the request is to be treated as coming from: who makes it, or whom they say, if they may.
pub async fn effective(authority: &Authority, user: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(user);
    }
    let wanted = read(headers)?;
    check(authority, &user, &wanted).await?;
    Ok(complete(wanted))
}

fn read(headers: &HeaderMap) -> Result<Identity, ApiError> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let one = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.entry(percent_decoded(key, false)).or_default().push(text(value));
        }
    }
    let groups: Vec<_> = headers.get_all(GROUP).iter().map(text).filter(|group| !group.is_empty()).collect();
    let wanted = Identity { user: one(USER), groups, uid: one(UID), extra };
    if wanted.user.is_empty() {
        return Err(ApiError::bad_request(
            "impersonating groups, a uid or extra fields needs a user: the header Impersonate-User is missing",
        ));
    }
    Ok(wanted)
}

/// Every part of the other's identity has to be allowed.
async fn check(authority: &Authority, user: &Identity, wanted: &Identity) -> Result<(), ApiError> {
    let account = account(&wanted.user);
    let (resource, namespace, name) = match account {
        Some((namespace, name)) => ("serviceaccounts", namespace, name),
        None => ("users", "", wanted.user.as_str()),
    };
    let mut parts = vec![Asked { resource, namespace, name, ..Asked::default() }];
    parts.extend(wanted.groups.iter().map(|name| Asked { resource: "groups", name, ..Asked::default() }));
    let uid = Some(wanted.uid.as_str()).filter(|uid| !uid.is_empty());
    parts.extend(uid.map(|name| Asked { group: AUTHENTICATION, resource: "uids", name, ..Asked::default() }));
    for (key, values) in &wanted.extra {
        let extra = Asked { group: AUTHENTICATION, resource: "userextras", subresource: key, ..Asked::default() };
        parts.extend(values.iter().map(|name| Asked { name, ..extra }));
    }
    for part in parts {
        authority.check(user, &Ask::on("impersonate", part)).await?;
    }
    Ok(())
}

/// Namespace and name of the service account that a user is.
fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Adds the groups that such a user is always in.
fn complete(mut wanted: Identity) -> Identity {
    if let Some((namespace, name)) = account(&wanted.user)
        && wanted.groups.is_empty()
    {
        wanted.groups = Identity::account(namespace, name).groups;
    }
    let group = if wanted.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(group) && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(group.to_owned());
    }
    wanted
}
