//! Sets of pods, their revisions and their disruption budgets.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, name, or_none, typed};

pub(crate) const STATEFUL_SET: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready", "Ready pods and wanted pods."),
        AGE,
        Column::wide("Containers", "The containers of the template."),
        Column::wide("Images", "The images of the template."),
    ],
    cells: |object, now| {
        let set: &StatefulSet = typed(object);
        let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let containers = template.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
        let images: Vec<_> = containers.iter().filter_map(|container| container.image.as_deref()).collect();
        vec![
            name(&set.metadata),
            Value::from(format!("{ready}/{wanted}")),
            age(&set.metadata, now),
            Value::from(names.join(",")),
            Value::from(images.join(",")),
        ]
    },
};

/// The scale of a set.
pub const SCALE: Printer = Printer {
    columns: &[NAME, Column::number("Desired", "How many pods are wanted."), Column::number("Available", "How many pods there are."), AGE],
    cells: |object, now| {
        let set: &StatefulSet = typed(object);
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let there = set.status.as_ref().map_or(0, |status| status.replicas);
        vec![name(&set.metadata), Value::from(wanted), Value::from(there), age(&set.metadata, now)]
    },
};

pub(crate) const CONTROLLER_REVISION: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Controller", "The object this is a revision of."),
        Column::text("Revision", "The number of the revision."),
        AGE,
    ],
    cells: |object, now| {
        let revision: &ControllerRevision = typed(object);
        let owner = revision.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let owner = owner.map(|owner| {
            let kind = owner.kind.to_lowercase();
            match owner.api_version.split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", owner.name),
                None => format!("{kind}/{}", owner.name),
            }
        });
        vec![name(&revision.metadata), Value::from(or_none(owner.as_deref())), Value::from(revision.revision), age(&revision.metadata, now)]
    },
};

pub(crate) const POD_DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Min Available", "How many pods must stay available."),
        Column::text("Max Unavailable", "How many pods may be unavailable."),
        Column::number("Allowed Disruptions", "How many pods may be disrupted now."),
        AGE,
    ],
    cells: |object, now| {
        let budget: &PodDisruptionBudget = typed(object);
        let spec = budget.spec.clone().unwrap_or_default();
        vec![
            name(&budget.metadata),
            bound(spec.min_available),
            bound(spec.max_unavailable),
            Value::from(budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)),
            age(&budget.metadata, now),
        ]
    },
};

fn bound(bound: Option<IntOrString>) -> Value {
    Value::from(match bound {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(percentage)) => percentage,
        None => "N/A".to_owned(),
    })
}
