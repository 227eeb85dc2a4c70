//! Where an etcd is, as users write it: `etcd://HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE`.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Below which keys are kept where the address names no other place.
const PREFIX: &str = "/steadfast";

/// The members of a cluster, and how they are spoken to. Secrets are in files, so that no list of processes shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `HOST:PORT` of each member.
    pub(super) endpoints: Vec<String>,
    /// Begins with a slash, does not end with one.
    pub(super) prefix: String,
    /// The authority that vouches for the members. Without one, the connection is not encrypted.
    pub(super) ca: Option<PathBuf>,
    /// The certificate and key that members know this server by.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// A user of etcd's, and the file with the password.
    pub(super) user: Option<(String, PathBuf)>,
}

/// The text is not the address of an etcd.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("{0:?} is not an address such as etcd://10.0.0.1:2379,10.0.0.2:2379/steadfast")]
    Scheme(String),
    #[error("{0:?} is not HOST:PORT")]
    Endpoint(String),
    #[error("the prefix {0:?} must be letters, digits, dots, dashes and slashes, as in /steadfast")]
    Prefix(String),
    #[error("{0:?} is not an option; these are: ca, cert, key, user, password-file, each as NAME=VALUE")]
    Option(String),
    #[error("{one} needs {other}")]
    Alone { one: &'static str, other: &'static str },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("etcd://").ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, prefix) = place.split_once('/').unwrap_or((place, ""));
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
        let mut address = Self { endpoints, prefix: self::prefix(prefix)?, ca: None, identity: None, user: None };
        let (mut certificate, mut key, mut user, mut password) = (None, None, None, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or_else(|| AddressError::Option(option.to_owned()))?;
            match name {
                "ca" => address.ca = Some(value.into()),
                "cert" => certificate = Some(value.into()),
                "key" => key = Some(value.into()),
                "user" => user = Some(value.to_owned()),
                "password-file" => password = Some(value.into()),
                _ => return Err(AddressError::Option(option.to_owned())),
            }
        }
        address.identity = both(("cert", certificate), ("key", key))?;
        address.user = both(("user", user), ("password-file", password))?;
        if address.identity.is_some() && address.ca.is_none() {
            return Err(AddressError::Alone { one: "cert", other: "ca" });
        }
        Ok(address)
    }
}

fn both<A, B>(one: (&'static str, Option<A>), other: (&'static str, Option<B>)) -> Result<Option<(A, B)>, AddressError> {
    match (one.1, other.1) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(AddressError::Alone { one: one.0, other: other.0 }),
        (None, Some(_)) => Err(AddressError::Alone { one: other.0, other: one.0 }),
    }
}

fn endpoint(text: &str) -> Result<String, AddressError> {
    let refused = || AddressError::Endpoint(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let is_host = !host.is_empty() && (plain(host) || (is_bracketed && host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok()));
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(text.to_owned()),
        _ => Err(refused()),
    }
}

fn prefix(text: &str) -> Result<String, AddressError> {
    let text = text.trim_matches('/');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
    match text {
        "" => Ok(PREFIX.to_owned()),
        _ if text.bytes().all(fits) && text.len() <= 128 => Ok(format!("/{text}")),
        _ => Err(AddressError::Prefix(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn an_address_names_members_a_prefix_and_files() {
        let address = parse("etcd://a:1,[::1]:2379/x/y?ca=/ca&cert=/c&key=/k&user=me&password-file=/p").unwrap();
        assert_eq!((address.endpoints.as_slice(), address.prefix.as_str()), (&["a:1".to_owned(), "[::1]:2379".to_owned()][..], "/x/y"));
        assert_eq!(address.ca, Some("/ca".into()));
        assert_eq!(address.identity, Some(("/c".into(), "/k".into())));
        assert_eq!(address.user, Some(("me".to_owned(), "/p".into())));
        assert_eq!(parse("etcd://a:1").unwrap().prefix, "/steadfast");
        assert_eq!(parse("etcd://a:1/").unwrap().prefix, "/steadfast");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        use AddressError::{Alone, Endpoint, Option, Prefix, Scheme};
        for (text, wanted) in [
            ("http://a:1", Scheme("http://a:1".to_owned())),
            ("etcd://", Endpoint(String::new())),
            ("etcd://a", Endpoint("a".to_owned())),
            ("etcd://a:0", Endpoint("a:0".to_owned())),
            ("etcd://a:1,,b:2", Endpoint(String::new())),
            ("etcd://me@a:1", Endpoint("me@a:1".to_owned())),
            ("etcd://[::x]:1", Endpoint("[::x]:1".to_owned())),
            ("etcd://a:1/a b", Prefix("a b".to_owned())),
            ("etcd://a:1?password=x", Option("password=x".to_owned())),
            ("etcd://a:1?ca", Option("ca".to_owned())),
            ("etcd://a:1?ca=/ca&cert=/c", Alone { one: "cert", other: "key" }),
            ("etcd://a:1?password-file=/p", Alone { one: "password-file", other: "user" }),
            ("etcd://a:1?cert=/c&key=/k", Alone { one: "cert", other: "ca" }),
        ] {
            assert_eq!(parse(text), Err(wanted), "{text}");
        }
    }
}
