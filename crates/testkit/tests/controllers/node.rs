//! What the API server reaches on the made-up node: commands, which end as the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use apiserver::{NodeDialer, Stream};
use futures::{FutureExt, SinkExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// The commands that were run, and how many of the next ones fail.
#[derive(Clone, Default)]
pub(crate) struct Commands(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    run: Vec<String>,
    failures: usize,
}

impl Commands {
    pub(crate) fn fail(&self, times: usize) {
        self.0.lock().unwrap().failures = times;
    }

    /// `web-1 leave Update`, in the order in which they ran.
    pub(crate) fn run(&self) -> Vec<String> {
        self.0.lock().unwrap().run.clone()
    }

    /// Runs the pod of a hook: the status it ends with.
    pub(crate) fn end(&self, pod: &Pod) -> Value {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let variables = container.env.iter().flatten().filter_map(|variable| variable.value.as_deref());
        let fails = self.note(variables.collect::<Vec<_>>().join(" "));
        let (phase, code) = if fails { ("Failed", 1) } else { ("Succeeded", 0) };
        let end = json!({"terminated": {"exitCode": code, "message": "no replica"}});
        let status = json!({"name": container.name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": end});
        json!({"phase": phase, "containerStatuses": [status]})
    }

    /// Notes what is run; whether it fails.
    fn note(&self, what: String) -> bool {
        let mut state = self.0.lock().unwrap();
        state.run.push(what);
        let fails = state.failures > 0;
        state.failures = state.failures.saturating_sub(1);
        fails
    }

    pub(crate) fn dialer(&self) -> NodeDialer {
        let commands = self.clone();
        Arc::new(move |_| {
            let commands = commands.clone();
            async move {
                let (near, far) = tokio::io::duplex(1024);
                let service = service_fn(move |request| {
                    let commands = commands.clone();
                    async move { Ok::<_, Infallible>(commands.answer(request)) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades());
                Ok(Box::new(near) as Box<dyn Stream>)
            }
            .boxed()
        })
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let status = self.status(request.uri());
        let accept = derive_accept_key(request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes());
        tokio::spawn(async move {
            let upgraded = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
            let _ = socket.send(Message::binary(b"\x01no replica".to_vec())).await;
            let _ = socket.send(Message::binary([&[3], status.as_bytes()].concat())).await;
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(header::CONNECTION, "Upgrade");
        let response = response.header(header::UPGRADE, "websocket").header(header::SEC_WEBSOCKET_ACCEPT, accept);
        response.header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io").body(Full::default()).unwrap()
    }

    fn status(&self, uri: &http::Uri) -> String {
        let pod = uri.path().split('/').nth(3).unwrap_or_default().to_owned();
        let words = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("command="));
        match self.note([pod.as_str()].into_iter().chain(words).collect::<Vec<_>>().join(" ")) {
            false => json!({"status": "Success"}).to_string(),
            true => json!({"status": "Failure", "message": "exit status 1"}).to_string(),
        }
    }
}
