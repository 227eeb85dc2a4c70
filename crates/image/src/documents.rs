//! The JSON documents of images, as far as they are needed: OCI's, and Docker's where they differ in names only.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::ImageConfig;
use crate::digest::Digest;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The annotation that names an image in a layout: a tag, or a whole reference.
pub(crate) const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that names it with a whole reference.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// Points at content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Platform {
    /// This machine.
    pub(crate) fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned() }
    }
}

/// What a reference leads to.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Manifest {
    Image(ImageManifest),
    Index(Index),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// The manifest for this machine. An entry that names no platform is taken as for all.
    pub(crate) fn native(&self) -> Option<&Descriptor> {
        let native = Platform::native();
        let fits = |entry: &&Descriptor| entry.platform.as_ref() == Some(&native);
        self.manifests.iter().find(fits).or_else(|| self.manifests.iter().find(|entry| entry.platform.is_none()))
    }
}

/// An image's configuration file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default)]
    config: Option<Execution>,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// Absent, null and empty mean the same in the wild.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    #[serde(serialize_with = "as_set")]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(serialize_with = "as_set")]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    stop_signal: Option<String>,
}

/// A set as Go writes it: a map to empty objects.
fn as_set<S: serde::Serializer>(set: &Option<BTreeMap<String, IgnoredAny>>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(set.iter().flatten().map(|(key, _)| (key, BTreeMap::<(), ()>::new())))
}

impl Configuration {
    pub(crate) fn new(config: &ImageConfig, diff_ids: Vec<Digest>) -> Self {
        let Platform { architecture, os } = Platform::native();
        let set = |items: &[String]| Some(items.iter().map(|item| (item.clone(), IgnoredAny)).collect());
        let execution = Execution {
            entrypoint: Some(config.entrypoint.clone()),
            cmd: Some(config.cmd.clone()),
            env: Some(config.env.clone()),
            working_dir: config.working_dir.clone(),
            user: config.user.clone(),
            exposed_ports: set(&config.exposed_ports),
            volumes: set(&config.volumes),
            stop_signal: config.stop_signal.clone(),
        };
        Self { architecture, os, config: Some(execution), rootfs: RootFs { kind: "layers".to_owned(), diff_ids } }
    }

    /// What a container of the image is started with.
    pub(crate) fn execution(&self) -> ImageConfig {
        let config = self.config.clone().unwrap_or_default();
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let keys = |set: Option<BTreeMap<String, IgnoredAny>>| set.unwrap_or_default().into_keys().collect();
        ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            working_dir: text(config.working_dir),
            user: text(config.user),
            exposed_ports: keys(config.exposed_ports),
            volumes: keys(config.volumes),
            stop_signal: text(config.stop_signal),
        }
    }
}

/// One image of the list `manifest.json` in an archive of `docker save`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn a_configuration_written_by_docker_is_understood() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","container_config":{{"Hostname":"x"}},
            "config":{{"Cmd":["redis-server"],"Entrypoint":["docker-entrypoint.sh"],"Env":["A=b"],"Volumes":null,"OnBuild":null,
            "ExposedPorts":{{"6379/tcp":{{}}}},"User":"","WorkingDir":"/data","Labels":null}},
            "rootfs":{{"type":"layers","diff_ids":["{ZEROS}"]}},"history":[]}}"#
        );
        let config = serde_json::from_str::<Configuration>(&text).unwrap().execution();
        let wanted = ImageConfig {
            entrypoint: vec!["docker-entrypoint.sh".to_owned()],
            cmd: vec!["redis-server".to_owned()],
            env: vec!["A=b".to_owned()],
            working_dir: Some("/data".to_owned()),
            exposed_ports: vec!["6379/tcp".to_owned()],
            ..ImageConfig::default()
        };
        assert_eq!(config, wanted);
    }

    #[test]
    fn digests_that_could_lead_out_of_a_directory_are_refused() {
        for bad in ["sha256:../../etc/passwd", "sha512:00", "", "sha256:", &ZEROS[..70], &ZEROS.to_uppercase(), &format!("{ZEROS}0")] {
            assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(Digest::try_from(ZEROS.to_owned()).is_ok());
    }
}
