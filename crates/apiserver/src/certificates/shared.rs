//! What several servers of one cluster must have in common: the authority that vouches for them and their users, and the key that
//! tokens are signed with. Everything else in the directory is each server's own.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CertificateError, Certified, create_private, kept, make_authority, new_key, write_private};

const TOKEN_KEY: &str = "service-account.key";

/// The keys, as PEM text. Whoever has them can do everything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedKeys {
    authority: String,
    authority_key: String,
    token_key: String,
}

/// The keys stay out of logs.
impl std::fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedKeys").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl SharedKeys {
    /// New ones.
    pub fn make() -> Result<Self, CertificateError> {
        let Certified { certificate, key } = make_authority()?;
        Ok(Self { authority: certificate, authority_key: key, token_key: new_key("service accounts")?.serialize_pem() })
    }

    /// Those of a data directory, if it has any.
    pub fn kept(data_dir: &Path) -> Result<Option<Self>, CertificateError> {
        let directory = data_dir.join("pki");
        let token_key = match fs::read_to_string(directory.join(TOKEN_KEY)) {
            Ok(token_key) => token_key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CertificateError::Io { doing: "read", path: directory.join(TOKEN_KEY), source }),
        };
        let absent = || Err(CertificateError::Damaged { path: directory.clone() });
        let Certified { certificate, key } = kept(&directory, "ca", absent)?;
        Ok(Some(Self { authority: certificate, authority_key: key, token_key }))
    }

    /// Puts them into a data directory. One that has others is refused: certificates and tokens made with those would be void.
    pub fn keep(&self, data_dir: &Path) -> Result<(), CertificateError> {
        let directory = create_private(data_dir)?;
        match Self::kept(data_dir)? {
            Some(there) if there == *self => return Ok(()),
            Some(_) => return Err(CertificateError::Another { path: directory }),
            None => {}
        }
        let own = || Ok(Certified { certificate: self.authority.clone(), key: self.authority_key.clone() });
        if kept(&directory, "ca", own)?.certificate != self.authority {
            return Err(CertificateError::Another { path: directory });
        }
        // Written last: with it, all are there.
        write_private(&directory.join(TOKEN_KEY), self.token_key.as_bytes())
    }

    /// As text, to be kept by others.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has string keys only")
    }

    /// `None` when it isn't such a text.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Certificates;

    #[test]
    fn a_second_server_gets_the_keys_of_the_first_and_one_with_others_is_refused() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(SharedKeys::kept(first.path()).unwrap(), None);
        let own = Certificates::open(first.path()).unwrap();
        let token = own.token_key().unwrap();
        let keys = SharedKeys::kept(first.path()).unwrap().unwrap();
        let told = SharedKeys::from_json(&keys.to_json()).unwrap();
        told.keep(second.path()).unwrap();
        told.keep(second.path()).unwrap();
        let other = Certificates::open(second.path()).unwrap();
        assert_eq!((other.authority(), other.token_key().unwrap().public()), (own.authority(), token.public()));
        let refused = SharedKeys::make().unwrap().keep(second.path());
        assert!(matches!(refused, Err(CertificateError::Another { .. })), "{refused:?}");
        assert!(!format!("{keys:?}").contains("PRIVATE KEY"));
    }
}
