//! Runs a command in a container to its end and keeps the beginning of what it said.

use std::time::Duration;

use runtime::{Exec, ExecSpec, Exit, Runtime};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::descriptor::reader;

/// What is kept of the output.
const KEPT: usize = 10 << 10;

/// How a command ended.
pub(crate) struct Finished {
    pub code: i32,
    /// Its standard output and standard error.
    pub output: String,
}

/// Runs the command; it is killed when it takes too long.
pub(crate) async fn run(runtime: &Runtime, uid: &str, container_id: &str, args: Vec<String>, limit: Duration) -> Result<Finished, String> {
    let spec = ExecSpec { args, env: Vec::new(), terminal: false, stdin: false };
    let started = timeout(limit, runtime.exec(uid, container_id, spec)).await;
    let exec = started.map_err(|_| timed_out(limit))?.map_err(|error| error.to_string())?;
    let id = exec.id;
    match timeout(limit, collect(exec)).await {
        Ok(finished) => finished,
        Err(_) => {
            // It may have ended this very moment: nothing is left to kill then.
            let _ = runtime.kill_exec(uid, id).await;
            Err(timed_out(limit))
        }
    }
}

fn timed_out(limit: Duration) -> String {
    format!("command timed out after {}s", limit.as_secs())
}

async fn collect(exec: Exec) -> Result<Finished, String> {
    let Exec { stdout, stderr, exit, .. } = exec;
    let stdout = reader(stdout).map_err(|error| error.to_string())?;
    let stderr = stderr.map(reader).transpose().map_err(|error| error.to_string())?;
    let rest = async {
        match stderr {
            Some(stderr) => read(stderr).await,
            None => Vec::new(),
        }
    };
    // A command's children may hold the pipes longer than it lives: its exit is what counts.
    let reading = async { tokio::join!(read(stdout), rest) };
    tokio::pin!(reading);
    let mut exit = exit;
    let lost = |_| "the command's end was not seen".to_owned();
    let (exit, (mut output, errors)): (Exit, (Vec<u8>, Vec<u8>)) = tokio::select! {
        ended = &mut exit => {
            let said = timeout(Duration::from_millis(20), &mut reading).await.unwrap_or_default();
            (ended.map_err(lost)?, said)
        }
        said = &mut reading => (exit.await.map_err(lost)?, said),
    };
    output.extend(errors);
    Ok(Finished { code: exit.code, output: String::from_utf8_lossy(&output).trim_end().to_owned() })
}

/// Reads to the end and keeps the beginning.
async fn read(mut from: tokio::net::unix::pipe::Receiver) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let room = KEPT.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}
