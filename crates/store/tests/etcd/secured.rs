//! TLS, client certificates, and users who may do no more than they need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_fixture::Cluster;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use store::etcd::{Address, Etcd, OpenError};
use store::{Change, Draft, Expected, Range, Store};

use super::options;

async fn open(address: &str) -> Result<Etcd, OpenError> {
    Etcd::open(&address.parse::<Address>().expect("an address"), options()).await
}

async fn is_used(store: &Etcd) {
    let begin = store.revision();
    let event = store.commit("a", Expected::Absent, Change::Put(Draft::new(" ", 0))).await.expect("nothing is there");
    let page = store.range(Range::default()).await.expect("readable");
    assert_eq!(page.entries.len(), 1);
    assert!(event.revision > begin);
    store.compact(event.revision).await.expect("the revision is known");
}

/// Certificates for a server and a client, from one authority.
fn certificates(folder: &Path) -> impl Fn(&str) -> PathBuf {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file");
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.crt", parameters.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(parameters, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        write(&format!("{name}.crt"), parameters.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let folder = folder.to_owned();
    move |name| folder.join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_servers_know_each_other_by_their_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = certificates(folder.path());
    let text = |name: &str| file(name).display().to_string();
    let (ca, certificate, key) = (text("ca.crt"), text("server.crt"), text("server.key"));
    let tls = ["--client-cert-auth", "--trusted-ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
    let cluster = Cluster::start_with(1, &tls, true);
    let (address, mine) = (cluster.address("x"), format!("&cert={}&key={}", text("client.crt"), text("client.key")));
    is_used(&open(&format!("{address}?ca={ca}{mine}")).await.expect("the certificate is known")).await;
    // Each is tried for a while.
    let (plain, nameless) = (address.clone(), format!("{address}?ca={ca}"));
    for refused in <[_; 2]>::from(tokio::join!(open(&plain), open(&nameless))) {
        let refused = refused.err();
        assert!(matches!(refused, Some(OpenError::Unreachable(_))), "{refused:?}");
    }
    let missing = open(&format!("{address}?ca={ca}.missing")).await.err().expect("refused").to_string();
    assert!(missing.contains("cannot read") && missing.contains(".missing"), "{missing}");
}

/// A cluster with a user `me`, whose password is `mine`, and who may use the prefix `/x`.
fn with_user(arguments: &[&str]) -> Cluster {
    let cluster = Cluster::start_with(1, arguments, false);
    // "/x/" and "/x0" in base64.
    let below_x = r#"{"name": "x", "perm": {"permType": "READWRITE", "key": "L3gv", "range_end": "L3gw"}}"#;
    for (path, body) in [
        ("user/add", r#"{"name": "root", "password": "secret"}"#),
        ("user/grant", r#"{"user": "root", "role": "root"}"#),
        ("role/add", r#"{"name": "x"}"#),
        ("role/grant", below_x),
        ("user/add", r#"{"name": "me", "password": "mine"}"#),
        ("user/grant", r#"{"user": "me", "role": "x"}"#),
        ("enable", "{}"),
    ] {
        let answer = post(&cluster.endpoints(), path, body);
        assert!(answer.contains("200 OK"), "{path} {body}: {answer}");
    }
    cluster
}

/// The address of a store for the user, with a file that holds the password.
fn as_me(cluster: &Cluster, prefix: &str, folder: &Path, password: &str) -> String {
    let file = folder.join(password);
    std::fs::write(&file, format!("{password}\n")).expect("a file");
    format!("{}?user=me&password-file={}", cluster.address(prefix), file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_needs_no_more_than_the_prefix() {
    let (cluster, folder) = (with_user(&[]), tempfile::tempdir().expect("a folder"));
    let as_me = |prefix: &str, password: &str| as_me(&cluster, prefix, folder.path(), password);
    is_used(&open(&as_me("x", "mine")).await.expect("the password is right")).await;
    for (address, wanted) in [
        (as_me("y", "mine"), "permission denied"),
        (as_me("x", "wrong"), "invalid user ID or password"),
        (cluster.address("x"), "user name is empty"),
    ] {
        let refused = open(&address).await.err().expect("refused").to_string();
        assert!(refused.contains(wanted), "{address}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_run_out_is_renewed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, file) = (KeyPair::generate().expect("a key"), |name: &str| folder.path().join(name).display().to_string());
    std::fs::write(file("key"), key.serialize_pem()).expect("a file");
    std::fs::write(file("public"), key.public_key_pem()).expect("a file");
    let tokens = format!("jwt,sign-method=ES256,priv-key={},pub-key={},ttl=1s", file("key"), file("public"));
    let cluster = with_user(&["--auth-token", &tokens]);
    let store = open(&as_me(&cluster, "x", folder.path(), "mine")).await.expect("the password is right");
    let mut expected = Expected::Absent;
    for number in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let change = Change::Put(Draft::new(number.to_string(), 0));
        expected = Expected::At(store.commit("a", expected, change).await.expect("it is as expected").revision);
        store.get("a").await.expect("readable");
    }
    let token = post(&cluster.endpoints(), "authenticate", r#"{"name": "me", "password": "mine"}"#);
    assert!(token.contains("eyJ"), "the tokens are no JWT: {token}");
}

/// Asks etcd's own gateway to do something with users.
fn post(endpoint: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).expect("etcd listens");
    let head = format!("POST /v3/auth/{path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("etcd reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("etcd answers");
    answer
}
