//! How many pods a budget expects, and how many of them must stay healthy.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use thiserror::Error;

/// What a budget expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expectation {
    /// How many pods there should be.
    pub(super) pods: i32,
    /// How many of them must stay healthy.
    pub(super) healthy: i32,
    /// Whether pods without a controller were left out.
    pub(super) unmanaged: bool,
}

/// Why it is not known what to expect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Failure {
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    #[error("invalid value for IntOrString: {0:?} is not a percentage")]
    NoPercentage(String),
}

type Scale<'a> = &'a dyn Fn(&OwnerReference) -> Option<i32>;

pub(super) fn of(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: Scale<'_>) -> Result<Expectation, Failure> {
    let spec = budget.spec.clone().unwrap_or_default();
    match (spec.max_unavailable, spec.min_available) {
        (Some(unavailable), _) => {
            let (pods, unmanaged) = wanted(pods, scale)?;
            let healthy = pods.saturating_sub(share(&unavailable, pods)?).max(0);
            Ok(Expectation { pods, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(healthy))) => {
            Ok(Expectation { pods: i32::try_from(pods.len()).unwrap_or(i32::MAX), healthy, unmanaged: false })
        }
        (None, Some(available)) => {
            let (pods, unmanaged) = wanted(pods, scale)?;
            Ok(Expectation { pods, healthy: share(&available, pods)?, unmanaged })
        }
        (None, None) => Ok(Expectation::default()),
    }
}

/// How many pods the controllers of these pods want, each controller counted once; and whether some pod has none.
fn wanted(pods: &[Arc<Pod>], scale: Scale<'_>) -> Result<(i32, bool), Failure> {
    let mut scales = BTreeMap::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(controller) = controller(pod) else {
            unmanaged = true;
            continue;
        };
        if !scales.contains_key(controller.uid.as_str()) {
            let name = || pod.metadata.name.clone().unwrap_or_default();
            scales.insert(controller.uid.as_str(), scale(controller).ok_or_else(|| Failure::NoController(name()))?);
        }
    }
    Ok((scales.values().fold(0, |sum: i32, scale| sum.saturating_add(*scale)), unmanaged))
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A number, or a percentage of so many pods, rounded up.
fn share(value: &IntOrString, pods: i32) -> Result<i32, Failure> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percentage: Option<i64> = text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok()).map(i64::from);
            let percentage = percentage.ok_or_else(|| Failure::NoPercentage(text.clone()))?;
            Ok(i32::try_from((percentage * i64::from(pods) + 99).div_euclid(100)).unwrap_or(i32::MAX))
        }
    }
}
