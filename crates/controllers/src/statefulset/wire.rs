//! Sets as they travel: the same shape under either group. In memory a set is a [`StatefulSet`], whichever group it has.

use informer::Informer;
use informer::source::Source;
use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::SetKind;
use kube::api::PostParams;
use kube::core::{DynamicObject, Request};
use kube::{Client, Resource};

use crate::inventory::api_resource;

/// A live view of the sets of one kind in all namespaces.
pub(crate) fn everywhere(client: &Client, kind: SetKind) -> Informer<StatefulSet> {
    let source = Source::of(kind.resource().qualified(), path(kind, None));
    let read = match kind {
        SetKind::Apps => |text: &str| SetKind::Apps.read(text.as_bytes()),
        SetKind::Steadfast => |text: &str| SetKind::Steadfast.read(text.as_bytes()),
    };
    Informer::start_at(client.clone(), source, read)
}

fn path(kind: SetKind, namespace: Option<&str>) -> String {
    DynamicObject::url_path(&api_resource(kind.resource()), namespace)
}

/// Requests about the sets of one namespace.
pub(super) struct Sets {
    client: Client,
    kind: SetKind,
    requests: Request,
}

impl Sets {
    pub(super) fn namespaced(client: Client, kind: SetKind, namespace: &str) -> Self {
        Self { client, kind, requests: Request::new(path(kind, Some(namespace))) }
    }

    /// The set as the server has it now.
    pub(super) async fn get_opt(&self, name: &str) -> kube::Result<Option<StatefulSet>> {
        let request = self.requests.get(name, &Default::default()).map_err(kube::Error::BuildRequest)?;
        match self.client.request_text(request).await {
            Ok(text) => self.read(&text).map(Some),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the version of the set that is given.
    pub(super) async fn replace(&self, name: &str, params: &PostParams, set: &StatefulSet) -> kube::Result<StatefulSet> {
        let request = self.requests.replace(name, params, self.kind.write(set)).map_err(kube::Error::BuildRequest)?;
        let text = self.client.request_text(request).await?;
        self.read(&text)
    }

    /// Writes the status of the version of the set that is given.
    pub(super) async fn replace_status(&self, name: &str, params: &PostParams, set: &StatefulSet) -> kube::Result<StatefulSet> {
        let request = self.requests.replace_subresource("status", name, params, self.kind.write(set));
        let text = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        self.read(&text)
    }

    fn read(&self, text: &str) -> kube::Result<StatefulSet> {
        self.kind.read(text.as_bytes()).map_err(kube::Error::SerdeError)
    }
}
