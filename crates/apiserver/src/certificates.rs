//! The instance's own certificate authority and what it issues. Keys are readable by their owner only and never leave the folder,
//! the administrator's excepted, which is written into a kubeconfig.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;

/// Years until a certificate expires.
const YEARS: i32 = 10;

/// Why certificates could not be made or read.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged: {reason}; restore it, or remove the folder to begin with a new authority")]
    Damaged { path: PathBuf, reason: String },
    #[error("a certificate can't be issued: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// A certificate and its key, as PEM texts.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The authority of one instance: made once, then kept.
pub struct Authority {
    folder: PathBuf,
    key: KeyPair,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority kept in a folder, which is made (0700) if it does not exist.
    pub fn open(folder: &Path) -> Result<Self, CertificateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| CertificateError::File { path: folder.to_owned(), source })?;
        let key = kept_key(&folder.join("ca.key"))?;
        let certificate = kept(&folder.join("ca.crt"), || Ok(authority_parameters().self_signed(&key)?.pem()))?;
        Ok(Self { folder: folder.to_owned(), key, certificate })
    }

    /// The authority's certificate as PEM text: what clients trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The administrator's certificate: user `admin` in `system:masters`. Made once, then kept.
    pub fn administrator(&self) -> Result<Pair, CertificateError> {
        let key = kept_key(&self.folder.join("admin.key"))?;
        let mut parameters = parameters("admin", ExtendedKeyUsagePurpose::ClientAuth);
        parameters.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let certificate = kept(&self.folder.join("admin.crt"), || self.issue(&parameters, &key))?;
        Ok(Pair { certificate, key: key.serialize_pem() })
    }

    /// A certificate for the server under these names and addresses; a new one at each start.
    pub fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Pair, CertificateError> {
        let key = KeyPair::generate()?;
        let mut parameters = parameters("steadfast", ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            parameters.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        parameters.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        Ok(Pair { certificate: self.issue(&parameters, &key)?, key: key.serialize_pem() })
    }

    /// The key that signs service account tokens, as PKCS #8. Made once, then kept.
    pub fn service_account_key(&self) -> Result<Vec<u8>, CertificateError> {
        Ok(kept_key(&self.folder.join("service-accounts.key"))?.serialize_der())
    }

    /// TLS for the server: HTTP/2 and HTTP/1.1, client certificates of this authority accepted but not required.
    pub fn tls(&self, server: &Pair) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
        let failed = |error: &dyn std::fmt::Display| CertificateError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|error| failed(&error))?;
        roots.add(authority).map_err(|error| failed(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).allow_unauthenticated();
        let verifier = verifier.build().map_err(|error| failed(&error))?;
        let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes()).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(|error| failed(&error))?;
        let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let with_clients = versions.map_err(|error| failed(&error))?.with_client_cert_verifier(verifier);
        let mut config = with_clients.with_single_cert(vec![certificate], key).map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn issue(&self, parameters: &CertificateParams, key: &KeyPair) -> Result<String, CertificateError> {
        let own = authority_parameters();
        Ok(parameters.signed_by(key, &Issuer::from_params(&own, &self.key))?.pem())
    }
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = parameters("steadfast-ca", ExtendedKeyUsagePurpose::Any);
    parameters.extended_key_usages.clear();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

fn parameters(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
    parameters.use_authority_key_identifier_extension = true;
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    // From the beginning of last year: a clock that is a little behind must not refuse it.
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    parameters
}

fn kept_key(path: &Path) -> Result<KeyPair, CertificateError> {
    let text = kept(path, || Ok(KeyPair::generate()?.serialize_pem()))?;
    KeyPair::from_pem(&text).map_err(|error| CertificateError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

/// What a file holds; it is made first if it does not exist, as a whole or not at all.
fn kept(path: &Path, make: impl FnOnce() -> Result<String, CertificateError>) -> Result<String, CertificateError> {
    let failed = |source| CertificateError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map_err(failed),
    }
    let text = make()?;
    let temporary = path.with_extension("part");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    written.map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_made_once_is_found_again_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = folder.path().join("pki");
        let (first, second) = (Authority::open(&pki).expect("made"), Authority::open(&pki).expect("found"));
        assert_eq!(first.certificate(), second.certificate());
        let (one, two) = (first.administrator().expect("made"), second.administrator().expect("found"));
        assert_eq!((one.certificate, one.key), (two.certificate, two.key));
        for name in ["ca.key", "admin.key"] {
            assert_eq!(fs::metadata(pki.join(name)).expect("a file").permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_certificate_of_the_authority_is_accepted_by_its_own_tls() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("made");
        let server = authority.server(&["localhost"], &["127.0.0.1".parse().expect("an address")]).expect("issued");
        authority.tls(&server).expect("TLS");
        assert!(!format!("{server:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_damaged_key_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.key"), "nonsense").expect("written");
        let error = Authority::open(folder.path()).expect_err("refused");
        assert!(error.to_string().contains("ca.key is damaged"), "{error}");
    }
}
