//! Several servers on one etcd of three members, behind a balancer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use end_to_end::{Balanced, Cluster, PATIENCE, until};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REPLICAS: u64 = 8;

/// What a watch told of a pod: revision, what happened, name and uid.
type Told = (u64, String, String, String);

fn server(etcd: &etcd_fixture::Cluster) -> Cluster {
    let store = etcd.address("e2e");
    Cluster::start_with(&["--store", &store, "--simulated-nodes", "3", "--lease-duration", "2", "--service-cidr", "10.112.250.0/24"])
}

fn set(image: &str) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "replicas": REPLICAS, "serviceName": "web", "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": {"steadfast.dev/simulated-ready-after": "300ms"}},
            "spec": {"containers": [{"name": "main", "image": image}]}}}})
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a resource version")
}

/// Follows all pods from a revision on, again and again where a watch ends, until a watch has ended and that was all.
fn follow(front: &Balanced, from: u64, is_all: impl Fn(&[Told]) -> bool) -> Vec<Told> {
    let (mut told, mut seen) = (Vec::new(), from);
    while !is_all(&told) {
        let path = format!("{PODS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={seen}");
        let Ok(watch) = front.try_watch(&path) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        for event in watch {
            let object = &event["object"];
            assert_ne!(event["type"], "ERROR", "the watch can't be resumed from {seen}: {event}");
            seen = revision(object);
            if event["type"] != "BOOKMARK" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                told.push((seen, text(&event["type"]), text(&object["metadata"]["name"]), text(&object["metadata"]["uid"])));
            }
        }
    }
    told
}

/// Makes objects until told to stop; gives the names of those that were acknowledged.
fn write(front: &Balanced, stop: &AtomicBool) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("written-{number}");
        if front.ask("POST", MAPS, &json!({"metadata": {"name": name}})).status == 201 {
            acknowledged.insert(name);
        }
    }
    acknowledged
}

/// The place among the servers of the one that is elected.
fn leader(front: &Balanced, servers: &[Option<Cluster>]) -> usize {
    let lease = front.insist("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/steadfast-control-plane", &Value::Null);
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let holds = |server: &Option<Cluster>| server.as_ref().is_some_and(|server| holder.contains(&format!("_{}_", server.pid())));
    servers.iter().position(holds).unwrap_or_else(|| panic!("no server is {holder:?}"))
}

/// Each pod was there once at a time, and nothing was told twice or out of order.
fn judge(told: &[Told]) {
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    let mut there: Vec<(&str, &str)> = Vec::new();
    for (revision, what, name, uid) in told {
        let pod = (name.as_str(), uid.as_str());
        match what.as_str() {
            "ADDED" => {
                assert!(there.iter().all(|(other, _)| *other != name), "{name} was there twice at {revision}: {told:?}");
                there.push(pod);
            }
            "MODIFIED" => assert!(there.contains(&pod), "{name} changed at {revision} and was not there: {told:?}"),
            _ => there.retain(|other| *other != pod),
        }
    }
}

