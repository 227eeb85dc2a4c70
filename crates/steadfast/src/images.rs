//! `steadfast image ...`.

use std::path::Path;
use std::time::Duration;

use image::{ImageConfig, Images};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::Failure;
use crate::arguments::{Build, ImageVerb, Output};
use crate::instance::Instance;

/// Does what the verb says.
pub async fn run(verb: ImageVerb) -> Result<(), Failure> {
    match verb {
        ImageVerb::Load { file, instance } => load(&open(&instance.data_dir).await?, &file).await,
        ImageVerb::Pull { reference, timeout, instance } => pull(&open(&instance.data_dir).await?, &reference, timeout).await,
        ImageVerb::Ls { output, instance } => list(&open(&instance.data_dir).await?, output).await,
        ImageVerb::Rm { reference, instance } => Ok(open(&instance.data_dir).await?.remove(&reference).await?),
        ImageVerb::Build(build) => self::build(build).await,
    }
}

async fn open(data_dir: &Path) -> Result<Images, Failure> {
    let instance = Instance::new(data_dir)?;
    instance.create()?;
    Ok(Images::open(instance.folder("images")).await?)
}

async fn load(images: &Images, file: &Path) -> Result<(), Failure> {
    for image in images.load(file).await? {
        println!("{} {}", image.references.join(" "), image.digest);
    }
    Ok(())
}

async fn pull(images: &Images, reference: &str, timeout: u64) -> Result<(), Failure> {
    let (sender, mut progress) = tokio::sync::mpsc::channel(16);
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg} [{bar:24}] {bytes}/{total_bytes}").expect("the template is well formed"));
    bar.set_message(reference.to_owned());
    let shown = bar.clone();
    tokio::spawn(async move {
        while let Some(step) = progress.recv().await {
            let image::Progress { done, total, .. } = step;
            shown.set_length(total);
            shown.set_position(done);
        }
    });
    let pulled = tokio::time::timeout(Duration::from_secs(timeout), images.pull(reference, None, Some(sender))).await;
    bar.finish_and_clear();
    let image = pulled.map_err(|_| Failure::Message(format!("{reference} was not pulled within {timeout} s")))??;
    println!("{} {}", image.references.join(" "), image.digest);
    Ok(())
}

async fn list(images: &Images, output: Output) -> Result<(), Failure> {
    let images = images.list().await?;
    if output == Output::Json {
        let rows = images.iter().map(|image| json!({"references": image.references, "digest": image.digest, "size": image.size}));
        println!("{}", serde_json::Value::from_iter(rows));
        return Ok(());
    }
    let width = images.iter().flat_map(|image| &image.references).map(String::len).max().unwrap_or(0).max(9);
    println!("{:width$}  {:>9}  DIGEST", "REFERENCE", "SIZE");
    for image in &images {
        for reference in &image.references {
            println!("{reference:width$}  {:>6.1} MB  {}", image.size as f64 / 1e6, image.digest);
        }
    }
    Ok(())
}

async fn build(build: Build) -> Result<(), Failure> {
    let config = ImageConfig {
        cmd: build.cmd,
        env: build.env,
        user: Some(build.user).filter(|user| !user.is_empty()),
        working_dir: Some(build.working_dir),
        ..ImageConfig::default()
    };
    let (tree, archive, reference) = (build.tree, build.output, build.reference);
    let built = tokio::task::spawn_blocking(move || image::build::archive(&tree, &config, &reference, &archive)).await;
    let digest = built.map_err(|error| Failure::Message(format!("the image builder failed: {error}")))??;
    println!("{digest}");
    Ok(())
}
