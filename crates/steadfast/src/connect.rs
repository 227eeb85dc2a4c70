//! The API server a verb talks to: any one, ours or not, over HTTPS.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apiserver::certificates::{CertificateError, Certificates};
use http::{Method, Request};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::{Client, Config, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::timeout;

use crate::arguments::Connection;
use crate::instance::{Instance, InstanceError};

const DEFAULT_DATA_DIR: &str = "/var/lib/steadfast";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How many objects are fetched at once.
const PAGE: u32 = 500;

/// Why the API server did not answer, or not as hoped.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{0}; name a file with --kubeconfig, a context with --context, or an instance with --data-dir")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("no instance was ever started in {0}; start one with `steadfast up`, or name a cluster with --kubeconfig")]
    NoInstance(PathBuf),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("{doing}: the API server {server} can't be reached: {source}; if it is yours, start it with `steadfast up`")]
    Unreachable {
        doing: String,
        server: String,
        #[source]
        source: kube::Error,
    },
    #[error("{doing}: the API server {server} did not answer within {} s; try again when it is less busy", PATIENCE.as_secs())]
    Late { doing: String, server: String },
    #[error("{doing}: {}", .status.message)]
    Refused { doing: String, status: Box<Status> },
    #[error("{doing}: the answer can't be read: {source}")]
    Malformed {
        doing: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{doing}: {source}")]
    Failed {
        doing: String,
        #[source]
        source: kube::Error,
    },
}

/// An API server.
#[derive(Clone)]
pub struct Server {
    pub client: Client,
    /// The namespace that is meant where none is named.
    pub namespace: String,
    url: String,
}

/// Finds the API server that is meant. Nothing is sent yet.
pub async fn connect(connection: &Connection) -> Result<Server, ConnectError> {
    let kubeconfig = kubeconfig(connection)?;
    let options = KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.connect_timeout = Some(CONNECT_PATIENCE);
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let namespace = connection.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let failed = |source| ConnectError::Failed { doing: format!("prepare to talk to {url}"), source };
    let client = Client::try_from(config).map_err(failed)?;
    Ok(Server { client, namespace, url })
}

/// What was named first; else the kubeconfig that kubectl would use; else the instance in the usual place.
fn kubeconfig(connection: &Connection) -> Result<Kubeconfig, ConnectError> {
    match connection {
        Connection { data_dir: Some(data_dir), .. } => of_instance(data_dir),
        Connection { kubeconfig: Some(file), .. } => Ok(Kubeconfig::read_from(file)?),
        Connection { context, .. } => match Kubeconfig::read() {
            Ok(kubeconfig) => Ok(kubeconfig),
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound && context.is_none() => {
                of_instance(Path::new(DEFAULT_DATA_DIR))
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// The administrator of an instance, from what the instance keeps.
fn of_instance(data_dir: &Path) -> Result<Kubeconfig, ConnectError> {
    let instance = Instance::new(data_dir)?;
    if !instance.exists() {
        return Err(ConnectError::NoInstance(data_dir.to_owned()));
    }
    let listen = instance.record()?.listen;
    let reachable = listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    let certificates = Certificates::open(&instance.folder(""))?;
    let administrator = certificates.admin()?;
    let text = certificates.kubeconfig(&format!("https://{reachable}"), crate::kubeconfig::CONTEXT, "admin", &administrator);
    Ok(Kubeconfig::from_yaml(&text)?)
}

impl Server {
    /// Sends a request, with a deadline. `doing` says what for.
    pub async fn ask<T>(&self, doing: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ConnectError> {
        let doing = doing.to_owned();
        match timeout(PATIENCE, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(ConnectError::Refused { doing, status }),
            Ok(Err(source @ (kube::Error::HyperError(_) | kube::Error::Service(_)))) => {
                Err(ConnectError::Unreachable { doing, server: self.url.clone(), source })
            }
            Ok(Err(source)) => Err(ConnectError::Failed { doing, source }),
            Err(_) => Err(ConnectError::Late { doing, server: self.url.clone() }),
        }
    }

    /// What is at a path; `None` if nothing is.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ConnectError> {
        let doing = format!("get {path}");
        match self.send(&doing, Method::GET, path, "application/json", Vec::new()).await {
            Err(ConnectError::Refused { status, .. }) if status.code == 404 => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sends a body.
    pub async fn send(&self, doing: &str, method: Method, path: &str, media: &str, body: Vec<u8>) -> Result<Value, ConnectError> {
        let request = Request::builder().method(method).uri(path).header("Content-Type", media).header("Accept", "application/json");
        let request =
            request.body(body).map_err(|error| ConnectError::Failed { doing: doing.to_owned(), source: kube::Error::HttpError(error) })?;
        self.ask(doing, self.client.request(request)).await
    }

    /// One object; `None` if there is none.
    pub async fn find<K: Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ConnectError> {
        let path = format!("{}/{name}", K::url_path(&(), Some(namespace)));
        let found = self.get(&path).await?;
        found
            .map(|object| decode(&object.to_string()).map_err(|source| ConnectError::Malformed { doing: format!("get {path}"), source }))
            .transpose()
    }

    /// All objects of a kind, in a namespace or in all.
    pub async fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, namespace: Option<&str>) -> Result<Vec<K>, ConnectError> {
        let path = K::url_path(&(), namespace);
        let texts = self.list_texts(&path).await?;
        let objects = texts.iter().map(|text| decode(text.get())).collect::<Result<Vec<K>, _>>();
        objects.map_err(|source| ConnectError::Malformed { doing: format!("list {path}"), source })
    }

    /// All objects at a path, page by page.
    async fn list_texts(&self, path: &str) -> Result<Vec<Box<RawValue>>, ConnectError> {
        let doing = format!("list {path}");
        let mut parameters = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let request = kube::core::request::Request::new(path).list(&parameters);
            let request =
                request.map_err(|error| ConnectError::Failed { doing: doing.clone(), source: kube::Error::BuildRequest(error) })?;
            let text = self.ask(&doing, self.client.request_text(request)).await?;
            let page: Page = serde_json::from_str(&text).map_err(|source| ConnectError::Malformed { doing: doing.clone(), source })?;
            found.extend(page.items);
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(found),
            }
        }
    }
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    r#continue: Option<String>,
}

/// From bytes, as everywhere else: so the program has one decoder per kind.
pub fn decode<K: DeserializeOwned>(object: &str) -> Result<K, serde_json::Error> {
    serde_json::from_slice(object.as_bytes())
}

impl ConnectError {
    /// The server's answer, if it refused.
    pub fn refusal(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } => Some(status),
            _ => None,
        }
    }
}
