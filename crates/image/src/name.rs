//! References: the names of images, in the form that all spellings of a name share.

use oci_client::{ParseError, Reference};

/// A reference with its registry and tag or digest spelled out: `docker.io/library/redis:latest` for `redis`.
pub(crate) fn normal(reference: &str) -> Result<Reference, ParseError> {
    let reference: Reference = reference.parse()?;
    // A repository in capitals passes where no registry stands before it.
    reference.whole().parse::<Reference>().map(|_| reference)
}

/// Whether a registry is on this machine, where plain HTTP is acceptable.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host =
        registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_name_become_one() {
        for (given, wanted) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("docker.io/redis", "docker.io/library/redis:latest"),
            ("docker.io/library/redis:latest", "docker.io/library/redis:latest"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ] {
            assert_eq!(normal(given).unwrap().whole(), wanted, "{given}");
        }
        for bad in ["", "UPPER", "Upper/x", "a b", "redis:", "redis@sha256:12", "../x"] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_encryption() {
        for (registry, loopback) in [
            ("localhost:5000", true),
            ("localhost", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(registry), loopback, "{registry}");
        }
    }
}
