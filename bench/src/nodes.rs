//! How fast a pod starts, beside `crun` with the same root file system.

use std::process::Command;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::Failure;
use crate::instance::Instance;
use crate::report::{Report, Sample};

const ROUNDS: usize = 40;

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let instance = Instance::start(&[]).await?;
    instance.load("STEADFAST_BUSYBOX_IMAGE").await?;
    let pods: Api<Pod> = Api::namespaced(instance.client().await?, "default");
    let mut ours = Vec::new();
    for round in 0..ROUNDS {
        ours.push(start_pod(&pods, &format!("p{round}")).await?);
        remove_pod(&pods, &format!("p{round}")).await?;
    }
    let theirs = crun(&instance)?;
    let (ours, theirs) = (Sample::new(ours, "ms"), Sample::new(theirs, "ms"));
    report.compare("pod created to Running, image present", &ours, "25 ms; 2 x", "crun run of the same root", &theirs);
    instance.stop().await
}

async fn start_pod(pods: &Api<Pod>, name: &str) -> Result<f64, Failure> {
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": "main", "image": "busybox:1", "command": ["sleep", "1000"]}]
        }
    }))?;
    let mut events = pods.watch(&WatchParams::default().fields(&format!("metadata.name={name}")), "0").await?.boxed();
    let begin = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    while let Some(event) = events.try_next().await? {
        let is_running = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
            && is_running(&pod)
        {
            return Ok(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    Err("the watch ended".into())
}

/// Deletes a pod and waits until nothing of it is left, so that no round disturbs the next.
async fn remove_pod(pods: &Api<Pod>, name: &str) -> Result<(), Failure> {
    let mut events = pods.watch(&WatchParams::default().fields(&format!("metadata.name={name}")), "0").await?.boxed();
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Deleted(_) = event {
            return Ok(());
        }
    }
    Err("the watch ended".into())
}

/// `crun run` of `true` in the busybox root, in ms.
fn crun(instance: &Instance) -> Result<Vec<f64>, Failure> {
    let bundle = instance.folder().join("bundle");
    let root = bundle.join("rootfs");
    for folder in ["bin", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", root.join("bin/true"))?;
    let made = Command::new("crun").arg("spec").current_dir(&bundle).status()?;
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["process"]["terminal"] = json!(false);
    // Root can't raise limits on every machine.
    if let Some(process) = spec["process"].as_object_mut() {
        process.remove("rlimits");
    }
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    if !made.success() {
        return Err("crun spec failed".into());
    }
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let output = Command::new("crun").args(["run", "--bundle"]).arg(&bundle).arg(format!("steadfast-bench-{round}")).output()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        if !output.status.success() {
            return Err(format!("crun run: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(times)
}
