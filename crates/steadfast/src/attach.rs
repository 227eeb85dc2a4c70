//! The client of a foreign API server, as a kubeconfig describes it.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::failure::Failure;

/// What a kubeconfig, by default the user's, says of the server of a context, by default the current one.
pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match kubeconfig.map(Kubeconfig::read_from) {
        Some(Ok(kubeconfig)) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
        Some(Err(error)) => Err(error),
        None => Config::from_kubeconfig(&options).await,
    };
    config.map_err(|error| {
        let path = kubeconfig.map_or_else(|| "your kubeconfig".into(), Path::to_string_lossy);
        Failure::Message(format!("{path} names no server that can be used: {error}; name another with --kubeconfig or --context"))
    })
}

/// A client of the server that is described.
pub(crate) fn client(config: Config) -> Result<Client, Failure> {
    Client::try_from(config).map_err(|error| Failure::Message(format!("no client can be made from the kubeconfig: {error}")))
}
