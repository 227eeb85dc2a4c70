//! Volumes, claims and classes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use std::collections::BTreeMap;

use super::{AGE, Column, NAME, Printer, age, name, or, typed};

const UNSET: &str = "<unset>";
const VOLUME_MODE: Column = Column::wide("VolumeMode", "Whether it is a file system or a raw block device.");

pub(crate) const PERSISTENT_VOLUME: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Capacity", "How much it holds."),
        Column::text("Access Modes", "How it can be mounted."),
        Column::text("Reclaim Policy", "What happens to it when its claim goes."),
        Column::text("Status", "Whether it is available, bound or released."),
        Column::text("Claim", "The claim it is bound to."),
        Column::text("StorageClass", "The class it belongs to."),
        Column::text("VolumeAttributesClass", "The class of its attributes."),
        Column::text("Reason", "Why it is in this state."),
        AGE,
        VOLUME_MODE,
    ],
    cells: |object, now| {
        let volume: &PersistentVolume = typed(object);
        let spec = volume.spec.clone().unwrap_or_default();
        let status = volume.status.clone().unwrap_or_default();
        let claim = spec.claim_ref.map(|claim| format!("{}/{}", claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default()));
        vec![
            name(&volume.metadata),
            Value::from(storage(spec.capacity.as_ref())),
            Value::from(modes(spec.access_modes.as_deref())),
            Value::from(spec.persistent_volume_reclaim_policy.unwrap_or_default()),
            Value::from(phase(&volume.metadata, status.phase)),
            Value::from(claim.unwrap_or_default()),
            Value::from(spec.storage_class_name.unwrap_or_default()),
            Value::from(or(spec.volume_attributes_class_name.as_deref(), UNSET)),
            Value::from(status.reason.unwrap_or_default()),
            age(&volume.metadata, now),
            Value::from(or(spec.volume_mode.as_deref(), UNSET)),
        ]
    },
};

pub(crate) const PERSISTENT_VOLUME_CLAIM: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "Whether it is pending, bound or lost."),
        Column::text("Volume", "The volume it is bound to."),
        Column::text("Capacity", "How much the volume holds."),
        Column::text("Access Modes", "How the volume can be mounted."),
        Column::text("StorageClass", "The class it asks for."),
        Column::text("VolumeAttributesClass", "The class of the volume's attributes."),
        AGE,
        VOLUME_MODE,
    ],
    cells: |object, now| {
        let claim: &PersistentVolumeClaim = typed(object);
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        let bound = spec.volume_name.as_deref().is_some_and(|volume| !volume.is_empty());
        vec![
            name(&claim.metadata),
            Value::from(phase(&claim.metadata, status.phase)),
            Value::from(spec.volume_name.unwrap_or_default()),
            Value::from(if bound { storage(status.capacity.as_ref()) } else { String::new() }),
            Value::from(if bound { modes(status.access_modes.as_deref()) } else { String::new() }),
            Value::from(spec.storage_class_name.unwrap_or_default()),
            Value::from(or(spec.volume_attributes_class_name.as_deref(), UNSET)),
            age(&claim.metadata, now),
            Value::from(or(spec.volume_mode.as_deref(), UNSET)),
        ]
    },
};

fn storage(capacity: Option<&BTreeMap<String, Quantity>>) -> String {
    capacity.and_then(|capacity| capacity.get("storage")).map(|quantity| quantity.0.clone()).unwrap_or_default()
}

fn modes(modes: Option<&[String]>) -> String {
    let short = |mode: &String| match mode.as_str() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let short: Vec<_> = modes.unwrap_or_default().iter().map(short).filter(|mode| !mode.is_empty()).collect();
    short.join(",")
}

fn phase(meta: &ObjectMeta, phase: Option<String>) -> String {
    if meta.deletion_timestamp.is_some() { "Terminating".to_owned() } else { phase.unwrap_or_default() }
}

pub(crate) const STORAGE_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Provisioner", "Who makes the volumes."),
        Column::text("ReclaimPolicy", "What happens to a volume when its claim goes."),
        Column::text("VolumeBindingMode", "When a volume is made for a claim."),
        Column::text("AllowVolumeExpansion", "Whether volumes can grow."),
        AGE,
    ],
    cells: |object, now| {
        let class: &StorageClass = typed(object);
        let annotations = class.metadata.annotations.as_ref();
        let is_default = annotations.and_then(|all| all.get("storageclass.kubernetes.io/is-default-class")).is_some_and(|it| it == "true");
        let plain = class.metadata.name.as_deref().unwrap_or_default();
        vec![
            Value::from(if is_default { format!("{plain} (default)") } else { plain.to_owned() }),
            Value::from(class.provisioner.as_str()),
            Value::from(or(class.reclaim_policy.as_deref(), "Delete")),
            Value::from(or(class.volume_binding_mode.as_deref(), "Immediate")),
            Value::from(class.allow_volume_expansion.unwrap_or(false)),
            age(&class.metadata, now),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_default_class_says_so_and_the_row_is_still_named() {
        let class: StorageClass = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p",
        }))
        .unwrap();
        let cells = (STORAGE_CLASS.cells)(&class, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "local (default)");
        assert_eq!(name(&class.metadata), "local");
    }
}
