//! What a pod asks of the scheduler, parsed once.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, Pod, PodAffinityTerm, PodSpec, Taint, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kinds::{ObjectKey, Selector};

use super::resources::Amounts;
use super::rules::{NodeRule, NodeTerm, tolerates};
use super::volumes::claims_of;

pub(super) type Labels = BTreeMap<String, String>;

/// A pod as the scheduler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub(super) key: ObjectKey,
    pub(super) labels: Labels,
    pub(super) terminating: bool,
    /// The uid of the controlling owner, whose pods are kept apart where nothing else is said.
    pub(super) owner: Option<String>,
    pub(super) requests: Amounts,
    pub(super) assumed: Amounts,
    pub(super) ports: Vec<HostPort>,
    pub(super) claims: Vec<ObjectKey>,
    pub(super) node_selector: Selector,
    pub(super) node_required: Option<NodeRule>,
    pub(super) node_preferred: Vec<(i64, NodeTerm)>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) affinity: Vec<PodTerm>,
    pub(super) anti_affinity: Vec<PodTerm>,
    /// Weights below zero push apart.
    pub(super) preferred: Vec<(i64, PodTerm)>,
    pub(super) spread: Vec<Spread>,
}

/// A port of the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) address: String,
    pub(super) protocol: String,
    pub(super) port: i32,
}

/// Which pods, and how near is near.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodTerm {
    /// Without a selector no pod is meant.
    selector: Option<Selector>,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Selector>,
    pub(super) topology_key: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) topology_key: String,
    pub(super) selector: Option<Selector>,
    pub(super) max_skew: i64,
    pub(super) min_domains: usize,
    /// `DoNotSchedule`.
    pub(super) hard: bool,
    pub(super) honors_affinity: bool,
    pub(super) honors_taints: bool,
}

impl Demand {
    /// What a pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let nothing = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&nothing);
        let labels = meta.labels.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let requests = Amounts::requested_by(spec);
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let mut demand = Self {
            key: ObjectKey::new(namespace, meta.name.clone().unwrap_or_default()),
            terminating: meta.deletion_timestamp.is_some(),
            owner: owner.map(|owner| owner.uid.clone()),
            assumed: requests.or_assumed(),
            requests,
            ports: host_ports(spec),
            claims: claims_of(pod),
            node_selector: Selector::from_labels(spec.node_selector.iter().flatten()),
            node_required: None,
            node_preferred: Vec::new(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            affinity: Vec::new(),
            anti_affinity: Vec::new(),
            preferred: Vec::new(),
            spread: spec.topology_spread_constraints.iter().flatten().map(|constraint| Spread::of(constraint, &labels)).collect(),
            labels,
        };
        if let Some(affinity) = &spec.affinity {
            demand.set_affinity(affinity);
        }
        demand
    }

    fn set_affinity(&mut self, affinity: &Affinity) {
        if let Some(node) = &affinity.node_affinity {
            self.node_required = node.required_during_scheduling_ignored_during_execution.as_ref().map(NodeRule::of);
            self.node_preferred = preferred_nodes(node);
        }
        let (labels, namespace) = (self.labels.clone(), self.key.namespace.clone());
        let terms = |terms: &Option<Vec<PodAffinityTerm>>| -> Vec<_> {
            terms.iter().flatten().map(|term| PodTerm::of(term, &labels, &namespace)).collect()
        };
        let weighted = |terms: &Option<Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<_> {
            let one =
                |term: &WeightedPodAffinityTerm| (sign * i64::from(term.weight), PodTerm::of(&term.pod_affinity_term, &labels, &namespace));
            terms.iter().flatten().map(one).collect()
        };
        if let Some(near) = &affinity.pod_affinity {
            self.affinity = terms(&near.required_during_scheduling_ignored_during_execution);
            self.preferred.extend(weighted(&near.preferred_during_scheduling_ignored_during_execution, 1));
        }
        if let Some(apart) = &affinity.pod_anti_affinity {
            self.anti_affinity = terms(&apart.required_during_scheduling_ignored_during_execution);
            self.preferred.extend(weighted(&apart.preferred_during_scheduling_ignored_during_execution, -1));
        }
    }

