//! Whether an object is a node's own. Asked seldom: agents follow what they need, and read one by one only what they miss.

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kinds::{Object, Resource, registry};
use plan::access::nodes;
use plan::access::restriction::{self, Write};
use plan::access::{Reference, refers as pod_refers};
use store::{Range, Store};

use super::Identity;
use crate::error::ApiError;
use crate::{document, keys};

/// Whether a pod of the node refers to an object.
pub async fn refers(store: &dyn Store, node: &str, namespace: &str, to: Reference<'_>) -> Result<bool, ApiError> {
    let claim;
    let (namespace, to) = match to {
        Reference::Volume(name) => {
            let Some(found) = claim_of(store, name).await? else { return Ok(false) };
            claim = found;
            (claim.0.as_str(), Reference::Claim(&claim.1))
        }
        to => (namespace, to),
    };
    let resource = row("pods")?;
    let prefix = keys::collection(resource, namespace);
    let page = store.range(Range { prefix: &prefix, ..Range::default() }).await?;
    let bound = format!("\"nodeName\":{node:?}");
    for entry in page.entries {
        // Decoding is dear, and few pods are the node's.
        let json = entry.document.json();
        if !std::str::from_utf8(json).is_ok_and(|text| text.contains(&bound)) {
            continue;
        }
        let object = document::read(resource, json)?;
        let Some(pod) = object.downcast_ref::<Pod>().filter(|pod| restriction::is_on(pod, node)) else { continue };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if pod.spec.as_ref().is_some_and(|spec| pod_refers(name, spec, to)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Namespace and name of the claim that a volume is for.
async fn claim_of(store: &dyn Store, volume: &str) -> Result<Option<(String, String)>, ApiError> {
    let Some(object) = get(store, "persistentvolumes", "", volume).await? else { return Ok(None) };
    let spec = object.downcast_ref::<PersistentVolume>().and_then(|volume| volume.spec.as_ref());
    Ok(spec.and_then(|spec| {
        let claim = spec.claim_ref.as_ref()?;
        Some((claim.namespace.clone()?, claim.name.clone()?))
    }))
}

/// Whether a pod is bound to the node.
pub async fn is_bound(store: &dyn Store, node: &str, namespace: &str, pod: &str) -> Result<bool, ApiError> {
    let object = get(store, "pods", namespace, pod).await?;
    Ok(object.is_some_and(|object| object.downcast_ref::<Pod>().is_some_and(|pod| restriction::is_on(pod, node))))
}

async fn get(store: &dyn Store, plural: &str, namespace: &str, name: &str) -> Result<Option<Box<dyn Object>>, ApiError> {
    let resource = row(plural)?;
    let (entry, _) = store.get(&keys::object(resource, namespace, name)).await?;
    entry.map(|entry| document::read(resource, entry.document.json())).transpose()
}

fn row(plural: &str) -> Result<&'static Resource, ApiError> {
    registry::find("", "v1", plural).ok_or(ApiError::NoRoute)
}

/// Refuses what a node's agent would write into what is not its own.
pub fn restrict(
    user: &Identity,
    resource: &'static Resource,
    subresource: &str,
    name: &str,
    new: Option<&dyn Object>,
    old: Option<&dyn Object>,
) -> Result<(), ApiError> {
    let Some(node) = nodes::node_of(user.who()) else { return Ok(()) };
    match (Write { node, name, subresource, new, old }).refusal() {
        None => Ok(()),
        Some(why) => Err(forbidden(resource, name, &why)),
    }
}

/// A refusal in admission's words.
pub fn forbidden(resource: &'static Resource, name: &str, why: &str) -> ApiError {
    let subject = if name.is_empty() { resource.qualified() } else { format!("{} {name:?}", resource.qualified()) };
    ApiError::Forbidden { resource, name: name.to_owned(), message: format!("{subject} is forbidden: {why}") }
}
