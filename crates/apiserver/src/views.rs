//! Events are served twice: as core Events, which are stored, and as `events.k8s.io` Events, a view of the same objects.

use k8s_openapi::api::core::v1::{Event, EventSeries, EventSource};
use k8s_openapi::api::events::v1::{Event as View, EventSeries as ViewSeries};
use kinds::{Object, Resource};

/// The object as it is stored.
pub fn to_stored(resource: &Resource, object: &dyn Object) -> Box<dyn Object> {
    match object.downcast_ref::<View>() {
        Some(view) if !std::ptr::eq(resource.stored(), resource) => Box::new(event(view.clone())),
        _ => object.clone_object(),
    }
}

/// The object as the resource's own kind.
pub fn from_stored(resource: &Resource, object: Box<dyn Object>) -> Box<dyn Object> {
    match object.downcast_ref::<Event>() {
        Some(event) if !std::ptr::eq(resource.stored(), resource) => Box::new(view(event.clone())),
        _ => object,
    }
}

fn event(view: View) -> Event {
    Event {
        metadata: view.metadata,
        involved_object: view.regarding.unwrap_or_default(),
        related: view.related,
        reason: view.reason,
        message: view.note,
        type_: view.type_,
        action: view.action,
        event_time: view.event_time,
        reporting_component: view.reporting_controller,
        reporting_instance: view.reporting_instance,
        series: view.series.map(|series| EventSeries { count: Some(series.count), last_observed_time: Some(series.last_observed_time) }),
        source: view.deprecated_source,
        count: view.deprecated_count,
        first_timestamp: view.deprecated_first_timestamp,
        last_timestamp: view.deprecated_last_timestamp,
    }
}

fn view(event: Event) -> View {
    let series = event.series.and_then(|series| {
        Some(ViewSeries { count: series.count.unwrap_or_default(), last_observed_time: series.last_observed_time? })
    });
    View {
        metadata: event.metadata,
        regarding: Some(event.involved_object),
        related: event.related,
        reason: event.reason,
        note: event.message,
        type_: event.type_,
        action: event.action,
        event_time: event.event_time,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series,
        deprecated_source: event.source.filter(|source| *source != EventSource::default()),
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_seen_through_the_view_and_back_is_the_same() {
        let event: Event = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "web-0"},
            "message": "created", "reason": "Created", "type": "Normal", "count": 3,
            "source": {"component": "node"}, "lastTimestamp": "2026-01-01T00:00:00Z",
            "series": {"count": 4, "lastObservedTime": "2026-01-01T00:00:00.000001Z"},
        }))
        .unwrap();
        let seen = view(event.clone());
        assert_eq!((seen.note.as_deref(), seen.deprecated_count), (Some("created"), Some(3)));
        assert_eq!(super::event(seen), event);
    }
}
