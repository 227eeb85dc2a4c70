//! `steadfast up`: joins the parts, in the order in which they need each other.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use apiserver::audit::{Auditor, Place, Policy};
use apiserver::certificates::Certificates;
use apiserver::{Config, Limits, NodeDialer, Server, UserRole};
use controllers::namespaces;
use controllers::rights::{self, MANAGER};
use controllers::roster::{Controller, Parts};
use network::PodNetwork;
use nix::sys::socket::{setsockopt, sockopt};
use node::simulated;
use plan::servers::served;
use store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arguments::{AuditLog, ServerLimits, Up};
use crate::backing::{self, Backing};
use crate::bootstrap;
use crate::control::Control;
use crate::failure::Failure;
use crate::instance::{Instance, Record};
use crate::kubeconfig::{self, Administrator};
use crate::stop::Stop;
use crate::whereabouts::Whereabouts;
use crate::worker::{self, Line, Setting, Worker};

/// Where tokens of service accounts come from, and whom they are for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// After so many seconds of silence a client is asked whether it is there, every so many seconds, so many times.
const KEEP_ALIVE: (u32, u32, u32) = (30, 15, 4);
/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// Runs the control plane and this node until SIGTERM or SIGINT. Containers are left running.
pub(crate) async fn run(up: Up) -> Result<(), Failure> {
    let begin = Instant::now();
    let disabled =
        Controller::chosen(&up.disable_controllers).map_err(|error| Failure::Message(format!("--disable-controllers: {error}")))?;
    if up.simulated_nodes == 0 && !up.no_node && !nix::unistd::geteuid().is_root() {
        return Err(Failure::NotRoot);
    }
    // Whoever wishes for a record that can't be kept is told before anything is touched; the file may lie in the data directory.
    let policy = policy(&up.audit)?;
    let instance = Instance::new(&up.instance.data_dir)?;
    instance.create()?;
    let running = instance.lock()?;
    let auditor = up.audit.log.as_ref().map(|log| auditor(log, &up.audit, policy)).transpose()?;
    raise_open_files();
    let mut stop = Stop::new()?;
    let record = record(&up)?;
    let chosen = Controller::ALL.into_iter().filter(|controller| !disabled.contains(controller)).collect();
    let started = start(&up, &instance, &record, auditor, chosen).await?;
    println!("ready in {} ms", begin.elapsed().as_millis());
    stop.wait().await;
    tracing::info!("stopping; containers are left running");
    started.end().await;
    drop(running);
    Ok(())
}

/// Each client takes a file or more; how many there may be is for the server's limits to say.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "no more files can be open than before");
    }
}

/// Everything that runs.
struct Started {
    shutdown: CancellationToken,
    /// What serves connections, and the controllers.
    tasks: JoinSet<()>,
    _worker: Option<Worker>,
    _server: Server,
}

impl Started {
    /// Lets requests and rounds under way finish, a little while.
    async fn end(mut self) {
        self.shutdown.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
    }
}

