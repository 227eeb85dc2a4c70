//! Who asks, and what they may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kinds::{Object, registry};
use plan::access::{MASTERS, Who};
use store::Store;

use crate::certificates::TokenKey;
use crate::error::ApiError;
use crate::keys;

mod aggregation;
mod authority;
mod bootstrap;
pub mod certificate;
pub(crate) mod escalation;
pub(crate) mod impersonation;
pub(crate) mod node;
pub mod token;

pub(crate) use authority::Authority;
pub(crate) use bootstrap::begin;
use token::{Bound, Claims, Private};

/// What is known of a credential: the key under which it is told.
pub(crate) const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const ACCOUNTS: &str = "system:serviceaccounts";

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
    /// Tells users of the same name apart; empty if nothing does.
    pub uid: String,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user in some groups.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Self { user: user.into(), groups, uid: String::new(), extra: BTreeMap::new() }
    }

    /// Someone who did not say who they are.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The server itself.
    pub(crate) fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// A service account.
    pub(crate) fn account(namespace: &str, name: &str) -> Self {
        let in_namespace = format!("{ACCOUNTS}:{namespace}");
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), &[ACCOUNTS, &in_namespace, AUTHENTICATED])
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The user as rules see them.
    pub(crate) fn who(&self) -> Who<'_> {
        Who { user: &self.user, groups: &self.groups }
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
            Some(token) => self.bearer(token.trim(), &[]).await?.map(|(identity, _)| identity).ok_or_else(unauthorized),
            None => Err(unauthorized()),
        }
    }

    /// The service account of a token, while it and what the token is bound to exist, and those of the audiences that the token
    /// is for. It must be for one of them; none means this server. An error when it can't be known what exists.
    pub(crate) async fn bearer(&self, token: &str, audiences: &[String]) -> Result<Option<(Identity, Vec<String>)>, ApiError> {
        let Some(claims) = self.key.verify(token) else { return Ok(None) };
        let now = jiff::Timestamp::now().as_second();
        let own = [self.issuer.clone()];
        let audiences = if audiences.is_empty() { &own[..] } else { audiences };
        let fitting: Vec<_> = audiences.iter().filter(|audience| claims.is_for(audience)).cloned().collect();
        if claims.issuer != self.issuer || !claims.is_valid_at(now) || fitting.is_empty() || !self.is_living(&claims.private).await? {
            return Ok(None);
        }
        let Claims { private: Private { namespace, service_account, pod, node, .. }, id, .. } = &claims;
        let mut identity = Identity::account(namespace, &service_account.name);
        identity.uid.clone_from(&service_account.uid);
        identity.extra.insert(CREDENTIAL.to_owned(), vec![format!("JTI={id}")]);
        for (kind, bound) in [("pod", pod), ("node", node)] {
            if let Some(Bound { name, uid }) = bound {
                identity.extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.clone()]);
                identity.extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.clone()]);
            }
        }
        Ok(Some((identity, fitting)))
    }

    /// Whether all that a token lives with is there.
    async fn is_living(&self, token: &Private) -> Result<bool, ApiError> {
        let Private { namespace, service_account, pod, secret, node } = token;
        let namespace = namespace.as_str();
        let mut bound = vec![("serviceaccounts", namespace, service_account)];
        bound.extend(pod.as_ref().map(|pod| ("pods", namespace, pod)));
        bound.extend(secret.as_ref().map(|secret| ("secrets", namespace, secret)));
        // The node of a pod's token is told, but may come and go: the token lives and dies with the pod.
        bound.extend(node.as_ref().filter(|_| pod.is_none()).map(|node| ("nodes", "", node)));
        for (plural, namespace, bound) in bound {
            if !self.exists(plural, namespace, bound).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn exists(&self, plural: &str, namespace: &str, Bound { name, uid }: &Bound) -> Result<bool, ApiError> {
        let Some(resource) = registry::find("", "v1", plural) else { return Ok(false) };
        let (entry, _) = self.store.get(&keys::object(resource, namespace, name)).await?;
        let object = entry.and_then(|entry| (resource.codec.from_json)(entry.document.json()).ok());
        Ok(object.is_some_and(|object: Box<dyn Object>| object.meta().uid.as_deref() == Some(uid)))
    }
}

/// The refusal of someone who is not known.
pub fn unauthorized() -> ApiError {
    ApiError::Unauthorized { message: "Unauthorized".to_owned() }
}

#[cfg(test)]
mod tests {
    use etcd_fixture::Cluster;
    use store::etcd::{Etcd, Options};

    use super::*;
    use crate::certificates::Certificates;

    #[tokio::test]
    async fn a_token_is_not_refused_because_nobody_knows() {
        let mut etcd = Cluster::start(1);
        let store = Arc::new(Etcd::open(&etcd.address("test").parse().unwrap(), Options::default()).await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let key = Arc::new(Certificates::open(folder.path()).unwrap().token_key().unwrap());
        let authenticator = Authenticator::new(store, Arc::clone(&key), "issuer".to_owned());
        let account = Bound { name: "default".to_owned(), uid: "u".to_owned() };
        let token = key.sign(&Claims::new("issuer", "default", account).valid(0, i64::MAX).for_audiences(&["issuer".to_owned()]));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let refused = |identity: Result<Identity, ApiError>| identity.unwrap_err().status().code;
        assert_eq!(refused(authenticator.identify(None, &headers).await), Some(401));
        etcd.kill(0);
        assert_eq!(refused(authenticator.identify(None, &headers).await), Some(503));
    }
}
