//! The verb that runs controllers against a foreign API server.

use std::path::PathBuf;

use clap::Args;
use kinds::SetKind;

#[derive(Debug, Args)]
pub struct Controllers {
    /// The kubeconfig of the API server [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The controllers to run, by name, separated by commas. The cluster's own of the same purpose must not run
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "statefulset")]
    pub only: Vec<String>,
    /// Which sets to look after: statefulsets.apps, or statefulsets.apps.steadfast.dev beside the cluster's own controller
    #[arg(long, value_name = "RESOURCE.GROUP", default_value = "statefulsets.apps", value_parser = set_kind)]
    pub kind: SetKind,
    /// Where the lease is by which one of several candidates leads
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// What the lease is called [default: one name per kind of sets]
    #[arg(long, value_name = "NAME")]
    pub lease_name: Option<String>,
    /// Seconds after which others take over from a leader that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_duration: u32,
    /// Prints the roles that the chosen controllers need, and ends
    #[arg(long)]
    pub print_rbac: bool,
    /// Prints the definition of statefulsets.apps.steadfast.dev, and ends
    #[arg(long, conflicts_with = "print_rbac")]
    pub print_crd: bool,
}

fn set_kind(text: &str) -> Result<SetKind, String> {
    let known = SetKind::ALL.map(|kind| kind.resource().qualified());
    let found = SetKind::ALL.into_iter().find(|kind| kind.resource().qualified() == text);
    found.ok_or_else(|| format!("there are no such sets: write {}", known.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_in_full_and_others_refused_with_those_there_are() {
        assert_eq!(set_kind("statefulsets.apps.steadfast.dev"), Ok(SetKind::Steadfast));
        let error = set_kind("statefulsets").expect_err("refused");
        assert!(error.contains("statefulsets.apps or statefulsets.apps.steadfast.dev"), "{error}");
    }
}
