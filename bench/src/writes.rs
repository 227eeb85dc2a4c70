//! Durable writes beside etcd, and how fast watchers learn of them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::mpsc;

use crate::Failure;
use crate::connection::Connection;
use crate::etcd::{Client, Etcd};
use crate::instance::Instance;
use crate::report::{Report, Sample};

const CLIENTS: usize = 32;
const SIZE: usize = 1024;
const PERIOD: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const WATCHERS: usize = 100;
const WRITES: usize = 100;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let etcd = Etcd::start().await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(write_to_us(&instance, round).await?);
        theirs.push(write_to_etcd(round).await?);
    }
    drop(etcd);
    let (ours, theirs) = (Sample::new(ours, "per s"), Sample::new(theirs, "per s"));
    report.compare("durable writes of a 1 KiB ConfigMap over HTTPS, 32 clients", &ours, "1.0 x", "etcd put over gRPC", &theirs);
    instance.stop().await?;
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let delays = watch_delays(&instance, WATCHERS, WRITES).await?;
    report.add("write acknowledged to event received, 100 watchers", &Sample::new(delays, "ms"), "1 ms");
    instance.stop().await
}

/// A ConfigMap of a KiB, whose number changes it.
pub fn config_map(name: &str, number: usize) -> Bytes {
    serde_json::to_vec(&json!({"metadata": {"name": name}, "data": {"value": "x".repeat(SIZE), "number": number.to_string()}}))
        .unwrap_or_default()
        .into()
}

async fn write_to_us(instance: &Instance, round: usize) -> Result<f64, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(Connection::open(instance).await?);
    }
    let end = Instant::now() + PERIOD;
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        tokio::spawn(async move {
            let mut count = 0_usize;
            while Instant::now() < end {
                connection.call("POST", PATH, config_map(&format!("w-{round}-{client}-{count}"), 0)).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        })
    });
    per_second(try_join_all(clients).await?)
}

async fn write_to_etcd(round: usize) -> Result<f64, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(Client::open().await?);
    }
    let end = Instant::now() + PERIOD;
    let clients = connections.into_iter().enumerate().map(|(client, mut connection)| {
        tokio::spawn(async move {
            let mut count = 0_usize;
            while Instant::now() < end {
                connection.put(format!("w-{round}-{client}-{count}").as_bytes(), &[b'x'; SIZE]).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        })
    });
    per_second(try_join_all(clients).await?)
}

/// Requests in a second, of all clients.
pub fn per_second(counts: Vec<Result<usize, Failure>>) -> Result<f64, Failure> {
    let total = counts.into_iter().sum::<Result<usize, Failure>>()?;
    Ok(total as f64 / PERIOD.as_secs_f64())
}

/// For each write, the time from its answer to each watcher's event; nothing when the event came first.
pub async fn watch_delays(instance: &Instance, watchers: usize, writes: usize) -> Result<Vec<f64>, Failure> {
    let (sender, mut received) = mpsc::channel::<(usize, Instant)>(watchers * 2);
    for _ in 0..watchers {
        let mut connection = Connection::open(instance).await?;
        let mut body = connection
            .start("GET", &format!("{PATH}?watch=true&fieldSelector=metadata.namespace%3Ddefault"), Bytes::new())
            .await?
            .into_body();
        let sender = sender.clone();
        tokio::spawn(async move {
            let _kept = connection;
            let mut seen = String::new();
            while let Some(Ok(frame)) = body.frame().await {
                let arrived = Instant::now();
                seen.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap_or(&Bytes::new())));
                while let Some(end) = seen.find('\n') {
                    let line: String = seen.drain(..=end).collect();
                    let number = line.split("\"name\":\"watched-").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
                    if let Some(number) = number {
                        let _ = sender.send((number, arrived)).await;
                    }
                }
            }
        });
    }
    let mut writer = Connection::open(instance).await?;
    let mut delays = Vec::new();
    for number in 0..writes {
        tokio::time::sleep(Duration::from_millis(20)).await;
        writer.call("POST", PATH, config_map(&format!("watched-{number}"), 0)).await?;
        let acknowledged = Instant::now();
        for _ in 0..watchers {
            let (seen, arrived) = tokio::time::timeout(Duration::from_secs(10), received.recv()).await?.ok_or("the watchers ended")?;
            if seen != number {
                return Err(format!("event {seen} instead of {number}").into());
            }
            delays.push(arrived.saturating_duration_since(acknowledged).as_secs_f64() * 1e3);
        }
    }
    Ok(delays)
}
