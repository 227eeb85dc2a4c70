//! Speed and size, each against a floor or a rival measured in the same run. Run by `cargo xtask bench [CASE ...]`.

mod apply;
mod connection;
mod etcd;
mod instance;
mod nodes;
mod reads;
mod report;
mod scale;
mod sets;
mod start;
mod writes;

use report::Report;

/// Why a measurement could not be made.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |case: &str| wanted.is_empty() || wanted.iter().any(|name| name == case);
    let mut report = Report::new();
    if is_wanted("start") {
        start::measure(&mut report).await?;
    }
    if is_wanted("pod") {
        nodes::measure(&mut report).await?;
    }
    if is_wanted("set") {
        sets::measure_real(&mut report).await?;
    }
    if is_wanted("simulated") {
        sets::measure_simulated(&mut report).await?;
    }
    if is_wanted("scale") {
        scale::measure(&mut report).await?;
    }
    if is_wanted("writes") {
        writes::measure(&mut report).await?;
    }
    if is_wanted("reads") {
        reads::measure(&mut report).await?;
    }
    if is_wanted("apply") {
        apply::measure(&mut report).await?;
    }
    report.print();
    Ok(())
}
