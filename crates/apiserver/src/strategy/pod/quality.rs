//! A pod's class of service quality: which pods the kernel ends first when memory is short.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::strategy::check;

/// The three classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quality {
    /// Every container has equal requests and limits for processor and memory.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Quality {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// The class of a pod, from the pod's own resources if it has them, else from its containers'.
pub(super) fn of(spec: &PodSpec) -> Quality {
    let of_container = |container: &Container| container.resources.clone().unwrap_or_default();
    let all: Vec<ResourceRequirements> = match &spec.resources {
        Some(resources) => vec![resources.clone()],
        None => spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(of_container).collect(),
    };
    let says = |list: &Option<BTreeMap<String, Quantity>>| COMPUTE.iter().any(|name| amount(list, name).is_some());
    if !all.iter().any(|one| says(&one.requests) || says(&one.limits)) {
        Quality::BestEffort
    } else if all.iter().all(is_guaranteed) {
        Quality::Guaranteed
    } else {
        Quality::Burstable
    }
}

fn is_guaranteed(resources: &ResourceRequirements) -> bool {
    COMPUTE.iter().all(|name| {
        let limit = amount(&resources.limits, name);
        limit.is_some() && amount(&resources.requests, name).is_none_or(|request| Some(request) == limit)
    })
}

fn amount(list: &Option<BTreeMap<String, Quantity>>, name: &str) -> Option<kinds::Quantity> {
    list.as_ref()?.get(name).map(check::quantity).filter(|amount| amount.signum() > 0)
}
