//! This node: containers, images, pod network, service rules, DNS and the agent that joins them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use apiserver::{NodeDialer, Stream};
use controllers::Informers;
use image::Images;
use informer::{Api, Informer};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use network::PodNetwork;
use network::service::Observed;
use node::{Agent, Parts, Views};
use runtime::{Runtime, RuntimeConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::instance::Instance;

/// The zone of all names in the cluster.
const DOMAIN: &str = "cluster.local";
/// Where the node's own name servers are listed.
const RESOLVER_FILE: &str = "/etc/resolv.conf";
/// Bytes in flight between the API server and the agent, on one connection, each way.
const PIPE: usize = 64 * 1024;

/// How the API server reaches the agent, which starts later than the server.
#[derive(Clone, Default)]
pub(crate) struct Line {
    agent: Arc<OnceLock<node::Connector>>,
}

impl Line {
    /// A dialer that leads to this process' own agent, once there is one.
    pub(crate) fn dialer(&self, node_name: &str) -> NodeDialer {
        let (agent, own) = (Arc::clone(&self.agent), node_name.to_owned());
        Arc::new(move |name: &str| {
            let connected = match agent.get() {
                Some(agent) if name == own => Ok(connect(agent.clone())),
                Some(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("node {name} has no agent here"))),
                None => Err(io::Error::new(io::ErrorKind::NotConnected, format!("node {name} is starting"))),
            };
            Box::pin(async move { connected })
        })
    }
}

fn connect(agent: node::Connector) -> Box<dyn Stream> {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    tokio::spawn(async move { agent.connection(theirs).await });
    Box::new(ours)
}

/// What a node needs from the rest of the process.
pub(crate) struct Setting<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) node_name: String,
    pub(crate) client: Client,
    pub(crate) views: Views,
    pub(crate) informers: &'a Informers,
    pub(crate) network: PodNetwork,
    pub(crate) line: &'a Line,
    pub(crate) shutdown: CancellationToken,
}

/// A running node. Dropping it leaves the pods running.
pub(crate) struct Worker {
    _agent: Agent,
    _dns: dns::Server,
    _tasks: JoinSet<()>,
}

/// Starts the node and waits until names are answered and the agent works.
pub(crate) async fn start(setting: Setting<'_>) -> Result<Worker, Failure> {
    let Setting { instance, node_name, client, views, informers, network, line, shutdown } = setting;
    let mut tasks = JoinSet::new();
    let observed = Observed { services: informers.services.clone(), slices: informers.slices.clone() };
    let ended = shutdown.clone().cancelled_owned();
    tasks.spawn(network::service::run(network.clone(), observed, node_name.clone(), ended));
    let dns = start_dns(&network, informers).await?;
    let executable = std::env::current_exe().map_err(Failure::Executable)?;
    let config = RuntimeConfig { run_dir: instance.run_dir(), executable, cgroup_parent: instance.cgroup_parent() };
    let (opened, images) = tokio::join!(Runtime::open(config), Images::open(instance.folder("images")));
    let config = node::Config {
        node_name,
        data_dir: instance.folder("node"),
        run_dir: instance.run_dir(),
        addresses: vec![main_address(network.gateway()).to_string()],
        cluster_dns: vec![network.gateway().to_string()],
        cluster_domain: DOMAIN.to_owned(),
        labels: BTreeMap::new(),
        pod_cidr: Some(network.config().pod_cidr.to_string()),
    };
    let agent = Agent::start(config, Parts { client, views, runtime: opened?, network, images: images? }).await?;
    // Set once only: there is one node in a process.
    let _ = line.agent.set(agent.connector());
    dns.ready().await;
    Ok(Worker { _agent: agent, _dns: dns, _tasks: tasks })
}

async fn start_dns(network: &PodNetwork, informers: &Informers) -> Result<dns::Server, Failure> {
    let listen = vec![SocketAddr::from((network.gateway(), 53))];
    let text = tokio::fs::read_to_string(RESOLVER_FILE).await.unwrap_or_default();
    let config = dns::Config {
        upstreams: dns::upstreams_in(&text),
        listen,
        domain: DOMAIN.to_owned(),
        pods: network.config().pod_cidr,
        services: network.config().service_cidr,
    };
    Ok(dns::Server::start(config, informers.services.clone(), informers.slices.clone()).await?)
}

/// What the agent looks at.
pub(crate) fn views(client: &Client, informers: &Informers) -> Views {
    Views {
        pods: informers.pods.clone(),
        nodes: informers.nodes.clone(),
        config_maps: informers.config_maps.clone(),
        secrets: Informer::<Secret>::start(Api::all(client.clone())),
        services: informers.services.clone(),
        claims: informers.claims.clone(),
        volumes: informers.volumes.clone(),
        storage_classes: informers.storage_classes.clone(),
        stateful_sets: informers.statefulsets.clone(),
    }
}

/// The address by which the rest of the network knows this machine; the bridge's where there is no other network.
fn main_address(gateway: Ipv4Addr) -> Ipv4Addr {
    // Connecting a datagram socket sends nothing: it only chooses a route.
    let chosen = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match chosen {
        Ok(SocketAddr::V4(address)) if !address.ip().is_loopback() && !address.ip().is_unspecified() => *address.ip(),
        _ => gateway,
    }
}
