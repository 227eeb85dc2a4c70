//! Name, order of creation, storage, Service.

use serde_json::Value;

use crate::workload::{Workload, is_ready, name, paused, uid, web, with_claims};

/// Upstream: a set provides basic identity.
#[test]
fn instances_come_one_by_one_with_their_name_and_data_and_keep_both_across_zero() {
    let Some(work) = Workload::new("identity") else { return };
    work.create("statefulsets", &paused(3));
    for ordinal in 0..3 {
        work.until_pod(ordinal, "runs", |pod| pod["status"]["phase"] == "Running");
        assert_eq!(work.pod_names().len(), ordinal as usize + 1, "a pod came before its predecessor was ready");
        work.let_go_on(ordinal);
    }
    work.settled();
    for pod in ["ss-0", "ss-1", "ss-2"] {
        let found = work.get(&format!("pods/{pod}"));
        let spec = &found["spec"];
        assert_eq!([&spec["hostname"], &spec["subdomain"]], [pod, "test"]);
        assert_eq!(found["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], pod);
        assert_eq!(found["metadata"]["labels"]["apps.kubernetes.io/pod-index"], pod[3..]);
        assert_eq!(found["metadata"]["generateName"], "ss-");
        let script = "hostname | tee /data/hostname && ln -s /data/hostname /data/link && hostname -f";
        assert_eq!(work.shell(pod, script), format!("{pod}\n{pod}.test.identity.svc.cluster.local"));
    }
    assert_eq!(work.get("statefulsets/ss")["spec"]["serviceName"], "test");
    work.scale(0);
    work.settled();
    assert!(work.pod_names().is_empty());
    work.scale(3);
    work.settled();
    for pod in ["ss-0", "ss-1", "ss-2"] {
        assert_eq!(work.shell(pod, "cat /data/hostname /data/link"), format!("{pod}\n{pod}"));
    }
}

/// Upstream: a set does not deadlock when a pod's predecessor fails.
#[test]
fn a_lost_predecessor_comes_back_while_its_successor_is_not_ready() {
    let Some(work) = Workload::new("predecessor") else { return };
    work.create("statefulsets", &paused(2));
    work.let_go_on(0);
    let successor = work.until_pod(1, "runs", |pod| pod["status"]["phase"] == "Running" && !is_ready(pod));
    let before = work.pod(0);
    work.delete("pods/ss-0");
    work.replaced(0, &before);
    assert_eq!(uid(&work.pod(1)), uid(&successor));
    work.let_go_on(1);
    work.settled();
}

/// The owner, and what the names of claims are made of.
#[test]
fn a_pod_belongs_to_its_set_and_a_claim_is_named_after_both() {
    let Some(work) = Workload::new("ownership") else { return };
    let mut set = with_claims(1);
    // A claim takes the place of a volume of its name, and the other volumes stay.
    set["spec"]["template"]["spec"]["volumes"] =
        serde_json::json!([{"name": "datadir", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]);
    set["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"] = serde_json::json!({"tier": "gold"});
    let set = work.run(&set);
    let pod = work.pod(0);
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!([&owner["kind"], &owner["apiVersion"], &owner["name"]], ["StatefulSet", "apps/v1", "ss"]);
    assert_eq!([&owner["uid"], &owner["controller"], &owner["blockOwnerDeletion"]], [&set["metadata"]["uid"], &true.into(), &true.into()]);
    let volumes: Vec<&Value> = pod["spec"]["volumes"].as_array().expect("volumes").iter().collect();
    assert_eq!(volumes[0]["persistentVolumeClaim"]["claimName"], "datadir-ss-0");
    assert_eq!(volumes.iter().map(|volume| volume["name"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["datadir", "other"]);
    let claim = work.get("persistentvolumeclaims/datadir-ss-0");
    assert_eq!([&claim["metadata"]["labels"]["app"], &claim["metadata"]["labels"]["tier"]], ["ss", "gold"]);
    assert_eq!(claim["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(crate::workload::revision(&pod), set["status"]["currentRevision"].as_str().unwrap_or_default());
    let revisions = work.list("controllerrevisions");
    assert_eq!(revisions.iter().map(name).collect::<Vec<_>>(), [set["status"]["updateRevision"].as_str().unwrap_or_default()]);
}

/// The label of a pod's name is part of its identity, and is repaired.
#[test]
fn the_label_of_a_pods_name_is_put_back() {
    let Some(work) = Workload::new("label-repair") else { return };
    work.run(&web(1));
    let before = work.pod(0);
    work.patch("pods/ss-0", serde_json::json!({"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": null}}}));
    let after = work.until_pod(0, "has its label again", |pod| pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "ss-0");
    assert_eq!(uid(&after), uid(&before));
}
