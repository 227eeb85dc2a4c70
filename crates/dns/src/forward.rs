//! Asking others: the machine's own name servers, for names that are not the cluster's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::wire::our_edns;

/// How many questions may be under way. More are answered with a failure at once, so that clients ask another server.
const AT_ONCE: usize = 512;
/// How long one server may take for one try.
const PER_TRY: Duration = Duration::from_millis(1500);
/// How long all servers may take together; resolvers give up after five seconds.
const ALTOGETHER: Duration = Duration::from_millis(4500);
/// As resolvers do.
const MAX_UPSTREAMS: usize = 3;
const PORT: u16 = 53;

/// Nobody gave an answer.
#[derive(Debug, Error)]
pub(crate) enum ForwardError {
    #[error("no name server is configured")]
    Nobody,
    #[error("too many questions are under way")]
    Busy,
    #[error("no name server answered in time")]
    Late,
    #[error("asking: {0}")]
    Io(#[from] io::Error),
    #[error("the answer can't be read")]
    Malformed,
}

impl ForwardError {
    /// What the client is told.
    pub(crate) fn code(&self) -> ResponseCode {
        match self {
            Self::Nobody => ResponseCode::Refused,
            _ => ResponseCode::ServFail,
        }
    }
}

/// The name servers of a `resolv.conf`.
pub fn upstreams_in(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| line.strip_prefix("nameserver").and_then(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    resolv_conf.lines().filter_map(server).take(MAX_UPSTREAMS).map(|address| (address, PORT).into()).collect()
}

/// Asks upstream servers in turn.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    places: Semaphore,
}

impl Forwarder {
    /// Servers that are ourselves are left out: a question would go round for ever.
    pub(crate) fn new(upstreams: &[SocketAddr], ourselves: &[SocketAddr]) -> Self {
        let upstreams = upstreams.iter().filter(|upstream| !ourselves.contains(upstream)).copied().collect();
        Self { upstreams, places: Semaphore::new(AT_ONCE) }
    }

    pub(crate) fn has_upstreams(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// The first answer that is one.
    pub(crate) async fn ask(&self, question: &Query) -> Result<Message, ForwardError> {
        if self.upstreams.is_empty() {
            return Err(ForwardError::Nobody);
        }
        let _place = self.places.try_acquire().map_err(|_| ForwardError::Busy)?;
        timeout(ALTOGETHER, self.ask_in_turn(question)).await.unwrap_or(Err(ForwardError::Late))
    }

    async fn ask_in_turn(&self, question: &Query) -> Result<Message, ForwardError> {
        let mut last = ForwardError::Late;
        // Twice around, since a packet may be lost.
        for upstream in self.upstreams.iter().chain(&self.upstreams) {
            match timeout(PER_TRY, exchange(*upstream, question)).await {
                Ok(Ok(message)) if message.metadata.response_code != ResponseCode::ServFail => return Ok(message),
                Ok(Ok(_)) | Err(_) => last = ForwardError::Late,
                Ok(Err(error)) => last = error,
            }
        }
        Err(last)
    }
}

async fn exchange(upstream: SocketAddr, question: &Query) -> Result<Message, ForwardError> {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.queries.push(question.clone());
    request.edns = Some(our_edns());
    let bytes = request.to_vec().map_err(|_| ForwardError::Malformed)?;
    let answer = by_udp(upstream, &bytes, &request).await?;
    if answer.metadata.truncation { by_tcp(upstream, &bytes, &request).await } else { Ok(answer) }
}

/// From a port of its own, so that who wants to forge an answer has to guess it.
async fn by_udp(upstream: SocketAddr, bytes: &[u8], request: &Message) -> Result<Message, ForwardError> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not fit may be forged, or late: the right answer may still come.
        if let Ok(answer) = read(&buffer[..length], request) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(upstream: SocketAddr, bytes: &[u8], request: &Message) -> Result<Message, ForwardError> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| ForwardError::Malformed)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    read(&answer, request)
}

fn read(bytes: &[u8], request: &Message) -> Result<Message, ForwardError> {
    let answer = Message::from_vec(bytes).map_err(|_| ForwardError::Malformed)?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == request.metadata.id
        && answer.queries == request.queries;
    if fits { Ok(answer) } else { Err(ForwardError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t192.0.2.2 # two\nnameserver x\noptions ndots:1\n";
        assert_eq!(upstreams_in(text), ["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_server_that_is_ourselves_is_never_asked() {
        let ourselves = ["127.0.0.1:53".parse().unwrap()];
        let forwarder = Forwarder::new(&ourselves, &ourselves);
        let question = Query::query("example.com.".parse().unwrap(), hickory_proto::rr::RecordType::A);
        assert!(matches!(forwarder.ask(&question).await, Err(ForwardError::Nobody)));
    }
}
