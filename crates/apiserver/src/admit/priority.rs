//! Priorities: a pod has that of its class; at most one class is that of pods that name none.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::Request;
use super::read::Reader;
use crate::error::ApiError;
use crate::strategy::priority_class::{LOWER, SYSTEM};

/// What a pod gets from its class.
struct Rank {
    class: String,
    priority: i32,
    preemption: String,
}

impl Rank {
    fn of(class: &PriorityClass) -> Self {
        let preemption = class.preemption_policy.clone().unwrap_or_else(|| LOWER.to_owned());
        Self { class: class.metadata.name.clone().unwrap_or_default(), priority: class.value.unwrap_or(0), preemption }
    }
}

/// Gives a new pod the priority of its class.
pub(super) async fn complete(reader: &Reader, request: &Request<'_>, spec: &mut PodSpec) -> Result<(), ApiError> {
    let named = spec.priority_class_name.clone().filter(|name| !name.is_empty());
    let rank = match &named {
        Some(name) => {
            find(reader, name).await?.ok_or_else(|| request.forbidden(&format!("no PriorityClass with name {name} was found")))?
        }
        None => default(reader.list("").await?),
    };
    let computed = "must not be provided in pod spec; priority admission controller computed";
    let from = "from the given PriorityClass name";
    if let Some(given) = spec.priority.filter(|given| *given != rank.priority) {
        return Err(request.forbidden(&format!("the integer value of priority ({given}) {computed} {} {from}", rank.priority)));
    }
    if let Some(given) = spec.preemption_policy.as_ref().filter(|given| **given != rank.preemption) {
        return Err(request.forbidden(&format!("the string value of PreemptionPolicy ({given}) {computed} {} {from}", rank.preemption)));
    }
    spec.priority = Some(rank.priority);
    spec.preemption_policy = Some(rank.preemption);
    spec.priority_class_name = Some(rank.class).filter(|class| !class.is_empty());
    Ok(())
}

/// The class of this name. Those of the system can be asked for before they have been stored.
async fn find(reader: &Reader, name: &str) -> Result<Option<Rank>, ApiError> {
    if let Some(class) = reader.get::<PriorityClass>("", name).await? {
        return Ok(Some(Rank::of(&class)));
    }
    let known = SYSTEM.iter().find(|(system, _)| *system == name);
    Ok(known.map(|(_, priority)| Rank { class: name.to_owned(), priority: *priority, preemption: LOWER.to_owned() }))
}

/// The rank of pods that name no class. Of several default classes, the lowest counts.
fn default(classes: Vec<PriorityClass>) -> Rank {
    let default = classes.iter().filter(|class| class.global_default == Some(true)).min_by_key(|class| class.value.unwrap_or(0));
    default.map_or_else(|| Rank { class: String::new(), priority: 0, preemption: LOWER.to_owned() }, Rank::of)
}

/// Refuses a second default class.
pub(super) async fn check_class(reader: &Reader, request: &Request<'_>, class: &PriorityClass) -> Result<(), ApiError> {
    if class.global_default != Some(true) {
        return Ok(());
    }
    let classes = reader.list::<PriorityClass>("").await?;
    let other = classes.iter().find(|other| other.global_default == Some(true) && other.metadata.name.as_deref() != Some(request.name));
    match other.and_then(|other| other.metadata.name.as_ref()) {
        Some(name) => Err(request.forbidden(&format!("PriorityClass {name} is already marked as default. Only one default can exist"))),
        None => Ok(()),
    }
}
