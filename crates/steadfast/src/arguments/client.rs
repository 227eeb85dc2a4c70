//! The verbs that are clients of an API server.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

/// Which API server a verb means.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The instance of this data directory [default: the kubeconfig's cluster; without one /var/lib/steadfast]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    pub data_dir: Option<PathBuf>,
    /// The kubeconfig to use [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// A file or folder with manifests, or `-` for standard input; repeat for more
    #[arg(short, long, value_name = "FILE", required_unless_present = "kustomize", conflicts_with = "kustomize")]
    pub filename: Vec<PathBuf>,
    /// A folder with a kustomization; needs kubectl
    #[arg(short, long, value_name = "DIR")]
    pub kustomize: Option<PathBuf>,
    /// Folders within folders as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Tells what would happen if pods of a new revision never became Ready
    #[arg(long)]
    pub assume_broken: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Args)]
pub struct Status {
    /// A set, as `sts/NAME` or `NAME` [default: all of the namespace]
    #[arg(value_name = "SET")]
    pub set: Option<SetName>,
    /// Goes on showing it as it changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Args)]
pub struct Rollout {
    #[command(subcommand)]
    pub verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Lets no further pod be updated until it is resumed
    Pause(Target),
    /// Goes on with a paused rollout
    Resume(Target),
    /// Waits until a rollout is complete; fails if it stalls
    Status {
        #[command(flatten)]
        target: Target,
        /// Seconds after which to give up; 0 waits for ever
        #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = seconds)]
        timeout: u64,
    },
    /// Goes back to an earlier revision
    Undo {
        #[command(flatten)]
        target: Target,
        /// The number of the revision; 0 means the one before the newest
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        to_revision: i64,
    },
    /// Replaces every pod, as after a change
    Restart(Target),
}

/// The set a rollout is of.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The set, as `sts/NAME` or `NAME`
    #[arg(value_name = "SET")]
    pub set: SetName,
    #[command(flatten)]
    pub connection: Connection,
}

/// The name of a StatefulSet, with or without its kind before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetName(pub String);

const KINDS: [&str; 5] = ["sts", "statefulset", "statefulsets", "statefulset.apps", "statefulsets.apps"];

impl FromStr for SetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text.split_once('/') {
            None => text,
            Some((kind, name)) if KINDS.contains(&kind.to_ascii_lowercase().as_str()) => name,
            Some((kind, _)) => return Err(format!("{kind} is not supported: only StatefulSets are, as in sts/redis")),
        };
        let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if fits { Ok(Self(name.to_owned())) } else { Err(format!("{name:?} is no name of a StatefulSet")) }
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Yaml,
}

/// Seconds, as a number or as kubectl writes them: `90`, `90s`, `2m`.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, "s"),
    };
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    let count: u64 = digits.parse().map_err(|_| format!("{text:?} is no time such as 90, 90s or 2m"))?;
    count.checked_mul(factor).ok_or_else(|| format!("{text} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_as_kubectl_names_it() {
        let name = |text: &str| text.parse::<SetName>().map(|name| name.0);
        for text in ["redis", "sts/redis", "statefulset/redis", "StatefulSet/redis", "statefulsets.apps/redis"] {
            assert_eq!(name(text), Ok("redis".to_owned()));
        }
        assert!(name("pod/redis").unwrap_err().contains("only StatefulSets"));
        for text in ["", "sts/", "sts/../x", "a?b"] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_kubectl_reads_them() {
        assert_eq!([seconds("90"), seconds("90s"), seconds("2m"), seconds("1h")], [Ok(90), Ok(90), Ok(120), Ok(3600)]);
        assert!(seconds("soon").is_err() && seconds("").is_err() && seconds("99999999999999999999h").is_err());
    }
}