    /// Whether other pods that are placed can make room for this one.
    pub fn depends_on_peers(&self) -> bool {
        !self.affinity.is_empty() || self.spread.iter().any(|spread| spread.hard)
    }

    /// Whether the node's name and labels are as the pod requires.
    pub(super) fn admits_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector.matches(Some(labels)) && self.node_required.as_ref().is_none_or(|rule| rule.admits(name, labels))
    }

    pub(super) fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }

    /// Whether it has a say in where other pods go.
    pub(super) fn has_peer_rules(&self) -> bool {
        !(self.anti_affinity.is_empty() && self.preferred.is_empty())
    }
}

fn preferred_nodes(affinity: &NodeAffinity) -> Vec<(i64, NodeTerm)> {
    let terms = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    terms.map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference))).collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let in_host = spec.host_network == Some(true);
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let host_port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|port| *port > 0).or(in_host.then_some(port.container_port))?;
        let address = port.host_ip.clone().filter(|address| !address.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some(HostPort { address, protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port: number })
    };
    ports.filter_map(host_port).collect()
}

impl HostPort {
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        let any = |port: &Self| matches!(port.address.as_str(), "0.0.0.0" | "::");
        let same_address = self.address == other.address || any(self) || any(other);
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}

impl PodTerm {
    fn of(term: &PodAffinityTerm, labels: &Labels, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<_> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let mut selector = term.label_selector.clone();
        require(&mut selector, labels, term.match_label_keys.as_ref(), "In");
        require(&mut selector, labels, term.mismatch_label_keys.as_ref(), "NotIn");
        Self {
            selector: parsed(selector.as_ref()),
            namespaces,
            namespace_selector: parsed(term.namespace_selector.as_ref()),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether it means this pod.
    pub(super) fn means(&self, pod: &Demand, namespaces: &BTreeMap<String, Labels>) -> bool {
        let Some(selector) = &self.selector else { return false };
        selector.matches(Some(&pod.labels)) && self.covers(&pod.key.namespace, namespaces)
    }

    fn covers(&self, namespace: &str, namespaces: &BTreeMap<String, Labels>) -> bool {
        let selected = || self.namespace_selector.as_ref().is_some_and(|selector| selector.matches(namespaces.get(namespace)));
        self.namespaces.contains(namespace) || selected()
    }

    /// The one namespace it is about, if that is known without looking at namespaces' labels.
    pub(super) fn only_namespace(&self) -> Option<&str> {
        let single = self.namespaces.len() == 1 && self.namespace_selector.is_none();
        self.namespaces.first().filter(|_| single).map(String::as_str)
    }
}

impl Spread {
    fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = constraint.label_selector.clone();
        require(&mut selector, labels, constraint.match_label_keys.as_ref(), "In");
        Self {
            topology_key: constraint.topology_key.clone(),
            selector: parsed(selector.as_ref()),
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.and_then(|domains| usize::try_from(domains).ok()).unwrap_or(1),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    pub(super) fn counts(&self, pod: &Demand) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(Some(&pod.labels)))
    }
}

/// Adds requirements on the pod's own values of these labels.
fn require(selector: &mut Option<LabelSelector>, labels: &Labels, keys: Option<&Vec<String>>, operator: &str) {
    for key in keys.into_iter().flatten() {
        let Some(value) = labels.get(key) else { continue };
        let requirement = LabelSelectorRequirement { key: key.clone(), operator: operator.to_owned(), values: Some(vec![value.clone()]) };
        selector.get_or_insert_default().match_expressions.get_or_insert_default().push(requirement);
    }
}

fn parsed(selector: Option<&LabelSelector>) -> Option<Selector> {
    selector.and_then(|selector| Selector::from_label_selector(selector).ok())
}
