//! Reads over HTTPS.

use std::time::Instant;

use bytes::Bytes;
use serde_json::json;

use crate::Failure;
use crate::connection::Connection;
use crate::instance::Instance;
use crate::report::{Report, Sample};

const OBJECTS: usize = 10_000;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let mut connection = Connection::open(&instance).await?;
    for number in 0..OBJECTS {
        let object = json!({"metadata": {"name": format!("c-{number:05}")}, "data": {"value": "x".repeat(250)}});
        connection.call("POST", PATH, serde_json::to_vec(&object)?.into()).await?;
    }
    let (mut lists, mut gets, mut size) = (Vec::new(), Vec::new(), 0);
    for _ in 0..20 {
        let begin = Instant::now();
        size = connection.call("GET", PATH, Bytes::new()).await?.len();
        lists.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    for number in 0..2_000 {
        let begin = Instant::now();
        connection.call("GET", &format!("{PATH}/c-{number:05}"), Bytes::new()).await?;
        gets.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let figure = format!("list of 10,000 ConfigMaps ({:.1} MB)", size as f64 / 1e6);
    report.add(&figure, &Sample::new(lists, "ms"), "20 ms");
    report.add("get of one ConfigMap, one connection", &Sample::new(gets, "ms"), "");
    instance.stop().await
}
