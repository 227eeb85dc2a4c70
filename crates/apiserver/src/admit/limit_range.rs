//! LimitRanges: what the containers of a namespace get that ask for nothing, and how much a pod or a claim may ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kinds::Quantity;

use super::Request;
use super::read::Reader;
use crate::error::ApiError;

/// Says on a pod what was set for it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type List = BTreeMap<String, Text>;

/// Sets what the pod leaves open, and refuses one that asks for too little or too much.
pub(super) async fn complete_pod(reader: &Reader, request: &Request<'_>, pod: &mut Pod) -> Result<(), ApiError> {
    let ranges = reader.list::<LimitRange>(request.namespace).await?;
    for range in &ranges {
        set_defaults(range, pod);
    }
    refuse(request, ranges.iter().flat_map(|range| pod.spec.iter().flat_map(|spec| pod_faults(range, spec))))
}

/// Refuses a claim that asks for too little or too much.
pub(super) async fn check_claim(reader: &Reader, request: &Request<'_>, claim: &PersistentVolumeClaim) -> Result<(), ApiError> {
    let ranges = reader.list::<LimitRange>(request.namespace).await?;
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.clone()).unwrap_or_default();
    refuse(request, ranges.iter().flat_map(|range| claim_faults(range, &resources)))
}

fn refuse(request: &Request<'_>, faults: impl Iterator<Item = String>) -> Result<(), ApiError> {
    match faults.collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        [one] => Err(request.forbidden(one)),
        many => Err(request.forbidden(&format!("[{}]", many.join(", ")))),
    }
}

fn items<'r>(range: &'r LimitRange, type_: &'static str) -> impl Iterator<Item = &'r LimitRangeItem> {
    range.spec.iter().flat_map(|spec| &spec.limits).filter(move |item| item.type_ == type_)
}

fn set_defaults(range: &LimitRange, pod: &mut Pod) {
    let (mut limits, mut requests) = (List::new(), List::new());
    for item in items(range, "Container") {
        limits.extend(item.default.clone().unwrap_or_default());
        requests.extend(item.default_request.clone().unwrap_or_default());
    }
    let mut told = Vec::new();
    let Some(spec) = &mut pod.spec else { return };
    for container in &mut spec.containers {
        told.extend(set_default(container, &requests, &limits, "container"));
    }
    for container in spec.init_containers.iter_mut().flatten() {
        told.extend(set_default(container, &requests, &limits, "init container"));
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), text);
    }
}

/// Sets what one container leaves open; says what that was.
fn set_default(container: &mut Container, requests: &List, limits: &List, what: &str) -> Vec<String> {
    let resources = container.resources.get_or_insert_default();
    let requests = add_missing(&mut resources.requests, requests);
    let limits = add_missing(&mut resources.limits, limits);
    let told = |set: Vec<String>, kind: &str| (!set.is_empty()).then(|| format!("{} {kind} for {what} {}", set.join(", "), container.name));
    told(requests, "request").into_iter().chain(told(limits, "limit")).collect()
}

fn add_missing(list: &mut Option<List>, defaults: &List) -> Vec<String> {
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| list.as_ref().is_none_or(|list| !list.contains_key(*name))).collect();
    for (name, amount) in &missing {
        list.get_or_insert_default().insert((*name).clone(), (*amount).clone());
    }
    missing.into_iter().map(|(name, _)| name.clone()).collect()
}

fn pod_faults(range: &LimitRange, spec: &PodSpec) -> Vec<String> {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let of_containers = items(range, "Container").flat_map(|item| {
        containers().flat_map(|container| {
            let ResourceRequirements { requests, limits, .. } = container.resources.clone().unwrap_or_default();
            faults(item, &requests.unwrap_or_default(), &limits.unwrap_or_default())
        })
    });
    let requests = whole(spec, |resources| resources.requests.as_ref());
    let limits = whole(spec, |resources| resources.limits.as_ref());
    of_containers.chain(items(range, "Pod").flat_map(|item| faults(item, &requests, &limits))).collect()
}

