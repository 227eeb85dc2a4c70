//! What users are told.

use serde_json::json;

use crate::workload::{Workload, web, with_claims};

impl Workload {
    /// The events about the set, as type, reason and message.
    fn told(&self) -> Vec<[String; 3]> {
        let events = self.list("events?fieldSelector=involvedObject.kind%3DStatefulSet");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| [text(&event["type"]), text(&event["reason"]), text(&event["message"])]).collect()
    }

    fn until_told(&self, wanted: [&str; 3]) {
        self.until(&format!("the user is told {wanted:?}"), || self.told().iter().any(|told| *told == wanted));
    }
}

#[test]
fn the_user_is_told_of_pods_and_claims_in_upstreams_words() {
    let Some(work) = Workload::new("events") else { return };
    let set = work.run(&with_claims(1));
    work.until_told(["Normal", "SuccessfulCreate", "Create Claim datadir-ss-0 Pod ss-0 in StatefulSet ss success"]);
    work.until_told(["Normal", "SuccessfulCreate", "Create Pod ss-0 in StatefulSet ss successful"]);
    work.patch("pods/ss-0", json!({"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": "other"}}}));
    work.until_told(["Normal", "SuccessfulUpdate", "Update Pod ss-0 in StatefulSet ss successful"]);
    work.scale(0);
    work.until_told(["Normal", "SuccessfulDelete", "Delete Pod ss-0 in StatefulSet ss successful"]);
    let events = work.list("events?fieldSelector=involvedObject.kind%3DStatefulSet");
    for event in &events {
        assert_eq!(event["source"]["component"], "statefulset-controller");
        let about = &event["involvedObject"];
        assert_eq!([&about["apiVersion"], &about["name"], &about["uid"]], [&json!("apps/v1"), &json!("ss"), &set["metadata"]["uid"]]);
    }
    // kubectl finds them.
    let described = work.kubectl(&["describe", "statefulset", "ss"]);
    assert!(
        described.contains("statefulset-controller") && described.contains("Delete Pod ss-0 in StatefulSet ss successful"),
        "{described}"
    );
}

#[test]
fn the_user_is_told_why_a_pod_can_not_be_created() {
    let Some(work) = Workload::new("events-failed") else { return };
    let mut set = web(1);
    set["spec"]["template"]["spec"]["serviceAccountName"] = json!("absent");
    work.create("statefulsets", &set);
    let mut told = Vec::new();
    work.until("the user is told", || {
        told = work.told().into_iter().filter(|[_, reason, _]| reason == "FailedCreate").collect();
        !told.is_empty()
    });
    let [severity, _, message] = &told[0];
    assert_eq!(severity, "Warning");
    assert!(message.starts_with("Create Pod ss-0 in StatefulSet ss failed error: "), "{message}");
    assert!(message.contains("pods \"ss-0\" is forbidden: error looking up service account events-failed/absent"), "{message}");
    // Once the reason is gone it is tried again.
    work.create("serviceaccounts", &json!({"metadata": {"name": "absent"}}));
    work.settled();
}
