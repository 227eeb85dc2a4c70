//! Candidates against a server that keeps Leases. Leases are either so long that no test sees their end, or a second.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::*;
use crate::tests::server::Server;

/// Several candidates for one Lease.
struct Stage {
    server: Server,
    seconds: u32,
    /// How many work now, and the most that ever did.
    working: Arc<(AtomicUsize, AtomicUsize)>,
    tasks: JoinSet<()>,
}

struct Actor {
    /// What it has told.
    news: watch::Receiver<Vec<News>>,
    /// Set, no answer comes any more.
    cut: Arc<AtomicBool>,
    /// The client that its work was given last.
    client: Arc<Mutex<Option<Client>>>,
    shutdown: oneshot::Sender<()>,
    task: AbortHandle,
}

impl Stage {
    fn with_leases_of(seconds: u32) -> Self {
        Self { server: Server::default(), seconds, working: Arc::default(), tasks: JoinSet::new() }
    }

    fn candidate(&mut self, identity: &str) -> Actor {
        let cut = Arc::new(AtomicBool::new(false));
        let client = line(self.server.client(), Arc::clone(&cut));
        let given: Arc<Mutex<Option<Client>>> = Arc::default();
        let (tell, news) = watch::channel(Vec::new());
        let (shutdown, stopped) = oneshot::channel();
        let candidacy = Candidacy {
            namespace: "ops".to_owned(),
            name: "steadfast".to_owned(),
            identity: identity.to_owned(),
            timing: Timing::of_lease(self.seconds),
        };
        let (working, place) = (Arc::clone(&self.working), Arc::clone(&given));
        let own = client.clone();
        let work = move |fence: Fence, end: watch::Receiver<bool>| {
            *place.lock().unwrap() = Some(fence.around(own.clone()));
            labour(Arc::clone(&working), end)
        };
        let told = move |news| tell.send_modify(|all: &mut Vec<News>| all.push(news));
        let task = self.tasks.spawn(run(client, candidacy, told, work, async { drop(stopped.await) }));
        Actor { news, cut, client: given, shutdown, task }
    }

    fn lease(&self) -> Value {
        self.server.find("leases", "ops", "steadfast").unwrap()["spec"].clone()
    }

    fn most_at_once(&self) -> usize {
        self.working.1.load(Ordering::SeqCst)
    }
}

impl Actor {
    async fn told(&mut self, wanted: impl Fn(&News) -> bool) -> News {
        let reached = self.news.wait_for(|all| all.iter().any(&wanted));
        let all = tokio::time::timeout(Duration::from_secs(20), reached).await.expect("news within reason").unwrap();
        all.iter().find(|news| wanted(news)).unwrap().clone()
    }

    async fn leads(&mut self) {
        self.told(|news| matches!(news, News::Leading(_))).await;
    }

    async fn follows(&mut self, holder: &str) {
        self.told(|news| *news == News::Following(holder.to_owned())).await;
    }

    /// Tries to write with what the work was given.
    async fn writes(&self, name: &str) -> Result<(), kube::Error> {
        let client = self.client.lock().unwrap().clone().unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::<ConfigMap>::namespaced(client, "default").create(&PostParams::default(), &map).await.map(drop)
    }
}

/// A client whose requests hang once the line is cut.
fn line(client: Client, cut: Arc<AtomicBool>) -> Client {
    let send = move |request: Request<Body>| {
        let (client, cut) = (client.clone(), Arc::clone(&cut));
        async move {
            if cut.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            client.send(request).await
        }
    };
    Client::new(tower::service_fn(send), "default")
}

