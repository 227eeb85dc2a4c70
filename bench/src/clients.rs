//! Requests of one client and of many, memory with many objects, and many watchers of one namespace.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::task::JoinSet;

use crate::Failure;
use crate::connection::Connection;
use crate::instance::Instance;
use crate::report::{Report, Sample};
use crate::writes::{self, config_map};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The size of the Pod that is read, in bytes.
const SIZE: usize = 5 << 10;
const GETS: usize = 5_000;
const CLIENTS: usize = 32;
const PERIOD: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const STORED: usize = 10_000;
const STORED_WATCHERS: usize = 100;
const WATCHERS: usize = 1_000;
const WRITES: usize = 50;
/// How long the server may take to settle before its memory is measured: views let go of what nobody looks at within ten seconds.
const SETTLE: Duration = Duration::from_secs(15);

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let gets = one_client(&instance).await?;
    report.add("get of a 5 KiB Pod over HTTPS, one connection", &Sample::new(gets, "ms"), "0.15 ms");
    let (mut gets, mut updates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        gets.push(many_clients(&instance, false).await?);
        updates.push(many_clients(&instance, true).await?);
    }
    report.add("requests with 32 clients: get of a 1 KiB ConfigMap", &Sample::new(gets, "per s"), "25,000 per s");
    report.add("requests with 32 clients: update of a 1 KiB ConfigMap", &Sample::new(updates, "per s"), "8,000 per s");
    instance.stop().await
}

/// Memory with many pods stored and watched.
pub async fn measure_memory(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let connections = open(&instance, CLIENTS).await?;
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        tokio::spawn(async move {
            for number in (client..STORED).step_by(CLIENTS) {
                connection.call("POST", PODS, pod(&format!("p-{number}"), 0)).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for done in try_join_all(clients).await? {
        done?;
    }
    let mut watches = Vec::new();
    for mut connection in open(&instance, STORED_WATCHERS).await? {
        let body = connection.start("GET", "/api/v1/pods?watch=true&resourceVersion=0", Bytes::new()).await?.into_body();
        watches.push(tokio::spawn(async move {
            let (_kept, mut body) = (connection, body);
            while let Some(Ok(_)) = body.frame().await {}
        }));
    }
    tokio::time::sleep(SETTLE).await;
    let resident = instance.resident()?;
    report.add("resident memory with 10,000 pods stored and 100 watchers", &Sample::new(vec![resident], "MiB"), "120 MiB");
    watches.iter().for_each(tokio::task::JoinHandle::abort);
    instance.stop().await
}

/// How late the last of many watchers of one namespace learns of a write.
pub async fn measure_watchers(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let delays = writes::watch_delays(&instance, WATCHERS, WRITES).await?;
    let last = delays.chunks(WATCHERS).map(|of_write| of_write.iter().copied().fold(0.0, f64::max)).collect();
    report.add("1,000 watchers of one namespace: the last one's delay after a write", &Sample::new(last, "ms"), "10 ms");
    instance.stop().await
}

async fn open(instance: &Instance, count: usize) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::open(instance).await?);
    }
    Ok(connections)
}

/// A Pod that nobody schedules, of at least so many bytes.
fn pod(name: &str, size: usize) -> Bytes {
    let mut env = Vec::new();
    let object = |env: &[serde_json::Value]| {
        let container = json!({"name": "main", "image": "busybox:1", "env": env, "ports": [{"containerPort": 80, "name": "web"}]});
        json!({
            "metadata": {"name": name, "labels": {"app": "bench"}},
            "spec": {"schedulerName": "nobody", "containers": [container]},
        })
        .to_string()
    };
    while object(&env).len() < size {
        env.push(json!({"name": format!("SETTING_{}", env.len()), "value": "x".repeat(60)}));
    }
    object(&env).into()
}

async fn one_client(instance: &Instance) -> Result<Vec<f64>, Failure> {
    let mut connection = Connection::open(instance).await?;
    connection.call("POST", PODS, pod("large", SIZE)).await?;
    let mut gets = Vec::with_capacity(GETS);
    for _ in 0..GETS {
        let begin = Instant::now();
        connection.call("GET", &format!("{PODS}/large"), Bytes::new()).await?;
        gets.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(gets)
}

/// Requests answered in a second, each client's about an object of its own.
async fn many_clients(instance: &Instance, updates: bool) -> Result<f64, Failure> {
    let mut clients = JoinSet::new();
    for (client, mut connection) in open(instance, CLIENTS).await?.into_iter().enumerate() {
        let name = format!("own-{client}");
        let path = format!("{CONFIG_MAPS}/{name}");
        if connection.start("GET", &path, Bytes::new()).await.is_err() {
            connection.call("POST", CONFIG_MAPS, config_map(&name, 0)).await?;
        }
        clients.spawn(async move {
            let (end, mut count) = (Instant::now() + PERIOD, 0_usize);
            while Instant::now() < end {
                match updates {
                    true => connection.call("PUT", &path, config_map(&name, count + 1)).await?,
                    false => connection.call("GET", &path, Bytes::new()).await?,
                };
                count += 1;
            }
            Ok::<_, Failure>(count)
        });
    }
    writes::per_second(clients.join_all().await)
}
