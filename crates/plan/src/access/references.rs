//! What a pod refers to, and so has to be readable where it runs.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, PodSpec, Volume, VolumeProjection};

/// An object that a pod may refer to, by its name in the pod's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    Secret(&'a str),
    ConfigMap(&'a str),
    Claim(&'a str),
    /// A persistent volume, to which a pod refers by a claim.
    Volume(&'a str),
    Account(&'a str),
}

impl<'a> Reference<'a> {
    /// The object's name.
    pub fn name(self) -> &'a str {
        match self {
            Self::Secret(name) | Self::ConfigMap(name) | Self::Claim(name) | Self::Volume(name) | Self::Account(name) => name,
        }
    }
}

/// Whether a pod refers to an object; to persistent volumes none does itself.
pub fn refers(pod: &str, spec: &PodSpec, to: Reference<'_>) -> bool {
    match to {
        Reference::Volume(_) => false,
        Reference::Account(name) => spec.service_account_name.as_deref().filter(|own| !own.is_empty()).unwrap_or("default") == name,
        Reference::Claim(_) => volumes(spec).any(|volume| volume_refers(pod, volume, to)),
        Reference::Secret(name) if spec.image_pull_secrets.iter().flatten().any(|secret| secret.name == name) => true,
        Reference::Secret(_) | Reference::ConfigMap(_) => {
            environments(spec).any(|(variables, sources)| environment_refers(variables, sources, to))
                || volumes(spec).any(|volume| volume_refers(pod, volume, to))
        }
    }
}

fn volumes(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    spec.volumes.iter().flatten()
}

type Environment<'a> = (&'a [EnvVar], &'a [EnvFromSource]);

fn environments(spec: &PodSpec) -> impl Iterator<Item = Environment<'_>> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let of_containers = containers.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    let of_ephemeral = ephemeral.map(|one| (one.env.as_deref(), one.env_from.as_deref()));
    of_containers.chain(of_ephemeral).map(|(variables, sources)| (variables.unwrap_or_default(), sources.unwrap_or_default()))
}

fn environment_refers(variables: &[EnvVar], sources: &[EnvFromSource], to: Reference<'_>) -> bool {
    let by_variable = variables.iter().filter_map(|variable| variable.value_from.as_ref()).any(|source| match to {
        Reference::Secret(name) => source.secret_key_ref.as_ref().is_some_and(|key| key.name == name),
        _ => source.config_map_key_ref.as_ref().is_some_and(|key| key.name == to.name()),
    });
    by_variable
        || sources.iter().any(|source| match to {
            Reference::Secret(name) => source.secret_ref.as_ref().is_some_and(|secret| secret.name == name),
            _ => source.config_map_ref.as_ref().is_some_and(|map| map.name == to.name()),
        })
}

fn volume_refers(pod: &str, volume: &Volume, to: Reference<'_>) -> bool {
    let projections = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    match to {
        Reference::Claim(name) => {
            let by_name = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == name);
            // An ephemeral volume's claim is called after the pod and the volume.
            by_name || volume.ephemeral.is_some() && name.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-')) == Some(&volume.name)
        }
        Reference::Secret(name) => {
            let mounted = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref()) == Some(name);
            mounted || projections.into_iter().any(|source| projects_secret(source, name))
        }
        _ => {
            let mounted = volume.config_map.as_ref().is_some_and(|map| map.name == to.name());
            mounted || projections.into_iter().any(|source| source.config_map.as_ref().is_some_and(|map| map.name == to.name()))
        }
    }
}

fn projects_secret(source: &VolumeProjection, name: &str) -> bool {
    source.secret.as_ref().is_some_and(|secret| secret.name == name)
}
