//! The rival in durable writes: etcd, spoken to over gRPC with as many connections.

use std::process::Stdio;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Failure;

const ADDRESS: &str = "127.0.0.1:23990";

/// A server of its own; ended when dropped.
pub struct Etcd {
    _server: Child,
    _folder: TempDir,
}

impl Etcd {
    pub async fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let url = format!("http://{ADDRESS}");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.path().join("data")).args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:23991", "--initial-advertise-peer-urls", "http://127.0.0.1:23991"]);
        command.args(["--initial-cluster", "default=http://127.0.0.1:23991", "--log-level", "error"]);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let etcd = Self { _server: server, _folder: folder };
        for _ in 0..100 {
            if let Ok(mut client) = Client::open().await
                && client.put(b"ready", b"").await.is_ok()
            {
                return Ok(etcd);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("etcd did not become ready within 10 s".into())
    }
}

/// One connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn open() -> Result<Self, Failure> {
        let stream = TcpStream::connect(ADDRESS).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// One durable put.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let request = Request::post(format!("http://{ADDRESS}/etcdserverpb.KV/Put"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(Full::new(message(key, value)))?;
        self.sender.ready().await?;
        let body = self.sender.send_request(request).await?.into_body().collect().await?;
        match body.trailers().and_then(|trailers| trailers.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            status => Err(format!("etcd put: {status:?}").into()),
        }
    }
}

/// A gRPC frame with a `PutRequest { key = 1, value = 2 }`.
fn message(key: &[u8], value: &[u8]) -> Bytes {
    let mut request = BytesMut::new();
    for (tag, bytes) in [(0x0a, key), (0x12, value)] {
        request.put_u8(tag);
        put_varint(&mut request, bytes.len());
        request.put_slice(bytes);
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.len()).unwrap_or(u32::MAX));
    frame.put_slice(&request);
    frame.freeze()
}

fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}
