//! Priorities, limits and quotas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, name, or, typed};

/// Name and time of creation, as upstream prints kinds it has no columns for.
pub(crate) const CREATED: Printer = Printer {
    columns: &[NAME, Column { data_type: "date", ..Column::text("Created At", "When the object was created.") }],
    cells: |object, _| {
        let created = object.meta().creation_timestamp.as_ref().map(|time| time.0.to_string());
        vec![name(object.meta()), Value::from(created.unwrap_or_default())]
    },
};

pub(crate) const PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Value", "The priority of the class's pods."),
        Column { data_type: "boolean", ..Column::text("Global-Default", "Whether pods that name no class are of this one.") },
        AGE,
        Column::text("PreemptionPolicy", "Whether its pods may take the place of others."),
    ],
    cells: |object, now| {
        let class: &PriorityClass = typed(object);
        vec![
            name(&class.metadata),
            Value::from(class.value.unwrap_or(0)),
            Value::from(class.global_default.unwrap_or(false)),
            age(&class.metadata, now),
            Value::from(or(class.preemption_policy.as_deref(), "")),
        ]
    },
};

pub(crate) const RESOURCE_QUOTA: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Request", "What is used of what may be requested."),
        Column::text("Limit", "What is used of what may be limited to."),
        AGE,
    ],
    cells: |object, now| {
        let quota: &ResourceQuota = typed(object);
        let (limits, requests): (Vec<_>, Vec<_>) = uses(quota).into_iter().partition(|(name, _)| name.starts_with("limits."));
        let line = |uses: Vec<(String, String)>| {
            let uses: Vec<_> = uses.into_iter().map(|(name, use_)| format!("{name}: {use_}")).collect();
            Value::from(uses.join(", "))
        };
        vec![name(&quota.metadata), line(requests), line(limits), age(&quota.metadata, now)]
    },
};

/// What is used of each limit: `1/10`.
fn uses(quota: &ResourceQuota) -> BTreeMap<String, String> {
    let status = quota.status.clone().unwrap_or_default();
    let used = status.used.unwrap_or_default();
    let hard = status.hard.unwrap_or_default();
    let shown = |name: &String| used.get(name).map_or("0", |amount| amount.0.as_str()).to_owned();
    hard.into_iter().map(|(name, limit)| (name.clone(), format!("{}/{}", shown(&name), limit.0))).collect()
}
