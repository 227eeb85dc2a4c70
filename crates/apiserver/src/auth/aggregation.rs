//! Writes the rules of aggregated roles into them, for people to see. What counts is the index, which knows them at once.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kinds::registry;
use plan::access::GROUP;
use store::WatchMessage;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::authority::PREFIX;
use super::bootstrap::target;
use crate::context::{Context, Shared};
use crate::error::ApiError;
use crate::stored::Current;
use crate::writes::{self, Part, Proposal};

/// How long to wait before beginning again after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Follows all roles until the server closes.
pub(crate) async fn run(shared: Arc<Shared>, closing: CancellationToken) {
    let forever = async {
        loop {
            // It ends only when the store fails or the watch fell behind: then it begins anew.
            if follow(&shared).await.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = forever => {}
        () = closing.cancelled() => {}
    }
}

async fn follow(shared: &Arc<Shared>) -> Option<()> {
    let (user, headers) = (Identity::server(), HeaderMap::new());
    let context = Context { shared, user: &user, headers: &headers };
    let mut watch = shared.store.watch(PREFIX, shared.store.revision()).ok()?;
    loop {
        if let Err(error) = write(&context).await {
            tracing::warn!(%error, "the rules of an aggregated role were not written; they are in force all the same");
            return None;
        }
        while !matches!(watch.next().await.ok()?, WatchMessage::Event(_)) {}
    }
}

/// Writes what is not written yet.
pub(super) async fn write(context: &Context<'_>) -> Result<(), ApiError> {
    let index = context.shared.authority.index().await?;
    let resource = registry::find(GROUP, "v1", "clusterroles").ok_or(ApiError::NoRoute)?;
    for (name, rules) in index.outdated() {
        let make = |current: &Current| Ok(with_rules(current, rules));
        match writes::change(context, target(resource, name), Part::Main, make).await {
            // It went meanwhile.
            Err(ApiError::NotFound { .. }) => {}
            done => drop(done?),
        }
    }
    Ok(())
}

fn with_rules(current: &Current, rules: &[PolicyRule]) -> Proposal {
    let mut object = current.object.clone_object();
    object.meta_mut().resource_version = None;
    if let Some(role) = object.downcast_mut::<ClusterRole>().filter(|role| role.aggregation_rule.is_some()) {
        role.rules = Some(rules.to_vec());
    }
    Proposal { object, warnings: Vec::new(), managed: None }
}
