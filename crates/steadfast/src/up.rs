//! `steadfast up`: joins the parts, in the order in which they need each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use apiserver::Server;
use apiserver::certificates::Certificates;
use apiserver::config::{Config, Limits};
use controllers::{Informers, Inventory};
use network::PodNetwork;
use store::embedded::{Embedded, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arguments::Up;
use crate::bootstrap::{self, Addresses};
use crate::control::{self, Control};
use crate::failure::Failure;
use crate::instance::{Instance, Record};
use crate::kubeconfig::Administrator;
use crate::worker::{self, Line, Setting, Worker};

/// The names under which the API server can be asked, besides its addresses.
const NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Runs the control plane and this node until SIGTERM or SIGINT. Containers are left running.
pub(crate) async fn run(up: Up) -> Result<(), Failure> {
    let begin = Instant::now();
    control::check(&up.disable_controllers)?;
    let simulated = up.simulated_nodes > 0;
    if !simulated && !nix::unistd::geteuid().is_root() {
        return Err(Failure::NotRoot);
    }
    let instance = Instance::new(&up.instance.data_dir)?;
    instance.create()?;
    let _running = instance.lock()?;
    instance.write_record(&record(&up))?;
    let network = if simulated { None } else { Some(worker::network(instance.network(up.pod_cidr, up.service_cidr)).await?) };
    let shutdown = CancellationToken::new();
    let mut stop = Stop::new()?;
    let started = start(&up, &instance, network, &shutdown).await?;
    println!("ready in {} ms", begin.elapsed().as_millis());
    stop.wait().await;
    tracing::info!("stopping; containers are left running");
    shutdown.cancel();
    started.end().await;
    Ok(())
}
