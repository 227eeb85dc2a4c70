//! What several tests run.

/// A set of three.
pub const WEB: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "busybox:1"}]
"#;

/// A set whose instances write each start into their claim, and whose containers are told a message. What else differs is given in
/// YAML: its annotations, and further lines of its spec.
pub fn keeping_lives(replicas: usize, annotations: &str, spec: &str, message: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web, annotations: {{{annotations}}}}}
spec:
  serviceName: web
  replicas: {replicas}
{spec}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - name: web
          image: busybox:1
          command: [sh, -c, "echo $(hostname) >> /data/lives; exec sleep 100000"]
          env: [{{name: MESSAGE, value: "{message}"}}]
          readinessProbe: {{exec: {{command: [test, -f, /data/lives]}}, periodSeconds: 1}}
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"#
    )
}