/// Counts as one more that works until it is told to end, or dropped.
async fn labour(working: Arc<(AtomicUsize, AtomicUsize)>, mut end: watch::Receiver<bool>) {
    struct Leaves(Arc<(AtomicUsize, AtomicUsize)>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let now = working.0.fetch_add(1, Ordering::SeqCst) + 1;
    working.1.fetch_max(now, Ordering::SeqCst);
    let _leaves = Leaves(working);
    let _ = end.wait_for(|end| *end).await;
}

#[tokio::test]
async fn one_leads_the_other_follows_and_takes_over_as_soon_as_the_lease_is_let_go() {
    let mut stage = Stage::with_leases_of(3600);
    let mut first = stage.candidate("first");
    first.leads().await;
    let mut second = stage.candidate("second");
    second.follows("first").await;
    assert_eq!((&stage.lease()["holderIdentity"], &stage.lease()["leaseTransitions"]), (&json!("first"), &json!(0)));
    first.shutdown.send(()).unwrap();
    second.leads().await;
    assert_eq!((&stage.lease()["holderIdentity"], &stage.lease()["leaseTransitions"]), (&json!("second"), &json!(1)));
    assert_eq!(stage.most_at_once(), 1);
    assert!(first.news.borrow().ends_with(&[News::Released]));
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_and_can_t_write_before_another_leads() {
    let mut stage = Stage::with_leases_of(1);
    let mut first = stage.candidate("first");
    first.leads().await;
    first.writes("early").await.unwrap();
    let old = first.client.lock().unwrap().clone().unwrap();
    let mut second = stage.candidate("second");
    second.follows("first").await;
    first.cut.store(true, Ordering::SeqCst);
    second.leads().await;
    first.told(|news| *news == News::Lost).await;
    assert_eq!(stage.most_at_once(), 1);

    // The line is whole again, and what the old reign had begun to do is refused here, not there.
    first.cut.store(false, Ordering::SeqCst);
    first.follows("second").await;
    assert!(matches!(first.writes("late").await, Err(kube::Error::Service(_))));
    assert!(Api::<ConfigMap>::namespaced(old, "default").get_opt("early").await.unwrap().is_some());
    assert!(stage.server.find("configmaps", "default", "late").is_none());
    second.writes("of-the-second").await.unwrap();
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_by_another_after_its_lease_is_over() {
    let mut stage = Stage::with_leases_of(1);
    let mut first = stage.candidate("first");
    first.leads().await;
    first.task.abort();
    let mut second = stage.candidate("second");
    second.follows("first").await;
    second.leads().await;
    assert_eq!(stage.lease()["holderIdentity"], "second");
}

#[tokio::test]
async fn a_lease_that_another_has_taken_by_force_ends_the_reign() {
    let mut stage = Stage::with_leases_of(1);
    let mut first = stage.candidate("first");
    first.leads().await;
    stage.server.merge("leases", "ops", "steadfast", &json!({"spec": {"holderIdentity": "usurper", "leaseDurationSeconds": 3600}}));
    first.follows("usurper").await;
    assert_eq!(stage.working.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_label_on_the_lease_disturbs_nobody() {
    let mut stage = Stage::with_leases_of(1);
    let mut first = stage.candidate("first");
    first.leads().await;
    stage.server.merge("leases", "ops", "steadfast", &json!({"metadata": {"labels": {"a": "b"}}}));
    let before = stage.lease()["renewTime"].clone();
    stage.server.until("two more renewals", |_| stage.lease()["renewTime"] != before).await;
    assert!(!first.news.borrow().contains(&News::Lost));
    assert_eq!(stage.server.find("leases", "ops", "steadfast").unwrap()["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn a_lease_that_has_no_place_is_told_of_and_not_asked_for_all_the_time() {
    let refused = tower::service_fn(|request: Request<Body>| async move {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{} namespaces \"ops\" not found", request.method())});
        Ok::<_, std::convert::Infallible>(http::Response::builder().status(404).body(Body::from(status.to_string().into_bytes())).unwrap())
    });
    let mut candidacy = Candidacy {
        namespace: "ops".to_owned(),
        name: "steadfast".to_owned(),
        identity: "first".to_owned(),
        timing: Timing::of_lease(3600),
    };
    candidacy.timing.retry = Duration::from_secs(3600);
    let (tell, mut news) = watch::channel(Vec::new());
    let told = move |news| tell.send_modify(|all: &mut Vec<News>| all.push(news));
    let work = |_, _| pending::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(Client::new(refused, "default"), candidacy, told, work, pending::<()>()));
    let trouble = |all: &Vec<News>| matches!(all.as_slice(), [News::Trouble(text)] if text.contains("namespaces \"ops\" not found"));
    tokio::time::timeout(Duration::from_secs(20), news.wait_for(trouble)).await.expect("told").unwrap();
}