/// What the containers of a pod have together, or the most that one of its init containers has.
fn whole(spec: &PodSpec, list: impl Fn(&ResourceRequirements) -> Option<&List>) -> List {
    let amounts = |container: &Container| container.resources.as_ref().and_then(&list).cloned().unwrap_or_default();
    let mut sums = BTreeMap::<String, (Quantity, bool)>::new();
    for (name, amount) in spec.containers.iter().flat_map(amounts) {
        let sum = sums.entry(name).or_insert((Quantity::default(), false));
        *sum = (sum.0 + quantity(&amount), sum.1 || is_binary(&amount));
    }
    for (name, amount) in spec.init_containers.iter().flatten().flat_map(amounts) {
        let sum = sums.entry(name).or_insert((Quantity::default(), false));
        *sum = (sum.0.max(quantity(&amount)), sum.1 || is_binary(&amount));
    }
    sums.into_iter().map(|(name, (sum, binary))| (name, Text(sum.text(binary)))).collect()
}

fn is_binary(amount: &Text) -> bool {
    amount.0.ends_with('i')
}

fn quantity(amount: &Text) -> Quantity {
    amount.0.parse().unwrap_or_default()
}

/// The part of a limit that is about one resource.
struct Bound<'a> {
    type_: &'a str,
    resource: &'a str,
    bound: &'a Text,
    request: Option<&'a Text>,
    limit: Option<&'a Text>,
}

