//! What goes beyond upstream's rules: annotations that are read, and names that have to fit.

use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::extensions::{Extensions, Malformed};
use kinds::gate::{Hook, PRE_DELETE, hook_labels};
use kinds::{Ordinals, Selector, ordinals};

use super::super::{check, pod};
use crate::field::{FieldError, Path};

/// The name of a pod is its host name, and the value of a label.
const LONGEST_POD_NAME: usize = 63;

/// Annotations that can't be read. One that is there already stays: it counts as absent, and the set must remain writable.
pub(super) fn annotations(set: &StatefulSet, old: Option<&StatefulSet>) -> Vec<FieldError> {
    let malformed = |set: &StatefulSet| Extensions::read(set.metadata.annotations.as_ref()).1;
    let before = old.map(malformed).unwrap_or_default();
    let new = malformed(set).into_iter().filter(|malformed| !before.contains(malformed));
    new.map(|Malformed { annotation, value, reason }| FieldError::invalid(path().key(annotation), value, reason)).collect()
}

/// What is wrong with the pod of a hook. A gate that is there already stays, as above.
pub(super) fn hook(set: &StatefulSet, old: Option<&StatefulSet>) -> Vec<FieldError> {
    let written = |set: &StatefulSet| set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PRE_DELETE).cloned());
    let is_new = written(set).is_some() && old.and_then(written) != written(set);
    let gate = Extensions::read(set.metadata.annotations.as_ref()).0.gate.filter(|_| is_new);
    let Some(Hook::Job(mut template)) = gate.map(|gate| gate.hook) else { return Vec::new() };
    let path = path().key(PRE_DELETE).child("job").child("template");
    pod::default_template(&mut template);
    let mut errors = pod::validate_template(&template, &path, &[]);
    let labels = hook_labels(&template, set.metadata.name.as_deref().unwrap_or_default());
    let selector = set.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok());
    if selector.is_some_and(|selector| selector.matches(Some(&labels))) {
        let detail = "must not match the selector of the set: the pod of a hook is none of its instances";
        errors.push(FieldError::invalid(path.child("metadata").child("labels"), check::shown(&labels), detail));
    }
    errors
}

/// Refuses a set whose last pod could not be created, and a change that makes it want such a pod.
pub(super) fn pod_names(set: &StatefulSet, old: Option<&StatefulSet>) -> Option<FieldError> {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let last = last_ordinal(set)?;
    let is_no_worse = old.and_then(last_ordinal).is_some_and(|before| last <= before);
    let pod = format!("{name}-{last}");
    if pod.len() <= LONGEST_POD_NAME || is_no_worse {
        return None;
    }
    let detail =
        format!("the name of its last pod, {pod}, must be no more than {LONGEST_POD_NAME} bytes, as it is a host name and a label value");
    Some(match old {
        None => FieldError::invalid(Path::new("metadata").child("name"), name, detail),
        Some(_) => {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
            FieldError::invalid(Path::new("spec").child("replicas"), replicas, detail)
        }
    })
}

fn last_ordinal(set: &StatefulSet) -> Option<u32> {
    let spec = set.spec.as_ref()?;
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    let reserved = Extensions::read(set.metadata.annotations.as_ref()).0.reserved_ordinals;
    Ordinals::new(ordinals::natural(start.unwrap_or(0)), ordinals::natural(spec.replicas.unwrap_or(1)), reserved).last()
}

fn path() -> Path {
    Path::new("metadata").child("annotations")
}