#[test]
fn a_rollout_survives_the_death_of_a_server_and_of_an_etcd_member() {
    let mut etcd = etcd_fixture::Cluster::start(3);
    let mut servers: Vec<Option<Cluster>> = (0..3).map(|_| Some(server(&etcd))).collect();
    let all: Vec<&Cluster> = servers.iter().flatten().collect();
    let (front, watching, writing) = (Arc::new(Balanced::over(&all)), Balanced::over(&all), Balanced::over(&all));
    let stop = Arc::new(AtomicBool::new(false));
    let begin = revision(&front.insist("GET", PODS, &Value::Null));
    let stopped = (Arc::clone(&stop), Arc::clone(&stop));
    let watcher = std::thread::spawn(move || follow(&watching, begin, |_| stopped.0.load(Ordering::SeqCst)));
    let writer = std::thread::spawn(move || write(&writing, &stopped.1));

    front.insist("POST", SETS, &set("v1"));
    // One of an earlier generation says nothing of this one.
    let status = || {
        let set = front.insist("GET", &format!("{SETS}/web"), &Value::Null);
        if set["status"]["observedGeneration"] == set["metadata"]["generation"] { set["status"].clone() } else { Value::Null }
    };
    until("some replicas are ready", || status()["readyReplicas"].as_u64() >= Some(2));
    let fell = leader(&front, &servers);
    servers[fell].as_mut().expect("it runs").kill();
    etcd.kill(0);
    until("all replicas are ready", || status()["readyReplicas"].as_u64() == Some(REPLICAS));

    // Both come back, and another pair goes, in the middle of an update.
    etcd.restart(0);
    servers[fell].as_mut().expect("it fell").up();
    front.insist(
        "PATCH",
        &format!("{SETS}/web"),
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "v2"}]}}}}),
    );
    until("some are updated", || status()["updatedReplicas"].as_u64() >= Some(2));
    let fell = leader(&front, &servers);
    servers[fell].as_mut().expect("it runs").kill();
    etcd.kill(1);
    until("all are updated", || {
        let status = status();
        status["updatedReplicas"].as_u64() == Some(REPLICAS) && status["readyReplicas"].as_u64() == Some(REPLICAS)
    });
    etcd.restart(1);
    servers[fell].as_mut().expect("it fell").up();

    stop.store(true, Ordering::SeqCst);
    let (told, acknowledged) = (watcher.join().expect("the watcher"), writer.join().expect("the writer"));
    judge(&told);
    let listed = front.insist("GET", MAPS, &Value::Null);
    let listed: BTreeSet<_> =
        listed["items"].as_array().expect("items").iter().filter_map(|map| map["metadata"]["name"].as_str()).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !listed.contains(name.as_str())).collect();
    assert!(lost.is_empty() && acknowledged.len() > 20, "{} acknowledged, lost: {lost:?}", acknowledged.len());
    // Whoever watches only now, at whatever server, is told the same.
    let again = Balanced::over(&[servers[fell].as_ref().expect("it runs")]);
    let deadline = Instant::now() + PATIENCE;
    let same = follow(&again, begin, |same| same.len() >= told.len() || Instant::now() > deadline);
    assert_eq!(told, same[..told.len().min(same.len())]);
    assert!(told.iter().filter(|(_, what, ..)| what == "ADDED").count() as u64 >= 2 * REPLICAS - 2, "{told:?}");
}

