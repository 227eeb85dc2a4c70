//! What carries the frames: the connection itself, or the messages of a WebSocket.

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::server::upgrade::{Socket, normal_close};

/// What is read of a connection at once.
const CHUNK: usize = 32 << 10;

/// Where frames come from.
pub(in crate::server) enum Incoming {
    Plain(Box<dyn AsyncRead + Send + Unpin>),
    Tunnel(SplitStream<Socket>),
}

/// Where frames go to.
pub(in crate::server) enum Outgoing {
    Plain(Box<dyn AsyncWrite + Send + Unpin>),
    Tunnel(SplitSink<Socket, Message>),
}

impl Incoming {
    /// Adds what arrives next. False at the end.
    pub(super) async fn read(&mut self, received: &mut BytesMut) -> bool {
        match self {
            Self::Plain(connection) => {
                received.reserve(CHUNK);
                connection.read_buf(received).await.is_ok_and(|count| count > 0)
            }
            Self::Tunnel(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        received.extend_from_slice(&bytes);
                        return true;
                    }
                    None | Some(Err(_) | Ok(Message::Close(_))) => return false,
                    Some(Ok(_)) => {}
                }
            },
        }
    }
}

impl Outgoing {
    /// False if nobody reads any more.
    pub(super) async fn write(&mut self, frame: Bytes) -> bool {
        match self {
            Self::Plain(connection) => connection.write_all(&frame).await.is_ok(),
            Self::Tunnel(socket) => socket.send(Message::Binary(frame)).await.is_ok(),
        }
    }

    /// Lets out what is still held back, and says that it was all.
    pub(super) async fn close(&mut self) {
        // The other side may be gone already.
        match self {
            Self::Plain(connection) => drop(connection.shutdown().await),
            Self::Tunnel(socket) => {
                let _ = socket.send(normal_close()).await;
                let _ = socket.close().await;
            }
        }
    }
}
