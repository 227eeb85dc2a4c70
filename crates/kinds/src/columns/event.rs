//! Events, in the form of the core group.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{Column, NAME, Printer, name, since, typed};

pub(crate) const EVENT: Printer = Printer {
    columns: &[
        Column::text("Last Seen", "The time since it happened last."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "Why it happened, in one word."),
        Column::text("Object", "What it happened to."),
        Column::wide("Subobject", "The part of the object."),
        Column::wide("Source", "Who reported it."),
        Column::text("Message", "What happened."),
        Column::wide("First Seen", "The time since it happened first."),
        Column::wide("Count", "How often it happened."),
        Column { format: "name", wide: true, ..NAME },
    ],
    cells: |object, now| cells(typed(object), now),
};

fn cells(event: &Event, now: Timestamp) -> Vec<Value> {
    let at = event.event_time.as_ref().map(|time| Time(time.0));
    let first = event.first_timestamp.clone().or(at);
    let mut last = event.last_timestamp.clone().or_else(|| first.clone());
    let mut count = event.count.unwrap_or(0).max(1);
    if let Some(series) = &event.series {
        last = series.last_observed_time.as_ref().map(|time| Time(time.0)).or(last);
        count = series.count.unwrap_or(count);
    }
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    let target = match object.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        _ => kind,
    };
    let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or_default());
    vec![
        Value::from(since(last.as_ref(), now)),
        text(&event.type_),
        text(&event.reason),
        Value::from(target),
        text(&object.field_path),
        Value::from(source(event)),
        Value::from(event.message.as_deref().unwrap_or_default().trim()),
        Value::from(since(first.as_ref(), now)),
        Value::from(count),
        name(&event.metadata),
    ]
}

fn source(event: &Event) -> String {
    let source = event.source.clone().unwrap_or_default();
    let component = source.component.or_else(|| event.reporting_component.clone()).unwrap_or_default();
    match source.host.or_else(|| event.reporting_instance.clone()) {
        Some(host) if !host.is_empty() => format!("{component}, {host}"),
        _ => component,
    }
}
