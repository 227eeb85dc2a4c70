//! `port-forward`: carries connections to ports of a pod, also to those that listen on its loopback only.
//!
//! Three ways to ask: SPDY, SPDY through a WebSocket, and the channels of a WebSocket. Over SPDY each connection is a pair of streams, one
//! for data and one for what went wrong, with the same number; channels come in pairs too, one pair for each port.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::SplitStream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use k8s_openapi::api::core::v1::Pod;
use nix::sched::{CloneFlags, setns};
use runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::spdy::{self, Arrivals, Input, Output, Session, Stream, queue};
use super::upgrade::{self, Chosen, FAREWELL, Offer, Socket};
use super::{Body, RequestError, channels, parameters};
use crate::{Shared, operations};

/// SPDY through a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
const OFFER: Offer = Offer { what: "port-forward", websocket: &[TUNNEL, CHANNELS], spdy: &["portforward.k8s.io"] };

/// What is read of a connection at once.
const CHUNK: usize = 16 << 10;
/// How long a port may take to accept.
const CONNECT: Duration = Duration::from_secs(30);
/// Halves of pairs whose other half has not come.
const MAX_HALVES: usize = 64;
/// Pieces that wait for a slow client.
const AHEAD: usize = 8;
/// Ports of one request over channels: their numbers are bytes, two a port.
const MAX_PORTS: usize = 64;

/// The pod whose ports are asked for.
#[derive(Clone)]
struct Target {
    runtime: Runtime,
    uid: String,
    name: String,
}

/// Accepts the upgrade and forwards what comes.
pub(super) fn serve(shared: &Arc<Shared>, pod: &Pod, mut request: Request<Incoming>) -> Result<Response<Body>, RequestError> {
    let ports = ports(request.uri().query().unwrap_or_default())?;
    let accepted = upgrade::accept(&mut request, OFFER)?;
    if accepted.chosen == Chosen::WebSocket(CHANNELS) && ports.is_empty() {
        return Err(RequestError::Bad("query parameter \"ports\" is required".to_owned()));
    }
    let (uid, name) = (operations::uid(pod).to_owned(), operations::name(pod).to_owned());
    let target = Target { runtime: shared.runtime.clone(), uid, name };
    Ok(accepted.carry_on(move |upgraded, chosen| target.forward(upgraded, chosen, ports)))
}

/// Ports are given one by one, or with commas between.
fn ports(query: &str) -> Result<Vec<u16>, RequestError> {
    let values = parameters(query).into_iter().filter(|(name, _)| name == "ports");
    let texts: Vec<String> = values.flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    if texts.len() > MAX_PORTS {
        return Err(RequestError::Bad(format!("{} ports are asked for at once; {MAX_PORTS} are the limit", texts.len())));
    }
    texts.iter().map(|text| parse_port(text).ok_or_else(|| RequestError::Bad(format!("{text:?} is not a port")))).collect()
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

impl Target {
    async fn forward(self, upgraded: Upgraded, chosen: Chosen, ports: Vec<u16>) {
        match chosen {
            Chosen::WebSocket(CHANNELS) => self.forward_channels(upgraded, &ports).await,
            Chosen::WebSocket(_) => {
                let (sink, stream) = upgrade::websocket(upgraded).await.split();
                self.forward_streams(Session::begin(spdy::Incoming::Tunnel(stream), spdy::Outgoing::Tunnel(sink))).await;
            }
            Chosen::Spdy(_) => self.forward_streams(upgrade::session(upgraded)).await,
        }
    }

    /// Serves pairs of streams until the client goes; what is open then ends with it.
    async fn forward_streams(self, mut session: Session) {
        let mut halves: BTreeMap<String, Stream> = BTreeMap::new();
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = session.accept() => stream,
                Some(_) = connections.join_next() => continue,
            };
            let Some(stream) = stream else { return };
            let number = stream.header("requestid").map(str::to_owned);
            let known = matches!(stream.header("streamtype"), Some("data" | "error"));
            let Some(number) = number.filter(|_| known) else {
                stream.output.refuse().await;
                continue;
            };
            match halves.remove(&number) {
                Some(half) if half.header("streamtype") != stream.header("streamtype") => {
                    let is_data = stream.header("streamtype") == Some("data");
                    let (data, errors) = if is_data { (stream, half) } else { (half, stream) };
                    connections.spawn(self.clone().carry_pair(data, errors));
                }
                None if halves.len() < MAX_HALVES => drop(halves.insert(number, stream)),
                _ => stream.output.refuse().await,
            }
        }
    }

    async fn carry_pair(self, data: Stream, errors: Stream) {
        let Some(port) = data.header("port").and_then(parse_port) else {
            data.output.refuse().await;
            return errors.output.refuse().await;
        };
        match self.connect(port).await {
            Ok(connection) => carry(connection, data.input, Back::Stream(&data.output)).await,
            Err(message) => drop(errors.output.send(message.as_bytes()).await),
        }
        errors.output.finish().await;
        data.output.finish().await;
    }

    /// Serves one connection for each port, each with a channel for data and one for errors.
    async fn forward_channels(self, upgraded: Upgraded, ports: &[u16]) {
        let (sink, stream) = upgrade::websocket(upgraded).await.split();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut arrivals = Vec::new();
        let mut connections = JoinSet::new();
        for (channel, port) in (0_u8..).step_by(2).zip(ports) {
            let (arriving, input) = queue();
            arrivals.push(arriving);
            connections.spawn(self.clone().carry_channel(*port, channel, input, sender.clone()));
        }
        drop(sender);
        let writer = crate::Task::start(upgrade::write(sink, receiver));
        let ended = async {
            while connections.join_next().await.is_some() {}
            sleep(FAREWELL).await;
        };
        // The client's farewell ends all; so does, by the answer to ours, the end of the last connection.
        tokio::select! {
            () = distribute(stream, &arrivals) => {}
            () = ended => {}
        }
        drop(writer);
    }

    async fn carry_channel(self, port: u16, channel: u8, input: Input, to: mpsc::Sender<Message>) {
        let (data, errors) = (Back::Channel(channel, &to), Back::Channel(channel + 1, &to));
        // So the client learns which channels are whose.
        for back in [data, errors] {
            back.send(&port.to_le_bytes()).await;
        }
        match self.connect(port).await {
            Ok(connection) => carry(connection, input, data).await,
            Err(message) => drop(errors.send(message.as_bytes()).await),
        }
    }

    /// A connection to a port as the pod itself would make it, to its own loopback.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let failed = |cause: String| format!("error forwarding port {port} to pod {}: {cause}", self.name);
        let mut refusals = Vec::new();
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let address = SocketAddr::new(address, port);
            let connecting = async { self.socket(address.is_ipv6()).await?.connect(address).await };
            match timeout(CONNECT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => refusals.push(format!("connecting to {address} in the pod: {error}")),
                Err(_) => refusals.push(format!("connecting to {address} in the pod took longer than {} s", CONNECT.as_secs())),
            }
        }
        Err(failed(refusals.join("; ")))
    }

    /// A socket in the pod's network. A socket stays where it was made; the thread that went there does not come back.
    async fn socket(&self, of_six: bool) -> io::Result<TcpSocket> {
        let namespace = self.runtime.network_namespace(&self.uid).map_err(io::Error::other)?;
        let (sender, made) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("pod-socket".to_owned()).spawn(move || {
            let socket = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let socket = socket.and_then(|()| if of_six { TcpSocket::new_v6() } else { TcpSocket::new_v4() });
            // The client may have gone meanwhile.
            drop(sender.send(socket));
        })?;
        made.await.map_err(io::Error::other)?
    }
}

