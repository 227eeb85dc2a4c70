//! `steadfast down`: ends the server if it runs, and then what it left running on purpose.

use std::collections::HashSet;
use std::time::Duration;

use apiserver::certificates::Certificates;
use image::Images;
use network::PodNetwork;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::{ContainerState, Opened, Runtime, RuntimeConfig, RuntimeEvent, Sandbox};
use tokio::time::{Instant, sleep, timeout_at};

use crate::arguments::Down;
use crate::failure::Failure;
use crate::instance::{Instance, Running};
use crate::kubeconfig;

/// How long the server may take to end after SIGTERM.
const SERVER_PATIENCE: Duration = Duration::from_secs(15);

/// Stops an instance's containers; with `purge`, deletes all its data.
pub async fn run(down: Down) -> Result<(), Failure> {
    let instance = Instance::new(&down.instance.data_dir)?;
    if !instance.exists() {
        println!("nothing runs in {}", down.instance.data_dir.display());
        return Ok(());
    }
    let _alone = end_server(&instance).await?;
    let record = instance.record()?;
    if !record.without_node {
        let patience = if down.purge { Duration::ZERO } else { Duration::from_secs(down.timeout) };
        end_pods(&instance, patience).await?;
        PodNetwork::remove(&instance.network(record.pod_cidr, record.service_cidr), down.purge).await?;
    }
    if down.purge {
        let authority = Certificates::open(&instance.folder(""))?;
        let forgotten = record.kubeconfig.map_or(Ok(()), |path| kubeconfig::forget(&path, authority.authority()));
        instance.delete()?;
        forgotten?;
    }
    Ok(())
}

/// Ends the server and makes sure that none begins meanwhile.
async fn end_server(instance: &Instance) -> Result<Running, Failure> {
    let deadline = Instant::now() + SERVER_PATIENCE;
    if let Some(pid) = instance.server() {
        // It may have ended by itself in this moment.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    loop {
        match instance.lock() {
            Ok(running) => return Ok(running),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Asks all containers to end, kills those that have not ended in time, and removes what they used.
async fn end_pods(instance: &Instance, patience: Duration) -> Result<(), Failure> {
    let config = RuntimeConfig {
        run_dir: instance.run_dir(),
        executable: std::env::current_exe().map_err(Failure::Executable)?,
        cgroup_parent: instance.cgroup_parent(),
    };
    let Opened { runtime, found, mut events } = Runtime::open(config).await?;
    let mut running = if patience.is_zero() { HashSet::new() } else { ask_to_end(&runtime, &found).await };
    let deadline = Instant::now() + patience;
    while !running.is_empty() {
        match timeout_at(deadline, events.recv()).await {
            Ok(Some(RuntimeEvent::Exited { pod, container, .. })) => drop(running.remove(&(pod, container))),
            Ok(Some(RuntimeEvent::SandboxLost { pod })) => running.retain(|(other, _)| *other != pod),
            Ok(None) | Err(_) => break,
        }
    }
    for sandbox in &found {
        runtime.remove_sandbox(&sandbox.spec.uid).await?;
    }
    runtime.remove_groups().await?;
    let images = Images::open(instance.folder("images")).await?;
    for container in images.mounted().await? {
        images.unmount(&container).await?;
    }
    for folder in [instance.run_dir(), instance.folder("node")].iter().filter(|folder| folder.exists()) {
        volume::tree::unmount_beneath(folder).map_err(Failure::Unmount)?;
    }
    // Only sockets and states of containers that are gone.
    let _ = std::fs::remove_dir_all(instance.run_dir());
    Ok(())
}

/// Sends SIGTERM to every running container. Returns those that were asked, by pod and container.
async fn ask_to_end(runtime: &Runtime, found: &[Sandbox]) -> HashSet<(String, String)> {
    let mut asked = HashSet::new();
    for sandbox in found {
        for container in &sandbox.containers {
            let pod = &sandbox.spec.uid;
            let is_running = matches!(container.state, ContainerState::Running { .. });
            if is_running && runtime.signal(pod, &container.id, Signal::SIGTERM as i32).await.is_ok() {
                asked.insert((pod.clone(), container.id.clone()));
            }
        }
    }
    asked
}
