//! A client in another language: a small program that reads requests and writes answers, one JSON text a line.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

use end_to_end::{Cluster, Lines, Running};
use serde::Deserialize;
use serde_json::Value;

use crate::request::{Client, Failure, Request};

/// What a driver answers with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Value(Value),
    /// The server refused.
    Failure(Failure),
    /// The client itself failed, for example to read what the server answered.
    Fault(String),
}

/// A running driver.
pub struct Process {
    requests: ChildStdin,
    answers: Lines,
    _running: Running,
}

impl Process {
    /// The official Python client.
    pub fn python(cluster: &Cluster) -> Self {
        let mut command = Command::new(end_to_end::tool("python/bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/driver.py"));
        Self::start(command, cluster)
    }

    /// The official JavaScript client. Its driver is told where the client is, as that is not beside it.
    pub fn javascript(cluster: &Cluster) -> Self {
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/javascript/driver.mjs"));
        command.arg(end_to_end::tool("javascript/package.json"));
        Self::start(command, cluster)
    }

    fn start(mut command: Command, cluster: &Cluster) -> Self {
        command.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", cluster.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command);
        Self { requests: running.0.stdin.take().expect("piped"), answers: running.lines(), _running: running }
    }
}

impl Client for Process {
    fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        let line = serde_json::to_string(request).expect("a request is JSON");
        writeln!(self.requests, "{line}").expect("the driver reads");
        let answer = self.answers.next().unwrap_or_default();
        match serde_json::from_str(&answer) {
            Ok(Answer::Value(value)) => Ok(value),
            Ok(Answer::Failure(failure)) => Err(failure),
            Ok(Answer::Fault(fault)) => {
                Err(Failure { reason: "the client itself failed".to_owned(), message: fault, ..Failure::default() })
            }
            Err(error) => panic!("the driver answered {answer:?}: {error}\n{line}"),
        }
    }
}
