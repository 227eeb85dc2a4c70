//! Live views of the sets of a namespace, and of what they depend on.

use std::sync::Arc;
use std::time::Duration;

use informer::{Api, Informer, Subscription};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use tokio::time::timeout;

use crate::connect::Server;
use crate::failure::Failure;
use crate::foresee::Surroundings;

/// How long the first lists may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is watched.
pub struct Views {
    namespace: String,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
}

/// Tells that something changed.
pub struct Changes {
    sets: Subscription<StatefulSet>,
    pods: Subscription<Pod>,
    claims: Subscription<PersistentVolumeClaim>,
    revisions: Subscription<ControllerRevision>,
}

impl Views {
    /// Begins to watch a namespace, and waits until all is seen.
    pub async fn open(server: &Server) -> Result<Self, Failure> {
        let (client, namespace) = (|| server.client.clone(), &server.namespace);
        let views = Self {
            namespace: namespace.clone(),
            sets: Informer::start(Api::namespaced(client(), namespace)),
            pods: Informer::start(Api::namespaced(client(), namespace)),
            claims: Informer::start(Api::namespaced(client(), namespace)),
            revisions: Informer::start(Api::namespaced(client(), namespace)),
        };
        let synced = async {
            futures::join!(views.sets.synced(), views.pods.synced(), views.claims.synced(), views.revisions.synced());
        };
        let late =
            |_| Failure::Message(format!("the objects of namespace {namespace} could not be watched within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, synced).await.map_err(late)?;
        Ok(views)
    }

    pub fn changes(&self) -> Changes {
        Changes {
            sets: self.sets.subscribe(),
            pods: self.pods.subscribe(),
            claims: self.claims.subscribe(),
            revisions: self.revisions.subscribe(),
        }
    }

    pub fn sets(&self) -> Vec<Arc<StatefulSet>> {
        self.sets.in_namespace(&self.namespace)
    }

    pub fn surroundings(&self) -> Surroundings {
        let claims = self.claims.list().into_iter();
        Surroundings {
            pods: self.pods.list(),
            claims: claims.map(|claim| (claim.metadata.name.clone().unwrap_or_default(), claim)).collect(),
            revisions: self.revisions.list(),
        }
    }
}

impl Changes {
    /// Waits for the next change of any kind.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.sets.changes() => {}
            _ = self.pods.changes() => {}
            _ = self.claims.changes() => {}
            _ = self.revisions.changes() => {}
        }
    }
}