/// What is wrong with one amount.
type Check = fn(&Bound<'_>) -> Option<String>;

fn faults(item: &LimitRangeItem, requests: &List, limits: &List) -> Vec<String> {
    let kinds = [(&item.min, minimum as Check), (&item.max, maximum), (&item.max_limit_request_ratio, ratio)];
    let mut faults = Vec::new();
    for (list, check) in kinds {
        for (resource, bound) in list.iter().flatten() {
            let (request, limit) = (requests.get(resource), limits.get(resource));
            faults.extend(check(&Bound { type_: &item.type_, resource, bound, request, limit }));
        }
    }
    faults
}

fn minimum(of: &Bound<'_>) -> Option<String> {
    let Bound { type_, resource, bound: Text(bound), .. } = of;
    let least = quantity(of.bound);
    let says = |rest: String| Some(format!("minimum {resource} usage per {type_} is {bound}{rest}"));
    match (of.request, of.limit) {
        (None, _) => says(".  No request is specified".to_owned()),
        (Some(request), _) if quantity(request) < least => says(format!(", but request is {}", request.0)),
        (_, Some(limit)) if quantity(limit) < least => says(format!(", but limit is {}", limit.0)),
        _ => None,
    }
}

fn maximum(of: &Bound<'_>) -> Option<String> {
    let Bound { type_, resource, bound: Text(bound), .. } = of;
    let most = quantity(of.bound);
    let says = |rest: String| Some(format!("maximum {resource} usage per {type_} is {bound}{rest}"));
    match (of.limit, of.request) {
        (None, _) => says(".  No limit is specified".to_owned()),
        (Some(limit), _) if quantity(limit) > most => says(format!(", but limit is {}", limit.0)),
        (_, Some(request)) if quantity(request) > most => says(format!(", but request is {}", request.0)),
        _ => None,
    }
}

fn ratio(of: &Bound<'_>) -> Option<String> {
    let Bound { type_, resource, bound: Text(bound), .. } = of;
    let milli = |amount: &Text| quantity(amount).milli_value();
    let says = |rest: String| Some(format!("{resource} max limit to request ratio per {type_} is {bound}, but {rest}"));
    let Some(request) = of.request.map(milli).filter(|request| *request != 0) else {
        return says("no request is specified or request is 0".to_owned());
    };
    let Some(limit) = of.limit.map(milli).filter(|limit| *limit != 0) else {
        return says("no limit is specified or limit is 0".to_owned());
    };
    let allowed = i128::from(milli(of.bound)) * i128::from(request);
    // Only for showing: what is allowed is decided in whole numbers.
    let shown = limit as f64 / request as f64;
    (i128::from(limit) * 1000 > allowed).then(|| says(format!("provided ratio is {shown:.6}")))?
}

fn claim_faults(range: &LimitRange, resources: &VolumeResourceRequirements) -> Vec<String> {
    let requests = resources.requests.clone().unwrap_or_default();
    let mut faults = Vec::new();
    for item in items(range, "PersistentVolumeClaim") {
        for (resource, bound) in item.min.iter().flatten() {
            faults.extend(minimum(&Bound { type_: &item.type_, resource, bound, request: requests.get(resource), limit: None }));
        }
        for (resource, bound) in item.max.iter().flatten() {
            let says = |rest: String| format!("maximum {resource} usage per {} is {}{rest}", item.type_, bound.0);
            match requests.get(resource) {
                None => faults.push(says(".  No request is specified".to_owned())),
                Some(request) if quantity(request) > quantity(bound) => faults.push(says(format!(", but request is {}", request.0))),
                Some(_) => {}
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn range(item: Value) -> LimitRange {
        serde_json::from_value(json!({"spec": {"limits": [item]}})).unwrap()
    }

    fn pod(resources: &[Value]) -> Pod {
        let containers: Vec<_> =
            resources.iter().enumerate().map(|(number, resources)| json!({"name": format!("c{number}"), "resources": resources})).collect();
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn a_container_gets_what_it_leaves_open_and_the_pod_says_so() {
        let range = range(json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}));
        let mut pod = pod(&[json!({"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}), json!({})]);
        set_defaults(&range, &mut pod);
        let containers = serde_json::to_value(&pod.spec.as_ref().unwrap().containers).unwrap();
        assert_eq!(containers[0]["resources"], json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2"}}));
        assert_eq!(containers[1]["resources"], json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}));
        assert_eq!(
            pod.metadata.annotations.unwrap()[ANNOTATION],
            "LimitRanger plugin set: memory limit for container c0; cpu request for container c1; cpu, memory limit for container c1"
        );
    }

    #[test]
    fn what_is_too_little_or_too_much_is_named() {
        let container = |item: Value| {
            json!({"type": "Container"})
                .as_object()
                .unwrap()
                .clone()
                .into_iter()
                .chain(item.as_object().unwrap().clone())
                .collect::<serde_json::Map<_, _>>()
        };
        let whole = |item: Value| {
            let mut item = container(item);
            item.insert("type".into(), json!("Pod"));
            item
        };
        for (item, resources, expected) in [
            (container(json!({"max": {"cpu": "1"}})), vec![json!({"limits": {"cpu": "1"}})], None),
            (
                container(json!({"max": {"cpu": "1"}})),
                vec![json!({})],
                Some("maximum cpu usage per Container is 1.  No limit is specified"),
            ),
            (
                container(json!({"max": {"cpu": "500m"}})),
                vec![json!({"limits": {"cpu": "1"}})],
                Some("maximum cpu usage per Container is 500m, but limit is 1"),
            ),
            (
                container(json!({"min": {"memory": "1Gi"}})),
                vec![json!({"requests": {"memory": "1023Mi"}})],
                Some("minimum memory usage per Container is 1Gi, but request is 1023Mi"),
            ),
            (
                container(json!({"min": {"cpu": "1"}})),
                vec![json!({})],
                Some("minimum cpu usage per Container is 1.  No request is specified"),
            ),
            (
                container(json!({"maxLimitRequestRatio": {"cpu": "2"}})),
                vec![json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}})],
                Some("cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
            ),
            (
                container(json!({"maxLimitRequestRatio": {"cpu": "2"}})),
                vec![json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}})],
                None,
            ),
            (
                container(json!({"maxLimitRequestRatio": {"cpu": "2"}})),
                vec![json!({"limits": {"cpu": "2"}})],
                Some("cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"),
            ),
            (
                whole(json!({"max": {"memory": "2Gi"}})),
                vec![json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1536Mi"}})],
                Some("maximum memory usage per Pod is 2Gi, but limit is 2560Mi"),
            ),
        ] {
            let spec = pod(&resources).spec.unwrap();
            let item = Value::Object(item);
            assert_eq!(pod_faults(&range(item.clone()), &spec).first().map(String::as_str), expected, "{item}");
        }
    }

    #[test]
    fn claims_are_bounded_by_what_they_request() {
        let range = range(json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}));
        let asking = |storage: &str| serde_json::from_value(json!({"requests": {"storage": storage}})).unwrap();
        assert!(claim_faults(&range, &asking("2Gi")).is_empty());
        assert_eq!(claim_faults(&range, &asking("3Gi")), ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]);
        assert_eq!(claim_faults(&range, &asking("1Mi")), ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]);
    }
}
