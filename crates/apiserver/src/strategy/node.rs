//! Nodes. A node agent registers its node with the status it knows, so creation keeps it.

use k8s_openapi::api::core::v1::{Node, Taint};

use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

/// The rules of Nodes.
pub(super) struct Nodes;

impl Strategy for Nodes {
    type Kind = Node;

    fn default(&self, node: &mut Node) {
        let Some(status) = &mut node.status else { return };
        check::canonical(&mut status.capacity);
        check::canonical(&mut status.allocatable);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(&self, node: &mut Node, old: &Node) {
        node.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, node: &mut Node, old: &Node) {
        node.spec.clone_from(&old.spec);
    }

    fn validate(&self, node: &Node) -> Vec<FieldError> {
        let path = Path::new("spec");
        let spec = node.spec.clone().unwrap_or_default();
        let mut errors = taints(spec.taints.as_deref().unwrap_or_default(), &path.child("taints"));
        for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            if !is_range(range) {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(FieldError::invalid(path.child("podCIDRs").index(index), range.as_str(), detail));
            }
        }
        errors
    }

    fn validate_update(&self, node: &Node, old: &Node) -> Vec<FieldError> {
        let mut errors = self.validate(node);
        let (spec, old) = (node.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        if !old.pod_cidrs.iter().flatten().eq(spec.pod_cidrs.iter().flatten()) && old.pod_cidrs.iter().flatten().next().is_some() {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(Path::new("spec").child("podCIDRs"), detail));
        }
        if check::some(old.provider_id.as_ref()).is_some() && old.provider_id != spec.provider_id {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(Path::new("spec").child("providerID"), detail));
        }
        errors
    }
}

fn is_range(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| match (address.parse(), bits.parse::<u8>()) {
        (Ok(std::net::IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(std::net::IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    })
}

fn taints(taints: &[Taint], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        errors.extend(names::qualified(&taint.key).map(|wrong| FieldError::invalid(path.child("key"), taint.key.as_str(), wrong)));
        let value = taint.value.as_deref().unwrap_or_default();
        errors.extend(names::label_value(value).map(|wrong| FieldError::invalid(path.child("value"), value, wrong)));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.extend(check::required_one_of(path.child("effect"), Some(&taint.effect), &effects));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, taint) in taints.iter().enumerate().filter(|(_, taint)| !seen.insert((&taint.key, &taint.effect))) {
        let mut error = FieldError::duplicate(path.index(index), check::shown(taint));
        error.detail = "taints must be unique by key and effect pair".to_owned();
        errors.push(error);
    }
    errors
}
