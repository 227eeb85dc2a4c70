//! Several servers behind one address, as clients of a cluster that outgrew one machine see them.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;

use serde_json::Value;

use crate::request::{Answer, Proxy, Watch};
use crate::{Cluster, kubectl_program};

/// A balancer before servers, and a client of it.
#[derive(Debug)]
pub struct Balanced {
    proxy: Proxy,
}

impl Balanced {
    /// Distributes connections over these servers, as far as they accept them.
    pub fn over(servers: &[&Cluster]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("an address");
        let addresses: Vec<_> = servers.iter().map(|server| server.address()).collect();
        spawn(move || balance(&listener, &addresses));
        let first = servers.first().expect("a server");
        let text = std::fs::read_to_string(first.kubeconfig()).expect("a kubeconfig");
        let kubeconfig = first.folder().join("balanced");
        std::fs::write(&kubeconfig, text.replace(&first.address().to_string(), &own.to_string())).expect("a kubeconfig");
        let mut kubectl = Command::new(kubectl_program());
        kubectl.arg("--kubeconfig").arg(&kubeconfig).arg("proxy").env("HOME", first.folder());
        Self { proxy: Proxy::start(kubectl) }
    }

    /// A request, whose answer may be that the server is gone.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.proxy.ask(method, path, &[("content-type", content_type)], body.as_bytes())
    }

    /// A request that is made until a server answers it well.
    pub fn insist(&self, method: &str, path: &str, body: &Value) -> Value {
        for _ in 0..600 {
            let answer = self.ask(method, path, body);
            if (200..300).contains(&answer.status) {
                return answer.json();
            }
            assert!(answer.status >= 500 || answer.status == 409, "{method} {path}: {} {}", answer.status, answer.text());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{method} {path}: no server answers");
    }

    /// Watches; a status if that is not possible now.
    pub fn try_watch(&self, path: &str) -> Result<Watch, u16> {
        self.proxy.try_watch(path)
    }
}

/// Each connection goes to the next server that accepts it.
fn balance(listener: &TcpListener, servers: &[SocketAddr]) {
    let turn = AtomicUsize::new(0);
    for near in listener.incoming().flatten() {
        let far = (0..servers.len()).find_map(|_| TcpStream::connect(servers[turn.fetch_add(1, Ordering::Relaxed) % servers.len()]).ok());
        if let Some(far) = far {
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
            spawn(move || join(near, far));
            spawn(move || join(far_too, near_too));
        }
    }
}

fn join(mut from: TcpStream, mut to: TcpStream) {
    let _ = copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
