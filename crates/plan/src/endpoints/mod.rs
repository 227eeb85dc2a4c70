//! Which addresses are behind a Service.
//!
//! [`plan_slices`] compares what should be published with the slices there are and changes as little as possible: an endpoint
//! stays in its slice, slices that need no change are not written. [`plan_endpoints`] makes the one classic object.

mod address;
mod legacy;
mod ports;
mod slices;

pub(crate) use address::is_ready;
pub use address::{AddressFamily, PodEndpoint, pod_endpoint};
pub use legacy::plan_endpoints;
pub use slices::{MANAGED_BY, MANAGER, SERVICE_NAME, SliceChange, plan_slices};

/// Marks what belongs to a Service without an address of its own.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

use k8s_openapi::api::core::v1::Service;

/// Whether the Service has endpoints that follow from pods.
pub fn has_selector(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let external = spec.type_.as_deref() == Some("ExternalName");
    !external && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

/// Whether the Service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

#[cfg(test)]
mod tests;
