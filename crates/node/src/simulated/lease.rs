//! The nodes' heartbeats.

use std::time::Duration;

use informer::Api;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Member;
use super::execute::{RequestError, answered, is_code};

const NAMESPACE: &str = "kube-node-lease";
/// How often each lease is renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// For how long a renewal holds.
const LEASE_SECONDS: i32 = 40;
/// Renewals under way at most.
const CONCURRENCY: usize = 8;

/// Renews all leases for ever, spread evenly over time.
pub(super) async fn keep(client: &Client, members: &[Member]) {
    let mut ticks = interval(RENEWAL / u32::try_from(members.len()).unwrap_or(u32::MAX).max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests = JoinSet::new();
    for member in members.iter().cycle() {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        if requests.len() >= CONCURRENCY {
            requests.join_next().await;
        }
        let (client, member) = (client.clone(), member.clone());
        requests.spawn(async move {
            if let Err(error) = renew(&client, &member).await {
                tracing::warn!(node = member.name, %error, "the lease was not renewed");
            }
        });
    }
    // Without nodes there is nothing to keep.
    std::future::pending().await
}

/// Says that the node lives. A node whose object was deleted lives no more.
pub(super) async fn renew(client: &Client, member: &Member) -> Result<(), RequestError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"renewTime": MicroTime(Timestamp::now()), "holderIdentity": member.name}}));
    match answered(leases.patch(&member.name, &PatchParams::default(), &patch)).await {
        Err(error) if is_code(&error, 404) => create(client, &leases, member).await,
        other => other.map(drop),
    }
}

async fn create(client: &Client, leases: &Api<Lease>, member: &Member) -> Result<(), RequestError> {
    let Some(node) = answered(Api::<Node>::all(client.clone()).get_opt(&member.name)).await? else { return Ok(()) };
    let uid = node.metadata.uid.unwrap_or_default();
    answered(leases.create(&PostParams::default(), &lease(&member.name, uid, Timestamp::now()))).await.map(drop)
}

fn lease(node: &str, uid: String, now: Timestamp) -> Lease {
    let name = node.to_owned();
    let owner =
        OwnerReference { api_version: "v1".to_owned(), kind: "Node".to_owned(), name: name.clone(), uid, ..OwnerReference::default() };
    Lease {
        metadata: ObjectMeta { name: Some(name.clone()), owner_references: Some(vec![owner]), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(name),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}