async fn start(
    up: &Up,
    instance: &Instance,
    record: &Record,
    auditor: Option<Arc<Auditor>>,
    chosen: Vec<Controller>,
) -> Result<Started, Failure> {
    let shutdown = CancellationToken::new();
    // A server that is refused here has not touched the machine.
    let Backing { store, certificates } = backing::open(up, instance, record).await?;
    instance.write_record(record)?;
    let is_shared = store.is_shared();
    let network = match record.without_node {
        true => None,
        false => Some(PodNetwork::open(instance.network(up.pod_cidr, up.service_cidr)).await?),
    };
    let line = Line::default();
    let server = server(up, store, &certificates, line.dialer(&record.node_name), auditor).await?;
    let mut tasks = serve(up, &server, &certificates, network.as_ref(), &shutdown).await?;
    write_kubeconfig(up, &certificates)?;
    let administrator = server.client("system:steadfast", &[MASTERS]);
    namespaces::ensure_system(&administrator).await?;
    let controllers = server.client(MANAGER, &[]);
    let parts = Arc::new(Parts::start(&controllers, certificates.authority().into()));
    let informers = parts.informers.clone();
    let gateway = network.as_ref().map(PodNetwork::gateway);
    bootstrap::run(&administrator, up.service_cidr, up.listen.port()).await?;
    if let Some(dns) = gateway {
        bootstrap::publish_dns(&administrator, up.service_cidr, dns).await?;
    }
    let own = reached_at(up, gateway);
    let simulated = simulated(up, &server).await?;
    let control = Control { server: server.clone(), parts, chosen, simulated };
    if is_shared {
        let mut whereabouts = Whereabouts { client: administrator, own, lease_seconds: up.lease_duration, heard: HashMap::new() };
        whereabouts.round().await?;
        tasks.spawn(whereabouts.run(shutdown.clone().cancelled_owned()));
        control.stand(&mut tasks, &shutdown, up.lease_duration)?;
    } else {
        bootstrap::publish_api(&administrator, &served(own)).await?;
        control.start(&mut tasks, &shutdown);
    }
    let worker = match network {
        None => None,
        Some(network) => {
            let (node_name, shutdown) = (record.node_name.clone(), shutdown.clone());
            let client = server.client(&format!("system:node:{node_name}"), &["system:nodes"]);
            // The views of this process are those of the control plane; what the agent itself asks, it asks as the node.
            let views = worker::views(&controllers, &informers);
            let setting = Setting { instance, node_name, client, views, informers: &informers, network, line: &line, shutdown };
            Some(worker::start(setting).await?)
        }
    };
    Ok(Started { shutdown, tasks, _worker: worker, _server: server })
}

/// Nodes that only pretend to run their pods: registered here, and run with the controllers.
async fn simulated(up: &Up, server: &Server) -> Result<Option<simulated::Options>, Failure> {
    if up.simulated_nodes == 0 {
        return Ok(None);
    }
    let options = simulated::Options { nodes: up.simulated_nodes, ..simulated::Options::default() };
    simulated::register(&server.client(simulated::USER, &[]), &options).await?;
    Ok(Some(options))
}

fn record(up: &Up) -> Result<Record, Failure> {
    let node_name = match &up.node_name {
        Some(name) => name.clone(),
        None => {
            let host =
                nix::unistd::gethostname().map_err(|error| Failure::Message(format!("the host has no name: {error}; use --node-name")))?;
            host.to_string_lossy().to_lowercase()
        }
    };
    let place = up.kubeconfig.clone().map_or_else(kubeconfig::of_user, Ok)?;
    let kubeconfig = Some(std::path::absolute(&place).unwrap_or(place));
    Ok(Record {
        node_name,
        pod_cidr: up.pod_cidr,
        service_cidr: up.service_cidr,
        listen: up.listen.to_string(),
        without_node: up.simulated_nodes > 0 || up.no_node,
        store: Some(up.store.kind()),
        kubeconfig,
    })
}

async fn server(
    up: &Up,
    store: Arc<dyn Store>,
    certificates: &Certificates,
    dialer: NodeDialer,
    audit: Option<Arc<Auditor>>,
) -> Result<Server, Failure> {
    let config = Config {
        service_range: up.service_cidr.to_string().parse().map_err(|error| Failure::Message(format!("--service-cidr: {error}")))?,
        token_key: Arc::new(certificates.token_key()?),
        issuer: ISSUER.to_owned(),
        node_dialer: Some(dialer),
        limits: limits(up.limits),
        audit,
        user_roles: rights::of_users().into_iter().map(|(user, rules)| UserRole { user: user.to_owned(), rules }).collect(),
    };
    Ok(Server::new(config, store).await?)
}

fn limits(told: ServerLimits) -> Limits {
    Limits {
        reading: told.max_requests_inflight,
        mutating: told.max_mutating_requests_inflight,
        event_time: told.event_ttl,
        ..Limits::default()
    }
}

