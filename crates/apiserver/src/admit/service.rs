//! Services get an address, and keep it until they are gone.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::address::{Pool, Range, TakeError};
use super::{Request, random};
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::strategy::service::{NONE, has_address};

/// The service that stands for this API server; the first address is its own.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// The addresses of all services. Shared; rebuilt from the stored services at start.
#[derive(Clone, Debug)]
pub(super) struct Addresses(Arc<Mutex<Pool>>);

/// What an admitted service took, and what it gives up. Dropped without [`Claimed::keep`], all is as before.
#[derive(Debug)]
pub(super) struct Claimed {
    addresses: Addresses,
    taken: Option<Ipv4Addr>,
    given_up: Option<Ipv4Addr>,
}

impl Claimed {
    /// The service is stored.
    pub(super) fn keep(mut self) {
        self.taken = None;
        if let Some(address) = self.given_up.take() {
            self.addresses.pool().release(address);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(address) = self.taken {
            self.addresses.pool().release(address);
        }
    }
}

impl Addresses {
    pub(super) fn new(range: Range) -> Self {
        Self(Arc::new(Mutex::new(Pool::new(range))))
    }

    /// No code panics while it holds the lock half-way through a change, so a poisoned pool is as good as any.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stored service has this address. One outside the range (the range was changed) or a second owner is let be.
    pub(super) fn restore(&self, service: &Service) {
        if let Some(address) = service.spec.as_ref().and_then(address_of)
            && let Err(error) = self.pool().take(address)
        {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(service = name, %address, %error, "a stored service has an address that is not free");
        }
    }

    /// The service is gone.
    pub(super) fn release(&self, service: &Service) {
        if let Some(address) = service.spec.as_ref().and_then(address_of) {
            self.pool().release(address);
        }
    }
}

/// The address a service has or asks for; `None` for a headless one and for text that is no address.
fn address_of(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    spec.cluster_ip.as_deref().filter(|_| has_address(spec))?.parse().ok()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(NONE)
}

/// Refuses what can't be served, and gives the service an address if it needs one.
pub(super) fn complete(addresses: &Addresses, request: &Request<'_>, service: &mut Service) -> Result<Claimed, ApiError> {
    let mut claimed = Claimed { addresses: addresses.clone(), taken: None, given_up: None };
    let Some(spec) = &mut service.spec else { return Ok(claimed) };
    refuse_unserved(request, spec)?;
    let had = request.old.and_then(|old| old.downcast_ref::<Service>()).and_then(|old| old.spec.as_ref());
    let held = had.and_then(address_of);
    if !has_address(spec) || is_headless(spec) {
        // Only a service that stops having an address gives it up; any other change of it is refused by validation.
        claimed.given_up = held.filter(|_| !has_address(spec));
        return Ok(claimed);
    }
    // A client that replaces a service need not repeat its address, and one that names another is told so by validation.
    if held.is_some() || had.is_some_and(is_headless) {
        return Ok(claimed);
    }
    claimed.taken = take(addresses, request, spec)?;
    Ok(claimed)
}

fn take(addresses: &Addresses, request: &Request<'_>, spec: &mut ServiceSpec) -> Result<Option<Ipv4Addr>, ApiError> {
    let asked = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    let address = match asked.map(str::parse::<Ipv4Addr>) {
        // Validation says what is wrong with it.
        Some(Err(_)) => return Ok(None),
        Some(Ok(address)) => take_asked(addresses, request, address)?,
        None if spec.cluster_ips.as_ref().is_some_and(|all| !all.is_empty()) => return Ok(None),
        None => addresses
            .pool()
            .take_any(random::number)
            .map_err(|error| ApiError::internal(format!("failed to allocate a serviceIP: {error}")))?,
    };
    spec.cluster_ip = Some(address.to_string());
    spec.cluster_ips = Some(vec![address.to_string()]);
    Ok(Some(address))
}

fn take_asked(addresses: &Addresses, request: &Request<'_>, address: Ipv4Addr) -> Result<Ipv4Addr, ApiError> {
    let mut pool = addresses.pool();
    let reserved = pool.first() == Some(address) && (request.namespace, request.name) != KUBERNETES;
    let taken = if reserved { Err(TakeError::Taken) } else { pool.take(address) };
    taken.map_err(|error| {
        let path = Path::new("spec").child("clusterIPs");
        let detail = format!("failed to allocate IP {address}: {error}");
        invalid(request, FieldError::invalid(path, serde_json::json!([address.to_string()]), detail))
    })?;
    Ok(address)
}

fn invalid(request: &Request<'_>, error: FieldError) -> ApiError {
    ApiError::Invalid { resource: request.resource, name: request.name.to_owned(), errors: vec![error] }
}

fn refuse_unserved(request: &Request<'_>, spec: &ServiceSpec) -> Result<(), ApiError> {
    match spec.type_.as_deref() {
        Some(kind @ ("NodePort" | "LoadBalancer")) => {
            let detail =
                format!("services of type {kind} are not served yet: use ClusterIP, a headless service (clusterIP: None) or ExternalName");
            Err(invalid(request, FieldError::forbidden(Path::new("spec").child("type"), detail)))
        }
        _ => Ok(()),
    }
}
