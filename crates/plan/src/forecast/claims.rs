//! What becomes of the claims of a set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kinds::Quantity;
use serde::Serialize;

use super::pods::mounted;

/// A claim of the set, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimOutlook {
    pub claim: String,
    #[serde(flatten)]
    pub fate: Fate,
}

/// What becomes of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    Created {
        size: String,
    },
    /// It stays, and a pod uses it.
    Kept,
    /// It stays, but no pod of the set uses it any more.
    Unused,
    /// It stays, and asks for more.
    Grown {
        from: String,
        to: String,
    },
    /// It goes, and what its volume's reclaim policy says happens to the data.
    Lost,
}

type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

/// What becomes of the claims, by what is there before and after.
pub(super) fn fates(before: &Claims, after: &Claims, pods: &[Arc<Pod>]) -> Vec<ClaimOutlook> {
    let used: BTreeSet<&str> = pods.iter().flat_map(|pod| mounted(pod)).collect();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let fate = |name: &String| match (before.get(name), after.get(name)) {
        (None, Some(new)) => Fate::Created { size: size(new).unwrap_or_default() },
        (Some(old), Some(new)) if new.metadata.deletion_timestamp.is_none() => match (size(old), size(new)) {
            (Some(from), Some(to)) if is_less(&from, &to) => Fate::Grown { from, to },
            _ if used.contains(name.as_str()) => Fate::Kept,
            _ => Fate::Unused,
        },
        _ => Fate::Lost,
    };
    names.into_iter().map(|name| ClaimOutlook { claim: name.clone(), fate: fate(name) }).collect()
}

fn size(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.clone())
}

fn is_less(a: &str, b: &str) -> bool {
    matches!((a.parse::<Quantity>(), b.parse::<Quantity>()), (Ok(a), Ok(b)) if a < b)
}

impl fmt::Display for ClaimOutlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claim = &self.claim;
        match &self.fate {
            Fate::Created { size } => write!(f, "{claim} is created, {size}"),
            Fate::Kept => write!(f, "{claim} is kept"),
            Fate::Unused => write!(f, "{claim} is kept, but no pod uses it any more"),
            Fate::Grown { from, to } => write!(f, "{claim} grows from {from} to {to}"),
            Fate::Lost => write!(f, "{claim} is deleted, and its volume goes the way of its reclaim policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(sizes: &[(&str, &str)]) -> Claims {
        let claim = |name: &str, size: &str| json!({"metadata": {"name": name}, "spec": {"resources": {"requests": {"storage": size}}}});
        sizes.iter().map(|(name, size)| ((*name).to_owned(), Arc::new(serde_json::from_value(claim(name, size)).unwrap()))).collect()
    }

    #[test]
    fn every_claim_has_one_fate() {
        let before = claims(&[("kept", "1Gi"), ("unused", "1Gi"), ("grown", "1Gi"), ("lost", "1Gi")]);
        let after = claims(&[("kept", "1024Mi"), ("unused", "1Gi"), ("grown", "2Gi"), ("new", "5Gi")]);
        let volumes: Vec<_> =
            ["kept", "grown", "new"].iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        let pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "volumes": volumes}})).unwrap();
        let told: Vec<_> = fates(&before, &after, &[Arc::new(pod)]).iter().map(ToString::to_string).collect();
        let expected = [
            "grown grows from 1Gi to 2Gi",
            "kept is kept",
            "lost is deleted, and its volume goes the way of its reclaim policy",
            "new is created, 5Gi",
            "unused is kept, but no pod uses it any more",
        ];
        assert_eq!(told, expected);
    }
}
