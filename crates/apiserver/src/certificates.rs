//! Keys and certificates: an own authority, the server's certificate, the administrator's, and the key that signs service
//! accounts' tokens. Made once, kept under `<data-dir>/pki`, readable by the owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;

use crate::auth::token::Claims;
use crate::random;

mod shared;

pub use shared::SharedKeys;

/// Years that certificates are valid.
const VALID_YEARS: i32 = 10;

/// Why keys and certificates could not be made or read.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot make the certificate of {name}")]
    Make { name: String, source: rcgen::Error },
    #[error("{} does not hold what it should; move the directory away to have it made anew", .path.display())]
    Damaged { path: PathBuf },
    #[error("{} holds other keys than those of the cluster; to join it, move the directory away", .path.display())]
    Another { path: PathBuf },
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot set up the verification of clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// A certificate and its key, as PEM text.
#[derive(Clone)]
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

/// The key stays out of logs.
impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certified").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Everything under `<data-dir>/pki`.
#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
    authority: Certified,
}

/// Who a certificate is for.
struct Subject<'a> {
    name: &'a str,
    organization: Option<&'a str>,
    usage: ExtendedKeyUsagePurpose,
    names: &'a [SanType],
}

impl Certificates {
    /// Opens the directory, which is made with an authority of its own if it is absent.
    pub fn open(data_dir: &Path) -> Result<Self, CertificateError> {
        let directory = create_private(data_dir)?;
        let authority = kept(&directory, "ca", make_authority)?;
        Ok(Self { directory, authority })
    }

    /// The authority's certificate, as PEM text.
    pub fn authority(&self) -> &str {
        &self.authority.certificate
    }

    /// A client certificate. Made once for each name.
    pub fn client(&self, user: &str, organization: &str) -> Result<Certified, CertificateError> {
        let subject = Subject { name: user, organization: Some(organization), usage: ExtendedKeyUsagePurpose::ClientAuth, names: &[] };
        let file: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        kept(&self.directory, &file, || self.issue(&subject))
    }

    /// The administrator's certificate: `admin` in `system:masters`.
    pub fn admin(&self) -> Result<Certified, CertificateError> {
        self.client("admin", "system:masters")
    }

    /// The server's certificate for these names and addresses besides those every cluster has. Made anew when they change.
    pub fn serving(&self, names: &[String], addresses: &[IpAddr]) -> Result<Certified, CertificateError> {
        let all = serving_names(names, addresses);
        let listed = format!("{all:?}");
        let file = self.directory.join("serving.names");
        if fs::read_to_string(&file).ok().as_deref() != Some(&listed) {
            for extension in ["crt", "key"] {
                let _ = fs::remove_file(self.directory.join(format!("serving.{extension}")));
            }
        }
        let subject = Subject { name: "kube-apiserver", organization: None, usage: ExtendedKeyUsagePurpose::ServerAuth, names: &all };
        let certified = kept(&self.directory, "serving", || self.issue(&subject))?;
        write_private(&file, listed.as_bytes())?;
        Ok(certified)
    }

    /// TLS for the server: HTTP/2 or HTTP/1.1, client certificates of the own authority accepted, not required.
    pub fn tls(&self, serving: &Certified) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
        let damaged = || CertificateError::Damaged { path: self.directory.clone() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.certificate.as_bytes()).map_err(|_| damaged())?;
        roots.add(authority).map_err(CertificateError::Tls)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(CertificateError::Verifier)?;
        let certificate = CertificateDer::from_pem_slice(serving.certificate.as_bytes()).map_err(|_| damaged())?;
        let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).map_err(|_| damaged())?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .map_err(CertificateError::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The key for service accounts' tokens.
    pub fn token_key(&self) -> Result<TokenKey, CertificateError> {
        let path = self.directory.join("service-account.key");
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = new_key("service accounts")?.serialize_pem();
                write_private(&path, pem.as_bytes())?;
                pem
            }
            Err(source) => return Err(CertificateError::Io { doing: "read", path, source }),
        };
        TokenKey::from_pem(&pem).ok_or(CertificateError::Damaged { path })
    }

    /// A kubeconfig for a client certificate.
    pub fn kubeconfig(&self, server: &str, context: &str, user: &str, client: &Certified) -> String {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(self.authority())}}],
            "users": [{"name": user, "user": {
                "client-certificate-data": STANDARD.encode(&client.certificate), "client-key-data": STANDARD.encode(&client.key),
            }}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
            "current-context": context,
        });
        // JSON is YAML.
        format!("{config:#}\n")
    }

    fn issue(&self, subject: &Subject<'_>) -> Result<Certified, CertificateError> {
        let error = |source| CertificateError::Make { name: subject.name.to_owned(), source };
        let authority_key = KeyPair::from_pem(&self.authority.key).map_err(error)?;
        let issuer = Issuer::new(authority_parameters(), authority_key);
        let mut parameters = parameters(subject.name, subject.organization);
        parameters.subject_alt_names = subject.names.to_vec();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![subject.usage.clone()];
        parameters.use_authority_key_identifier_extension = true;
        let key = new_key(subject.name)?;
        let certificate = parameters.signed_by(&key, &issuer).map_err(error)?;
        Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Makes the directory.
fn create_private(data_dir: &Path) -> Result<PathBuf, CertificateError> {
    let directory = data_dir.join("pki");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io_error("create", &directory))?;
    Ok(directory)
}

