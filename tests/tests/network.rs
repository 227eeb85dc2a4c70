//! Services, names and addresses, seen from inside pods.

use end_to_end::Cluster;

const SERVERS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: peers}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: peers
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: busybox:1
          command: [sh, -c, "mkdir /www && hostname > /www/name && exec httpd -f -p 8080 -h /www"]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /name, port: http}, periodSeconds: 1}
"#;

#[test]
fn services_balance_refuse_and_turn_back_and_names_resolve() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(SERVERS, 3)) else { return };
    // One address, several instances behind it; the asking pod among them.
    let fetch = "for i in $(seq 60); do wget -q -O - http://web/name || echo failed; done | sort | uniq";
    cluster.until("all instances answer", || cluster.shell("web-0", fetch) == "web-0\nweb-1\nweb-2");
    // Nobody behind it: refused, not a time-out.
    let refused = cluster.shell("web-0", "wget -O - http://nobody/ 2>&1 || true");
    assert!(refused.contains("refused"), "{refused}");
    // Each instance has a name of its own, short and long.
    for peer in ["web-1.peers", "web-2.peers.default.svc.cluster.local"] {
        assert_eq!(cluster.shell("web-0", &format!("wget -q -O - http://{peer}:8080/name")), peer[..5].to_owned());
    }
    // The headless name leads to different instances from one time to the next. Asked by an instance itself, the C library would
    // prefer the instance's own address.
    cluster.kubectl(&["run", "asker", "--image=busybox:1", "--restart=Never", "--", "sleep", "100000"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/asker", "--timeout=60s"]);
    let first = "for i in $(seq 40); do ping -c 1 -W 2 peers | sed -n 's/^PING[^(]*(\\(.*\\)):.*/\\1/p'; done | sort | uniq | wc -l";
    assert_eq!(cluster.shell("asker", first), "3");
    // An address leads back to its name.
    let address = cluster.get(&["pod", "web-2"])["status"]["podIP"].as_str().expect("an address").to_owned();
    let name = cluster.shell("web-0", &format!("nslookup {address}"));
    assert!(name.contains("web-2.peers.default.svc.cluster.local"), "{name}");
    // The API server is a Service too, and the pod may ask it who it is.
    let api = cluster.shell("web-0", "nslookup kubernetes.default.svc.cluster.local | tail -n +3");
    assert!(api.contains("10.112."), "{api}");
}

#[test]
fn an_unready_instance_gets_no_connections() {
    let Some(cluster) = Cluster::with_busybox().map(|cluster| cluster.running(SERVERS, 3)) else { return };
    cluster.shell("web-1", "rm /www/name; touch /www/up");
    cluster.until("web-1 is not ready", || cluster.get(&["statefulset", "web"])["status"]["readyReplicas"] == 2);
    cluster.until("web-1 is left out", || {
        let slices = cluster.get(&["endpointslices", "--selector", "kubernetes.io/service-name=web"]);
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count() == 2
    });
    let names = cluster.shell("web-0", "for i in $(seq 30); do wget -q -O - http://web/name || echo failed; done | sort | uniq");
    assert_eq!(names, "web-0\nweb-2");
}
