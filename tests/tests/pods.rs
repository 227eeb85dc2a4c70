//! Pods: what kubectl shows of them and does with them.

use end_to_end::{Cluster, said};

#[test]
fn kubectl_shows_logs_runs_commands_and_explains_failures() {
    let Some(cluster) = Cluster::with_busybox() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello, file: content}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {value: hidden}
---
apiVersion: v1
kind: Pod
metadata: {name: tools, labels: {app: tools}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: prepare, image: "busybox:1", command: [sh, -c, "echo prepared > /shared/state"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
    - name: main
      image: busybox:1
      command: [sh, -c, "echo out; echo err >&2; exec sleep 100000"]
      env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: COMBINED, value: "$(GREETING) from $(POD)"}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      resources: {limits: {memory: 64Mi, cpu: 500m}}
      volumeMounts:
        - {name: shared, mountPath: /shared}
        - {name: settings, mountPath: /settings}
        - {name: password, mountPath: /password, readOnly: true}
        - {name: about, mountPath: /about}
  volumes:
    - {name: shared, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: password, secret: {secretName: password, defaultMode: 0400}}
    - {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  containers: [{name: main, image: "busybox:1", command: [nosuch]}]
"#,
    );
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/tools", "--timeout=60s"]);
    let logs = cluster.kubectl(&["logs", "tools"]);
    assert!(logs.contains("out\n") && logs.contains("err\n"), "{logs}");
    assert_eq!(cluster.shell("tools", "cat /shared/state"), "prepared");
    assert_eq!(cluster.shell("tools", "echo $GREETING"), "hello");
    assert_eq!(cluster.shell("tools", "cat /settings/file /password/value"), "contenthidden");
    assert_eq!(cluster.shell("tools", "cat /about/labels"), "app=\"tools\"");
    assert_eq!(cluster.shell("tools", "echo $ADDRESS"), cluster.get(&["pod", "tools"])["status"]["podIP"].as_str().unwrap_or_default());
    // Only the three standard descriptors are open.
    assert_eq!(cluster.shell("tools", "ls /proc/1/fd | tr '\\n' ' '"), "0 1 2");
    // Exit codes and standard input go through.
    let failed = cluster.kubectl_command(&["exec", "tools", "--", "sh", "-c", "exit 42"]).output().expect("kubectl runs");
    assert_eq!(failed.status.code(), Some(42), "{}", said(&failed));
    let echoed = cluster.kubectl_with_input(&["exec", "-i", "tools", "--", "cat"], "through\n");
    assert_eq!(String::from_utf8_lossy(&echoed.stdout), "through\n", "{}", said(&echoed));
    // A command that does not exist is told in words.
    cluster.until("the failure is told", || cluster.kubectl(&["describe", "pod", "broken"]).contains("executable file not found"));
    // A changed ConfigMap reaches the volume.
    cluster.kubectl(&["patch", "configmap", "settings", "--patch", r#"{"data":{"file":"changed"}}"#]);
    cluster.until("the file changed", || cluster.shell("tools", "cat /settings/file") == "changed");
    cluster.kubectl(&["delete", "pod", "tools", "broken", "--wait=true", "--timeout=60s"]);
}

#[test]
fn a_container_that_ends_is_restarted_and_its_last_log_is_kept() {
    let Some(cluster) = Cluster::with_busybox() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: state, emptyDir: {}}]
  containers:
    - name: main
      image: busybox:1
      command: [sh, -c, "echo life >> /state/lives; echo life $(wc -l < /state/lives); test $(wc -l < /state/lives) -gt 1 || exit 3; exec sleep 100000"]
      volumeMounts: [{name: state, mountPath: /state}]
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
    - {name: main, image: "busybox:1", command: [sh, -c, "tail /dev/zero"], resources: {limits: {memory: 16Mi}}}
"#,
    );
    cluster.until("it runs again", || {
        let status = cluster.get(&["pod", "again"])["status"]["containerStatuses"][0].clone();
        status["restartCount"] == 1 && status["ready"] == true
    });
    assert_eq!(cluster.get(&["pod", "again"])["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(cluster.kubectl(&["logs", "again"]).trim(), "life 2");
    assert_eq!(cluster.kubectl(&["logs", "again", "--previous"]).trim(), "life 1");
    cluster.until("the memory limit ended it", || {
        cluster.get(&["pod", "greedy"])["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    });
}
