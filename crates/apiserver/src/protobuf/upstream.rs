//! The table of messages beside what is generated from upstream's own: the numbers, names, types and arities of all fields.
//!
//! The crate that holds them is never compiled, which would take long; its source says it all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::table::{Arity, Field, Kind, message, names};

/// A field as upstream has it: name, what `prost` is told of it, and its type.
struct Told {
    name: String,
    attribute: String,
    of: String,
}

type Messages = BTreeMap<String, BTreeMap<u64, Told>>;

/// Where cargo keeps the source of the crate.
fn source() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version", "1", "--locked", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "k8s-pb").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src")
}

/// Reads all messages below a folder; `module` is the path of its modules.
fn collect(folder: &Path, module: &str, messages: &mut Messages) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = if module.is_empty() { name } else { format!("{module}.{name}") };
            collect(&path, &inner, messages);
        } else {
            parse(&std::fs::read_to_string(&path).unwrap(), module, messages);
        }
    }
}

fn parse(text: &str, module: &str, messages: &mut Messages) {
    let (mut current, mut attribute) = (String::new(), String::new());
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.split([' ', '<', '{', ';']).next()) {
            current = format!("{module}.{name}");
            messages.entry(current.clone()).or_default();
        } else if let Some(told) = line.strip_prefix("#[prost(") {
            attribute = told.to_owned();
        } else if let Some((name, of)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            let mut of = of.to_owned();
            // A long type goes on below its field's name.
            while !of.ends_with(',') || of.matches('<').count() != of.matches('>').count() {
                let Some(line) = lines.next() else { break };
                of.push_str(line);
            }
            let number = attribute.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
            if let (Some(number), Some(message)) = (number, messages.get_mut(&current)) {
                let name = name.trim_start_matches("r#").replace('_', "").to_lowercase();
                message.insert(number, Told { name, attribute: std::mem::take(&mut attribute), of });
            }
        }
    }
}

/// What differs between our field and upstream's.
fn difference(field: &Field, told: &Told) -> Option<String> {
    let Told { name, attribute, of } = told;
    let first = attribute.split([',', '(', ' ']).next().unwrap_or_default();
    let arity = match first {
        "btree_map" | "map" => Arity::Map,
        _ if attribute.contains("repeated") => Arity::List,
        _ => Arity::One,
    };
    let of = of.trim_end_matches([',', '>', ' ']).rsplit([':', '<', ' ', ',']).next().unwrap_or_default();
    let fits = match field.kind {
        Kind::Text => of == "String",
        Kind::Bytes => of == "u8" || of == "ByteString" || attribute.contains("bytes"),
        Kind::Integer => matches!(of, "i32" | "i64"),
        Kind::Bool => of == "bool",
        Kind::Time(_) => matches!(of, "Time" | "MicroTime"),
        Kind::Quantity => of == "Quantity",
        Kind::IntOrText => of == "IntOrString",
        Kind::Raw => matches!(of, "RawExtension" | "FieldsV1"),
        Kind::Texts => of == "ExtraValue",
        Kind::Message(message) => message.rsplit('.').next() == Some(of),
    };
    // Fields that are spread have no name in JSON.
    let named = field.name.is_empty() || field.name.to_lowercase() == *name;
    (!(fits && named && arity == field.arity)).then(|| format!("{field:?} is {name}: {of} ({attribute}) upstream"))
}

/// What this release of the crate has and the version that we serve has not, or the other way round.
const CHANGED: [&str; 1] = ["api.core.v1.PodSpec 42 workloadref"];

#[test]
fn every_number_is_upstreams() {
    let mut upstream = Messages::new();
    collect(&source(), "", &mut upstream);
    let (mut differences, mut compared) = (Vec::new(), 0);
    for name in names() {
        let own = message(name).unwrap();
        let Some(theirs) = upstream.get(name) else {
            differences.push(format!("{name} is not upstream"));
            continue;
        };
        for field in &own.0 {
            compared += 1;
            match theirs.get(&field.number) {
                Some(told) => differences.extend(difference(field, told).map(|told| format!("{name}: {told}"))),
                None => differences.push(format!("{name} {} {} is ours alone", field.number, field.name)),
            }
        }
        let missing = theirs.iter().filter(|(number, _)| own.numbered(**number).is_none());
        differences.extend(missing.map(|(number, told)| format!("{name} {number} {}", told.name)));
    }
    assert_eq!(differences, CHANGED);
    assert!(compared > 1000, "{compared}");
}
