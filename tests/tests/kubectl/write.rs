//! Writing: apply, diff, edit, replace, set, rollout, scale, label, delete; and nodes that are taken out of service.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use end_to_end::{Cluster, said};

use crate::{AGES, EVERYTHING, command, fails, missing, output, run, uid, until_replaced, with_everything};

/// A file for kubectl.
fn file(cluster: &Cluster, name: &str, text: &str) -> String {
    let path: PathBuf = cluster.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn set(cluster: &Cluster, field: &str) -> String {
    cluster.kubectl(&["get", "statefulset", "web", "--output", &format!("jsonpath={{{field}}}")])
}

#[test]
fn files_are_applied_compared_replaced_and_deleted() {
    let cluster = Cluster::simulated(2);
    let everything = file(&cluster, "everything.yaml", EVERYTHING);
    let changed = file(&cluster, "changed.yaml", &EVERYTHING.replace("color: red", "color: blue").replace("replicas: 2", "replicas: 1"));
    let map = file(&cluster, "map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: red}\n");
    for age in AGES {
        assert!(run(&cluster, age, &["apply", "--filename", &everything]).contains("statefulset.apps/web created"));
        cluster.ready("web", 2);
        assert!(run(&cluster, age, &["apply", "--filename", &everything]).contains("configmap/settings unchanged"));
        let last = run(&cluster, age, &["apply", "view-last-applied", "configmap/settings"]);
        assert!(last.contains("color:"), "{last}");
        run(&cluster, age, &["diff", "--filename", &everything]);
        let difference = output(&cluster, age, &["diff", "--filename", &changed]);
        assert_eq!(difference.status.code(), Some(1), "{}", said(&difference));
        assert!(
            missing(&said(&difference), &["- color: red", "+ color: blue", "- replicas: 2", "+ replicas: 1"]).is_empty(),
            "{}",
            said(&difference)
        );
        run(&cluster, age, &["apply", "--filename", &changed, "--dry-run=server"]);
        assert_eq!(set(&cluster, ".spec.replicas"), "2");
        run(&cluster, age, &["apply", "--server-side", "--force-conflicts", "--filename", &changed]);
        assert_eq!(set(&cluster, ".spec.replicas"), "1");
        run(&cluster, age, &["replace", "--filename", &everything]);
        assert_eq!(set(&cluster, ".spec.replicas"), "2");
        let before = cluster.get(&["configmap", "settings"])["metadata"]["uid"].clone();
        run(&cluster, age, &["replace", "--force", "--filename", &map]);
        assert_ne!(cluster.get(&["configmap", "settings"])["metadata"]["uid"], before);
        run(&cluster, age, &["delete", "--filename", &everything, "--wait"]);
        fails(&cluster, age, &["get", "statefulset", "web"]);
        cluster.until("all pods go", || cluster.get(&["pods"])["items"].as_array().is_some_and(Vec::is_empty));
        run(&cluster, age, &["delete", "pvc", "--all", "--wait"]);
    }
    let folder = cluster.folder().join("kustomized");
    std::fs::create_dir(&folder).unwrap();
    let kustomized = folder.to_str().unwrap();
    file(&cluster, "kustomized/kustomization.yaml", "namePrefix: our-\nresources: [map.yaml]\n");
    file(&cluster, "kustomized/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {a: b}\n");
    for age in AGES {
        run(&cluster, age, &["apply", "--kustomize", kustomized]);
        run(&cluster, age, &["get", "configmap", "our-map"]);
        run(&cluster, age, &["delete", "--kustomize", kustomized]);
    }
}

#[test]
fn what_was_applied_is_remembered_and_pruned() {
    let cluster = Cluster::simulated(1);
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{part: shop}}}}\ndata: {{a: b}}\n");
    let [one, both] = [("one.yaml", map("one")), ("both.yaml", format!("{}---\n{}", map("one"), map("two")))]
        .map(|(name, text)| file(&cluster, name, &text));
    // What is to be pruned is named in other words by the oldest.
    for (age, prune) in [(AGES[0], "--prune-whitelist=core/v1/ConfigMap"), (AGES[1], "--prune-allowlist=core/v1/ConfigMap")] {
        run(&cluster, age, &["apply", "--filename", &both]);
        let pruned = run(&cluster, age, &["apply", "--filename", &one, "--prune", prune, "--selector=part=shop"]);
        assert!(pruned.contains("configmap/one unchanged") && pruned.contains("configmap/two pruned"), "{pruned}");
        assert!(fails(&cluster, age, &["get", "configmap", "two"]).contains("not found"));
        run(&cluster, age, &["delete", "configmap", "one"]);

        run(&cluster, age, &["create", "--filename", &one]);
        assert!(fails(&cluster, age, &["apply", "view-last-applied", "--filename", &one]).contains("no last-applied-configuration"));
        run(&cluster, age, &["apply", "set-last-applied", "--create-annotation", "--filename", &one]);
        let last = run(&cluster, age, &["apply", "view-last-applied", "--filename", &one, "--output=json"]);
        assert!(missing(&last, &["\"a\": \"b\""]).is_empty(), "{last}");
        run(&cluster, age, &["delete", "configmap", "one"]);
    }
}

