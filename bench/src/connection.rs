//! Raw HTTP/1.1 connections over TLS: what a client costs is kept out of the figures.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;

use crate::Failure;
use crate::instance::Instance;

/// One connection as the administrator.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub async fn open(instance: &Instance) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", instance.port)).await?;
        stream.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(instance)?));
        let stream = connector.connect("127.0.0.1".try_into()?, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and returns the answer with its body unread.
    pub async fn start(&mut self, method: &str, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        self.send(method, path, "application/json", body).await
    }

    /// The same with a body of another type.
    pub async fn send(&mut self, method: &str, path: &str, content_type: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1").header("content-type", content_type);
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        if response.status().is_success() { Ok(response) } else { Err(format!("{method} {path}: {}", response.status()).into()) }
    }

    /// Sends a request and returns the whole answer.
    pub async fn call(&mut self, method: &str, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let response = self.start(method, path, body).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

fn tls(instance: &Instance) -> Result<rustls::ClientConfig, Failure> {
    let kubeconfig = serde_json::to_value(instance.kubeconfig()?)?;
    let pem = |value: &serde_json::Value| -> Result<Vec<u8>, Failure> {
        let text = value.as_str().ok_or("the kubeconfig has no certificate")?;
        base64(text)
    };
    let mut roots = rustls::RootCertStore::empty();
    let authority = pem(&kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"])?;
    roots.add(CertificateDer::from_pem_slice(&authority)?)?;
    let user = &kubeconfig["users"][0]["user"];
    let certificate = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"])?)?;
    let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])?)?;
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(vec![certificate], key)?)
}

fn base64(text: &str) -> Result<Vec<u8>, Failure> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
