//! One HTTP request to a container. Certificates are not verified: a probe asks whether someone answers, not who.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub address: String,
    pub port: u16,
    pub encrypted: bool,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// Asks, and returns the status code. A redirection is an answer. The caller sets the deadline.
pub(crate) async fn get(request: &Request) -> Result<u16, String> {
    let Request { address, port, path, .. } = request;
    let scheme = if request.encrypted { "https" } else { "http" };
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{scheme}://{address}:{port}{path}\": {error}");
    let stream = TcpStream::connect((address.as_str(), *port)).await.map_err(|error| failed(&error))?;
    let answer = match request.encrypted {
        false => ask(request, stream).await,
        true => {
            let name = ServerName::try_from(address.clone()).map_err(|error| failed(&error))?;
            let connector = TlsConnector::from(Arc::new(trusting().map_err(|error| failed(&error))?));
            let stream = connector.connect(name, stream).await.map_err(|error| failed(&error))?;
            ask(request, stream).await
        }
    };
    answer.map_err(|error| failed(&error))
}

async fn ask<S>(request: &Request, stream: S) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let connection = AbortOnDrop(tokio::spawn(connection).abort_handle());
    let path = if request.path.starts_with('/') { request.path.clone() } else { format!("/{}", request.path) };
    let mut builder =
        http::Request::get(path).header("User-Agent", "kube-probe/1.36").header("Accept", "*/*").header("Connection", "close");
    let has_host = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        builder = builder.header("Host", format!("{}:{}", request.address, request.port));
    }
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let message = builder.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
    let answer = sender.send_request(message).await.map_err(|error| text(&error))?;
    drop(connection);
    Ok(answer.status().as_u16())
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn trusting() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Trusting(provider.clone()));
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Accepts any certificate.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(status: &'static str) -> (Request, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        let headers = vec![("X-Own".to_owned(), "1".to_owned())];
        (Request { address: "127.0.0.1".to_owned(), port, encrypted: false, path: "/healthz?full".to_owned(), headers }, server)
    }

    #[tokio::test]
    async fn the_status_code_is_the_answer() {
        let (request, server) = answer("503 Service Unavailable").await;
        assert_eq!(get(&request).await, Ok(503));
        let asked = server.await.unwrap();
        assert!(asked.starts_with("GET /healthz?full HTTP/1.1\r\n") && asked.contains("x-own: 1\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let (mut request, server) = answer("200 OK").await;
        server.abort();
        request.port = 1;
        assert!(get(&request).await.unwrap_err().starts_with("Get \"http://127.0.0.1:1/healthz?full\": "));
    }
}
