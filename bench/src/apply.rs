//! What it costs to apply a configuration.

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;

use crate::Failure;
use crate::connection::Connection;
use crate::instance::Instance;
use crate::report::{Report, Sample};

const PATH: &str = "/apis/apps/v1/namespaces/default/statefulsets/web?fieldManager=bench&force=true";
const CONTENT_TYPE: &str = "application/apply-patch+yaml";
const ROUNDS: usize = 5;
const APPLIED: usize = 500;
/// The size of what is applied, in bytes.
const SIZE: usize = 5 << 10;

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&["--simulated-nodes", "1"]).await?;
    let mut connection = Connection::open(&instance).await?;
    apply(&mut connection, 0).await?;
    let mut costs = Vec::new();
    for round in 0..ROUNDS {
        let before = instance.cpu()?;
        for number in 0..APPLIED {
            apply(&mut connection, round * APPLIED + number + 1).await?;
        }
        costs.push((instance.cpu()? - before) * 1e3 / APPLIED as f64);
    }
    report.add("server-side apply of a 5 KiB StatefulSet, CPU of the whole server", &Sample::new(costs, "ms"), "0.5 ms");
    instance.stop().await
}

async fn apply(connection: &mut Connection, number: usize) -> Result<(), Failure> {
    let answer = connection.send("PATCH", PATH, CONTENT_TYPE, set(number)).await?;
    answer.into_body().collect().await?;
    Ok(())
}

/// A set without replicas, so that what is measured is its application. Each number changes one annotation.
fn set(number: usize) -> Bytes {
    let mut env = Vec::new();
    let object = |env: &[serde_json::Value]| {
        let container = json!({"name": "main", "image": "busybox:1", "env": env, "ports": [{"containerPort": 80, "name": "web"}]});
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web", "annotations": {"example.com/number": number.to_string()}},
            "spec": {
                "serviceName": "web", "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            },
        })
        .to_string()
    };
    while object(&env).len() < SIZE {
        env.push(json!({"name": format!("SETTING_{}", env.len()), "value": "x".repeat(60)}));
    }
    object(&env).into()
}
