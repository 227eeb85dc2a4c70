//! LimitRanges.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

type List = Option<BTreeMap<String, Quantity>>;

/// The rules of LimitRanges.
pub(super) struct LimitRanges;

impl Strategy for LimitRanges {
    type Kind = LimitRange;

    fn default(&self, range: &mut LimitRange) {
        for item in range.spec.iter_mut().flat_map(|spec| &mut spec.limits) {
            for list in [&mut item.max, &mut item.min, &mut item.default, &mut item.default_request, &mut item.max_limit_request_ratio] {
                check::canonical(list);
            }
            if item.type_ == "Container" {
                fill(&mut item.default, &item.max);
                fill(&mut item.default_request, &item.default);
                fill(&mut item.default_request, &item.min);
            }
        }
    }

    fn validate(&self, range: &LimitRange) -> Vec<FieldError> {
        let path = Path::new("spec").child("limits");
        let mut errors = Vec::new();
        let mut types = BTreeSet::new();
        for (index, limit) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let path = path.index(index);
            errors.extend(limit_type(&path.child("type"), &limit.type_));
            if !types.insert(limit.type_.as_str()) {
                errors.push(FieldError::duplicate(path.child("type"), limit.type_.as_str()));
            }
            errors.extend(item(&path, limit));
        }
        errors
    }
}

/// Adds what a list does not have.
fn fill(list: &mut List, from: &List) {
    for (name, amount) in from.iter().flatten() {
        list.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

fn limit_type(path: &Path, name: &str) -> Option<FieldError> {
    if let Some(wrong) = names::qualified(name) {
        return Some(FieldError::invalid(path.clone(), name, wrong));
    }
    let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&name) || name.contains('/');
    (!standard).then(|| FieldError::invalid(path.clone(), name, "must be a standard limit type or fully qualified"))
}

fn item(path: &Path, limit: &LimitRangeItem) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if limit.type_ == "Pod" {
        for (field, list) in [("default", &limit.default), ("defaultRequest", &limit.default_request)] {
            if list.as_ref().is_some_and(|list| !list.is_empty()) {
                errors.push(FieldError::forbidden(path.child(field), "may not be specified when `type` is 'Pod'"));
            }
        }
    }
    let says_storage = |list: &List| list.as_ref().is_some_and(|list| list.contains_key("storage"));
    if limit.type_ == "PersistentVolumeClaim" && !says_storage(&limit.min) && !says_storage(&limit.max) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(path.child("limits"), detail));
    }
    let lists = [&limit.max, &limit.min, &limit.default, &limit.default_request, &limit.max_limit_request_ratio];
    let resources: BTreeSet<_> = lists.into_iter().flatten().flat_map(BTreeMap::keys).collect();
    errors.extend(resources.into_iter().flat_map(|resource| one_resource(path, limit, resource)));
    errors
}

/// What contradicts itself in what an item says of one resource.
fn one_resource(path: &Path, limit: &LimitRangeItem, resource: &str) -> Vec<FieldError> {
    let amount = |list: &List| list.as_ref().and_then(|list| list.get(resource)).cloned();
    let (min, max) = (amount(&limit.min), amount(&limit.max));
    let (default, request) = (amount(&limit.default), amount(&limit.default_request));
    let mut errors: Vec<_> = [
        ("min", "min value", &min, "max value", &max),
        ("defaultRequest", "min value", &min, "default request value", &request),
        ("defaultRequest", "default request value", &request, "max value", &max),
        ("defaultRequest", "default request value", &request, "default limit value", &default),
        ("default", "min value", &min, "default value", &default),
        ("default", "default value", &default, "max value", &max),
    ]
    .into_iter()
    .filter_map(|(field, less_name, less, more_name, more)| {
        let (less, more) = (less.as_ref()?, more.as_ref()?);
        let shown = if field == "min" { less } else { more };
        let detail = format!("{less_name} {} is greater than {more_name} {}", less.0, more.0);
        (check::quantity(less) > check::quantity(more))
            .then(|| FieldError::invalid(path.child(field).key(resource), shown.0.as_str(), detail))
    })
    .collect();
    if let Some(ratio) = amount(&limit.max_limit_request_ratio) {
        errors.extend(wrong_ratio(&path.child("maxLimitRequestRatio").key(resource), &ratio, min.as_ref(), max.as_ref()));
    }
    errors
}

fn wrong_ratio(path: &Path, ratio: &Quantity, min: Option<&Quantity>, max: Option<&Quantity>) -> Option<FieldError> {
    let milli = |amount: &Quantity| check::quantity(amount).milli_value();
    let wrong = |detail: String| Some(FieldError::invalid(path.clone(), ratio.0.as_str(), detail));
    if milli(ratio) < 1000 {
        return wrong(format!("ratio {} is less than 1", ratio.0));
    }
    let (min, max) = (milli(min?), milli(max?));
    let too_great = min > 0 && i128::from(milli(ratio)) * i128::from(min) > i128::from(max) * 1000;
    // Only for showing: what is too great is decided in whole numbers.
    if too_great { wrong(format!("ratio {} is greater than max/min = {:.6}", ratio.0, max as f64 / min as f64)) } else { None }
}
