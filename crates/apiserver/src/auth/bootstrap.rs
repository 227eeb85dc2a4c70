//! Sees to it that the roles and bindings that every cluster begins with are there before anybody is answered.

use std::sync::Arc;

use futures::future::try_join_all;
use http::HeaderMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kinds::{Object, Resource, registry};
use plan::access::{GROUP, bootstrap, reconcile_binding, reconcile_role};
use tokio_util::sync::CancellationToken;

use super::{Identity, aggregation};
use crate::config::UserRole;
use crate::context::{Context, Shared};
use crate::document;
use crate::error::ApiError;
use crate::keys;
use crate::stored::Current;
use crate::writes::{self, Part, Proposal, Target};

/// Whose changes these are.
const MANAGER: &str = "kube-apiserver";

/// Makes what is missing and adds what is lacking; what users added or took over stays.
pub(crate) async fn begin(shared: &Arc<Shared>, closing: CancellationToken) -> Result<(), ApiError> {
    let (user, headers) = (Identity::server(), HeaderMap::new());
    let context = Context { shared, user: &user, headers: &headers };
    let own = shared.config.user_roles.iter().map(|UserRole { user, rules }| bootstrap::for_user(user, rules.clone()));
    let (mut roles, mut bindings): (Vec<_>, Vec<_>) = own.unzip();
    roles.extend(bootstrap::cluster_roles());
    bindings.extend(bootstrap::cluster_role_bindings());
    // All at once, so that they share their way to the disk.
    let roles = roles.into_iter().map(|role| ensure(&context, Box::new(role)));
    let bindings = bindings.into_iter().map(|binding| ensure(&context, Box::new(binding)));
    futures::try_join!(try_join_all(roles), try_join_all(bindings))?;
    aggregation::write(&context).await?;
    tokio::spawn(aggregation::run(Arc::clone(shared), closing));
    Ok(())
}

async fn ensure(context: &Context<'_>, wanted: Box<dyn Object>) -> Result<(), ApiError> {
    let plural = if wanted.downcast_ref::<ClusterRole>().is_some() { "clusterroles" } else { "clusterrolebindings" };
    let resource = registry::find(GROUP, "v1", plural).ok_or(ApiError::NoRoute)?;
    let name = wanted.meta().name.clone().unwrap_or_default();
    let target = target(resource, &name);
    let (found, _) = context.shared.store.get(&keys::object(resource, "", &name)).await?;
    let Some(found) = found else {
        let proposal = Proposal { object: wanted, warnings: Vec::new(), managed: None };
        return match writes::create(context, target, proposal).await {
            Err(ApiError::AlreadyExists { .. }) => Ok(()),
            done => done.map(drop),
        };
    };
    let found = document::read(resource, found.document.json())?;
    if completed(&*found, &*wanted).is_none() {
        return Ok(());
    }
    let make = |current: &Current| {
        let object = completed(&*current.object, &*wanted).unwrap_or_else(|| current.object.clone_object());
        Ok(Proposal { object, warnings: Vec::new(), managed: None })
    };
    writes::change(context, target, Part::Main, make).await.map(drop)
}

/// What is there with what it lacks, if it lacks anything.
fn completed(found: &dyn Object, wanted: &dyn Object) -> Option<Box<dyn Object>> {
    if let (Some(found), Some(wanted)) = (found.downcast_ref::<ClusterRole>(), wanted.downcast_ref()) {
        return reconcile_role(found, wanted).map(|role| Box::new(role) as Box<dyn Object>);
    }
    let (found, wanted) = (found.downcast_ref::<ClusterRoleBinding>()?, wanted.downcast_ref()?);
    reconcile_binding(found, wanted).map(|binding| Box::new(binding) as Box<dyn Object>)
}

/// A write of the server's own to a role or binding.
pub(super) fn target<'a>(resource: &'static Resource, name: &'a str) -> Target<'a> {
    Target { resource, namespace: "", name, dry_run: false, repeatable: true, manager: MANAGER, subresource: "" }
}
