//! Events, in both of their forms.

use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::api::events::v1::Event as EventsEvent;

use super::{Strategy, check};
use crate::field::{FieldError, Path};

/// Where events about objects without a namespace go.
const NAMESPACE_OF_CLUSTER_OBJECTS: [&str; 2] = ["default", "kube-system"];
/// Characters of a note.
const MAX_NOTE: usize = 1024;

/// The rules of core Events.
pub(super) struct Events;

impl Strategy for Events {
    type Kind = Event;

    fn validate(&self, event: &Event) -> Vec<FieldError> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let path = Path::new("involvedObject").child("namespace");
        about(&event.involved_object, namespace, path).into_iter().collect()
    }
}

/// The rules of `events.k8s.io` Events.
pub(super) struct NewEvents;

impl Strategy for NewEvents {
    type Kind = EventsEvent;

    fn validate(&self, event: &EventsEvent) -> Vec<FieldError> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let regarding = event.regarding.clone().unwrap_or_default();
        let mut errors: Vec<_> = about(&regarding, namespace, Path::new("regarding").child("namespace")).into_iter().collect();
        if event.event_time.is_none() && event.deprecated_first_timestamp.is_none() {
            errors.push(FieldError::required(Path::new("eventTime"), ""));
        }
        for (field, text) in [("reportingController", &event.reporting_controller), ("action", &event.action), ("reason", &event.reason)] {
            let absent = event.event_time.is_some() && check::some(text.as_ref()).is_none();
            errors.extend(absent.then(|| FieldError::required(Path::new(field), "")));
        }
        errors.extend(check::one_of(Path::new("type"), event.type_.as_ref(), &["Normal", "Warning"]));
        let note = event.note.as_deref().unwrap_or_default();
        if note.len() > MAX_NOTE {
            errors.push(FieldError::invalid(Path::new("note"), "", format!("can have at most {MAX_NOTE} characters")));
        }
        errors
    }
}

fn about(object: &ObjectReference, namespace: &str, path: Path) -> Option<FieldError> {
    match check::some(object.namespace.as_ref()) {
        None if NAMESPACE_OF_CLUSTER_OBJECTS.contains(&namespace) => None,
        Some(other) if other == namespace => None,
        other => Some(FieldError::invalid(path, other.unwrap_or_default(), "does not match event.namespace")),
    }
}