fn serving_names(names: &[String], addresses: &[IpAddr]) -> Vec<SanType> {
    let every_cluster = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];
    let names = every_cluster.into_iter().map(str::to_owned).chain(names.iter().cloned());
    let mut all: Vec<_> = names.filter_map(|name| name.try_into().ok().map(SanType::DnsName)).collect();
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    all.extend(loopback.into_iter().chain(addresses.iter().copied()).map(SanType::IpAddress));
    let mut unique = Vec::new();
    for name in all {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

fn new_key(name: &str) -> Result<KeyPair, CertificateError> {
    KeyPair::generate().map_err(|source| CertificateError::Make { name: name.to_owned(), source })
}

fn parameters(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    parameters.distinguished_name = subject;
    parameters.serial_number = Some(SerialNumber::from_slice(&random::bytes::<16>()));
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    // From the first of January, so that a clock a little behind still finds it valid.
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + VALID_YEARS, 1, 1);
    parameters
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = parameters("steadfast-ca", None);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

fn make_authority() -> Result<Certified, CertificateError> {
    let key = new_key("the authority")?;
    let certificate =
        authority_parameters().self_signed(&key).map_err(|source| CertificateError::Make { name: "the authority".to_owned(), source })?;
    Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// What the directory holds under a name, made first if it is absent. The key is written first: a certificate without its
/// key is never there.
fn kept(directory: &Path, name: &str, make: impl FnOnce() -> Result<Certified, CertificateError>) -> Result<Certified, CertificateError> {
    let (key_path, certificate_path) = (directory.join(format!("{name}.key")), directory.join(format!("{name}.crt")));
    match (fs::read_to_string(&certificate_path), fs::read_to_string(&key_path)) {
        (Ok(certificate), Ok(key)) => Ok(Certified { certificate, key }),
        (Err(source), _) if source.kind() != io::ErrorKind::NotFound => {
            Err(CertificateError::Io { doing: "read", path: certificate_path, source })
        }
        (Ok(_), Err(source)) => Err(CertificateError::Io { doing: "read", path: key_path, source }),
        (Err(_), _) => {
            let made = make()?;
            write_private(&key_path, made.key.as_bytes())?;
            write_private(&certificate_path, made.certificate.as_bytes())?;
            Ok(made)
        }
    }
}

/// Writes a file that only its owner can read; it is there as a whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> Result<(), CertificateError> {
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(io_error("create", &partial))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io_error("write", &partial))?;
    fs::rename(&partial, path).map_err(io_error("rename to", path))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    move |source| CertificateError::Io { doing, path: path.to_owned(), source }
}

/// Signs and verifies tokens (ES256).
pub struct TokenKey {
    pair: EcdsaKeyPair,
    /// Identifies the key in tokens' headers.
    id: String,
}

impl TokenKey {
    /// Reads a private key.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? else { return None };
        let random = ring::rand::SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Some(Self { id: URL_SAFE_NO_PAD.encode(digest), pair })
    }

    /// The token that carries these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let header = serde_json::json!({"alg": "ES256", "kid": self.id});
        let payload = serde_json::to_vec(claims).unwrap_or_default();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&ring::rand::SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("signing fails only without the kernel's random source");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that this key has signed. Says nothing of time or audience.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        #[derive(serde::Deserialize)]
        struct Header {
            alg: String,
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key());
        key.verify(signed.as_bytes(), &signature).ok().filter(|()| header.alg == "ES256")?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The public key as a JSON Web Key.
    pub fn public(&self) -> serde_json::Value {
        // An uncompressed point: a tag, then the two coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        serde_json::json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::{certificate, token::Bound};

    #[test]
    fn what_is_made_once_is_found_again_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Certificates::open(dir.path()).unwrap();
        let admin = first.admin().unwrap();
        let second = Certificates::open(dir.path()).unwrap();
        assert_eq!(second.authority(), first.authority());
        assert_eq!(second.admin().unwrap().certificate, admin.certificate);
        for file in fs::read_dir(dir.path().join("pki")).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let der = CertificateDer::from_pem_slice(admin.certificate.as_bytes()).unwrap();
        let identity = certificate::identity(&der).unwrap();
        assert_eq!(identity.user, "admin");
        assert!(identity.is_in("system:masters"));
    }

    #[test]
    fn the_serving_certificate_is_made_anew_when_its_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(dir.path()).unwrap();
        let first = certificates.serving(&[], &["10.96.0.1".parse().unwrap()]).unwrap();
        let same = certificates.serving(&[], &["10.96.0.1".parse().unwrap()]).unwrap();
        let other = certificates.serving(&["node-1".to_owned()], &["10.96.0.1".parse().unwrap()]).unwrap();
        assert_eq!(first.certificate, same.certificate);
        assert_ne!(first.certificate, other.certificate);
        certificates.tls(&other).unwrap();
    }

    #[test]
    fn a_token_that_was_touched_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = Certificates::open(dir.path()).unwrap().token_key().unwrap();
        let account = Bound { name: "default".to_owned(), uid: "u".to_owned() };
        let claims = Claims::new("issuer", "ns", account).valid(0, 10);
        let token = key.sign(&claims);
        assert_eq!(key.verify(&token).unwrap(), claims);
        for index in (0..token.len()).step_by(7) {
            let mut touched = token.clone().into_bytes();
            touched[index] = if touched[index] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert!(key.verify(&touched).is_none_or(|read| read == claims && touched == token), "byte {index}");
        }
        assert!(key.verify("a.b").is_none() && key.verify("").is_none());
    }
}
