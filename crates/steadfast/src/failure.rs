//! Why a verb failed, with the next step where there is one.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::connect::ConnectError;
use crate::foresee::ManifestError;
use crate::instance::InstanceError;
use crate::kubeconfig::KubeconfigError;

/// Why a verb failed.
#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Image(#[from] image::ImageError),
    #[error(transparent)]
    Build(#[from] image::build::BuildError),
    #[error(transparent)]
    Store(#[from] store::embedded::OpenError),
    #[error(transparent)]
    Etcd(#[from] store::etcd::OpenError),
    #[error(transparent)]
    Transfer(#[from] store::transfer::TransferError),
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    #[error(transparent)]
    Containers(#[from] runtime::RuntimeError),
    #[error(transparent)]
    Dns(#[from] dns::DnsError),
    #[error(transparent)]
    Node(#[from] node::StartError),
    #[error(transparent)]
    Simulated(#[from] node::simulated::RegisterError),
    #[error(transparent)]
    Certificates(#[from] apiserver::certificates::CertificateError),
    #[error("the API server can't start: {0}")]
    Api(#[from] apiserver::error::ApiError),
    #[error("the cluster's first namespaces can't be made: {0}")]
    Namespaces(#[from] controllers::runtime::ReconcileError),
    #[error("this program's own file can't be found: {0}")]
    Executable(#[source] io::Error),
    #[error("mounts of pods can't be removed: {0}")]
    Unmount(#[source] io::Error),
    #[error("the API can't be served at {address}: {source}; choose another with --listen")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the cluster's first objects can't be made: {0}")]
    Bootstrap(#[from] kube::Error),
    #[error("there is no StatefulSet {name} in namespace {namespace}; `steadfast status -n {namespace}` shows those there are")]
    NoSuchSet { namespace: String, name: String },
    #[error("running containers needs root; run as root, or try `--simulated-nodes 1`")]
    NotRoot,
    #[error("threads can't be started: {0}")]
    Runtime(#[source] io::Error),
    #[error("{0}")]
    Message(String),
}