fn policy(told: &AuditLog) -> Result<Policy, Failure> {
    let Some(path) = &told.policy else { return Ok(Policy::default()) };
    let unusable = |error: String| Failure::Message(format!("--audit-policy {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    Policy::parse(&text).map_err(|error| unusable(error.to_string()))
}

fn auditor(log: &Path, told: &AuditLog, policy: Policy) -> Result<Arc<Auditor>, Failure> {
    let place = Place { path: log.to_owned(), size: told.size << 20, backups: told.backups };
    Auditor::open(place, policy).map_err(|error| Failure::Message(format!("--audit-log {}: {error}", log.display())))
}

/// Serves users where they asked for it, and pods on the bridge.
async fn serve(
    up: &Up,
    server: &Server,
    certificates: &Certificates,
    network: Option<&PodNetwork>,
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, Failure> {
    let mut listeners = vec![listen(up.listen).await?];
    let gateway = network.map(PodNetwork::gateway);
    if let Some(gateway) = gateway.filter(|_| !up.listen.ip().is_unspecified()) {
        listeners.push(listen(SocketAddr::from((gateway, up.listen.port()))).await?);
    }
    let own = [IpAddr::V4(bootstrap::api_service_address(up.service_cidr)), IpAddr::V4(Ipv4Addr::LOCALHOST), up.listen.ip()];
    let (others, names): (Vec<_>, Vec<_>) = up.api_name.iter().map(|name| name.parse().map_err(|_| name.clone())).partition(Result::is_ok);
    let others = others.into_iter().filter_map(Result::ok);
    let names: Vec<String> = names.into_iter().filter_map(Result::err).collect();
    let addresses: Vec<IpAddr> = own.into_iter().chain(gateway.map(IpAddr::V4)).chain(others).collect();
    let tls = certificates.tls(&certificates.serving(&names, &addresses)?)?;
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let (server, tls, ended) = (server.clone(), Arc::clone(&tls), shutdown.clone().cancelled_owned());
        tasks.spawn(async move { server.serve(listener, tls, ended).await });
    }
    Ok(tasks)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        keep_alive(&listener)?;
        Ok(listener)
    };
    bound.await.map_err(|source| Failure::Listen { address, source })
}

/// A client whose machine is gone is noticed, also where nothing is said for long: in the streams of terminals, ports and logs.
/// Connections have what their listener has.
fn keep_alive(listener: &TcpListener) -> std::io::Result<()> {
    setsockopt(listener, sockopt::KeepAlive, &true)?;
    setsockopt(listener, sockopt::TcpKeepIdle, &KEEP_ALIVE.0)?;
    setsockopt(listener, sockopt::TcpKeepInterval, &KEEP_ALIVE.1)?;
    Ok(setsockopt(listener, sockopt::TcpKeepCount, &KEEP_ALIVE.2)?)
}

fn write_kubeconfig(up: &Up, certificates: &Certificates) -> Result<(), Failure> {
    let admin = certificates.admin()?;
    let host = if up.listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { up.listen.ip() };
    let server = format!("https://{}", SocketAddr::from((host, up.listen.port())));
    let administrator =
        Administrator { server: &server, authority: certificates.authority(), certificate: &admin.certificate, key: &admin.key };
    match &up.kubeconfig {
        Some(path) => Ok(administrator.write(path)?),
        None => Ok(administrator.merge(&kubeconfig::of_user()?)?),
    }
}

/// Where pods reach the API of this server. Those of another server's machine do only where it listens on an address of its own.
fn reached_at(up: &Up, gateway: Option<Ipv4Addr>) -> Option<SocketAddrV4> {
    let pretended = (up.simulated_nodes > 0).then_some(Ipv4Addr::LOCALHOST);
    let listened = match up.listen.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() => Some(ip),
        _ => None,
    };
    let ip = gateway.or(pretended).or(listened)?;
    Some(SocketAddrV4::new(ip, up.listen.port()))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn connections_that_are_accepted_are_kept_alive() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (connection, _) = accepted.unwrap();
        assert!(getsockopt(&connection, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&connection, sockopt::TcpKeepIdle).unwrap(), KEEP_ALIVE.0);
    }
}
