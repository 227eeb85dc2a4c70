//! Random use of the program itself over HTTPS by several clients, judged by a model; it is killed by SIGKILL and started again
//! meanwhile, and so are members of the etcd where its state is there. `STEADFAST_SEED` and `STEADFAST_CALLS` make another or a longer run of it.

use std::sync::Arc;

use end_to_end::Cluster;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use testkit::random::{Door, QUIET, Record, Workload, judge, remote};

const CALLS: u64 = 150;
const KILLS: u64 = 3;

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
    for kill in 1..=KILLS {
        tokio::select! {
            biased;
            () = record.reached((workload.writers * calls * kill / (KILLS + 1)) as usize) => {}
            ended = &mut working => panic!("seed {seed}: the workload ended before kill {kill}: {:?}", ended.err()),
        }
        cluster.kill();
        door.close();
        kills(kill as usize);
        cluster.up();
        door.open(client(&cluster).await);
    }
    let history = working.await.unwrap_or_else(|error| panic!("seed {seed}: the workload failed: {error}"));
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
