//! Where servers that share a store are: each keeps a Lease that says so, and publishes all that are kept.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Client, ResourceExt};
use plan::servers::{Server, plan};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::bootstrap;

/// Where the Leases are.
const NAMESPACE: &str = "kube-system";
/// What tells them from others.
const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "steadfast");

/// What one server says of itself, and knows of others.
pub(crate) struct Whereabouts {
    pub(crate) client: Client,
    /// Where pods reach this server, if they do.
    pub(crate) own: Option<SocketAddrV4>,
    /// How long a server may be silent before it is taken to be gone.
    pub(crate) lease_seconds: u32,
    /// When each Lease was last renewed, and when this process first saw it so.
    pub(crate) heard: HashMap<String, (Option<MicroTime>, Instant)>,
}

impl Whereabouts {
    /// Keeps all of it up to date, until the end.
    pub(crate) async fn run(mut self, ended: impl Future<Output = ()>) {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = sleep(Duration::from_secs(self.lease_seconds.into()) / 3) => {}
                () = &mut ended => break,
            }
            if let Err(error) = self.round().await {
                tracing::debug!("where the servers are can't be published; it is tried again: {error}");
            }
        }
        if let Some(own) = self.own
            && let Err(error) = bootstrap::delete(&self.leases(), &lease_name(own)).await
        {
            tracing::debug!("that this server is gone can't be told: {error}");
        }
    }

    fn leases(&self) -> Api<Lease> {
        bootstrap::namespaced(&self.client, NAMESPACE)
    }

    /// Says that this server is there, and publishes who else is.
    pub(crate) async fn round(&mut self) -> Result<(), kube::Error> {
        let leases = self.leases();
        if let Some(own) = self.own {
            let lease = json!({
                "metadata": {"name": lease_name(own), "labels": {LABEL.0: LABEL.1}},
                "spec": {"holderIdentity": own, "leaseDurationSeconds": self.lease_seconds, "renewTime": MicroTime(Timestamp::now())},
            });
            bootstrap::create_or_merge(&leases, lease).await?;
        }
        let kept = leases.list(&ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1))).await?;
        self.heard.retain(|name, _| kept.iter().any(|lease| lease.name_any() == *name));
        let servers: Vec<_> = kept.into_iter().map(|lease| self.seen(lease)).collect();
        let plan = plan(&servers);
        for gone in &plan.gone {
            bootstrap::delete(&leases, gone).await?;
        }
        bootstrap::publish_api(&self.client, &plan.served).await
    }

    /// A server whose Lease was never seen to change may be there: it is given as much time as any.
    fn seen(&mut self, lease: Lease) -> Server {
        let (name, now, spec) = (lease.name_any(), Instant::now(), lease.spec.unwrap_or_default());
        let heard = self.heard.entry(name.clone()).or_insert((None, now));
        if heard.0 != spec.renew_time {
            *heard = (spec.renew_time, now);
        }
        Server {
            lease: name,
            address: spec.holder_identity.and_then(|place| place.parse().ok()),
            silent: now - heard.1,
            patience: Duration::from_secs(spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default()),
        }
    }
}

fn lease_name(own: SocketAddrV4) -> String {
    format!("steadfast-{}-{}", own.ip(), own.port())
}
