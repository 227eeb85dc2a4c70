//! The identity in a client's certificate: its common name is the user, its organizations are the groups.

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Identity;

/// Reads a certificate that the TLS layer has already verified.
pub fn identity(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<_> = subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    groups.push("system:authenticated".to_owned());
    let fingerprint = format!("X509SHA256={}", crate::random::hex(&Sha256::digest(der)));
    let extra = [(super::CREDENTIAL.to_owned(), vec![fingerprint])].into();
    Some(Identity { user, groups, extra, ..Identity::default() })
}
