//! Tokens of service accounts for pods: asked for once, and again when four fifths of their life are over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};

/// Which token: of a pod, for one file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    uid: String,
    volume: String,
    audience: Option<String>,
    expiration_seconds: i64,
}

impl TokenKey {
    pub fn new(pod: &Pod, volume: &str, projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            volume: volume.to_owned(),
            audience: projection.audience.clone().filter(|audience| !audience.is_empty()),
            expiration_seconds: projection.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// A token, and when to ask for the next.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub token: String,
    pub refresh_at: Timestamp,
}

/// The tokens of all pods of the node.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: Mutex<HashMap<TokenKey, Issued>>,
}

impl Tokens {
    /// The pod's token, a fresh one if the last is old.
    pub async fn get(&self, client: &Client, pod: &Pod, key: TokenKey) -> Result<Issued, kube::Error> {
        let now = Timestamp::now();
        let known = self.issued.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known.filter(|known| known.refresh_at > now) {
            return Ok(known);
        }
        let issued = request(client, pod, &key, now).await?;
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).insert(key, issued.clone());
        Ok(issued)
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key.uid != uid);
    }
}

async fn request(client: &Client, pod: &Pod, key: &TokenKey, now: Timestamp) -> Result<Issued, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).filter(|name| !name.is_empty());
    let wish = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: key.audience.clone().map(|audience| vec![audience]),
            expiration_seconds: Some(key.expiration_seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let name = account.unwrap_or_else(|| "default".to_owned());
    let status = accounts.create_token_request(&name, &PostParams::default(), &wish).await?.status.unwrap_or_default();
    let life = status.expiration_timestamp.map_or(0, |until| until.0.as_second()).saturating_sub(now.as_second()).max(0);
    let refresh_at = now.checked_add(SignedDuration::from_secs(life * 4 / 5)).unwrap_or(now);
    Ok(Issued { token: status.token.unwrap_or_default(), refresh_at })
}
