//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use network::Cidr;

use crate::instance::StoreKind;

mod controllers;

pub use controllers::Controllers;
mod client;

pub use client::{Connection, Format, Plan, Rollout, RolloutVerb, SetName, Status, Target};

/// The home of stateful applications: one binary that speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Runs the control plane and this node in the foreground
    Up(Up),
    /// Stops the containers of an instance
    Down(Down),
    /// Brings all state from one store to another, revisions included, while the servers are stopped
    Migrate(Migrate),
    /// Works with the images on this node
    Image(Image),
    /// Runs our controllers against another API server, as ordinary clients of it
    Controllers(Controllers),
    /// Tells what would happen if manifests were applied; writes nothing. Exit code: 0 nothing to do, 2 changes, 1 error
    Plan(Plan),
    /// Shows how StatefulSets are, and what they wait for
    Status(Status),
    /// Pauses, resumes, follows, undoes and restarts rollouts of StatefulSets
    Rollout(Rollout),
}

/// Which instance a verb means.
#[derive(Clone, Debug, Args)]
pub struct Instance {
    /// Where the instance keeps everything
    #[arg(long, value_name = "DIR", default_value = "/var/lib/steadfast")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub instance: Instance,
    /// Where the API is served; it is served to pods as well
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Where to write the administrator's kubeconfig [default: merged into yours as context `steadfast`]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What this node is called [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where state is kept: embedded, or etcd://HOST:PORT,HOST:PORT/PREFIX, followed by any of ?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE
    #[arg(long, value_name = "STORE", default_value = "embedded", value_parser = store)]
    pub store: StoreAddress,
    /// No node here: only the API and, when elected, the controllers, beside servers on the same etcd
    #[arg(long, conflicts_with = "simulated_nodes")]
    pub no_node: bool,
    /// A name or address that the API is reached by besides this server's own, such as a load balancer's; repeat for more
    #[arg(long, value_name = "NAME")]
    pub api_name: Vec<String>,
    /// Where several servers share a store: seconds after which another takes over from one that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_duration: u32,
    /// The addresses of pods
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16", value_parser = cidr)]
    pub pod_cidr: Cidr,
    /// The addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.43.0.0/16", value_parser = cidr)]
    pub service_cidr: Cidr,
    /// So many nodes that only pretend to run pods, and no real one; needs no root
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub simulated_nodes: u32,
    /// Controllers not to run, by name, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub disable_controllers: Vec<String>,
    #[command(flatten)]
    pub limits: ServerLimits,
    #[command(flatten)]
    pub audit: AuditLog,
}

/// Who did what and when, on record.
#[derive(Clone, Debug, Args)]
pub struct AuditLog {
    /// Where requests are put on record, a line of JSON each [default: nowhere]
    #[arg(id = "audit_log", long = "audit-log", value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// What is put on record: a Policy of audit.k8s.io/v1 [default: all requests, without bodies]
    #[arg(long = "audit-policy", value_name = "FILE", requires = "audit_log")]
    pub policy: Option<PathBuf>,
    /// Megabytes after which the next file begins
    #[arg(long = "audit-log-maxsize", value_name = "MB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub size: u64,
    /// How many full files are kept
    #[arg(long = "audit-log-maxbackup", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub backups: u32,
}

/// What the API server takes on, and how long it remembers events; docs/limits.md tells the rest.
#[derive(Clone, Copy, Debug, Args)]
pub struct ServerLimits {
    /// Requests that only read and are served at one time; further ones wait for their turn
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_requests_inflight: u32,
    /// The same for those that change something
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_mutating_requests_inflight: u32,
    /// How long events are kept, for example 1h or 90s
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub event_ttl: Duration,
}

#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub instance: Instance,
    /// Deletes all data as well: objects, volumes, images; containers are given no time to end
    #[arg(long)]
    pub purge: bool,
    /// Seconds that containers may take to end before they are killed
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
}

