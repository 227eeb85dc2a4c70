//! What makes a pod the one at its ordinal: its name, its labels, its claims.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::Ordinal;

use super::claims::ClaimName;
use super::spec::Spec;

pub(super) const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// The label of a pod with the name of its revision.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// The ordinal in the name of a pod of the set: `redis-3` has 3 in `redis`. Other spellings, such as `redis-03`, have none.
pub fn ordinal_of(set: &str, pod: &str) -> Option<Ordinal> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit()));
    canonical.then(|| digits.parse().ok().map(Ordinal)).flatten()
}

/// The name of the set that a pod of this name may belong to.
pub fn parent_of(pod: &str) -> Option<&str> {
    let (set, _) = pod.rsplit_once('-')?;
    ordinal_of(set, pod).map(|_| set)
}

/// A new pod at an ordinal, from a template of the revision of this name.
pub(super) fn new_pod(spec: &Spec<'_>, ordinal: u32, revision: &str, template: &PodTemplateSpec) -> Pod {
    let name = spec.pod_name(ordinal);
    let base = template.metadata.as_ref();
    let mut labels = base.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    label(&mut labels, &name, ordinal);
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let mut pod = template.spec.clone().unwrap_or_default();
    pod.hostname = Some(name.clone());
    pod.subdomain = spec.wanted.service_name.clone().filter(|service| !service.is_empty());
    mount_claims(&mut pod, spec, ordinal);
    let metadata = ObjectMeta {
        name: Some(name),
        generate_name: Some(format!("{}-", spec.name)),
        namespace: Some(spec.namespace.to_owned()),
        labels: Some(labels),
        annotations: base.and_then(|meta| meta.annotations.clone()),
        finalizers: base.and_then(|meta| meta.finalizers.clone()),
        owner_references: Some(vec![spec.owner()]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: Some(pod), status: None }
}

/// The pod with the labels of its identity, if it lacks one.
pub(super) fn repaired(pod: &Pod, ordinal: u32) -> Option<Pod> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_NAME_LABEL)).is_some_and(|label| label == name) {
        return None;
    }
    let mut repaired = pod.clone();
    label(repaired.metadata.labels.get_or_insert_default(), name, ordinal);
    Some(repaired)
}

/// The first claim that a pod of the set should mount and doesn't.
pub(super) fn unmounted_claim(pod: &Pod, spec: &Spec<'_>, ordinal: u32, buffer: &mut ClaimName) -> Option<String> {
    let volumes = pod.spec.as_ref().and_then(|pod| pod.volumes.as_deref()).unwrap_or_default();
    spec.claims.iter().find_map(|template| {
        let volume = template.metadata.name.as_deref().unwrap_or_default();
        let claim = buffer.of(volume, spec.name, ordinal);
        let mounts = |mounted: &Volume| {
            mounted.name == volume && mounted.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim)
        };
        (!volumes.iter().any(mounts)).then(|| claim.to_owned())
    })
}

fn label(labels: &mut BTreeMap<String, String>, pod: &str, ordinal: u32) {
    labels.insert(POD_NAME_LABEL.to_owned(), pod.to_owned());
    labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
}

/// The claims' volumes come first and take the place of volumes of the template with their names.
fn mount_claims(pod: &mut PodSpec, spec: &Spec<'_>, ordinal: u32) {
    if spec.claims.is_empty() {
        return;
    }
    let mut buffer = ClaimName::default();
    let mut volumes: Vec<_> = spec
        .claims
        .iter()
        .map(|template| {
            let name = template.metadata.name.clone().unwrap_or_default();
            let claim_name = buffer.of(&name, spec.name, ordinal).to_owned();
            let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            Volume { name, persistent_volume_claim: Some(source), ..Volume::default() }
        })
        .collect();
    let claims = volumes.len();
    for volume in pod.volumes.take().into_iter().flatten() {
        if !volumes[..claims].iter().any(|claim| claim.name == volume.name) {
            volumes.push(volume);
        }
    }
    pod.volumes = Some(volumes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_canonical_name_has_an_ordinal() {
        assert_eq!(ordinal_of("web", "web-0"), Some(Ordinal(0)));
        assert_eq!(ordinal_of("web", "web-120"), Some(Ordinal(120)));
        assert_eq!((parent_of("a-b-7"), parent_of("web"), parent_of("web-x")), (Some("a-b"), None, None));
        for name in ["web", "web-", "web-01", "web-+1", "web-x", "web-1-2", "web2-1", "web-99999999999", "other-1"] {
            assert_eq!(ordinal_of("web", name), None, "{name}");
        }
    }
}
