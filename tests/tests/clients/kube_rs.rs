//! kube-rs: pods and sets with their types, all other kinds as dynamic objects.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, ObjectList, Patch as Change, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::request::{Client, Failure, Patch, Request, Verb};

/// How long a watch may take to see what it waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client with a runtime of its own.
pub struct KubeRs {
    runtime: Runtime,
    client: kube::Client,
    watch: Option<Watch>,
}

/// Events as they come.
struct Watch {
    seen: Vec<Value>,
    coming: mpsc::UnboundedReceiver<Value>,
}

impl KubeRs {
    pub fn new(kubeconfig: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
            kube::Client::try_from(config).expect("a client")
        });
        Self { runtime, client, watch: None }
    }

    fn typed<K>(&mut self, request: &Request) -> Result<Value, Failure>
    where
        K: Kind + kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let api = Api::<K>::namespaced(self.client.clone(), request.namespace.as_deref().unwrap_or_default());
        self.with(api, request)
    }

    fn dynamic(&mut self, request: &Request) -> Result<Value, Failure> {
        let described = &request.resource;
        let kind = kube::core::GroupVersionKind::gvk(&described.group, &described.version, &described.kind);
        let resource = kube::core::ApiResource::from_gvk_with_plural(&kind, &described.plural);
        let api: Api<DynamicObject> = match &request.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        self.with(api, request)
    }

    fn with<K: Kind>(&mut self, api: Api<K>, request: &Request) -> Result<Value, Failure> {
        match request.verb {
            Verb::Watch => {
                let parameters = WatchParams::default().fields(&request.field_selector);
                let events = self.runtime.block_on(api.watch(&parameters, "0")).map_err(failure)?.boxed();
                let (sender, coming) = mpsc::unbounded_channel();
                self.runtime.spawn(forward(events, sender));
                let watch = self.watch.insert(Watch { seen: Vec::new(), coming });
                self.runtime.block_on(watch.until(|_| true))?;
                Ok(Value::Null)
            }
            Verb::Events => {
                let mut watch = self.watch.take().expect("a watch was begun");
                self.runtime.block_on(watch.until(|event| event["type"] == "DELETED"))?;
                Ok(json!({"events": watch.seen}))
            }
            _ => self.runtime.block_on(call(&api, request)).map_err(failure),
        }
    }
}

/// What an object's type must be able to.
trait Kind: Clone + Debug + Serialize + DeserializeOwned + Send + 'static {}

impl<K: Clone + Debug + Serialize + DeserializeOwned + Send + 'static> Kind for K {}

async fn forward<K: Kind>(mut events: impl Stream<Item = kube::Result<WatchEvent<K>>> + Unpin, to: mpsc::UnboundedSender<Value>) {
    while let Some(Ok(event)) = events.next().await {
        if to.send(value(&event)).is_err() {
            return;
        }
    }
}

impl Watch {
    /// Waits for an event.
    async fn until(&mut self, is_last: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        let wait = async {
            while let Some(event) = self.coming.recv().await {
                let last = is_last(&event);
                self.seen.push(event);
                if last {
                    return Some(());
                }
            }
            None
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await;
        in_time
            .ok()
            .flatten()
            .ok_or_else(|| Failure { message: "the watch did not see what it waits for".to_owned(), ..Failure::default() })
    }
}

async fn call<K: Kind>(api: &Api<K>, request: &Request) -> kube::Result<Value> {
    let name = request.name.as_str();
    let post = PostParams { dry_run: request.dry_run, ..PostParams::default() };
    let list = ListParams::default().labels(&request.label_selector).fields(&request.field_selector);
    let object = || serde_json::from_value(request.body.clone()).map_err(kube::Error::SerdeError);
    Ok(match request.verb {
        Verb::Create => value(&api.create(&post, &object()?).await?),
        Verb::Replace => value(&api.replace(name, &post, &object()?).await?),
        Verb::Read => value(&api.get(name).await?),
        Verb::List if request.limit > 0 => value(&in_pages(api, list.limit(request.limit)).await?),
        Verb::List => value(&api.list(&list).await?),
        Verb::Patch => value(&patch(api, request).await?),
        Verb::Delete => {
            let precondition = request.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
            api.delete(name, &DeleteParams { preconditions: precondition, ..DeleteParams::default() }).await?;
            Value::Null
        }
        Verb::DeleteCollection => {
            api.delete_collection(&DeleteParams::default(), &list).await?;
            Value::Null
        }
        Verb::Watch | Verb::Events => Value::Null,
    })
}

async fn in_pages<K: Kind>(api: &Api<K>, mut next: ListParams) -> kube::Result<ObjectList<K>> {
    let mut whole = api.list(&next).await?;
    while let Some(token) = whole.metadata.continue_.take().filter(|token| !token.is_empty()) {
        next = next.continue_token(&token);
        let page = api.list(&next).await?;
        assert!(next.limit.is_some_and(|limit| page.items.len() <= limit as usize), "a page holds too much");
        whole.items.extend(page.items);
        whole.metadata = page.metadata;
    }
    Ok(whole)
}

async fn patch<K: Kind>(api: &Api<K>, request: &Request) -> kube::Result<K> {
    let body = &request.body;
    let change: Change<&Value> = match request.patch {
        Some(Patch::Json) => Change::Json(serde_json::from_value(body.clone()).map_err(kube::Error::SerdeError)?),
        Some(Patch::Merge) => Change::Merge(body),
        Some(Patch::Strategic) | None => Change::Strategic(body),
        Some(Patch::Apply) => {
            let parameters = PatchParams { force: request.force, ..PatchParams::apply(&request.manager) };
            return api.patch(&request.name, &parameters, &Change::Apply(body)).await;
        }
    };
    api.patch(&request.name, &PatchParams::default(), &change).await
}

fn value(serializable: &impl Serialize) -> Value {
    serde_json::to_value(serializable).expect("objects are JSON")
}

fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let details = value(&status.details);
            Failure { code: Some(status.code.into()), reason: status.reason, message: status.message, details }
        }
        error => Failure { reason: "the client itself failed".to_owned(), message: error.to_string(), ..Failure::default() },
    }
}

impl Client for KubeRs {
    fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        match request.resource.api_version().as_str() {
            "v1" if request.resource.kind == "Pod" => self.typed::<Pod>(request),
            "apps/v1" if request.resource.kind == "StatefulSet" => self.typed::<StatefulSet>(request),
            _ => self.dynamic(request),
        }
    }
}
