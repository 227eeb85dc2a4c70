//! Rollouts that stall, go back, pause, keep an order and work in batches, on real containers, through kubectl.

use end_to_end::Cluster;
use serde_json::Value;

/// Everything about a set that differs from test to test.
struct Set<'a> {
    name: &'a str,
    replicas: usize,
    /// Lines of YAML flow, as `steadfast.dev/paused: "true"`.
    annotations: &'a str,
    max_unavailable: usize,
    image: &'a str,
    message: &'a str,
}

const PLAIN: Set<'static> = Set { name: "web", replicas: 3, annotations: "", max_unavailable: 1, image: "busybox:1", message: "old" };

impl Set<'_> {
    fn manifest(&self) -> String {
        let Self { name, replicas, annotations, max_unavailable, image, message } = self;
        format!(
            r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  replicas: {replicas}
  updateStrategy: {{type: RollingUpdate, rollingUpdate: {{maxUnavailable: {max_unavailable}}}}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - name: main
          image: {image}
          command: [sleep, "100000"]
          env: [{{name: MESSAGE, value: {message}}}]
          readinessProbe: {{exec: {{command: ["true"]}}, initialDelaySeconds: 2, periodSeconds: 1}}
"#
        )
    }
}

/// A cluster with a set that is available.
fn running(set: &Set<'_>) -> Option<Cluster> {
    let cluster = Cluster::with_busybox()?;
    cluster.apply(&set.manifest());
    cluster.kubectl(&["wait", &format!("statefulset/{}", set.name), "--for=condition=Available", "--timeout=90s"]);
    Some(cluster)
}

