//! HTTPS: connections, their identity, their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::certificate;
use crate::eager::Eager;
use crate::service::{Caller, Service};

/// How long requests under way may take to finish when the server stops.
const FINISH: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted, for example because there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 1000;

/// Serves connections until `shutdown` is done.
pub async fn run(service: &Service, listener: TcpListener, tls: Arc<rustls::ServerConfig>, shutdown: impl Future<Output = ()> + Send) {
    let acceptor = TlsAcceptor::from(tls);
    let stopping = CancellationToken::new();
    let connections = TaskTracker::new();
    let most = service.shared.config.limits.connections;
    let room = Arc::new(Semaphore::new(most));
    let of_peer = (most * 3 / 4).max(1);
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = service.shared.peers.enter(peer.ip(), of_peer) else { continue };
                    let connection = connection(service.clone(), acceptor.clone(), stream, peer, stopping.clone());
                    connections.spawn(Eager::new(async move {
                        connection.await;
                        drop((permit, place));
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    stopping.cancel();
    service.shared.closing.cancel();
    connections.close();
    if tokio::time::timeout(FINISH, connections.wait()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
}

async fn connection(service: Service, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr, stopping: CancellationToken) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let arrival = service.shared.config.limits.arrival;
    let stream = match tokio::time::timeout(arrival, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| certificate::identity(chain.first()?));
    let ending = CancellationToken::new();
    let caller = Caller::Network { certificate, peer: peer.ip(), ending: ending.clone() };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(arrival);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).keep_alive_interval(Some(Duration::from_secs(30)));
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let (service, caller) = (service.clone(), caller.clone());
        async move { Ok::<_, Infallible>(service.handle(request, caller).await) }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = ending.cancelled() => return tracing::debug!(%peer, "a connection is closed whose client takes no answers"),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
