//! Gives each namespace its default ServiceAccount and the certificate authority of the API server.

use std::sync::Arc;

use informer::Api;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kinds::ObjectKey;
use kube::Client;
use kube::api::PostParams;
use plan::namespaces::{ROOT_CA, default_service_account, root_ca};

use crate::Informers;
use crate::runtime::{Controller, Outcome, ReconcileError, Runner, call};

/// Runs the controller until `shutdown`. The certificate authority is given in PEM.
pub async fn run(client: Client, informers: &Informers, certificate: Arc<str>, shutdown: impl Future<Output = ()> + Send) {
    Runner::new(Furnisher { client, informers: informers.clone(), certificate })
        .watch(&informers.namespaces, |change| vec![change.key.name.clone()])
        .watch(&informers.service_accounts, |change| of(&change.key, "default"))
        .watch(&informers.config_maps, |change| of(&change.key, ROOT_CA))
        .run(shutdown)
        .await;
}

fn of(key: &ObjectKey, name: &str) -> Vec<String> {
    if key.name == name { vec![key.namespace.clone()] } else { Vec::new() }
}

struct Furnisher {
    client: Client,
    informers: Informers,
    certificate: Arc<str>,
}

impl Controller for Furnisher {
    type Key = String;

    fn name(&self) -> &'static str {
        "service-accounts"
    }

    async fn reconcile(&self, namespace: &String) -> Result<Outcome, ReconcileError> {
        let known = self.informers.namespaces.get(&ObjectKey::cluster(namespace));
        if known.is_some_and(|known| is_active(&known)) {
            tokio::try_join!(self.account(namespace), self.certificate(namespace))?;
        }
        Ok(Outcome::done())
    }
}

fn is_active(namespace: &Namespace) -> bool {
    let terminating = namespace.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Terminating");
    namespace.metadata.deletion_timestamp.is_none() && !terminating
}

impl Furnisher {
    async fn account(&self, namespace: &str) -> Result<(), ReconcileError> {
        if self.informers.service_accounts.get(&ObjectKey::new(namespace, "default")).is_some() {
            return Ok(());
        }
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let account = default_service_account(namespace);
        let doing = || format!("creating the default service account of {namespace}");
        settled(call(doing, api.create(&PostParams::default(), &account)).await.map(drop))
    }

    async fn certificate(&self, namespace: &str) -> Result<(), ReconcileError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let wanted = root_ca(namespace, &self.certificate);
        let doing = || format!("writing the root certificate of {namespace}");
        let params = PostParams::default();
        match self.informers.config_maps.get(&ObjectKey::new(namespace, ROOT_CA)) {
            None => settled(call(doing, api.create(&params, &wanted)).await.map(drop)),
            Some(known) if known.data == wanted.data => Ok(()),
            Some(known) => {
                let changed = ConfigMap { data: wanted.data, binary_data: None, ..(*known).clone() };
                call(doing, api.replace(ROOT_CA, &params, &changed)).await.map(drop)
            }
        }
    }
}

/// Someone else made it, or the namespace went: the view will show which.
fn settled(result: Result<(), ReconcileError>) -> Result<(), ReconcileError> {
    match result {
        Err(ReconcileError::Api { source: kube::Error::Api(status), .. })
            if status.is_already_exists() || status.is_not_found() || status.is_forbidden() =>
        {
            Ok(())
        }
        result => result,
    }
}
