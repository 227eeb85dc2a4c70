//! What a request is about, and where it comes from, in the log's words.

use std::net::IpAddr;

use http::HeaderMap;
use kinds::registry::Subresource;
use kinds::reviews;

use super::event::ObjectRef;
use super::policy::Target;
use crate::route::{Call, Route};
use crate::service::Caller;

/// Verb and object; `None` for what is about no resource.
pub fn of(route: &Route) -> Option<(&'static str, ObjectRef)> {
    match route {
        Route::Object(Call { resource, namespace, name, subresource, verb, .. }) => {
            let object = ObjectRef {
                resource: resource.plural,
                namespace: namespace.clone(),
                name: name.clone(),
                api_group: resource.group,
                api_version: resource.version,
                subresource: subresource.map_or("", Subresource::name),
            };
            Some((verb.name(), object))
        }
        Route::Review { review, namespace } => {
            let object = ObjectRef {
                resource: review.plural,
                namespace: namespace.clone(),
                api_group: review.group,
                api_version: reviews::VERSION,
                ..ObjectRef::default()
            };
            Some(("create", object))
        }
        _ => None,
    }
}

/// The same as rules see it.
pub fn target(object: &ObjectRef) -> Target<'_> {
    let ObjectRef { resource, namespace, name, api_group: group, subresource, .. } = object;
    Target { group, resource, subresource, namespace, name }
}

/// The addresses that a request passed, as far as proxies tell, and the last of them. Requests of this process have none.
pub fn source_ips(headers: &HeaderMap, caller: &Caller) -> Vec<String> {
    let Caller::Network { peer, .. } = caller else { return Vec::new() };
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = forwarded.split(',').filter_map(|address| address.trim().parse::<IpAddr>().ok());
    let mut addresses: Vec<_> = forwarded.map(|address| address.to_string()).collect();
    let peer = peer.to_string();
    if addresses.last() != Some(&peer) {
        addresses.push(peer);
    }
    addresses
}
