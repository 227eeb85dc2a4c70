//! Services in the kernel: follows Services and EndpointSlices, and changes what differs.
//!
//! # Guarantees
//! * A change of one Service touches its own chain and map elements only.
//! * While the process is away, the rules it left go on working; the next one replaces them in one step.
//! * When the kernel refuses a change, all rules are loaded anew, until it works.

mod conntrack;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use informer::{Change, Informer, Subscription};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::ObjectKey;
use plan::service::{Change as RuleChange, Protocol, Ruleset, diff, rules_of};

use crate::netlink::Socket;
use crate::{NetworkConfig, NetworkError, PodNetwork, kernel, nft};

pub(crate) use table::remove;

/// The label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the proxy of one node looks at.
#[derive(Clone, Debug)]
pub struct Observed {
    pub services: Informer<Service>,
    pub slices: Informer<EndpointSlice>,
}

/// Keeps the kernel's rules as `node` needs them, until `shutdown`. The rules stay when it ends.
pub async fn run(network: PodNetwork, observed: Observed, node: String, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = follow(network, observed, node) => {}
        () = shutdown => {}
    }
}

async fn follow(network: PodNetwork, observed: Observed, node: String) {
    observed.services.synced().await;
    observed.slices.synced().await;
    let (mut services, mut slices) = (observed.services.subscribe(), observed.slices.subscribe());
    let mut view = View { node, services: HashMap::new(), slices: HashMap::new(), desired: Ruleset::default() };
    let mut table = Table::new(network.config().clone());
    let mut retry = FIRST_RETRY;
    loop {
        view.take(pending(&mut services), pending(&mut slices));
        let result = table.load(&view.desired).await;
        match &result {
            Ok(()) => retry = FIRST_RETRY,
            Err(error) => tracing::warn!(%error, "the service rules could not be loaded; they are tried again"),
        }
        tokio::select! {
            changes = services.changes() => view.take(changes, Vec::new()),
            changes = slices.changes() => view.take(Vec::new(), changes),
            () = tokio::time::sleep(retry), if result.is_err() => retry = (retry * 2).min(LAST_RETRY),
        }
    }
}

/// What changed already.
fn pending<K>(subscription: &mut Subscription<K>) -> Vec<Change<K>> {
    subscription.changes().now_or_never().unwrap_or_default()
}

/// The objects, and the rules that follow from them.
struct View {
    node: String,
    services: HashMap<ObjectKey, Arc<Service>>,
    /// By the Service they belong to.
    slices: HashMap<ObjectKey, BTreeMap<ObjectKey, Arc<EndpointSlice>>>,
    desired: Ruleset,
}

impl View {
    fn take(&mut self, services: Vec<Change<Service>>, slices: Vec<Change<EndpointSlice>>) {
        let mut concerned = BTreeSet::new();
        for change in services {
            match change.new {
                Some(service) => self.services.insert(change.key.clone(), service),
                None => self.services.remove(&change.key),
            };
            concerned.insert(change.key);
        }
        for change in slices {
            concerned.extend(self.move_slice(change));
        }
        for key in concerned {
            self.refresh(&key);
        }
    }

    /// Files a slice under its Service; the Services that gained or lost by it.
    fn move_slice(&mut self, change: Change<EndpointSlice>) -> Vec<ObjectKey> {
        let (before, after) = (change.old.as_deref().and_then(owner_of), change.new.as_deref().and_then(owner_of));
        if let Some(slices) = before.as_ref().and_then(|owner| self.slices.get_mut(owner)) {
            slices.remove(&change.key);
        }
        if let (Some(owner), Some(slice)) = (&after, change.new) {
            self.slices.entry(owner.clone()).or_default().insert(change.key, slice);
        }
        before.into_iter().chain(after).collect()
    }

    fn refresh(&mut self, key: &ObjectKey) {
        if self.slices.get(key).is_some_and(BTreeMap::is_empty) {
            self.slices.remove(key);
        }
        let slices: Vec<&EndpointSlice> = self.slices.get(key).into_iter().flatten().map(|(_, slice)| &**slice).collect();
        let rules = self.services.get(key).map(|service| rules_of(service, &slices, &self.node));
        self.desired.set(key, rules.unwrap_or_default());
    }
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.clone()?, name.clone()))
}

/// The kernel's table, and what is in it.
pub(crate) struct Table {
    config: NetworkConfig,
    /// Unknown before the first load and after an error.
    loaded: Option<Loaded>,
}

struct Loaded {
    rules: Ruleset,
    socket: Socket,
}

impl Table {
    /// A table about which nothing is known.
    pub(crate) fn new(config: NetworkConfig) -> Self {
        Self { config, loaded: None }
    }

    /// Makes the kernel's rules be `desired`.
    pub(crate) async fn load(&mut self, desired: &Ruleset) -> Result<(), NetworkError> {
        let (config, rules, loaded) = (self.config.clone(), desired.clone(), self.loaded.take());
        let (loaded, flush) = kernel::call("loading service rules", move || load(&config, rules, loaded)).await?;
        self.loaded = Some(loaded);
        if flush {
            self.flush_stale(desired.clone()).await;
        }
        Ok(())
    }

    /// The rules hold without it; only clients that keep sending from one port would stay with an endpoint that is gone.
    async fn flush_stale(&self, desired: Ruleset) {
        let network = self.config.service_cidr;
        if let Err(error) = kernel::call("flushing connections", move || conntrack::flush_stale(network, &desired)).await {
            tracing::warn!(%error, "UDP clients may stay with endpoints that are gone");
        }
    }
}

/// Loads the rules; what is loaded now, and whether UDP clients may have lost their endpoint.
fn load(config: &NetworkConfig, rules: Ruleset, loaded: Option<Loaded>) -> Result<(Loaded, bool), NetworkError> {
    let Some(mut loaded) = loaded else {
        let mut socket = nft::open()?;
        table::replace(&mut socket, config, &rules)?;
        return Ok((Loaded { rules, socket }, true));
    };
    let changes = diff(&loaded.rules, &rules);
    let flush = changes.iter().any(loses_udp);
    table::change(&mut loaded.socket, config, changes)?;
    Ok((Loaded { rules, ..loaded }, flush))
}

fn loses_udp(change: &RuleChange) -> bool {
    match change {
        RuleChange::Remove { frontend, .. } => frontend.protocol == Protocol::Udp,
        RuleChange::Replace { frontend, gone, .. } => frontend.protocol == Protocol::Udp && !gone.is_empty(),
        _ => false,
    }
}
