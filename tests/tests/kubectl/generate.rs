//! `kubectl create` of each generator, `run` and `expose`; what is not served is refused.

use end_to_end::Cluster;

use crate::{AGES, fails, run, with_everything};

/// The words after `kubectl create`, and what is there then.
const GENERATED: &[(&[&str], &str)] = &[
    (&["namespace", "made"], "namespace/made"),
    (&["configmap", "made", "--from-literal=a=b"], "configmap/made"),
    (&["secret", "generic", "made", "--from-literal=a=b"], "secret/made"),
    (&["secret", "docker-registry", "pull", "--docker-server=s", "--docker-username=u", "--docker-password=p"], "secret/pull"),
    (&["serviceaccount", "made"], "serviceaccount/made"),
    (&["service", "clusterip", "made", "--tcp=80:8080"], "service/made"),
    (&["service", "clusterip", "headless", "--clusterip=None"], "service/headless"),
    (&["service", "externalname", "outside", "--external-name=example.com"], "service/outside"),
    (&["quota", "made", "--hard=secrets=20"], "resourcequota/made"),
    (&["priorityclass", "made", "--value=10"], "priorityclass/made"),
    (&["role", "made", "--verb=get,list", "--resource=pods,statefulsets.apps"], "role/made"),
    (&["rolebinding", "made", "--role=made", "--user=bob"], "rolebinding/made"),
    (&["clusterrole", "made", "--verb=get", "--resource=nodes", "--resource-name=simulated-0"], "clusterrole/made"),
    (&["clusterrolebinding", "made", "--clusterrole=made", "--serviceaccount=default:default"], "clusterrolebinding/made"),
];

/// The words after `kubectl create` that ask for what is not served.
const REFUSED: &[(&[&str], &str)] = &[
    (&["deployment", "made", "--image=busybox:1"], "deployments.apps is not served"),
    (&["job", "made", "--image=busybox:1"], "the server could not find the requested resource"),
    (&["cronjob", "made", "--image=busybox:1", "--schedule=* * * * *"], "the server could not find the requested resource"),
    (&["ingress", "made", "--rule=example.com/=made:80"], "the server could not find the requested resource"),
    (&["service", "nodeport", "other", "--tcp=80"], "services of type NodePort are not served yet"),
    (&["service", "loadbalancer", "other", "--tcp=80"], "services of type LoadBalancer are not served yet"),
];

#[test]
fn every_generator_makes_its_kind() {
    let cluster = Cluster::simulated(1);
    for age in AGES {
        for (words, made) in GENERATED {
            let dry = run(&cluster, age, &[&["create"], *words, &["--dry-run=server", "--output=name"]].concat());
            assert!(dry.trim().ends_with(made.split_once('/').unwrap().1), "{age} {words:?}: {dry}");
            run(&cluster, age, &[&["create"], *words].concat());
            run(&cluster, age, &["get", made]);
            if !made.starts_with("namespace/") {
                let again = fails(&cluster, age, &[&["create"], *words].concat());
                assert!(again.contains("already exists"), "{age} {words:?}: {again}");
            }
        }
        for (words, expected) in REFUSED {
            let error = fails(&cluster, age, &[&["create"], *words].concat());
            assert!(error.contains(expected), "{age} {words:?}: {error}");
        }
        for (_, made) in GENERATED {
            run(&cluster, age, &["delete", made, "--wait"]);
        }
    }
    let newest = AGES[1];
    run(&cluster, newest, &["create", "poddisruptionbudget", "made", "--selector=app=web", "--min-available=50%"]);
    run(&cluster, newest, &["get", "poddisruptionbudget/made"]);
    assert_eq!(run(&cluster, newest, &["create", "token", "default", "--duration=10m"]).split('.').count(), 3);
}

#[test]
fn pods_are_run_and_exposed() {
    let cluster = with_everything();
    for age in AGES {
        run(&cluster, age, &["run", "tried", "--image=busybox:1", "--dry-run=server"]);
        fails(&cluster, age, &["get", "pod", "tried"]);
        run(&cluster, age, &["run", "single", "--image=busybox:1", "--port=80", "--expose", "--labels=app=single"]);
        run(&cluster, age, &["wait", "--for=condition=Ready", "pod/single", "--timeout=60s"]);
        run(&cluster, age, &["expose", "pod", "web-0", "--port=80", "--name=exposed"]);
        let selector = cluster.get(&["service", "exposed"])["spec"]["selector"].clone();
        assert_eq!(selector["statefulset.kubernetes.io/pod-name"], "web-0");
        run(&cluster, age, &["expose", "service", "web", "--port=81", "--name=again"]);
        run(&cluster, age, &["delete", "service/exposed", "service/again", "service/single", "pod/single", "--now"]);
    }
}
