//! Requests as they are, for what kubectl has no verb for. `kubectl proxy` adds the credentials, so no TLS is needed here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{PATIENCE, Running};

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head, in lower case but for the values.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A running `kubectl proxy`.
#[derive(Debug)]
pub(crate) struct Proxy {
    _kubectl: Running,
    address: String,
}

impl Proxy {
    /// Starts it; `kubectl` is the command with `proxy` and all that names the cluster.
    pub(crate) fn start(mut kubectl: Command) -> Self {
        kubectl.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut kubectl = Running::start(kubectl);
        let line = kubectl.lines().next().unwrap_or_default();
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(address.contains(':'), "kubectl proxy did not start: {line:?}");
        Self { _kubectl: kubectl, address }
    }

    /// One request.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut reader = self.begin(method, path, headers, body);
        let (status, headers) = head(&mut reader);
        let mut body = Vec::new();
        reader.read_to_end(&mut body).expect("an answer in time");
        Answer { status, headers, body }
    }

    /// A stream of events.
    pub(crate) fn watch(&self, path: &str) -> Watch {
        self.try_watch(path).unwrap_or_else(|status| panic!("watching {path}: {status}"))
    }

    /// A stream of events, or the status that it can't be had for.
    pub(crate) fn try_watch(&self, path: &str) -> Result<Watch, u16> {
        let mut reader = self.begin("GET", path, &[], &[]);
        let (status, _) = head(&mut reader);
        if status == 200 { Ok(Watch { reader }) } else { Err(status) }
    }

    /// A connection on which reading has a limit.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("kubectl proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream
    }

    /// Version 1.0 of the protocol: the answer ends where the connection ends, and needs no decoding.
    fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).expect("kubectl proxy reads");
        BufReader::new(stream)
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut lines = reader.by_ref().lines().map(|line| line.expect("an answer in time")).take_while(|line| !line.is_empty());
    let first = lines.next().expect("a status line");
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status line: {first}"));
    let headers = lines.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())));
    (status, headers.collect())
}

/// Events as they come; waiting for the next one ends after the tests' patience.
#[derive(Debug)]
pub struct Watch {
    reader: BufReader<TcpStream>,
}

impl Iterator for Watch {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            // What broke off was not told.
            Ok(_) if !line.ends_with('\n') => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("an event is JSON")),
            Err(error) => panic!("no event in time: {error}"),
        }
    }
}
