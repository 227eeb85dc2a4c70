//! A line to a member that can break, and loses, keeps back or slows down what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_fixture::Cluster;
use store::etcd::{Address, Etcd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::options;

/// What is read at a time. So much takes `SLOWLY` over a slow line: about a megabyte a second.
const PIECE: usize = 1 << 14;
const SLOWLY: Duration = Duration::from_millis(15);

/// What a line does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Open,
    /// Nobody gets through.
    Closed,
    /// What the member says is lost.
    Mute,
    /// What is said to the member is kept back, beyond the life of the connection, until it is let go.
    Late,
    /// What the member says takes its time.
    Slow,
}

/// A line to the one member of a cluster.
pub(super) struct Line {
    address: Address,
    /// Every change breaks all connections.
    cuts: watch::Sender<u64>,
    mode: watch::Sender<Mode>,
    pub(super) late: Arc<Late>,
}

/// What was said over connections that have ended since, in bytes.
pub(super) struct Late {
    pub(super) kept: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) let_go: Semaphore,
}

impl Line {
    pub(super) async fn to(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("an address");
        let member: SocketAddr = cluster.endpoints().parse().expect("one member");
        let line = Self {
            address: format!("etcd://{own}/test").parse().expect("an address"),
            cuts: watch::Sender::new(0),
            mode: watch::Sender::new(Mode::Open),
            late: Arc::new(Late { kept: AtomicU64::new(0), delivered: AtomicU64::new(0), let_go: Semaphore::new(0) }),
        };
        let carrier = Carrier { cuts: line.cuts.subscribe(), mode: line.mode.subscribe(), late: Arc::clone(&line.late) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if carrier.mode() != Mode::Closed {
                    tokio::spawn(carrier.clone().connect(near, member));
                }
            }
        });
        line
    }

    pub(super) async fn open_store(&self) -> Etcd {
        Etcd::open(&self.address, options()).await.expect("the store opens")
    }

    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn be(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(super) fn close(&self) {
        self.be(Mode::Closed);
        self.cut();
    }

    /// As good as new, after whatever was on its way is lost.
    pub(super) fn renew(&self) {
        self.be(Mode::Open);
        self.cut();
    }
}

/// What each connection of a line knows of it.
#[derive(Clone)]
struct Carrier {
    cuts: watch::Receiver<u64>,
    mode: watch::Receiver<Mode>,
    late: Arc<Late>,
}

impl Carrier {
    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    async fn connect(mut self, near: TcpStream, member: SocketAddr) {
        self.cuts.mark_unchanged();
        let Ok(far) = TcpStream::connect(member).await else { return };
        let ((near_in, near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
        let (mut cuts, mut kept) = (self.cuts.clone(), Vec::new());
        tokio::select! {
            () = self.there(near_in, &mut far_out, &mut kept) => {}
            () = self.back(&mut far_in, near_out) => {}
            _ = cuts.changed() => {}
        }
        if !kept.is_empty() {
            self.deliver(&kept, far_in, far_out).await;
        }
    }

    async fn there(&self, mut near: OwnedReadHalf, far: &mut OwnedWriteHalf, kept: &mut Vec<u8>) {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = near.read(&mut piece).await {
            if !kept.is_empty() || self.mode() == Mode::Late {
                kept.extend_from_slice(&piece[..length]);
                self.late.kept.fetch_add(length as u64, Ordering::SeqCst);
            } else if far.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    }

    async fn back(&self, far: &mut OwnedReadHalf, mut near: OwnedWriteHalf) {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = far.read(&mut piece).await {
            let mode = self.mode();
            if mode == Mode::Slow {
                tokio::time::sleep(SLOWLY).await;
            }
            if mode != Mode::Mute && near.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Brings to the member what was kept, when that is let go, and waits until it has nothing to say to that any more.
    async fn deliver(&self, kept: &[u8], mut far_in: OwnedReadHalf, mut far_out: OwnedWriteHalf) {
        let _let_go = self.late.let_go.acquire().await;
        far_out.write_all(kept).await.expect("the member still listens");
        let mut answer = [0; 4096];
        while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(500), far_in.read(&mut answer)).await {}
        self.late.delivered.fetch_add(kept.len() as u64, Ordering::SeqCst);
    }
}