#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    pub instance: Instance,
    /// The store to read, as of `up --store`; it is left as it is
    #[arg(long, value_name = "STORE", value_parser = store)]
    pub from: StoreAddress,
    /// The store to fill, which must be empty
    #[arg(long, value_name = "STORE", value_parser = store)]
    pub to: StoreAddress,
}

#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    pub verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// Loads the images of an archive (OCI layout or `docker save`)
    Load {
        file: PathBuf,
        #[command(flatten)]
        instance: Instance,
    },
    /// Fetches an image from its registry
    Pull {
        reference: String,
        /// Seconds it may take
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
        #[command(flatten)]
        instance: Instance,
    },
    /// Lists the images on this node
    Ls {
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        #[command(flatten)]
        instance: Instance,
    },
    /// Removes an image from this node
    Rm {
        reference: String,
        #[command(flatten)]
        instance: Instance,
    },
    /// Makes an OCI archive from a directory tree
    Build(Build),
}

#[derive(Debug, Args)]
pub struct Build {
    /// What will be `/` in the container
    pub tree: PathBuf,
    /// The image's name
    #[arg(long)]
    pub reference: String,
    /// The archive to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A word of the default command; repeat for more
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub cmd: Vec<String>,
    /// A variable of the environment; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Who the command runs as
    #[arg(long, default_value = "")]
    pub user: String,
    /// Where the command begins
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub working_dir: String,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAddress {
    /// In the data directory.
    Embedded,
    Etcd(Box<store::etcd::Address>),
}

impl StoreAddress {
    pub fn kind(&self) -> StoreKind {
        match self {
            Self::Embedded => StoreKind::Embedded,
            Self::Etcd(_) => StoreKind::Etcd,
        }
    }
}

fn store(text: &str) -> Result<StoreAddress, String> {
    match text {
        "embedded" => Ok(StoreAddress::Embedded),
        other if other.starts_with("etcd://") => {
            other.parse().map(|address| StoreAddress::Etcd(Box::new(address))).map_err(|error: store::etcd::AddressError| error.to_string())
        }
        other => Err(format!("there is no store {other}: write embedded, or etcd://HOST:PORT,HOST:PORT/PREFIX")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    let seconds = [("h", 3600), ("m", 60), ("s", 1)].into_iter().find_map(|(unit, seconds)| number(unit)?.checked_mul(seconds));
    match seconds {
        Some(seconds @ 1..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text} is not a time such as 1h, 30m or 90s, up to a year")),
    }
}

fn cidr(text: &str) -> Result<Cidr, String> {
    let parsed =
        text.split_once('/').and_then(|(address, prefix)| Some(Cidr { address: address.parse().ok()?, prefix: prefix.parse().ok()? }));
    let cidr = parsed.ok_or_else(|| format!("{text} is not an IPv4 network such as 10.42.0.0/16"))?;
    match cidr.prefix {
        8..=28 if u32::from(cidr.address).trailing_zeros() >= u32::from(32 - cidr.prefix) => Ok(cidr),
        8..=28 => Err(format!("{text} is an address inside its network: write the network's first address")),
        _ => Err(format!("{text}: the prefix must be from /8 to /28")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_are_read_and_others_refused() {
        assert_eq!(["2h", "5m", "90s"].map(|text| duration(text).map(|time| time.as_secs())), [Ok(7200), Ok(300), Ok(90)]);
        for text in ["", "h", "1", "0s", "-1s", "1.5h", "1d", "99999999999999999999h", "9000h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_read_and_others_refused() {
        assert_eq!(cidr("10.42.0.0/16"), Ok(Cidr { address: [10, 42, 0, 0].into(), prefix: 16 }));
        for text in ["10.42.0.1/16", "10.42.0.0", "10.42.0.0/33", "10.42.0.0/29", "fd00::/64", "/16", "x/16"] {
            assert!(cidr(text).is_err(), "{text}");
        }
    }
}
