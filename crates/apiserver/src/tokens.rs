//! Service account tokens: signed claims (JWT, ES256) that the API server issues and checks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who issues the tokens; also the audience of a token that names none.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Larger tokens are refused unread.
const LONGEST: usize = 16 * 1024;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token was not signed by this server")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is for another audience")]
    Audience,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
    pub aud: Vec<String>,
    /// Seconds since 1970, as are the next two.
    pub exp: i64,
    pub iat: i64,
    pub nbf: i64,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub subject: Subject,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub namespace: String,
    pub serviceaccount: Reference,
    /// The token is void when this pod is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<Reference>,
    /// The node of that pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<Reference>,
}

/// An object by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// Signs and checks tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with a P-256 key in PKCS #8; `None` when it is none.
    pub fn new(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).ok()?;
        Some(Self { key, random })
    }

    /// The token that says these claims; `None` when the machine has no randomness.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).ok()?);
        let text = format!("{header}.{body}");
        let signature = self.key.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if it is ours, in force, and meant for one of these audiences. `now`: seconds since 1970.
    ///
    /// Whether the service account and the pod still exist is for the caller to see.
    pub fn verify(&self, token: &str, audiences: &[&str], now: i64) -> Result<Claims, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let (text, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, body) = text.split_once('.').ok_or(TokenError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        public.verify(text.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
        let header: Header = decode(header)?;
        if header.alg != "ES256" {
            return Err(TokenError::Signature);
        }
        let claims: Claims = decode(body)?;
        match claims {
            claims if claims.exp <= now => Err(TokenError::Expired),
            claims if claims.nbf > now => Err(TokenError::NotYetValid),
            claims if !audiences.iter().any(|audience| claims.aud.iter().any(|own| own == audience)) => Err(TokenError::Audience),
            claims => Ok(claims),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new(&rcgen::KeyPair::generate().expect("a key").serialize_der()).expect("a P-256 key")
    }

    fn claims() -> Claims {
        let reference = |name: &str| Reference { name: name.to_owned(), uid: format!("uid-of-{name}") };
        Claims {
            iss: ISSUER.to_owned(),
            sub: "system:serviceaccount:default:web".to_owned(),
            aud: vec![ISSUER.to_owned()],
            exp: 2000,
            iat: 1000,
            nbf: 1000,
            jti: "id".to_owned(),
            subject: Subject {
                namespace: "default".to_owned(),
                serviceaccount: reference("web"),
                pod: Some(reference("web-0")),
                node: None,
            },
        }
    }

    #[test]
    fn a_token_says_what_was_signed_while_it_is_in_force() {
        let signer = signer();
        let token = signer.sign(&claims()).expect("signed");
        assert_eq!(signer.verify(&token, &["other", ISSUER], 1500), Ok(claims()));
        assert_eq!(signer.verify(&token, &[ISSUER], 2000), Err(TokenError::Expired));
        assert_eq!(signer.verify(&token, &[ISSUER], 999), Err(TokenError::NotYetValid));
        assert_eq!(signer.verify(&token, &["other"], 1500), Err(TokenError::Audience));
    }

    #[test]
    fn another_key_or_another_text_is_refused() {
        let signer = signer();
        let token = signer.sign(&claims()).expect("signed");
        assert_eq!(super::tests::signer().verify(&token, &[ISSUER], 1500), Err(TokenError::Signature));
        let mut forged: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims { sub: "admin".to_owned(), ..claims() }).expect("JSON"));
        forged[1] = &other;
        assert_eq!(signer.verify(&forged.join("."), &[ISSUER], 1500), Err(TokenError::Signature));
        for token in ["", ".", "..", "a.b", "a.b.c.d", "é.é.é"] {
            assert!(signer.verify(token, &[ISSUER], 1500).is_err(), "{token}");
        }
    }
}
