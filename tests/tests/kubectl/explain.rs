//! `kubectl explain` of every field of every kind.

use end_to_end::Cluster;

use crate::{AGES, run};

/// The fields that a recursive explanation lists, in order, each with how deep it lies.
fn fields(explained: &str) -> Vec<(usize, String)> {
    let lines = explained.lines().filter(|line| line.starts_with(' ') && line.contains("\t<"));
    let lines: Vec<_> = lines.map(|line| (line.len() - line.trim_start().len(), line.trim_start().split('\t').next().unwrap())).collect();
    let step = lines.first().map_or(1, |(indentation, _)| *indentation);
    lines.into_iter().map(|(indentation, name)| (indentation / step, name.to_owned())).collect()
}

#[test]
fn every_field_is_explained_from_the_old_document_and_the_new_one_alike() {
    let cluster = Cluster::simulated(1);
    let table = run(&cluster, "kubectl-newest", &["api-resources", "--verbs", "list", "--no-headers"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.len() > 20, "{table}");
    for row in rows {
        let (plural, version) = (row[0], row[row.len() - 3]);
        let [old, new] = AGES.map(|age| fields(&run(&cluster, age, &["explain", plural, "--recursive", "--api-version", version])));
        assert!(old.contains(&(1, "metadata".to_owned())) && old.contains(&(2, "resourceVersion".to_owned())), "{plural}: {old:?}");
        assert_eq!(old, new, "{version} {plural}");
    }
}

#[test]
fn a_field_is_explained_with_its_type_and_its_meaning() {
    let cluster = Cluster::simulated(1);
    for (field, expected) in [
        ("statefulset.spec.updateStrategy.rollingUpdate.partition", ["<integer>", "partition"]),
        ("pod.spec.containers.livenessProbe.httpGet.port", ["<IntOrString>", "Name or number of the port"]),
        ("pod.spec.containers.env", ["<[]EnvVar>", "environment variables"]),
        ("persistentvolumeclaim.spec.resources.requests", ["<map[string]Quantity>", "minimum amount"]),
        ("poddisruptionbudget.spec.unhealthyPodEvictionPolicy", ["<string>", "unhealthy pods"]),
    ] {
        let text = run(&cluster, "kubectl-newest", &["explain", field]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("DESCRIPTION:") && expected.iter().all(|word| text.contains(word)), "{field}: {text}");
    }
    let unknown = crate::fails(&cluster, "kubectl-newest", &["explain", "pod.spec.nothing"]);
    assert!(unknown.contains("nothing") && unknown.contains("does not exist"), "{unknown}");
}
