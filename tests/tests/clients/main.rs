//! Clients written by others, each with every served kind: one table of cases and one scenario for all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod case;
mod kube_rs;
mod kubectl;
mod process;
mod request;
mod scenario;

use std::path::PathBuf;

use end_to_end::{Cluster, kubectl_program, tool};
use serde_json::json;

use crate::case::cases;
use crate::kube_rs::KubeRs;
use crate::kubectl::Kubectl;
use crate::process::Process;
use crate::request::Client;

/// How many of a client run at the same time.
const AT_A_TIME: usize = 3;

/// Runs all cases with a client, against a server of its own.
fn suite(at_a_time: usize, start: impl Fn(&Cluster, usize) -> Box<dyn Client>) {
    let cluster = Cluster::simulated(1);
    let cases = cases(&cluster);
    let namespaces = cases.iter().filter_map(|(resource, _)| scenario::namespace(resource));
    let objects = namespaces.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()}).to_string());
    scenario::run((0..at_a_time).map(|number| start(&cluster, number)).collect(), &cases);
}

fn kubectl(program: PathBuf) {
    suite(AT_A_TIME, |cluster, number| {
        let home = cluster.folder().join(format!("home-{number}"));
        std::fs::create_dir(&home).unwrap();
        Box::new(Kubectl::new(program.clone(), cluster.kubeconfig(), home))
    });
}

#[test]
fn the_oldest_kubectl() {
    kubectl(tool("kubectl-oldest"));
}

#[test]
fn the_newest_kubectl() {
    kubectl(tool("kubectl-newest"));
}

#[test]
fn the_kubectl_of_this_machine() {
    let program = kubectl_program();
    if program == tool("kubectl-newest") {
        eprintln!("skipped: this machine's kubectl is the newest, which has a test of its own");
        return;
    }
    kubectl(program);
}

#[test]
fn the_python_client() {
    suite(1, |cluster, _| Box::new(Process::python(cluster)));
}

#[test]
fn the_javascript_client() {
    suite(1, |cluster, _| Box::new(Process::javascript(cluster)));
}

#[test]
fn kube_rs() {
    suite(AT_A_TIME, |cluster, _| Box::new(KubeRs::new(&cluster.kubeconfig())));
}
