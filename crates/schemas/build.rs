//! Asks the generated types for their schemas, so that the program itself need not hold the code that tells them.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let definitions = kinds::schemas::definitions();
    let folder = PathBuf::from(std::env::var("OUT_DIR")?);
    // Each by itself, so that one can be read without the others.
    let (mut packed, mut index) = (Vec::new(), String::new());
    for (name, schema) in &definitions {
        let start = packed.len();
        deflate(&serde_json::to_vec(schema)?, &mut packed)?;
        index.push_str(&format!("{name}\t{start}\t{}\n", packed.len()));
    }
    fs::write(folder.join("definitions"), packed)?;
    fs::write(folder.join("index"), index)?;
    // All at once, without the words for people, which are nine tenths.
    let bare: Map<_, _> = definitions.iter().map(|(name, schema)| (name.clone(), bare(schema))).collect();
    let mut packed = Vec::new();
    deflate(&serde_json::to_vec(&bare)?, &mut packed)?;
    fs::write(folder.join("bare"), packed)?;
    Ok(())
}

fn deflate(text: &[u8], into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut encoder = DeflateEncoder::new(into, Compression::best());
    encoder.write_all(text)?;
    encoder.finish().map(|_| ())
}

/// The schema without descriptions. A property may be called `description`, too.
fn bare(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let kept = fields.iter().filter(|(key, _)| *key != "description").map(|(key, value)| {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, property)| (name.clone(), bare(property))).collect::<Map<_, _>>().into()
            }
            ("items" | "additionalProperties", inner) => bare(inner),
            _ => value.clone(),
        };
        (key.clone(), value)
    });
    json!(kept.collect::<Map<_, _>>())
}
