//! What users of kubectl are told to do, with the newest kubectl, and with the oldest where that knows how.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod describe;
mod explain;
mod generate;
mod read;
mod write;

use std::process::{Command, Output};

use end_to_end::{Cluster, PATIENCE, limited, said, tool};

const EVERYTHING: &str = include_str!("everything.yaml");

/// The oldest kubectl, then the newest.
const AGES: [&str; 2] = ["kubectl-oldest", "kubectl-newest"];

/// An instance with an object of each kind, as a list applied at once.
fn with_everything() -> Cluster {
    Cluster::simulated(2).running(EVERYTHING, 2)
}

/// A kubectl of an age, as a command.
fn command(cluster: &Cluster, age: &str, arguments: &[&str]) -> Command {
    cluster.with_kubectl(&tool(age), arguments)
}

fn output(cluster: &Cluster, age: &str, arguments: &[&str]) -> Output {
    limited(&command(cluster, age, arguments), PATIENCE.as_secs()).output().unwrap()
}

/// Runs a kubectl of an age, which must succeed; returns what it prints.
fn run(cluster: &Cluster, age: &str, arguments: &[&str]) -> String {
    let output = output(cluster, age, arguments);
    assert!(output.status.success(), "{age} {arguments:?}\n{}\n{}", said(&output), cluster.log());
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a kubectl of an age, which must fail; returns its error.
fn fails(cluster: &Cluster, age: &str, arguments: &[&str]) -> String {
    let output = output(cluster, age, arguments);
    assert!(!output.status.success(), "{age} {arguments:?} succeeded\n{}", said(&output));
    String::from_utf8(output.stderr).unwrap()
}

fn uid(cluster: &Cluster, pod: &str) -> String {
    cluster.get(&["pod", pod])["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Waits until another pod has the name: the set's status may be that of before for a moment.
fn until_replaced(cluster: &Cluster, pod: &str, before: &str) {
    cluster.until(&format!("another {pod} comes"), || {
        let pods = cluster.get(&["pods", &format!("--field-selector=metadata.name={pod}")]);
        pods["items"].as_array().is_some_and(|pods| pods.iter().any(|pod| pod["metadata"]["uid"] != before))
    });
}

/// Whether a text has all these, each on one line; how many spaces there are does not matter.
fn missing<'a>(text: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    wanted.iter().copied().filter(|wanted| !lines.iter().any(|line| line.contains(wanted))).collect()
}
