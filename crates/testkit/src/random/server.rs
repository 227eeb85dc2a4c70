//! The real API server over the real store on disk, in this process: killed, opened again and compacted at moments that a seed chooses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use apiserver::{Config, Limits, Server};
use kinds::registry;
use serde_json::json;
use store::embedded::{Embedded, OpenError, Options};
use store::{Memory, Revision, Store, WatchMessage};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::history::{Commit, Record};
use super::model::{Kind, Object, State};
use super::{Dice, Door, Fault, Faulty, History, Workload, run};
use crate::Foundation;

/// How often the server is killed and its history forgotten meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Disturbances {
    pub kills: u64,
    pub compactions: u64,
}

/// Runs a workload on a server of its own, with a store that errs as it is told.
pub async fn in_process(workload: &Workload, disturbances: Disturbances, fault: Fault) -> History {
    let machine = Machine::new(workload, fault);
    let running = machine.start().await;
    running.prepare().await;
    machine.armed.store(true, Ordering::SeqCst);
    machine.door.open(running.client());
    let working = run(workload, &machine.door, &machine.record);
    let disturbing = async {
        let mut running = running;
        let total = workload.writers * workload.calls;
        let mut dice = Dice::new(workload.seed ^ 0x5EED);
        let all = disturbances.kills + disturbances.compactions;
        for number in 0..all {
            machine.record.reached((total * (number + 1) / (all + 1)) as usize).await;
            // Kills and compactions take turns as far as there are both.
            let kills_left = disturbances.kills * (number + 1) / all > disturbances.kills * number / all;
            if kills_left {
                running = machine.kill(running).await;
            } else {
                machine.compact(&running, &mut dice).await;
            }
        }
        running
    };
    let ((), running) = tokio::join!(working, disturbing);
    machine.finish(running).await
}

struct Machine {
    dir: tempfile::TempDir,
    foundation: Foundation,
    kinds: &'static [Kind],
    seed: u64,
    fault: Fault,
    armed: Arc<AtomicBool>,
    door: Arc<Door>,
    record: Arc<Record>,
}

/// One life of the server.
struct Running {
    store: Arc<Embedded>,
    server: Server,
    /// Notes every commit, from the store itself; and tells how far it is.
    tap: JoinHandle<()>,
    seen: watch::Receiver<u64>,
}

impl Machine {
    fn new(workload: &Workload, fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let Workload { kinds, seed, .. } = *workload;
        let (door, record) = (Arc::default(), Arc::default());
        Self { dir, foundation: Foundation::lay(), kinds, seed, fault, armed: Arc::default(), door, record }
    }

    async fn open(&self) -> Arc<Embedded> {
        let options =
            Options { memory: Memory { progress_after: std::time::Duration::from_millis(5), ..Memory::default() }, ..Options::default() };
        loop {
            match Embedded::open(&self.dir.path().join("store"), options.clone()) {
                Ok(store) => return Arc::new(store),
                // What the server had begun ends a moment later than it.
                Err(OpenError::Locked(_)) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn start(&self) -> Running {
        let store = self.open().await;
        let limits = Limits { bookmarks: std::time::Duration::from_millis(5), ..Limits::default() };
        let config = Config {
            service_range: "10.96.0.0/16".parse().unwrap(),
            token_key: self.foundation.token_key(),
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            node_dialer: None,
            limits,
            audit: None,
            user_roles: Vec::new(),
        };
        let noted = self.record.note(|history| history.revisions.last().copied());
        let (tap, seen) = self.tap(&store, noted.unwrap_or(store.revision().0));
        let faulty = Faulty::new(store.clone(), self.seed, self.fault, Arc::clone(&self.armed));
        let server = Server::new(config, Arc::new(faulty)).await.unwrap();
        Running { store, server, tap, seen }
    }

    /// Follows the store after a revision.
    fn tap(&self, store: &Arc<Embedded>, after: u64) -> (JoinHandle<()>, watch::Receiver<u64>) {
        let (told, seen) = watch::channel(after);
        let mut watch = store.watch("", Revision(after)).unwrap();
        let (record, kinds) = (Arc::clone(&self.record), self.kinds);
        let follow = async move {
            while let Ok(message) = watch.next().await {
                let revision = match message {
                    WatchMessage::Event(event) => {
                        let json = event.document.as_ref().map(|document| document.json().clone());
                        record.note(|history| {
                            history.revisions.push(event.revision.0);
                            history.commits.extend(commit(kinds, &event.key, event.revision, json.as_deref()));
                        });
                        event.revision
                    }
                    WatchMessage::Progress(revision) => revision,
                };
                told.send_if_modified(|seen| std::mem::replace(seen, revision.0.max(*seen)) < revision.0);
            }
        };
        (tokio::spawn(follow), seen)
    }

    /// Ends a life amid whatever is under way, and begins another.
    async fn kill(&self, running: Running) -> Running {
        self.door.close();
        let before = running.end().await;
        if self.fault == Fault::LostAtKill {
            // Opened once, as then nobody else has it open any more.
            drop(self.open().await);
            cut_log(&self.dir.path().join("store"));
        }
        let running = self.start().await;
        let after = running.store.revision().0;
        self.record.note(|history| history.restarts.push((before, after)));
        self.door.open(running.client());
        running
    }

    /// Forgets what is older than some of the newest commits.
    async fn compact(&self, running: &Running, dice: &mut Dice) {
        let before = running.seen.borrow().saturating_sub(dice.roll(3)).max(1);
        let at = self.record.tick();
        self.record.note(|history| history.compactions.push((at, before)));
        // It may be compacted further already.
        let _ = running.store.compact(Revision(before)).await;
    }

    async fn finish(&self, running: Running) -> History {
        running.end().await;
        self.record.taken()
    }
}

impl Running {
    fn client(&self) -> kube::Client {
        self.server.client("admin", &["system:masters"])
    }

    async fn prepare(&self) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(self.client());
        namespaces.create(&kube::api::PostParams::default(), &namespace).await.unwrap();
    }

    /// Ends, and says at which revision.
    async fn end(mut self) -> u64 {
        let last = self.store.revision().0;
        let _ = self.seen.wait_for(|seen| *seen >= last).await;
        self.tap.abort();
        let _ = self.tap.await;
        last
    }
}

/// Takes the last byte of the last commit off the newest log.
fn cut_log(store: &Path) {
    let files = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let log = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-")).max().unwrap();
    let bytes = std::fs::read(&log).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::File::options().write(true).open(log).unwrap().set_len(last as u64).unwrap();
}

fn commit(kinds: &'static [Kind], key: &str, revision: Revision, json: Option<&[u8]>) -> Option<Commit> {
    let mut parts = key.split('/').skip(1);
    let (storage, _namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let resource = registry::RESOURCES.iter().find(|resource| resource.storage == storage)?;
    let object = Object::of(kinds.iter().find(|kind| kind.plural == resource.plural)?, name)?;
    let state = match json {
        Some(json) => Some(State::of(&serde_json::from_slice(json).ok()?)?),
        None => None,
    };
    Some(Commit { revision: revision.0, object, state })
}
