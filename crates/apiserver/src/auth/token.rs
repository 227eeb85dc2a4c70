//! What a service account's token says, in the form that upstream gives it.

use serde::{Deserialize, Serialize};

use crate::random;

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(rename = "aud")]
    pub audiences: Vec<String>,
    /// Seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: i64,
    #[serde(rename = "iat")]
    pub issued: i64,
    #[serde(rename = "iss")]
    pub issuer: String,
    #[serde(rename = "jti", default)]
    pub id: String,
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    #[serde(rename = "nbf")]
    pub not_before: i64,
    #[serde(rename = "sub")]
    pub subject: String,
}

/// Whose token it is, and what it lives and dies with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<Bound>,
    #[serde(rename = "serviceaccount")]
    pub service_account: Bound,
}

/// An object the token refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub name: String,
    pub uid: String,
}

impl Claims {
    /// Claims that are valid for nobody and at no time yet, and bound to nothing but the account.
    pub fn new(issuer: &str, namespace: &str, service_account: Bound) -> Self {
        Self {
            audiences: Vec::new(),
            expires: 0,
            issued: 0,
            issuer: issuer.to_owned(),
            id: random::uid(),
            subject: format!("system:serviceaccount:{namespace}:{}", service_account.name),
            private: Private { namespace: namespace.to_owned(), service_account, node: None, pod: None, secret: None },
            not_before: 0,
        }
    }

    /// The same, valid from one second to another.
    #[must_use]
    pub fn valid(self, from: i64, until: i64) -> Self {
        Self { issued: from, not_before: from, expires: until, ..self }
    }

    /// The same, for these audiences.
    #[must_use]
    pub fn for_audiences(self, audiences: &[String]) -> Self {
        Self { audiences: audiences.to_vec(), ..self }
    }

    /// Whether the token is valid at a second.
    pub fn is_valid_at(&self, now: i64) -> bool {
        /// Clocks may differ by so many seconds.
        const LEEWAY: i64 = 10;
        now < self.expires && now + LEEWAY >= self.not_before
    }

    /// Whether the token is meant for an audience.
    pub fn is_for(&self, audience: &str) -> bool {
        self.audiences.iter().any(|own| own == audience)
    }
}
