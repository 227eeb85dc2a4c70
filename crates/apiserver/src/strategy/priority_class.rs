//! PriorityClasses.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::check::{self, fill};
use super::{Strategy, names};
use crate::field::{FieldError, Path};

/// The classes of the cluster's own pods.
pub(crate) const SYSTEM: [(&str, i32); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
/// The preemption policy of who says none.
pub(crate) const LOWER: &str = "PreemptLowerPriority";
/// Names of the system begin so.
const RESERVED: &str = "system-";
/// The highest priority that users can give.
const HIGHEST: i32 = 1_000_000_000;

/// The rules of PriorityClasses.
pub(super) struct PriorityClasses;

impl Strategy for PriorityClasses {
    type Kind = PriorityClass;

    fn default(&self, class: &mut PriorityClass) {
        class.value.get_or_insert(0);
        fill(&mut class.preemption_policy, LOWER);
    }

    fn validate(&self, class: &PriorityClass) -> Vec<FieldError> {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let mut errors = Vec::new();
        if name.starts_with(RESERVED) {
            errors.extend(not_of_the_system(class, name).map(|why| {
                let detail = format!("priority class names with '{RESERVED}' prefix are reserved for system use only. error: {why}");
                FieldError::forbidden(Path::new("metadata").child("name"), detail)
            }));
        } else if class.value > Some(HIGHEST) {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden(Path::new("value"), detail));
        }
        let policies = ["Never", LOWER];
        errors.extend(check::required_one_of(Path::new("preemptionPolicy"), class.preemption_policy.as_ref(), &policies));
        errors
    }

    fn validate_update(&self, class: &PriorityClass, old: &PriorityClass) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if class.value != old.value {
            errors.push(FieldError::forbidden(Path::new("value"), "may not be changed in an update."));
        }
        errors.extend(check::immutable(Path::new("preemptionPolicy"), &class.preemption_policy, &old.preemption_policy));
        errors
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::dns_subdomain(name)
    }
}

/// Why a class of this name is none of the system's.
fn not_of_the_system(class: &PriorityClass, name: &str) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, value)) if class.value != Some(*value) => Some(format!("value of {name} PriorityClass must be {value}")),
        Some(_) if class.global_default == Some(true) => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}
