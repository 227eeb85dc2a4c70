//! Runs probes and lifecycle hooks.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use runtime::Runtime;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) mod exec;
pub(crate) mod http;

/// The running container that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub runtime: Runtime,
    pub uid: String,
    /// The runtime's identity of the attempt.
    pub container_id: String,
    pub container: Container,
    pub address: String,
}

/// Runs a probe once. The error says what it found.
pub(crate) async fn check(target: &Target, probe: &Probe, limit: Duration) -> Result<(), String> {
    if let Some(action) = &probe.exec {
        return exec(target, action.command.clone().unwrap_or_default(), limit).await;
    }
    let seconds = limit.as_secs();
    let work = async {
        if let Some(action) = &probe.http_get {
            return http_get(target, action).await;
        }
        match &probe.tcp_socket {
            Some(action) => connect(target, action.host.as_deref(), &action.port).await,
            None => Err("the probe has no handler that this node supports".to_owned()),
        }
    };
    timeout(limit, work).await.unwrap_or_else(|_| Err(format!("no answer within {seconds} s")))
}

/// Runs a hook; it may take so long.
pub(crate) async fn run_hook(target: &Target, handler: &LifecycleHandler, limit: Duration) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        return exec(target, action.command.clone().unwrap_or_default(), limit).await;
    }
    let work = async {
        if let Some(action) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(action.seconds.max(0).unsigned_abs())).await;
            return Ok(());
        }
        match &handler.http_get {
            Some(action) => http_get(target, action).await,
            None => Err("the hook has no handler that this node supports".to_owned()),
        }
    };
    timeout(limit, work).await.unwrap_or_else(|_| Err(format!("it did not end within {} s", limit.as_secs())))
}

async fn exec(target: &Target, command: Vec<String>, limit: Duration) -> Result<(), String> {
    let result = exec::run(&target.runtime, &target.uid, &target.container_id, command, limit).await?;
    match result.code {
        0 => Ok(()),
        code if result.output.is_empty() => Err(format!("command exited with code {code}")),
        _ => Err(result.output),
    }
}

async fn http_get(target: &Target, action: &HTTPGetAction) -> Result<(), String> {
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let request = http::Request {
        address: host.unwrap_or(&target.address).to_owned(),
        port: port(&target.container, &action.port)?,
        encrypted: action.scheme.as_deref() == Some("HTTPS"),
        path: action.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
        headers: action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect(),
    };
    match http::get(&request).await? {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn connect(target: &Target, host: Option<&str>, wanted: &IntOrString) -> Result<(), String> {
    let host = host.filter(|host| !host.is_empty()).unwrap_or(&target.address);
    let port = port(&target.container, wanted)?;
    let connected = TcpStream::connect((host, port)).await.map(drop);
    connected.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// A port by its number, or by its name in the container.
fn port(container: &Container, wanted: &IntOrString) -> Result<u16, String> {
    let number = match wanted {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name.as_str()));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let valid = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    valid.ok_or_else(|| format!("couldn't find port {wanted:?} in container {}", container.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let container: Container =
            serde_json::from_value(json!({ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] })).unwrap();
        assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
        assert_eq!(port(&container, &IntOrString::String("web".to_owned())), Ok(8080));
        assert!(port(&container, &IntOrString::String("none".to_owned())).is_err());
        assert!(port(&container, &IntOrString::Int(70_000)).is_err());
    }
}
