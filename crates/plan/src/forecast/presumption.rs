//! What is presumed of pods that are not ready today.
//!
//! Nobody can know whether a pod will become ready. One that has just begun to start is taken to; one that fails again and
//! again, found no node, was ready once or has been starting for long is taken to stay as it is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::pods::{condition_is, has_ended, is_ready};
use crate::statefulset::health_of;

/// How long a pod may take to start.
const START: SignedDuration = SignedDuration::from_mins(10);

/// Whether a pod is presumed to stay unready.
pub(super) fn stays_unready(pod: &Pod, now: Timestamp) -> bool {
    let goes = pod.metadata.deletion_timestamp.is_some() || has_ended(pod);
    if goes || is_ready(pod) {
        return false;
    }
    let health = health_of(pod, now);
    let since = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_late = since.is_some_and(|since| now.duration_since(since) > START);
    health.fails_again_and_again || !health.was_never_ready || is_late || condition_is(pod, "PodScheduled", "False")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        let meta = json!({"name": "web-0", "creationTimestamp": "2030-01-01T00:00:00Z"});
        serde_json::from_value(json!({"metadata": meta, "status": status})).unwrap()
    }

    fn ready(value: &str, since: &str) -> Value {
        json!([{"type": "Ready", "status": value, "lastTransitionTime": format!("2030-01-01T00:{since}Z")}])
    }

    #[test]
    fn only_a_pod_that_has_just_begun_is_taken_to_become_ready() {
        let started = "2030-01-01T00:00:00Z";
        let waiting = json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        let cases = [
            ("starting", json!({"phase": "Running", "startTime": started, "conditions": ready("False", "00:00")}), "00:01:00", false),
            ("late", json!({"phase": "Running", "startTime": started, "conditions": ready("False", "00:00")}), "00:11:00", true),
            ("was ready", json!({"phase": "Running", "startTime": started, "conditions": ready("False", "00:30")}), "00:01:00", true),
            ("failing", json!({"phase": "Pending", "containerStatuses": waiting}), "00:01:00", true),
            ("no node", json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}), "00:00:01", true),
            ("ready", json!({"phase": "Running", "conditions": ready("True", "00:30")}), "00:11:00", false),
            ("ended", json!({"phase": "Failed", "conditions": ready("False", "00:30")}), "00:11:00", false),
        ];
        for (name, status, now, expected) in cases {
            let now = format!("2030-01-01T{now}Z").parse().unwrap();
            assert_eq!(stays_unready(&pod(status), now), expected, "{name}");
        }
    }
}
