//! The zone, kept as the informers see the cluster.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use informer::{Change, Informer};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::ObjectKey;
use plan::zone::{Update, Zone};
use tokio::sync::watch;

/// The zone: one task writes, every question reads.
#[derive(Clone, Debug)]
pub(crate) struct View {
    zone: Arc<RwLock<Zone>>,
    changed: watch::Sender<()>,
}

impl View {
    pub(crate) fn new(zone: Zone) -> Self {
        Self { zone: Arc::new(RwLock::new(zone)), changed: watch::Sender::new(()) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, update: Update) {
        self.zone.write().unwrap_or_else(PoisonError::into_inner).update(update);
        self.changed.send_replace(());
    }

    /// Tells of every update from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows the informers; says when the zone is complete for the first time.
    pub(crate) async fn follow(self, services: Informer<Service>, slices: Informer<EndpointSlice>, complete: watch::Sender<bool>) {
        services.synced().await;
        slices.synced().await;
        let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
        let (mut first_services, mut first_slices) = (services.list().is_empty(), slices.list().is_empty());
        loop {
            if first_services && first_slices {
                complete.send_replace(true);
            }
            tokio::select! {
                changes = service_changes.changes() => {
                    self.update(Update { services: news(changes), slices: Vec::new() });
                    first_services = true;
                }
                changes = slice_changes.changes() => {
                    self.update(Update { services: Vec::new(), slices: news(changes) });
                    first_slices = true;
                }
            }
        }
    }
}

fn news<K>(changes: Vec<Change<K>>) -> Vec<(ObjectKey, Option<Arc<K>>)> {
    changes.into_iter().map(|change| (change.key, change.new)).collect()
}
