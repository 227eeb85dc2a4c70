//! Events, in both of their forms.

use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::api::events::v1::Event as EventsEvent;

use super::{Strategy, check};
use crate::field::{FieldError, Path};

/// Where events about objects without a namespace go.
const NAMESPACE_OF_CLUSTER_OBJECTS: [&str; 2] = ["default", "kube-system"];
/// Characters of a note.
const MAX_NOTE: usize = 1024;
/// What never changes in an `events.k8s.io` Event. What happens again is told in its series.
const FIXED: [&str; 13] = [
    "regarding",
    "related",
    "reason",
    "note",
    "type",
    "action",
    "eventTime",
    "reportingController",
    "reportingInstance",
    "deprecatedSource",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "deprecatedCount",
];

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

    fn validate_update(&self, event: &EventsEvent, old: &EventsEvent) -> Vec<FieldError> {
        let mut errors = self.validate(event);
        let (new, old) = (check::shown(event), check::shown(old));
        errors.extend(FIXED.into_iter().filter_map(|field| check::immutable(Path::new(field), &new[field], &old[field])));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(change: Value) -> Vec<String> {
        let event = |change: Value| -> EventsEvent {
            let mut event = json!({
                "metadata": {"name": "e", "namespace": "default"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
                "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a", "reportingInstance": "b",
                "action": "c", "reason": "d", "type": "Normal", "note": "e"});
            event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            serde_json::from_value(event).unwrap()
        };
        let errors = NewEvents.validate_update(&event(change), &event(json!({})));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn of_a_new_event_only_the_series_and_the_metadata_change() {
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        assert_eq!(refused(json!({"series": series, "metadata": {"name": "e", "namespace": "default", "labels": {"a": "b"}}})), [""; 0]);
        assert_eq!(refused(json!({"note": "other"})), ["note: Invalid value: \"other\": field is immutable"]);
        assert_eq!(refused(json!({"regarding": {"kind": "Pod", "name": "q", "namespace": "default"}})).len(), 1);
    }
}
