//! `steadfast controllers`: our controllers as ordinary clients of another API server, one of several candidates leading.

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use controllers::election::{self, Candidacy};
use controllers::fence::Fence;
use controllers::roster::{Controller, Parts};
use kinds::SetKind;
use kube::{Client, Config};
use plan::election::Timing;
use schemas::definition;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::arguments::Controllers;
use crate::attach;
use crate::control;
use crate::failure::Failure;
use crate::roles;
use crate::stop::Stop;

/// Runs the chosen controllers, or prints what the cluster needs for them.
pub(crate) async fn run(verb: Controllers) -> Result<(), Failure> {
    let chosen = Controller::chosen(&verb.only).map_err(|error| Failure::Message(format!("--only: {error}")))?;
    let lease = verb.lease_name.clone().unwrap_or_else(|| default_lease(verb.kind));
    if verb.print_crd {
        return roles::print(&[definition::of_sets()]);
    }
    if verb.print_rbac {
        return roles::print(&roles::manifest(&chosen, verb.kind, &verb.lease_namespace, &lease));
    }
    let mut stop = Stop::new()?;
    let config = attach::config(verb.kubeconfig.as_deref(), verb.context.as_deref()).await?;
    let certificate = authority(&config, &chosen)?;
    let candidacy = Candidacy {
        namespace: verb.lease_namespace,
        name: lease,
        identity: control::identity()?,
        timing: Timing::of_lease(verb.lease_duration),
    };
    tell(&format!("candidate {} for lease {}/{}", candidacy.identity, candidacy.namespace, candidacy.name));
    let client = attach::client(config)?;
    let work = |fence: Fence, end| lead(fence.around(client.clone()), chosen.clone(), verb.kind, Arc::clone(&certificate), end);
    election::run(client.clone(), candidacy, |news| tell(&news.to_string()), work, stop.wait()).await;
    Ok(())
}

/// One line on standard output, for whoever reads it; nobody need.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Two kinds of sets are looked after independently of each other.
fn default_lease(sets: SetKind) -> String {
    match sets {
        SetKind::Apps => "steadfast-controllers".to_owned(),
        SetKind::Steadfast => "steadfast-controllers-own-sets".to_owned(),
    }
}

/// What a leader does, until it is told to end. Dropped, all of it stops.
async fn lead(client: Client, chosen: Vec<Controller>, sets: SetKind, certificate: Arc<str>, end: watch::Receiver<bool>) {
    let parts = Parts::start_for(&chosen, &client, sets, certificate);
    let mut tasks = JoinSet::new();
    for controller in chosen {
        let (client, parts, mut end) = (client.clone(), parts.clone(), end.clone());
        // That the sender is gone means the end as well.
        let ended = async move { drop(end.wait_for(|end| *end).await) };
        tasks.spawn(async move { controller.run(client, &parts, ended).await });
    }
    while tasks.join_next().await.is_some() {}
}

/// The authority that pods are to trust, for the one controller that hands it out.
fn authority(config: &Config, chosen: &[Controller]) -> Result<Arc<str>, Failure> {
    let certificates = config.root_cert.as_deref().unwrap_or_default();
    if certificates.is_empty() && chosen.contains(&Controller::ServiceAccounts) {
        let reason = "the controller service-accounts gives namespaces the cluster's certificate authority, and the kubeconfig has none";
        return Err(Failure::Message(format!("{reason}; add certificate-authority-data, or leave it out of --only")));
    }
    Ok(certificates.iter().map(|certificate| pem(certificate)).collect::<String>().into())
}

fn pem(certificate: &[u8]) -> String {
    const LINE: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(LINE).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_given_in_lines_of_64_characters() {
        let text = pem(&[0xff; 60]);
        let widths: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(widths, [27, 64, 16, 25]);
    }
}
