//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The resolver's limits.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What the node knows of names.
#[derive(Clone, Debug)]
pub(crate) struct Resolver<'a> {
    pub cluster_servers: &'a [String],
    pub cluster_domain: &'a str,
    /// The node's own `/etc/resolv.conf`.
    pub host_file: &'a str,
}

/// The pod's host name.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let set = spec.and_then(|spec| spec.hostname_override.clone().or_else(|| spec.hostname.clone()));
    let name = set.filter(|name| !name.is_empty()).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// The pod's full name, if it has a subdomain.
pub(crate) fn full_name(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref()?;
    Some(format!("{}.{subdomain}.{namespace}.svc.{cluster_domain}", hostname(pod)))
}

/// `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, addresses: &[String], cluster_domain: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let names = match full_name(pod, cluster_domain) {
        Some(full) => format!("{full}\t{}", hostname(pod)),
        None => hostname(pod),
    };
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    for alias in pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
    }
    text
}

/// `/etc/resolv.conf`, by the pod's DNS policy and configuration.
pub(crate) fn resolv_conf(pod: &Pod, resolver: &Resolver<'_>) -> String {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let host = Lines::parse(resolver.host_file);
    let cluster = || Lines {
        servers: resolver.cluster_servers.to_vec(),
        searches: cluster_searches(pod, resolver.cluster_domain).into_iter().chain(host.searches.clone()).collect(),
        options: vec!["ndots:5".to_owned()],
    };
    let host_network = spec.host_network == Some(true);
    let mut lines = match spec.dns_policy.as_deref() {
        Some("None") => Lines::default(),
        Some("Default") => host.clone(),
        Some("ClusterFirstWithHostNet") => cluster(),
        _ if host_network || resolver.cluster_servers.is_empty() => host.clone(),
        _ => cluster(),
    };
    if let Some(config) = &spec.dns_config {
        lines.servers.extend(config.nameservers.iter().flatten().cloned());
        lines.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            lines.options.retain(|other| other.split(':').next() != Some(name.as_str()));
            lines.options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    lines.render()
}

fn cluster_searches(pod: &Pod, domain: &str) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()]
}

/// A resolver file's content.
#[derive(Clone, Debug, Default)]
struct Lines {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Lines {
    fn parse(text: &str) -> Self {
        let mut lines = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => lines.servers.extend(words.next()),
                Some("search" | "domain") => lines.searches = words.collect(),
                Some("options") => lines.options = words.collect(),
                _ => {}
            }
        }
        lines
    }

    fn render(&self) -> String {
        let unique = |items: &[String], most: usize| {
            let mut kept: Vec<String> = Vec::new();
            items.iter().for_each(|item| {
                if !kept.contains(item) && kept.len() < most {
                    kept.push(item.clone())
                }
            });
            kept
        };
        let mut text = String::new();
        let searches = unique(&self.searches, MAX_SEARCHES);
        if !searches.is_empty() {
            text.push_str(&format!("search {}\n", searches.join(" ")));
        }
        for server in unique(&self.servers, MAX_SERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "web-0", "namespace": "shop" }, "spec": spec })).unwrap()
    }

    fn resolve(spec: serde_json::Value) -> String {
        let servers = ["10.96.0.10".to_owned()];
        let host_file = "# comment\nsearch corp.example\nnameserver 192.0.2.53\n";
        resolv_conf(&pod(spec), &Resolver { cluster_servers: &servers, cluster_domain: "cluster.local", host_file })
    }

    #[test]
    fn cluster_names_come_first() {
        let expected =
            "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(resolve(json!({ "containers": [] })), expected);
        let host_network = json!({ "containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
        assert_eq!(resolve(host_network), expected);
    }

    #[test]
    fn the_host_resolver_serves_default_and_host_network() {
        let expected = "search corp.example\nnameserver 192.0.2.53\n";
        assert_eq!(resolve(json!({ "containers": [], "dnsPolicy": "Default" })), expected);
        assert_eq!(resolve(json!({ "containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true })), expected);
    }

    #[test]
    fn a_pod_configures_its_resolver() {
        let config = json!({ "nameservers": ["192.0.2.1"], "searches": ["x.example"], "options": [{ "name": "ndots", "value": "2" }, { "name": "rotate" }] });
        let own = resolve(json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": config }));
        assert_eq!(own, "search x.example\nnameserver 192.0.2.1\noptions ndots:2 rotate\n");
        assert!(resolve(json!({ "containers": [], "dnsConfig": config })).contains("options ndots:2 rotate"));
    }

    #[test]
    fn a_pod_knows_itself_by_its_full_name() {
        let pod = pod(
            json!({ "containers": [], "hostname": "web-0", "subdomain": "web", "hostAliases": [{ "ip": "192.0.2.9", "hostnames": ["a", "b"] }] }),
        );
        let text = hosts(&pod, &["10.77.0.5".to_owned()], "cluster.local");
        assert!(text.contains("10.77.0.5\tweb-0.web.shop.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("192.0.2.9\ta\tb\n"));
    }
}
