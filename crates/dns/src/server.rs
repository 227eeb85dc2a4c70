//! Listening, by UDP and TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use informer::Informer;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plan::zone::Zone;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::forward::Forwarder;
use crate::query::{Answerer, Forward, Reply};
use crate::view::View;
use crate::wire::Transport;
use crate::{Config, DnsError};

/// How many TCP connections are served; more are closed at once.
const CONNECTIONS: usize = 256;
/// How long a TCP client may be silent or not read.
const IDLE: Duration = Duration::from_secs(10);
/// How long listening rests after an error.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// How long an absent name of a pod is waited for: its address is known to the API a moment before its name is here.
const MOMENT: Duration = Duration::from_millis(250);
/// How many questions wait so; to others an absent name is absent at once.
const WAITING: usize = 1024;
/// The largest question by UDP.
const MAX_QUESTION: usize = 4096;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    complete: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

struct Shared {
    config: Config,
    answerer: Answerer,
    forwarder: Forwarder,
    connections: Semaphore,
    waiting: Semaphore,
}

impl Server {
    /// Binds, and answers as soon as the informers have seen the cluster; questions that come earlier wait in the sockets.
    pub async fn start(config: Config, services: Informer<Service>, slices: Informer<EndpointSlice>) -> Result<Self, DnsError> {
        let view = View::new(Zone::new(&config.domain, &[config.pods, config.services]));
        let (sender, complete) = watch::channel(false);
        let mut server = Self::listen(config, view.clone(), complete).await?;
        server.tasks.spawn(view.follow(services, slices, sender));
        Ok(server)
    }

    /// Waits until names are answered.
    pub async fn ready(&self) {
        // The sender lives as long as the task that follows the informers, which never ends by itself.
        let _ = self.complete.clone().wait_for(|complete| *complete).await;
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) async fn listen(mut config: Config, view: View, complete: watch::Receiver<bool>) -> Result<Self, DnsError> {
        let mut sockets = Vec::new();
        for address in &mut config.listen {
            let (udp, tcp) = bind(*address).await.map_err(|source| DnsError::Listen { address: *address, source })?;
            *address = udp.local_addr().map_err(|source| DnsError::Listen { address: *address, source })?;
            sockets.push((Arc::new(udp), tcp));
        }
        let addresses = config.listen.clone();
        let forwarder = Forwarder::new(&config.upstreams, &addresses);
        let answerer = Answerer::new(view, forwarder.has_upstreams());
        let shared =
            Arc::new(Shared { config, answerer, forwarder, connections: Semaphore::new(CONNECTIONS), waiting: Semaphore::new(WAITING) });
        let mut tasks = JoinSet::new();
        for (udp, tcp) in sockets {
            tasks.spawn(once_complete(complete.clone(), serve_udp(udp, shared.clone())));
            tasks.spawn(once_complete(complete.clone(), serve_tcp(tcp, shared.clone())));
        }
        Ok(Self { addresses, complete, tasks })
    }
}

async fn once_complete(mut complete: watch::Receiver<bool>, serve: impl Future<Output = ()>) {
    if complete.wait_for(|complete| *complete).await.is_ok() {
        serve.await;
    }
}

/// Both on the same port, also when it is chosen here.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address).await?;
    let tcp = TcpListener::bind(udp.local_addr()?).await?;
    Ok((udp, tcp))
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            // It is about an earlier answer that could not be delivered; should it last, this must not spin.
            tokio::time::sleep(AFTER_ERROR).await;
            continue;
        };
        if !shared.config.serves(client.ip()) {
            continue;
        }
        match shared.answerer.reply(&buffer[..length], Transport::Udp) {
            Reply::Send(bytes) => send(&socket, &bytes, client).await,
            Reply::Absent(bytes) => {
                let (socket, shared, packet) = (socket.clone(), shared.clone(), buffer[..length].to_vec());
                tokio::spawn(async move { send(&socket, &shared.wait(&packet, Transport::Udp, bytes).await, client).await });
            }
            Reply::Forward(forward) => {
                let (socket, shared) = (socket.clone(), shared.clone());
                tokio::spawn(async move {
                    if let Some(bytes) = shared.forward(*forward).await {
                        send(&socket, &bytes, client).await;
                    }
                });
            }
            Reply::Nothing => {}
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "an answer could not be sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors: trying again at once would only burn time.
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if !shared.config.serves(client.ip()) {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Ok(_place) = shared.connections.try_acquire()
                && let Err(error) = converse(stream, &shared).await
            {
                tracing::debug!(%client, %error, "a connection ended");
            }
        });
    }
}

/// Answers one question after the other.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        let mut packet = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut packet)).await??;
        let answer = match shared.answerer.reply(&packet, Transport::Tcp) {
            Reply::Send(bytes) => Some(bytes),
            Reply::Absent(bytes) => Some(shared.wait(&packet, Transport::Tcp, bytes).await),
            Reply::Forward(forward) => shared.forward(*forward).await,
            Reply::Nothing => None,
        };
        let Some(bytes) = answer else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &*bytes].concat())).await??;
    }
}

impl Shared {
    /// The answer to a question for an absent name, should the name come in a moment; else `absent`.
    async fn wait(&self, packet: &[u8], transport: Transport, absent: Vec<u8>) -> Vec<u8> {
        let Ok(_place) = self.waiting.try_acquire() else { return absent };
        let mut changes = self.answerer.changes();
        let deadline = Instant::now() + MOMENT;
        // Asked first once more: it may have come before the changes were listened to.
        loop {
            match self.answerer.reply(packet, transport) {
                Reply::Send(bytes) => return bytes,
                Reply::Absent(_) => {}
                Reply::Forward(_) | Reply::Nothing => return absent,
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return absent;
            }
        }
    }

    async fn forward(&self, forward: Forward) -> Option<Vec<u8>> {
        match self.forwarder.ask(&forward.question).await {
            Ok(said) => forward.complete(said),
            Err(error) => {
                tracing::debug!(name = %forward.question.name, %error, "a name could not be asked for");
                forward.fail(error.code())
            }
        }
    }
}