/// Gives what comes on channels to their ports, until the client goes.
async fn distribute(mut stream: SplitStream<Socket>, arrivals: &[Arrivals]) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(bytes) = message else { continue };
        let Some(channel) = bytes.first() else { continue };
        if channel % 2 == 0
            && let Some(port) = arrivals.get(usize::from(channel / 2))
        {
            // A connection that has ended takes nothing more.
            let _ended = port.add(bytes.slice(1..)).await;
        }
    }
}

/// Where a port's bytes go.
#[derive(Clone, Copy)]
enum Back<'a> {
    Stream(&'a Output),
    Channel(u8, &'a mpsc::Sender<Message>),
}

impl Back<'_> {
    /// False if nobody wants them any more.
    async fn send(self, bytes: &[u8]) -> bool {
        match self {
            Self::Stream(output) => output.send(bytes).await,
            Self::Channel(channel, to) => to.send(Message::binary(channels::message(channel, bytes))).await.is_ok(),
        }
    }

    async fn closed(self) {
        match self {
            Self::Stream(output) => output.closed().await,
            Self::Channel(_, to) => to.closed().await,
        }
    }
}

/// Carries bytes both ways until the port closes, or the client takes its stream back.
async fn carry(connection: TcpStream, input: Input, back: Back<'_>) {
    let (from_port, to_port) = connection.into_split();
    let sending = async {
        write(input, to_port).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read(from_port, back) => {}
        () = sending => {}
        () = back.closed() => {}
    }
}

/// The client's end of input is the port's.
async fn write(mut input: Input, mut to_port: OwnedWriteHalf) {
    while let Some(bytes) = input.next().await {
        if to_port.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // It may be closed already.
    let _ = to_port.shutdown().await;
}

async fn read(mut from_port: OwnedReadHalf, back: Back<'_>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from_port.read(&mut buffer).await {
        if !back.send(&buffer[..read]).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn the_end_of_a_ports_connection_ends_its_channel() {
        let (connection, mut port) = connected().await;
        let (to, mut messages) = mpsc::channel(AHEAD);
        // The client's side stays open.
        let (_arrivals, input) = queue();
        port.write_all(b"bye").await.unwrap();
        drop(port);
        carry(connection, input, Back::Channel(4, &to)).await;
        drop(to);
        assert_eq!(messages.recv().await.unwrap().into_data(), &b"\x04bye"[..]);
        assert!(messages.recv().await.is_none());
    }

    #[test]
    fn ports_are_given_in_either_way() {
        assert_eq!(ports("ports=80&ports=81,82").unwrap(), [80, 81, 82]);
        assert!(ports("").unwrap().is_empty());
        for wrong in ["ports=0", "ports=x", "ports=70000", "ports=1,,2"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        assert!(ports(&format!("ports={}", vec!["1"; MAX_PORTS + 1].join(","))).is_err());
    }
}
