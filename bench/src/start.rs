//! How fast an instance starts, and what it takes when it has nothing to do.

use std::time::Duration;

use crate::Failure;
use crate::instance::{Instance, binary};
use crate::report::{Report, Sample};

pub async fn measure(report: &mut Report) -> Result<(), Failure> {
    let size = std::fs::metadata(binary())?.len() as f64 / 1e6;
    report.add("size of the stripped binary", &Sample::new(vec![size], "MB"), "25 MB");
    let mut starts = Vec::new();
    for _ in 0..10 {
        let instance = Instance::start(&[]).await?;
        starts.push(instance.ready_after.as_secs_f64() * 1e3);
        instance.stop().await?;
    }
    report.add("process start to ready, cold data directory", &Sample::new(starts, "ms"), "150 ms");
    let instance = Instance::start(&[]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    report.add("resident memory, idle", &Sample::new(vec![instance.resident()?], "MiB"), "40 MiB");
    let before = instance.cpu()?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let share = (instance.cpu()? - before) / 60.0 * 100.0;
    report.add("idle CPU over a minute", &Sample::new(vec![share], "% of a core"), "0.2 %");
    instance.stop().await
}
