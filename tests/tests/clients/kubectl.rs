//! kubectl, of any age. It tells failures by text alone.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

use end_to_end::{PATIENCE, Running, limited};
use serde_json::{Value, json};

use crate::request::{Client, Failure, Patch, Request, Verb};

/// When a watch ends that never sees what it waits for.
const DEADLINE: &str = "--request-timeout=60s";

/// One kubectl, used one call at a time.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Its cache of discovery.
    home: PathBuf,
    /// Whether it hides `managedFields` unless told not to. The older ones always show them.
    hides_managed_fields: bool,
    watch: Option<Watch>,
}

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: PathBuf, home: PathBuf) -> Self {
        let help = Command::new(&program).args(["get", "--help"]).output().expect("kubectl runs").stdout;
        let hides_managed_fields = String::from_utf8_lossy(&help).contains("--show-managed-fields");
        Self { program, kubeconfig, home, hides_managed_fields, watch: None }
    }

    fn command(&self, request: &Request) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).env("HOME", &self.home);
        if let Some(namespace) = &request.namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(arguments(request));
        if request.dry_run {
            command.arg("--dry-run=server");
        }
        if self.hides_managed_fields && !matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
            command.arg("--show-managed-fields");
        }
        if request.limit > 0 {
            command.arg(format!("--chunk-size={}", request.limit));
        }
        for (flag, value) in [("--selector", &request.label_selector), ("--field-selector", &request.field_selector)] {
            if !value.is_empty() {
                command.args([flag, value]);
            }
        }
        command
    }

    fn run(&self, request: &Request) -> Result<Value, Failure> {
        let mut command = limited(&self.command(request), PATIENCE.as_secs());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        // One that fails early does not read.
        let _ = child.stdin.take().expect("piped").write_all(request.body.to_string().as_bytes());
        let output = child.wait_with_output().expect("kubectl ends");
        if !output.status.success() {
            return Err(failure(&String::from_utf8_lossy(&output.stderr)));
        }
        if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure { message: format!("{error} in {}", String::from_utf8_lossy(&output.stdout)), ..Failure::default() })
    }
}

/// What kubectl is called with.
fn arguments(request: &Request) -> Vec<String> {
    let resource = match request.resource.group.as_str() {
        "" => request.resource.plural.clone(),
        group => format!("{}.{}.{group}", request.resource.plural, request.resource.version),
    };
    let name = request.name.as_str();
    let words: Vec<&str> = match request.verb {
        Verb::Create => vec!["create", "--validate=false", "--output=json", "--filename=-"],
        Verb::Replace => vec!["replace", "--validate=false", "--output=json", "--filename=-"],
        Verb::Read => vec!["get", &resource, name, "--output=json"],
        Verb::List => vec!["get", &resource, "--output=json"],
        Verb::Watch | Verb::Events => vec!["get", &resource, "--watch", "--output-watch-events", "--output=json", DEADLINE],
        Verb::Delete => vec!["delete", &resource, name, "--wait=false"],
        Verb::DeleteCollection => vec!["delete", &resource, "--wait=false"],
        Verb::Patch => return patch(request, &resource),
    };
    words.into_iter().map(str::to_owned).collect()
}

fn patch(request: &Request, resource: &str) -> Vec<String> {
    let format = match request.patch {
        Some(Patch::Json) => "json",
        Some(Patch::Merge) => "merge",
        Some(Patch::Strategic) | None => "strategic",
        Some(Patch::Apply) => {
            let words = ["apply", "--server-side", "--validate=false", "--output=json", "--filename=-"].map(str::to_owned);
            let manager = format!("--field-manager={}", request.manager);
            return words.into_iter().chain([manager, format!("--force-conflicts={}", request.force)]).collect();
        }
    };
    let body = request.body.to_string();
    ["patch", resource, &request.name, "--output=json", "--type", format, "--patch", &body].map(str::to_owned).to_vec()
}

/// What kubectl says of a failure, taken apart.
fn failure(said: &str) -> Failure {
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("Warning:")).collect();
    let text = lines.join("\n");
    let (reason, message) = if let Some(rest) = text.strip_prefix("Error from server (") {
        rest.split_once("): ").unwrap_or((rest, ""))
    } else if text.contains("Apply failed with") {
        ("Conflict", text.as_str())
    } else if text.contains(" is invalid") {
        ("Invalid", text.as_str())
    } else {
        ("", text.as_str())
    };
    Failure { reason: reason.to_owned(), message: message.to_owned(), ..Failure::default() }
}

impl Client for Kubectl {
    fn call(&mut self, request: &Request) -> Result<Value, Failure> {
        match request.verb {
            Verb::Watch => {
                self.watch = Some(Watch::start(self.command(request)));
                Ok(Value::Null)
            }
            Verb::Events => {
                let watch = self.watch.take().expect("a watch was begun");
                Ok(json!({"events": watch.until_deleted()}))
            }
            _ => self.run(request),
        }
    }

    fn has_preconditions(&self) -> bool {
        false
    }
}

/// A running `kubectl get --watch`.
struct Watch {
    _running: Running,
    output: ChildStdout,
    text: Vec<u8>,
    events: Vec<Value>,
}

impl Watch {
    /// Starts it and waits for the first event.
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(command);
        let output = running.0.stdout.take().expect("piped");
        let mut watch = Self { _running: running, output, text: Vec::new(), events: Vec::new() };
        while watch.events.is_empty() && watch.more() {}
        watch
    }

    fn until_deleted(mut self) -> Vec<Value> {
        while !self.events.iter().any(|event| event["type"] == "DELETED") && self.more() {}
        std::mem::take(&mut self.events)
    }

    /// Reads on; false at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let length = self.output.read(&mut buffer).unwrap_or(0);
        self.text.extend_from_slice(&buffer[..length]);
        let mut values = serde_json::Deserializer::from_slice(&self.text).into_iter();
        let mut whole = 0;
        while let Some(Ok(event)) = values.next() {
            self.events.push(event);
            whole = values.byte_offset();
        }
        self.text.drain(..whole);
        length > 0
    }
}