fn condition(cluster: &Cluster, kind: &str) -> Value {
    let set = cluster.get(&["statefulset", "web"]);
    let conditions = set["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// `web-0 old`, for every pod, sorted.
fn messages(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.get(&["pods", "--selector", "app=web"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |pod: &Value| format!("{} {}", text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["env"][0]["value"]));
    let mut messages: Vec<_> = pods["items"].as_array().into_iter().flatten().map(told).collect();
    messages.sort();
    messages
}

/// The messages of the events of a reason, in the order they were recorded.
fn events(cluster: &Cluster, reason: &str) -> Vec<String> {
    let events = cluster.get(&["events", "--field-selector", &format!("reason={reason}")]);
    let mut events: Vec<_> = events["items"].as_array().cloned().unwrap_or_default();
    events.sort_by_key(|event| event["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok()));
    events.into_iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_broken_update_stalls_says_why_and_is_taken_back_when_asked() {
    let patient = Set { replicas: 2, annotations: r#"steadfast.dev/progress-deadline-seconds: "4""#, ..PLAIN };
    let Some(cluster) = running(&patient) else { return };
    cluster.apply(&Set { image: "nowhere.invalid/none:1", message: "broken", ..patient }.manifest());
    cluster.kubectl(&["wait", "statefulset/web", "--for=condition=Stalled", "--timeout=90s"]);
    let progressing = condition(&cluster, "Progressing");
    assert_eq!((&progressing["status"], &progressing["reason"]), (&"False".into(), &"ProgressDeadlineExceeded".into()));
    let message = condition(&cluster, "Stalled")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("waits for web-1 to become Ready: container main: "), "{message}");
    assert!(message.contains("ErrImagePull"), "{message}");

    cluster.kubectl(&["annotate", "statefulset/web", "steadfast.dev/auto-rollback=true"]);
    cluster.until("the template is the old one again", || {
        cluster.get(&["statefulset", "web"])["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox:1"
    });
    cluster.rolled_out("web");
    cluster.kubectl(&["wait", "statefulset/web", "--for=condition=Stalled=false", "--timeout=90s"]);
    assert_eq!(messages(&cluster), ["web-0 old", "web-1 old"]);
    cluster.until("the event is there", || !events(&cluster, "RolledBack").is_empty());
    let event = &events(&cluster, "RolledBack")[0];
    assert!(event.contains("it made no progress for 4 s: the set waits for web-1 to become Ready"), "{event}");
}

#[test]
fn pods_are_replaced_in_the_order_of_their_roles() {
    let ranked = Set { annotations: r#"steadfast.dev/update-order: "role=replica,role=master""#, ..PLAIN };
    let Some(cluster) = running(&ranked) else { return };
    for (pod, role) in [("web-0", "replica"), ("web-1", "replica"), ("web-2", "master")] {
        cluster.kubectl(&["label", "pod", pod, &format!("role={role}")]);
    }
    cluster.apply(&Set { message: "new", ..ranked }.manifest());
    cluster.rolled_out("web");
    let deleted = ["web-1", "web-0", "web-2"].map(|pod| format!("Delete Pod {pod} in StatefulSet web successful"));
    cluster.until("three deletions are told of", || events(&cluster, "SuccessfulDelete").len() == 3);
    assert_eq!(events(&cluster, "SuccessfulDelete"), deleted);
}

#[test]
fn a_reserved_ordinal_is_left_without_renumbering_the_others() {
    let Some(cluster) = running(&PLAIN) else { return };
    let uid = cluster.get(&["pod", "web-2"])["metadata"]["uid"].clone();
    let error = cluster.kubectl_fails(&["annotate", "statefulset/web", "steadfast.dev/reserved-ordinals=2-1"]);
    assert!(error.contains("metadata.annotations[steadfast.dev/reserved-ordinals]: Invalid value: \"2-1\""), "{error}");
    let patch = r#"{"metadata": {"annotations": {"steadfast.dev/reserved-ordinals": "1"}}, "spec": {"replicas": 2}}"#;
    cluster.kubectl(&["patch", "statefulset/web", "--type=merge", "--patch", patch]);
    cluster.ready("web", 2);
    assert_eq!(messages(&cluster), ["web-0 old", "web-2 old"]);
    assert_eq!(cluster.get(&["pod", "web-2"])["metadata"]["uid"], uid);
    cluster.kubectl(&["scale", "statefulset/web", "--replicas=3"]);
    cluster.ready("web", 3);
    assert_eq!(messages(&cluster), ["web-0 old", "web-2 old", "web-3 old"]);
}

#[test]
fn a_rollout_pauses_and_goes_on() {
    let Some(cluster) = running(&Set { replicas: 2, ..PLAIN }) else { return };
    cluster.kubectl(&["annotate", "statefulset/web", "steadfast.dev/paused=true"]);
    let env = "--patch={\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"main\",\"env\":[{\"name\":\"MESSAGE\",\"value\":\"new\"}]}]}}}}";
    cluster.kubectl(&["patch", "statefulset/web", env]);
    cluster.until("the pause is told of", || {
        condition(&cluster, "Progressing")["message"] == "waits for the rollout to be resumed: 2 pods are to be replaced"
    });
    assert_eq!(condition(&cluster, "Progressing")["reason"], "Paused");
    // Repairs go on, at the revision from before.
    let uid = cluster.get(&["pod", "web-0"])["metadata"]["uid"].clone();
    cluster.kubectl(&["delete", "pod", "web-0"]);
    cluster.ready("web", 2);
    assert_ne!(cluster.get(&["pod", "web-0"])["metadata"]["uid"], uid);
    assert_eq!(messages(&cluster), ["web-0 old", "web-1 old"]);
    cluster.kubectl(&["annotate", "statefulset/web", "steadfast.dev/paused-"]);
    cluster.rolled_out("web");
    assert_eq!(messages(&cluster), ["web-0 new", "web-1 new"]);
}

#[test]
fn an_ordered_batch_comes_back_together() {
    let pairs = Set { replicas: 4, max_unavailable: 2, ..PLAIN };
    let Some(cluster) = running(&pairs) else { return };
    cluster.apply(&Set { message: "new", ..pairs }.manifest());
    cluster.rolled_out("web");
    assert_eq!(messages(&cluster), ["web-0 new", "web-1 new", "web-2 new", "web-3 new"]);
    // The higher of two was created before the lower was ready, which takes each of them two seconds.
    for (lower, higher) in [("web-2", "web-3"), ("web-0", "web-1")] {
        let conditions = cluster.get(&["pod", lower])["status"]["conditions"].clone();
        let ready = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready").cloned();
        let ready = ready.unwrap_or_default()["lastTransitionTime"].as_str().unwrap_or_default().to_owned();
        let created = cluster.get(&["pod", higher])["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        assert!(created < ready, "{higher} created at {created}, {lower} ready at {ready}");
    }
}

#[test]
fn a_set_may_have_the_longest_name_that_its_pods_can_bear() {
    let name = "n".repeat(61);
    let long = Set { name: &name, replicas: 1, ..PLAIN };
    let Some(cluster) = running(&long) else { return };
    cluster.apply(&Set { message: "new", ..long }.manifest());
    cluster.rolled_out(&name);
    assert_eq!(messages(&cluster), [format!("{name}-0 new")]);
    assert_eq!(cluster.shell(&format!("{name}-0"), "hostname"), format!("{name}-0"));
    let error = cluster.kubectl_fails(&["scale", &format!("statefulset/{name}"), "--replicas=11"]);
    assert!(error.contains(&format!("the name of its last pod, {name}-10, must be no more than 63 bytes")), "{error}");
    let error = String::from_utf8_lossy(
        &cluster.kubectl_with_input(&["create", "--filename", "-"], &Set { name: &"n".repeat(62), ..long }.manifest()).stderr,
    )
    .into_owned();
    assert!(error.contains("metadata.name: Invalid value"), "{error}");
}
