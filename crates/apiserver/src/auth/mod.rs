//! Who asks, and what they may do.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kinds::{Object, registry};
use store::Store;

use crate::certificates::TokenKey;
use crate::error::ApiError;
use crate::keys;

pub mod certificate;
pub mod policy;
pub mod token;

use token::{Claims, Private};

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    /// A user in some groups.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        Self { user: user.into(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    /// Someone who did not say who they are.
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// Tells who makes a request that comes over the network.
pub struct Authenticator {
    store: Arc<dyn Store>,
    key: Arc<TokenKey>,
    issuer: String,
}

impl Authenticator {
    /// Accepts tokens signed with this key.
    pub fn new(store: Arc<dyn Store>, key: Arc<TokenKey>, issuer: String) -> Self {
        Self { store, key, issuer }
    }

    /// The identity of the client's certificate, or that of the token in the request's headers, or nobody's.
    pub async fn identify(&self, certificate: Option<&Identity>, headers: &HeaderMap) -> Result<Identity, ApiError> {
        if let Some(identity) = certificate {
            return Ok(identity.clone());
        }
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(Identity::anonymous()) };
        let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer ")));
        match token {
            Some(token) => self.service_account(token.trim()).await.ok_or_else(unauthorized),
            None => Err(unauthorized()),
        }
    }

    /// The service account of a token, while it and what the token is bound to exist.
    async fn service_account(&self, token: &str) -> Option<Identity> {
        let claims = self.key.verify(token)?;
        let now = jiff::Timestamp::now().as_second();
        if claims.issuer != self.issuer || !claims.is_valid_at(now) || !claims.is_for(&self.issuer) {
            return None;
        }
        let Claims { private: Private { namespace, service_account, pod }, .. } = &claims;
        self.exists("serviceaccounts", namespace, &service_account.name, &service_account.uid).await?;
        if let Some(pod) = pod {
            self.exists("pods", namespace, &pod.name, &pod.uid).await?;
        }
        let user = format!("system:serviceaccount:{namespace}:{}", service_account.name);
        let in_namespace = format!("system:serviceaccounts:{namespace}");
        Some(Identity::new(user, &["system:serviceaccounts", &in_namespace, "system:authenticated"]))
    }

    async fn exists(&self, plural: &str, namespace: &str, name: &str, uid: &str) -> Option<()> {
        let resource = registry::find("", "v1", plural)?;
        let (entry, _) = self.store.get(&keys::object(resource, namespace, name)).await.ok()?;
        let object: Box<dyn Object> = (resource.codec.from_json)(entry?.document.json()).ok()?;
        (object.meta().uid.as_deref() == Some(uid)).then_some(())
    }
}

/// The refusal of someone who is not known.
pub fn unauthorized() -> ApiError {
    ApiError::Unauthorized { message: "Unauthorized".to_owned() }
}
