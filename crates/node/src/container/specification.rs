//! The runtime's view of one container start.

use std::path::PathBuf;

use image::ImageConfig;
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{ContainerSpec, Mount, MountSource, User};

use super::environment::Environment;
use super::{SpecificationError, amounts, files, security};

/// All that was looked up for one start.
pub(crate) struct Ingredients<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a ImageConfig,
    pub root: PathBuf,
    pub user: User,
    pub environment: Environment,
    pub mounts: Vec<Mount>,
    pub log_path: PathBuf,
    pub memory_capacity: i64,
}

/// The runtime's identity of a start.
pub(crate) fn container_id(container: &str, attempt: u32) -> String {
    format!("{container}-{attempt}")
}

/// The container's name and attempt in a runtime's identity.
pub(crate) fn parse_container_id(id: &str) -> Option<(&str, u32)> {
    let (container, attempt) = id.rsplit_once('-')?;
    Some((container, attempt.parse().ok()?))
}

/// Puts a specification together.
pub(crate) fn specification(parts: Ingredients<'_>) -> Result<ContainerSpec, SpecificationError> {
    let Ingredients { pod, container, image, .. } = parts;
    let spec = pod.spec.clone().unwrap_or_default();
    let args = command(container, image, &parts.environment)?;
    let working_dir =
        container.working_dir.clone().filter(|directory| !directory.is_empty()).or_else(|| image.working_dir.clone()).unwrap_or_default();
    Ok(ContainerSpec {
        id: container_id(&container.name, parts.attempt),
        name: container.name.clone(),
        root: parts.root,
        args,
        env: with_basics(parts.environment, pod, container),
        working_dir: if working_dir.is_empty() { "/".to_owned() } else { working_dir },
        user: parts.user,
        mounts: parts.mounts,
        resources: amounts::of_container(&spec, container, parts.memory_capacity),
        security: security::security(spec.security_context.as_ref(), container.security_context.as_ref())?,
        log_path: parts.log_path,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        process_namespace_of: None,
        terminal: container.tty == Some(true),
    })
}

/// `command` replaces the image's entry point and its arguments; `args` replaces the arguments.
fn command(container: &Container, image: &ImageConfig, environment: &Environment) -> Result<Vec<String>, SpecificationError> {
    let expand = |words: &[String]| -> Vec<String> { words.iter().map(|word| environment.expand(word)).collect() };
    let command = container.command.as_deref().filter(|command| !command.is_empty());
    let own_args = container.args.as_deref().filter(|args| !args.is_empty());
    let mut words = command.map_or_else(|| image.entrypoint.clone(), expand);
    words.extend(match (own_args, command) {
        (Some(args), _) => expand(args),
        (None, Some(_)) => Vec::new(),
        (None, None) => image.cmd.clone(),
    });
    if words.is_empty() { Err(SpecificationError::NoCommand) } else { Ok(words) }
}

/// Every process has a path and knows its host; a terminal has a type.
fn with_basics(environment: Environment, pod: &Pod, container: &Container) -> Vec<(String, String)> {
    let mut pairs = environment.into_pairs();
    let mut basics =
        vec![("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()), ("HOSTNAME", files::hostname(pod))];
    if container.tty == Some(true) {
        basics.push(("TERM", "xterm".to_owned()));
    }
    for (name, value) in basics {
        if !pairs.iter().any(|(other, _)| other == name) {
            pairs.push((name.to_owned(), value));
        }
    }
    pairs
}

/// A file or directory of the node in the container.
pub(crate) fn mount(source: PathBuf, destination: &str, read_only: bool) -> Mount {
    Mount {
        source: MountSource::Path(source),
        destination: destination.to_owned(),
        read_only,
        propagate_from_host: false,
        propagate_to_host: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_the_table_of_the_documentation() {
        let image = ImageConfig { entrypoint: vec!["entry".to_owned()], cmd: vec!["cmd".to_owned()], ..ImageConfig::default() };
        let words =
            |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).filter(|words| !words.is_empty());
        for (own, args, expected) in [
            (&[][..], &[][..], &["entry", "cmd"][..]),
            (&["own"], &[], &["own"]),
            (&[], &["args"], &["entry", "args"]),
            (&["own"], &["args"], &["own", "args"]),
        ] {
            let container = Container { command: words(own), args: words(args), ..Container::default() };
            assert_eq!(command(&container, &image, &Environment::default()).unwrap(), expected);
        }
        let nothing = command(&Container::default(), &ImageConfig::default(), &Environment::default());
        assert_eq!(nothing, Err(SpecificationError::NoCommand));
    }

    #[test]
    fn identities_are_read_back() {
        assert_eq!(parse_container_id(&container_id("my-redis", 3)), Some(("my-redis", 3)));
        assert_eq!(parse_container_id("redis"), None);
    }
}
