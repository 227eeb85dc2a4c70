//! Speed and size, each against a floor or a rival measured in the same run. Run by `cargo xtask bench [CASE ...]`.

mod apply;
mod clients;
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
    open_files()?;
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
    if is_wanted("clients") {
        clients::measure(&mut report).await?;
    }
    if is_wanted("memory") {
        clients::measure_memory(&mut report).await?;
    }
    if is_wanted("watchers") {
        clients::measure_watchers(&mut report).await?;
    }
    report.print();
    Ok(())
}

/// A thousand connections need as many files, here and in the instances, which inherit the limit.
fn open_files() -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
