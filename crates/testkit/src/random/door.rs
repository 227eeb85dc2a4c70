//! The way to a server that comes and goes.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;

/// What a server said: the status and the body.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: u16,
    pub body: Value,
}

/// The way to the server. It is closed while no server is there; each time it opens, another life begins.
#[derive(Debug, Default)]
pub struct Door {
    current: watch::Sender<Current>,
}

#[derive(Clone, Default)]
struct Current {
    life: u64,
    client: Option<Client>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "life {}, open: {}", self.life, self.client.is_some())
    }
}

impl Door {
    /// Lets clients in.
    pub fn open(&self, client: Client) {
        self.current.send_modify(|current| *current = Current { life: current.life + 1, client: Some(client) });
    }

    /// Drops all that is under way, and lets nobody in.
    pub fn close(&self) {
        self.current.send_modify(|current| current.client = None);
    }

    /// Sends a request as soon as the door is open; nothing when the outcome is unknown.
    pub async fn ask(&self, request: Request<Vec<u8>>) -> Option<Said> {
        self.within(request, |response| async {
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Said { status, body: serde_json::from_slice(&body).ok()? })
        })
        .await
    }

    /// Begins a stream of lines, or has a status that says why not.
    pub async fn stream(&self, request: Request<Vec<u8>>) -> Option<Result<Lines, Said>> {
        let current = self.current.subscribe();
        self.within(request, |response| async {
            let status = response.status().as_u16();
            if status == 200 {
                return Some(Ok(Lines { current, body: response.into_body(), buffer: Vec::new() }));
            }
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Err(Said { status, body: serde_json::from_slice(&body).ok()? }))
        })
        .await
    }

    async fn within<T, F: Future<Output = Option<T>>>(
        &self,
        request: Request<Vec<u8>>,
        read: impl FnOnce(Response<Body>) -> F,
    ) -> Option<T> {
        let mut current = self.current.subscribe();
        let Current { life, client } = current.wait_for(|current| current.client.is_some()).await.ok()?.clone();
        let answered = async { read(client?.send(request.map(Body::from)).await.ok()?).await };
        tokio::select! {
            biased;
            answer = answered => answer,
            _ = current.wait_for(|current| current.life != life || current.client.is_none()) => None,
        }
    }
}

/// The lines of a stream.
pub struct Lines {
    current: watch::Receiver<Current>,
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line as JSON; nothing at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let more: Option<Bytes> = tokio::select! {
                biased;
                frame = self.body.frame() => frame.and_then(|frame| frame.ok()?.into_data().ok()),
                _ = self.current.wait_for(|current| current.client.is_none()) => None,
            };
            self.buffer.extend_from_slice(&more?);
        }
    }
}
