//! Services get an address, and keep it until they are gone.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kinds::registry;
use store::{Document, Event, Guard, Revision, Store, Watch, WatchMessage};

use super::address::{Pool, Range, TakeError};
use super::{Request, random};
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::keys;
use crate::strategy::service::{NONE, has_address};

/// The service that stands for this API server; the first address is its own.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// The addresses of all services. Shared. What is stored is known from the store's events, whichever server made them; what is about
/// to be stored here is claimed until it is.
#[derive(Clone)]
pub(super) struct Addresses {
    book: Arc<Mutex<Book>>,
    store: Arc<dyn Store>,
}

struct Book {
    pool: Pool,
    /// What happens to services; nothing before all of them were read, or when the watch has ended.
    watch: Option<Box<dyn Watch>>,
    /// The pool is as of this revision.
    seen: Revision,
}

/// What an admitted service took. Dropped when the service is stored, or is not going to be.
pub(super) struct Claimed {
    addresses: Addresses,
    address: Ipv4Addr,
    guard: Guard,
}

impl Claimed {
    /// Refuses the service when another server has given the address away meanwhile.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claimed").field(&self.address).finish()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.addresses.book().pool.unclaim(self.address);
    }
}

impl Addresses {
    pub(super) fn new(range: Range, store: Arc<dyn Store>) -> Self {
        let book = Book { pool: Pool::new(range), watch: None, seen: Revision::default() };
        Self { book: Arc::new(Mutex::new(book)), store }
    }

    /// No code panics while it holds the lock half-way through a change, so a poisoned book is as good as any.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all services, if that was not done, or what happened to them since is not known.
    pub(super) async fn know(&self) -> Result<(), ApiError> {
        if self.book().follow() {
            return Ok(());
        }
        let resource = registry::find("", "v1", "services").ok_or(ApiError::NoRoute)?;
        let prefix = keys::collection(resource, "");
        let page = self.store.range(store::Range { prefix: &prefix, ..store::Range::default() }).await?;
        let watch = self.store.watch(&prefix, page.revision);
        let watch = watch.map_err(|error| ApiError::Unavailable { message: format!("services can't be followed: {error}") })?;
        let mut book = self.book();
        book.pool.clear();
        for address in page.entries.iter().filter_map(|entry| stored_address(&entry.document)) {
            book.pool.store(address);
        }
        (book.watch, book.seen) = (Some(watch), page.revision);
        Ok(())
    }

    /// Claims an address, by what is stored now.
    async fn claim(&self, claim: impl Fn(&mut Pool) -> Result<Ipv4Addr, TakeError>) -> Result<Result<Claimed, TakeError>, ApiError> {
        loop {
            self.know().await?;
            let mut book = self.book();
            // What was stored until now has ended its claim, and was told before: it is never free in between.
            if book.follow() {
                let (claimed, seen) = (claim(&mut book.pool), book.seen);
                return Ok(claimed.map(|address| Claimed {
                    addresses: self.clone(),
                    address,
                    guard: Guard::new("address", &address.to_string(), seen),
                }));
            }
        }
    }
}

impl Book {
    /// Takes in what has happened. False when that is not known.
    fn follow(&mut self) -> bool {
        loop {
            let Some(watch) = &mut self.watch else { return false };
            match watch.next().now_or_never() {
                None => return true,
                Some(Ok(WatchMessage::Progress(revision))) => self.seen = revision,
                Some(Ok(WatchMessage::Event(event))) => self.take_in(&event),
                Some(Err(_)) => self.watch = None,
            }
        }
    }

    fn take_in(&mut self, event: &Event) {
        self.seen = event.revision;
        if let Some(address) = event.previous.as_ref().and_then(stored_address) {
            self.pool.release(address);
        }
        if let Some(address) = event.document.as_ref().and_then(stored_address) {
            self.pool.store(address);
        }
    }
}

/// The address of a service as it is stored.
fn stored_address(document: &Document) -> Option<Ipv4Addr> {
    let service: Service = serde_json::from_slice(document.json()).ok()?;
    service.spec.as_ref().and_then(address_of)
}

/// The address a service has or asks for; `None` for a headless one and for text that is no address.
fn address_of(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    spec.cluster_ip.as_deref().filter(|_| has_address(spec))?.parse().ok()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(NONE)
}

/// Refuses what can't be served, and gives the service an address if it needs one.
pub(super) async fn complete(addresses: &Addresses, request: &Request<'_>, service: &mut Service) -> Result<Option<Claimed>, ApiError> {
    let Some(spec) = &mut service.spec else { return Ok(None) };
    refuse_unserved(request, spec)?;
    let had = request.old.and_then(|old| old.downcast_ref::<Service>()).and_then(|old| old.spec.as_ref());
    let held = had.and_then(address_of);
    // A client that replaces a service need not repeat its address, and one that names another is told so by validation.
    if !has_address(spec) || is_headless(spec) || held.is_some() || had.is_some_and(is_headless) {
        return Ok(None);
    }
    take(addresses, request, spec).await
}

async fn take(addresses: &Addresses, request: &Request<'_>, spec: &mut ServiceSpec) -> Result<Option<Claimed>, ApiError> {
    let asked = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    let claimed = match asked.map(str::parse::<Ipv4Addr>) {
        // Validation says what is wrong with it.
        Some(Err(_)) => return Ok(None),
        Some(Ok(address)) => take_asked(addresses, request, address).await?,
        None if spec.cluster_ips.as_ref().is_some_and(|all| !all.is_empty()) => return Ok(None),
        None => {
            let claimed = addresses.claim(|pool| pool.claim_any(random::number)).await?;
            claimed.map_err(|error| ApiError::internal(format!("failed to allocate a serviceIP: {error}")))?
        }
    };
    let address = claimed.address.to_string();
    spec.cluster_ips = Some(vec![address.clone()]);
    spec.cluster_ip = Some(address);
    Ok(Some(claimed))
}

async fn take_asked(addresses: &Addresses, request: &Request<'_>, address: Ipv4Addr) -> Result<Claimed, ApiError> {
    let is_its_own = (request.namespace, request.name) == KUBERNETES;
    let claim = |pool: &mut Pool| match pool.first() == Some(address) && !is_its_own {
        true => Err(TakeError::Taken),
        false => pool.claim(address).map(|()| address),
    };
    addresses.claim(claim).await?.map_err(|error| {
        let path = Path::new("spec").child("clusterIPs");
        let detail = format!("failed to allocate IP {address}: {error}");
        invalid(request, FieldError::invalid(path, serde_json::json!([address.to_string()]), detail))
    })
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
