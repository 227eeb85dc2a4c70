//! Network namespaces for tests, so that nothing of the machine is touched: one is the node, others are pods or the world.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::links;
use crate::netlink::{Bus, Socket};

const PATIENCE: Duration = Duration::from_secs(3);

/// A network namespace, which lives as long as this or anything in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

/// Whether namespaces can be made; says so if not.
pub(crate) fn available() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

impl Namespace {
    /// A new one, with its loopback up.
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Socket::open(Bus::Route).unwrap().request(vec![links::set_up(1)]).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self { file: std::thread::spawn(make).join().unwrap() }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs something asynchronous inside.
    pub(crate) fn block_on<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
    }

    /// Answers every TCP connection and every UDP packet to a port with a name and who it came from.
    pub(crate) fn serve(&self, port: u16, name: &str) {
        let (listener, socket) = self.run(|| {
            let any = (Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
        });
        let greeting = |name: &str, peer: SocketAddr| format!("{name} {}", peer.ip());
        let (tcp_name, udp_name) = (name.to_owned(), name.to_owned());
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(greeting(&tcp_name, peer).as_bytes());
            }
        });
        std::thread::spawn(move || {
            while let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(greeting(&udp_name, peer).as_bytes(), peer);
            }
        });
    }

    /// What a TCP server says.
    pub(crate) fn ask(&self, address: Ipv4Addr, port: u16) -> Result<String, ErrorKind> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&(IpAddr::V4(address), port).into(), PATIENCE).map_err(|error| error.kind())?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).map_err(|error| error.kind())?;
            Ok(text)
        })
    }

    /// A UDP socket inside, connected to an address.
    pub(crate) fn udp(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect((address, port)).unwrap();
            socket
        })
    }
}

/// Sends a packet and waits for the answer.
pub(crate) fn exchange(socket: &UdpSocket) -> Result<String, ErrorKind> {
    let mut answer = [0; 64];
    socket.send(b"?").map_err(|error| error.kind())?;
    let length = socket.recv(&mut answer).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
