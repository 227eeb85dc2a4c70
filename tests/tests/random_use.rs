//! Random use of the program itself over HTTPS by several clients, judged by a model; it is killed by SIGKILL and started again
//! meanwhile, and so are members of the etcd where its state is there. `STEADFAST_SEED` and `STEADFAST_CALLS` make another or a longer run of it.

use std::sync::Arc;

use end_to_end::{Cluster, PATIENCE};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use testkit::random::{Door, History, QUIET, Record, Workload, judge, remote};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const CALLS: u64 = 150;
const KILLS: u64 = 3;
/// So many calls are answered before the tests' patience ends, whatever the length of a run.
const STEP: u64 = 50;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

async fn client(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn random_use_of_the_program_is_as_the_model_says_though_it_is_killed() {
    judged(Cluster::simulated(1), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_etcd_it_is_as_the_model_says_though_members_are_killed_as_well() {
    let mut etcd = etcd_fixture::Cluster::start(3);
    let store = etcd.address("random");
    let cluster = Cluster::start_with(&["--simulated-nodes", "1", "--store", &store, "--lease-duration", "2"]);
    judged(cluster, |kill| {
        if kill > 1 {
            etcd.restart(kill - 2);
        }
        etcd.kill(kill - 1);
    })
    .await;
}

/// Uses a cluster, kills it again and again and what `kills` says besides, and judges what clients were told.
async fn judged(mut cluster: Cluster, mut kills: impl FnMut(usize)) {
    let (seed, calls) = (number("STEADFAST_SEED").unwrap_or(1), number("STEADFAST_CALLS").unwrap_or(CALLS));
    let workload = Workload { seed, kinds: &QUIET, writers: 6, calls, readers: 2, watchers: 6 };
    let (door, record) = (Arc::new(Door::default()), Arc::new(Record::default()));
    door.open(client(&cluster).await);
    let mut working = tokio::spawn({
        let (workload, door, record) = (workload.clone(), Arc::clone(&door), Arc::clone(&record));
        async move { remote(&workload, &door, &record).await }
    });
    let total = workload.writers * calls;
    for kill in 1..=KILLS {
        let [from, to] = [kill - 1, kill].map(|kill| total * kill / (KILLS + 1));
        answered(&record, from..to, &mut working).await.unwrap_or_else(|error| panic!("seed {seed}, before kill {kill}: {error}"));
        cluster.kill();
        door.close();
        kills(kill as usize);
        cluster.up();
        door.open(client(&cluster).await);
    }
    let rest = total * KILLS / (KILLS + 1)..total;
    answered(&record, rest, &mut working).await.unwrap_or_else(|error| panic!("seed {seed}, after all kills: {error}"));
    let history =
        timeout(PATIENCE, working).await.unwrap_or_else(|_| panic!("seed {seed}: all is answered, but not all that watch hear it"));
    let history = history.unwrap_or_else(|error| panic!("seed {seed}: the workload failed: {error}"));
    match judge(&history) {
        Ok(shown) => {
            println!("{shown:?}");
            assert!(shown.commits > 0 && shown.conflicts > 0 && shown.lists > 0 && shown.events > 0, "{shown:?}");
        }
        Err(faults) => panic!(
            "seed {seed}:\n  {}\nagain: STEADFAST_SEED={seed} STEADFAST_CALLS={calls} cargo test --workspace --test random_use",
            faults.join("\n  ")
        ),
    }
}

/// Waits until so many calls have their answers, which come one after the other.
async fn answered(record: &Record, calls: std::ops::Range<u64>, working: &mut JoinHandle<History>) -> Result<(), String> {
    for step in calls.clone().step_by(STEP as usize) {
        let until = calls.end.min(step + STEP);
        tokio::select! {
            biased;
            reached = timeout(PATIENCE, record.reached(until as usize)) => {
                reached.map_err(|_| format!("{until} calls are not answered, {STEP} fewer were {PATIENCE:?} ago"))?;
            }
            ended = &mut *working => return Err(format!("the workload ended: {:?}", ended.err())),
        }
    }
    Ok(())
}