#[test]
fn an_unknown_field_is_refused_by_name_in_a_list_and_alone() {
    let cluster = Cluster::simulated(1);
    let list = file(&cluster, "list.yaml", &EVERYTHING.replace("serviceName: web", "serviceNam: web"));
    let alone = file(&cluster, "alone.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: alone}\ndatum: {}\n");
    for age in AGES {
        for (path, field) in [(&list, "serviceNam"), (&alone, "datum")] {
            let error = fails(&cluster, age, &["apply", "--filename", path]);
            assert!(error.contains("unknown field") && error.contains(field), "{age}: {error}");
        }
    }
    assert!(fails(&cluster, AGES[1], &["apply", "--filename", &alone]).contains("strict decoding error"));
    fails(&cluster, AGES[1], &["get", "configmap", "alone"]);
}

#[test]
fn objects_are_edited_labelled_patched_and_deleted() {
    let cluster = with_everything();
    let editor = file(&cluster, "editor", "#!/bin/sh\nsed -i \"s/color: $FROM/color: $TO/\" \"$1\"\n");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
    for age in AGES {
        let mut edit = command(&cluster, age, &["edit", "configmap", "settings"]);
        let edited = edit.env("KUBE_EDITOR", &editor).env("FROM", "red").env("TO", "green").output().unwrap();
        assert!(edited.status.success(), "{}", said(&edited));
        assert_eq!(cluster.get(&["configmap", "settings"])["data"]["color"], "green");
        run(&cluster, age, &["patch", "configmap", "settings", "--patch", r#"{"data":{"color":"red"}}"#]);

        run(&cluster, age, &["label", "pods", "--all", "tier=gold"]);
        assert!(fails(&cluster, age, &["label", "pod", "web-0", "tier=silver"]).contains("already has a value"));
        run(&cluster, age, &["label", "pod", "web-0", "tier=silver", "--overwrite"]);
        assert_eq!(run(&cluster, age, &["get", "pods", "--selector=tier=gold", "--output=name"]), "pod/web-1\n");
        run(&cluster, age, &["label", "pods", "--all", "tier-"]);
        run(&cluster, age, &["annotate", "statefulset", "web", "note=kept"]);
        run(&cluster, age, &["annotate", "statefulset", "web", "note-"]);

        for name in ["one", "two", "three"] {
            run(&cluster, age, &["create", "configmap", name, "--from-literal=a=b"]);
        }
        run(&cluster, age, &["label", "configmap", "one", "two", "doomed=yes"]);
        run(&cluster, age, &["delete", "configmaps", "--selector=doomed", "--wait"]);
        run(&cluster, age, &["delete", "configmap", "three", "--wait"]);
        run(&cluster, age, &["delete", "configmap", "three", "--ignore-not-found"]);
        assert!(fails(&cluster, age, &["delete", "configmap", "three"]).contains("configmaps \"three\" not found"));
        let before = uid(&cluster, "web-1");
        run(&cluster, age, &["delete", "pod", "web-1", "--force", "--grace-period=0"]);
        until_replaced(&cluster, "web-1", &before);
        cluster.ready("web", 2);
    }
    run(
        &cluster,
        AGES[1],
        &["patch", "statefulset", "web", "--subresource=scale", "--type=merge", "--patch", r#"{"spec":{"replicas":1}}"#],
    );
    cluster.ready("web", 1);
}

#[test]
fn sets_are_changed_rolled_out_and_scaled() {
    let cluster = with_everything();
    cluster.kubectl(&["create", "serviceaccount", "other"]);
    for age in AGES {
        run(&cluster, age, &["set", "image", "statefulset/web", "web=busybox:2"]);
        run(&cluster, age, &["set", "env", "statefulset/web", "SIZE=small", "COLOR-"]);
        run(&cluster, age, &["set", "resources", "statefulset/web", "--limits=cpu=50m"]);
        run(&cluster, age, &["set", "serviceaccount", "statefulset/web", "other"]);
        run(&cluster, age, &["set", "selector", "service/web", "app=web"]);
        run(&cluster, age, &["rollout", "status", "statefulset/web", "--timeout=60s"]);
        assert_eq!(set(&cluster, ".spec.template.spec.containers[0].image"), "busybox:2");
        let images = cluster.kubectl(&["get", "pods", "--output", "jsonpath={.items[*].spec.containers[0].image}"]);
        assert_eq!(images, "busybox:2 busybox:2");
        assert!(run(&cluster, age, &["rollout", "history", "statefulset/web"]).contains("REVISION"));
        let first = run(&cluster, age, &["rollout", "history", "statefulset/web", "--revision=1"]);
        assert!(missing(&first, &["with revision #1", "Image: busybox:1"]).is_empty(), "{first}");
        run(&cluster, age, &["rollout", "undo", "statefulset/web", "--to-revision=1"]);
        run(&cluster, age, &["rollout", "restart", "statefulset/web"]);
        run(&cluster, age, &["rollout", "status", "statefulset/web", "--timeout=60s"]);
        assert_eq!(set(&cluster, ".spec.template.spec.containers[0].image"), "busybox:1");
        assert!(fails(&cluster, age, &["rollout", "pause", "statefulset/web"]).contains("pausing is not supported"));

        run(&cluster, age, &["scale", "statefulset", "web", "--replicas=3", "--current-replicas=2"]);
        let error = fails(&cluster, age, &["scale", "statefulset", "web", "--replicas=1", "--current-replicas=2"]);
        assert!(error.contains("Expected replicas to be 2, was 3"), "{error}");
        run(&cluster, age, &["scale", "statefulset", "web", "--replicas=2"]);
        cluster.ready("web", 2);
        // Every age finds the history as the first one did.
        run(&cluster, age, &["delete", "statefulset", "web", "--cascade=foreground", "--wait"]);
        cluster.apply(EVERYTHING);
        cluster.ready("web", 2);
    }
}

#[test]
fn nodes_are_tainted_cordoned_and_drained() {
    let cluster = with_everything();
    for age in AGES {
        run(&cluster, age, &["taint", "nodes", "simulated-0", "dedicated=other:NoSchedule"]);
        run(&cluster, age, &["taint", "nodes", "simulated-0", "dedicated-"]);
        run(&cluster, age, &["cordon", "simulated-0"]);
        assert!(missing(&run(&cluster, age, &["get", "nodes"]), &["simulated-0 Ready,SchedulingDisabled"]).is_empty());
        run(&cluster, age, &["uncordon", "simulated-0"]);
        cluster.kubectl(&["delete", "statefulset", "web", "--wait"]);
        cluster.kubectl(&["delete", "pvc", "--all", "--wait"]);
        // Without a claim a pod may go to another node.
        cluster.apply(
            &EVERYTHING.split("    volumeClaimTemplates:").next().unwrap().replace("volumeMounts: [{name: data, mountPath: /data}]", ""),
        );
        cluster.ready("web", 2);
        run(&cluster, age, &["drain", "simulated-0", "--ignore-daemonsets", "--timeout=60s"]);
        let nodes = cluster.kubectl(&["get", "pods", "--output", "jsonpath={.items[*].spec.nodeName}"]);
        assert!(!nodes.contains("simulated-0"), "{nodes}");
        run(&cluster, age, &["uncordon", "simulated-0"]);
    }
}
