//! What files a configuration volume holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::KeyToPath;
use thiserror::Error;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<String, File>;

/// The mode of files for which none is given.
pub const DEFAULT_MODE: i32 = 0o644;

/// Why a volume's content can't be made as specified.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ContentError {
    #[error("references non-existent key: {0}")]
    NoKey(String),
    #[error("the path {0:?} must be relative, and must not contain '..'")]
    BadPath(String),
}

/// The files that `items` choose of `data`; all of them without `items`.
pub fn select(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: i32,
    optional: bool,
) -> Result<Payload, ContentError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data.iter().map(|(key, data)| entry(key, data.clone(), default_mode)).collect();
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(data) => payload.extend([entry(&item.path, data.clone(), item.mode.unwrap_or(default_mode))?]),
            None if optional => {}
            None => return Err(ContentError::NoKey(item.key.clone())),
        }
    }
    Ok(payload)
}

/// One file at a path that stays inside the volume.
pub fn entry(path: &str, data: Vec<u8>, mode: i32) -> Result<(String, File), ContentError> {
    let inside = !path.is_empty() && !path.starts_with("..") && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match inside {
        true => Ok((path.to_owned(), File { data, mode: mode.unsigned_abs() & 0o777 })),
        false => Err(ContentError::BadPath(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> BTreeMap<String, Vec<u8>> {
        [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into()
    }

    fn item(key: &str, path: &str, mode: Option<i32>) -> KeyToPath {
        KeyToPath { key: key.to_owned(), path: path.to_owned(), mode }
    }

    #[test]
    fn all_keys_are_files_unless_items_choose() {
        assert_eq!(select(&data(), None, 0o644, false).unwrap().len(), 2);
        let chosen = select(&data(), Some(&[item("b", "etc/b.conf", Some(0o400))]), 0o644, false).unwrap();
        assert_eq!(chosen, Payload::from([("etc/b.conf".to_owned(), File { data: b"2".to_vec(), mode: 0o400 })]));
    }

    #[test]
    fn a_missing_key_matters_unless_it_is_optional() {
        assert_eq!(select(&data(), Some(&[item("z", "z", None)]), 0o644, false), Err(ContentError::NoKey("z".to_owned())));
        assert_eq!(select(&data(), Some(&[item("z", "z", None)]), 0o644, true), Ok(Payload::new()));
    }

    #[test]
    fn paths_stay_inside_the_volume() {
        for path in ["", "/etc/passwd", "../up", "a/../../b", "..data", "a//b", "./a"] {
            assert!(entry(path, Vec::new(), 0o644).is_err(), "{path}");
        }
        assert!(entry("a/b..c", Vec::new(), 0o644).is_ok());
    }
}