#[test]
fn servers_together_keep_to_quotas_and_give_each_service_an_address_of_its_own() {
    let etcd = etcd_fixture::Cluster::start(1);
    let servers = [server(&etcd), server(&etcd)];
    // Each namespace is given the authority's certificate, which counts as well.
    let certificate = format!("{MAPS}/kube-root-ca.crt");
    servers[0].until("the certificate is there", || servers[1].try_call("GET", &certificate, &Value::Null).status == 200);
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/configmaps": "12"}}});
    servers[0].call("POST", "/api/v1/namespaces/default/resourcequotas", &quota);
    let services = "/api/v1/namespaces/default/services";
    let create = |server: &Cluster, number: usize| {
        let map = json!({"metadata": {"name": format!("map-{number}")}});
        let created = server.try_call("POST", MAPS, &map);
        assert!(matches!(created.status, 201 | 403), "{} {}", created.status, created.text());
        let service = json!({"metadata": {"name": format!("service-{number}")}, "spec": {"ports": [{"port": 1}]}});
        let answer = server.try_call("POST", services, &service);
        assert_eq!(answer.status, 201, "{}", answer.text());
        usize::from(created.status == 201)
    };
    let created: usize = std::thread::scope(|scope| {
        let create = &create;
        let threads: Vec<_> = (0..8)
            .map(|thread: usize| {
                let server = &servers[thread % 2];
                scope.spawn(move || (0..5).map(|number| create(server, thread * 100 + number)).sum::<usize>())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread")).sum()
    });
    let items = |path: &str| servers[1].call("GET", path, &Value::Null)["items"].as_array().cloned().unwrap_or_default();
    let maps = items(MAPS).iter().filter(|map| map["metadata"]["name"] != "kube-root-ca.crt").count();
    assert_eq!((created, maps), (11, 11), "the quota is 12, and one is the certificate");
    let listed = items(services);
    let addresses: BTreeSet<_> = listed.iter().filter_map(|service| service["spec"]["clusterIP"].as_str()).collect();
    assert_eq!((listed.len(), addresses.len()), (41, 41));
}

#[test]
fn each_server_is_published_for_as_long_as_it_is_there() {
    let etcd = etcd_fixture::Cluster::start(1);
    let mut servers = [server(&etcd), server(&etcd)];
    let ports_of = |list: &Value| -> BTreeSet<u64> {
        let ports = list.as_array().into_iter().flatten().filter_map(|one| one["ports"][0]["port"].as_u64());
        ports.collect()
    };
    let published = |servers: &[Cluster]| {
        let endpoints = servers[0].call("GET", "/api/v1/namespaces/default/endpoints/kubernetes", &Value::Null);
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=kubernetes";
        [ports_of(&endpoints["subsets"]), ports_of(&servers[0].call("GET", slices, &Value::Null)["items"])]
    };
    let [first, second] = [&servers[0], &servers[1]].map(|server| u64::from(server.address().port()));
    let (one, both) = (BTreeSet::from([first]), BTreeSet::from([first, second]));
    until("both are published", || published(&servers) == [both.clone(), both.clone()]);
    servers[1].kill();
    until("the one that was killed is not", || published(&servers) == [one.clone(), one.clone()]);
    servers[1].up();
    until("it is again", || published(&servers) == [both.clone(), both.clone()]);
    assert!(servers[1].terminate());
    until("the one that was ended is not", || published(&servers) == [one.clone(), one.clone()]);
}

/// Names and resource versions of all ConfigMaps and pods.
fn versions(cluster: &Cluster) -> Vec<(String, u64)> {
    let listed = [MAPS, PODS, "/api/v1/namespaces"].map(|path| cluster.call("GET", path, &Value::Null));
    let items = listed.iter().flat_map(|list| list["items"].as_array().cloned().unwrap_or_default());
    items.map(|item| (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), revision(&item))).collect()
}

fn migrate(cluster: &Cluster, from: &str, to: &str) -> Result<String, String> {
    let output = cluster.steadfast(&["migrate", "--from", from, "--to", to]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn a_cluster_moves_to_etcd_and_back_and_its_clients_go_on() {
    let etcd = etcd_fixture::Cluster::start(1);
    let mut cluster = Cluster::simulated(2);
    cluster.call("POST", SETS, &set("v1"));
    for number in 0..200 {
        cluster.call("POST", MAPS, &json!({"metadata": {"name": format!("map-{number}")}, "data": {"k": "v".repeat(number * 20)}}));
    }
    cluster.ready("web", REPLICAS);
    let store = etcd.address("moved");
    let refused = migrate(&cluster, "embedded", &store).expect_err("the server runs");
    assert!(refused.contains("in use by a running steadfast"), "{refused}");

    let before = versions(&cluster);
    assert!(cluster.terminate());
    let told = migrate(&cluster, "embedded", &store).expect("the server is stopped");
    assert!(told.starts_with("migrated ") && told.contains("verified by digest"), "{told}");
    // What is left in the data directory is stale from now on.
    let again = migrate(&cluster, "embedded", &store).expect_err("the state is in etcd");
    assert!(again.contains("state is in the etcd store"), "{again}");
    let (listen, kubeconfig) = (cluster.address().to_string(), cluster.kubeconfig().display().to_string());
    let stale = cluster.steadfast(&["up", "--simulated-nodes", "2", "--listen", &listen, "--kubeconfig", &kubeconfig]);
    let told = String::from_utf8_lossy(&stale.stderr).into_owned();
    assert!(!stale.status.success() && told.contains("start with --store etcd://"), "{told}");
    cluster.set_arguments(&["--simulated-nodes", "2", "--store", &store, "--lease-duration", "2"]);
    cluster.up();
    let unchanged = |before: &[(String, u64)], now: Vec<(String, u64)>| {
        // What clients hold is as it was; the control plane may write on.
        let same = before.iter().filter(|object| now.contains(object)).count();
        assert!(same >= 200 && now.len() == before.len(), "{before:?}\n{now:?}");
    };
    unchanged(&before, versions(&cluster));
    let changed = cluster.call("PATCH", &format!("{MAPS}/map-7"), &json!({"data": {"k": "w"}}));
    assert!(before.iter().all(|(_, version)| *version < revision(&changed)));
    cluster.call("PATCH", &format!("{SETS}/web"), &json!({"spec": {"replicas": REPLICAS + 1}}));
    cluster.ready("web", REPLICAS + 1);
    assert!(cluster.terminate());

    let before = {
        cluster.up();
        let before = versions(&cluster);
        assert!(cluster.terminate());
        before
    };
    let refused = migrate(&cluster, &store, "embedded").expect_err("the old store is still there");
    assert!(refused.contains("holds something already"), "{refused}");
    std::fs::rename(cluster.data_dir().join("store"), cluster.data_dir().join("store.old")).expect("it is there");
    migrate(&cluster, &store, "embedded").expect("the place is empty");
    cluster.set_arguments(&["--simulated-nodes", "2"]);
    cluster.up();
    unchanged(&before, versions(&cluster));
    cluster.call("PATCH", &format!("{SETS}/web"), &json!({"spec": {"replicas": REPLICAS}}));
    cluster.ready("web", REPLICAS);
}
