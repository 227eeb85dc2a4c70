//! A control plane of its own for one test, with simulated nodes.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use apiserver::certificates::{Certificates, TokenKey};
use apiserver::{Config, Limits, Server, UserRole};
use controllers::rights::{self, MANAGER};
use controllers::roster::{Controller, Parts};
use controllers::{Informers, Inventory};
use informer::{Informer, Watched};
use k8s_openapi::api::storage::v1::StorageClass;
use kinds::SetKind;
use kube::api::PostParams;
use kube::{Api, Client};
use node::simulated;
use serde_json::json;
use store::embedded::{Embedded, Options};
use tokio::task::JoinSet;

use crate::Wire;

/// What the controllers may do.
pub fn user_roles() -> Vec<UserRole> {
    rights::of_users().into_iter().map(|(user, rules)| UserRole { user: user.to_owned(), rules }).collect()
}

/// What clusters can share, as it takes time to make.
pub struct Foundation {
    certificates: Certificates,
    _dir: tempfile::TempDir,
}

impl Foundation {
    /// Makes the keys.
    pub fn lay() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { certificates: Certificates::open(dir.path()).unwrap(), _dir: dir }
    }

    /// Signs the tokens of service accounts.
    pub(crate) fn token_key(&self) -> Arc<TokenKey> {
        Arc::new(self.certificates.token_key().unwrap())
    }
}

/// The real API server and store, the real scheduler, binder and garbage collector, and one simulated node. The StatefulSet
/// controller is started by [`Cluster::control`]. All ends with the test.
pub struct Cluster {
    pub admin: Client,
    pub informers: Informers,
    pub store: Arc<Embedded>,
    server: Arc<Server>,
    tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts everything but the StatefulSet controller.
    pub async fn start(foundation: &Foundation) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
        let config = Config {
            service_range: "10.96.0.0/16".parse().unwrap(),
            token_key: foundation.token_key(),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            node_dialer: None,
            limits: Limits::default(),
            audit: None,
            user_roles: user_roles(),
        };
        let server = Server::new(config, store.clone()).await.unwrap();
        let manager = server.client(MANAGER, &[]);
        let admin = server.client("admin", &["system:masters"]);
        controllers::namespaces::ensure_system(&admin).await.unwrap();
        let informers = Informers::start(&manager);
        let (server, tasks) = (Arc::new(server), JoinSet::new());
        let mut cluster = Self { admin, informers, store, server, tasks, _dir: dir };
        cluster.surround(&manager);
        cluster.simulate().await;
        cluster
    }

    /// Everyone the controller works with.
    fn surround(&mut self, manager: &Client) {
        let inventory = Inventory::start(manager);
        let (scheduler, shared) = (self.server.client("system:kube-scheduler", &[]), self.informers.clone());
        self.tasks.spawn(async move { controllers::scheduler::run(scheduler, &shared, pending()).await });
        let (client, shared) = (manager.clone(), self.informers.clone());
        self.tasks.spawn(async move { controllers::binding::run(client, &shared, pending()).await });
        let (client, shared) = (manager.clone(), self.informers.clone());
        self.tasks.spawn(async move { controllers::service_accounts::run(client, &shared, "PEM".into(), pending()).await });
        let client = manager.clone();
        self.tasks.spawn(async move { controllers::garbage::run(client, &inventory, pending()).await });
    }

    async fn simulate(&mut self) {
        let class = json!({"metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "steadfast.dev/local", "volumeBindingMode": "WaitForFirstConsumer"});
        let class: StorageClass = serde_json::from_value(class).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &class).await.unwrap();
        let client = self.server.client(simulated::USER, &[]);
        let nodes = simulated::register(&client, &simulated::Options::default()).await.unwrap();
        let Informers { pods, claims, volumes, storage_classes, .. } = self.informers.clone();
        let views = simulated::Views { pods, claims, volumes, storage_classes };
        self.tasks.spawn(async move { nodes.run(client, views, pending()).await });
    }

    /// Runs the StatefulSet controller behind a wire. Whenever it dies, it starts anew.
    pub fn control(&mut self, wire: Arc<Wire>) {
        let server = self.server.clone();
        self.tasks.spawn(async move {
            loop {
                let client = wire.client(&server, Controller::StatefulSet.user());
                let chosen = [Controller::StatefulSet];
                let parts = Parts::start_for(&chosen, &client, SetKind::Apps, "".into());
                tokio::select! {
                    () = controllers::statefulset::run(client, &parts.informers, pending()) => {}
                    () = wire.crashed() => {}
                }
            }
        });
    }
}

/// Waits until the objects of a kind are as wanted, looking after every change; whether they became so in time.
pub async fn until<K: Watched>(informer: &Informer<K>, patience: Duration, wanted: impl Fn(&[Arc<K>]) -> bool) -> bool {
    let mut subscription = informer.subscribe();
    let reached = async {
        while !wanted(&informer.list()) {
            subscription.changes().await;
        }
    };
    tokio::time::timeout(patience, reached).await.is_ok()
}
