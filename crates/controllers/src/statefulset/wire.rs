//! Sets as they travel: the same shape under either group. In memory a set is a [`StatefulSet`], whichever group it has.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use kinds::SetKind;
use kube::api::PostParams;
use kube::core::{Object, TypeMeta};
use kube::{Api, Client};

use crate::inventory::api_resource;

/// A set of either group. One type, so that the code that watches sets is there once.
pub(crate) type WireSet = Object<Option<StatefulSetSpec>, StatefulSetStatus>;

/// The sets of one kind in all namespaces.
pub(crate) fn everywhere(client: &Client, kind: SetKind) -> Api<WireSet> {
    Api::all_with(client.clone(), &api_resource(kind.resource()))
}

/// The set in a wire form.
pub(crate) fn read(wire: WireSet) -> StatefulSet {
    StatefulSet { metadata: wire.metadata, spec: wire.spec, status: wire.status }
}

/// Requests about the sets of one namespace.
pub(super) struct Sets {
    api: Api<WireSet>,
    kind: SetKind,
}

impl Sets {
    pub(super) fn namespaced(client: Client, kind: SetKind, namespace: &str) -> Self {
        Self { api: Api::namespaced_with(client, namespace, &api_resource(kind.resource())), kind }
    }

    /// The set as the server has it now.
    pub(super) async fn get_opt(&self, name: &str) -> kube::Result<Option<StatefulSet>> {
        Ok(self.api.get_opt(name).await?.map(read))
    }

    /// Writes the status of the version of the set that is given.
    pub(super) async fn replace_status(&self, name: &str, params: &PostParams, set: StatefulSet) -> kube::Result<StatefulSet> {
        let types = TypeMeta { api_version: self.kind.api_version().to_owned(), kind: self.kind.resource().kind.to_owned() };
        let wire = WireSet { types: Some(types), metadata: set.metadata, spec: set.spec, status: set.status };
        self.api.replace_status(name, params, &wire).await.map(read)
    }
}
