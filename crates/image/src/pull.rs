//! Pulling from registries.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Once;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::timeout;

use crate::content::{Content, Record, failed};
use crate::digest::{Digest, Hashing};
use crate::documents::{self, Descriptor, ImageManifest, Manifest};
use crate::layers::{OneAtATime, Plan};
use crate::{Auth, ImageError, Progress, blocking, layer, name};

/// How long a registry may take to answer, or to send the next piece of a layer.
const STEP: Duration = Duration::from_secs(30);

/// How long one layer may take in all.
const LAYER: Duration = Duration::from_secs(3600);

/// Layers downloaded at one time.
const AT_ONCE: usize = 3;

/// The largest configuration, in bytes.
const MOST_CONFIGURATION: u64 = 8 << 20;

/// The largest layer, compressed, in bytes.
const MOST_LAYER: u64 = 32 << 30;

/// One pull.
pub(crate) struct Pull<'a> {
    pub(crate) content: &'a Content,
    pub(crate) layers: &'a OneAtATime,
    pub(crate) reference: Reference,
    pub(crate) auth: Option<Auth>,
    pub(crate) progress: Option<mpsc::Sender<Progress>>,
}

/// A layer on the way: nobody else fetches it as long as the guard lives.
struct Fetched {
    layer: usize,
    /// Nothing when it is there already.
    file: Option<File>,
    _turn: OwnedMutexGuard<()>,
}

impl Pull<'_> {
    pub(crate) async fn run(&self) -> Result<Record, ImageError> {
        let content = self.content.clone();
        let _kept = blocking(move || content.keep_layers()).await?;
        let registry = Registry::new(self.reference.clone(), self.auth.clone());
        let (digest, manifest) = registry.image_manifest().await?;
        let configuration = registry.configuration(&manifest.config).await?;
        let plan = Plan::of_manifest(digest, &manifest, &configuration)?;

        let mut fetched = stream::iter(0..manifest.layers.len())
            .map(|layer| self.fetch(&registry, &plan, layer, &manifest.layers[layer]))
            .buffered(AT_ONCE);
        while let Some(fetched) = fetched.try_next().await? {
            self.unpack(&plan, fetched).await?;
        }
        drop(fetched);
        let (content, record) = (self.content.clone(), plan.record(vec![self.reference.whole()]));
        blocking(move || content.record(record)).await
    }

    async fn fetch(&self, registry: &Registry, plan: &Plan, layer: usize, descriptor: &Descriptor) -> Result<Fetched, ImageError> {
        let turn = self.layers.enter(plan.chains[layer].as_str()).await;
        let there = self.content.layer(&plan.chains[layer]).is_dir();
        let file = if there { None } else { Some(self.download(registry, descriptor).await?) };
        Ok(Fetched { layer, file, _turn: turn })
    }

    /// Downloads into a file that has no name any more and goes with its last user.
    async fn download(&self, registry: &Registry, descriptor: &Descriptor) -> Result<File, ImageError> {
        let workspace = self.content.workspace()?;
        let path = workspace.path().join("layer");
        let opened = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = opened.map_err(failed("create", &path))?;
        let whole = registry.blob(descriptor, MOST_LAYER, file, |done| self.report(descriptor, done));
        let mut file = timeout(LAYER, whole).await.map_err(|_| registry.late("send a layer"))??;
        file.rewind().map_err(failed("read", &path))?;
        Ok(file)
    }

    /// Those who don't keep up miss some; the next tells all.
    fn report(&self, descriptor: &Descriptor, done: u64) {
        if let Some(progress) = &self.progress {
            drop(progress.try_send(Progress { layer: descriptor.digest.to_string(), done, total: descriptor.size }));
        }
    }

    async fn unpack(&self, plan: &Plan, fetched: Fetched) -> Result<(), ImageError> {
        let Fetched { layer, file: Some(file), _turn } = fetched else { return Ok(()) };
        let (content, plan) = (self.content.clone(), plan.clone());
        blocking(move || plan.unpack(&content, layer, file, layer::LAYER)).await
    }
}

/// The registry an image comes from. Credentials are used for this image only.
struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

impl Registry {
    fn new(reference: Reference, auth: Option<Auth>) -> Self {
        static PROVIDER: Once = Once::new();
        // That another part of the program has installed one is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let local = name::is_loopback(reference.resolve_registry());
        let config = ClientConfig {
            protocol: if local { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(STEP),
            read_timeout: Some(STEP),
            user_agent: concat!("steadfast/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let auth = match auth {
            None => RegistryAuth::Anonymous,
            Some(Auth::Basic { user, password }) => RegistryAuth::Basic(user, password),
            Some(Auth::Bearer(token)) => RegistryAuth::Bearer(token),
        };
        Self { client: Client::new(config), reference, auth }
    }

    fn late(&self, step: &'static str) -> ImageError {
        ImageError::Deadline { registry: self.reference.resolve_registry().to_owned(), step }
    }

    fn failed(&self, step: &'static str) -> impl FnOnce(OciDistributionError) -> ImageError {
        let reference = self.reference.whole();
        move |source| ImageError::Registry { reference, step, source: Box::new(source) }
    }

    /// The manifest of the image for this machine.
    async fn image_manifest(&self) -> Result<(Digest, ImageManifest), ImageError> {
        let (digest, manifest) = self.manifest(&self.reference).await?;
        let index = match manifest {
            Manifest::Image(manifest) => return Ok((digest, manifest)),
            Manifest::Index(index) => index,
        };
        let unsupported = |reason: &str| ImageError::UnsupportedImage { digest: digest.to_string(), reason: reason.to_owned() };
        let chosen = index.native().ok_or_else(|| unsupported("it has nothing for this kind of machine"))?;
        let exact = self.reference.clone_with_digest(chosen.digest.to_string());
        match self.manifest(&exact).await? {
            (digest, Manifest::Image(manifest)) => Ok((digest, manifest)),
            (_, Manifest::Index(_)) => Err(unsupported("it is an index within an index")),
        }
    }

    async fn manifest(&self, reference: &Reference) -> Result<(Digest, Manifest), ImageError> {
        let accepted = [documents::MANIFEST, documents::INDEX, documents::DOCKER_MANIFEST, documents::DOCKER_LIST];
        let answer = timeout(STEP, self.client.pull_manifest_raw(reference, &self.auth, &accepted)).await;
        let (text, _) = answer.map_err(|_| self.late("send a manifest"))?.map_err(self.failed("get the manifest"))?;
        let actual = Digest::of(&text);
        if let Some(expected) = reference.digest()
            && expected != actual.as_str()
        {
            return Err(ImageError::WrongDigest { what: "a manifest", expected: expected.to_owned(), actual: actual.to_string() });
        }
        let manifest = serde_json::from_slice(&text).map_err(|source| ImageError::Document { what: "the manifest", source })?;
        Ok((actual, manifest))
    }

    async fn configuration(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        timeout(STEP, self.blob(descriptor, MOST_CONFIGURATION, Vec::new(), |_| ())).await.map_err(|_| self.late("send a configuration"))?
    }

    /// Writes content to where it shall go, verified on the way.
    async fn blob<W: Write>(&self, descriptor: &Descriptor, most: u64, to: W, report: impl Fn(u64)) -> Result<W, ImageError> {
        if descriptor.size > most {
            return Err(ImageError::TooLarge { digest: descriptor.digest.to_string(), size: descriptor.size, most });
        }
        let wanted = OciDescriptor {
            digest: descriptor.digest.to_string(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            media_type: descriptor.media_type.clone(),
            ..OciDescriptor::default()
        };
        let answer = timeout(STEP, self.client.pull_blob_stream(&self.reference, &wanted)).await;
        let mut pieces = answer.map_err(|_| self.late("begin a download"))?.map_err(self.failed("get content"))?.stream;
        let (mut to, mut done) = (Hashing::new(to), 0);
        while let Some(piece) = timeout(STEP, pieces.try_next())
            .await
            .map_err(|_| self.late("send the next piece"))?
            .map_err(|error| self.failed("get content")(error.into()))?
        {
            done += piece.len() as u64;
            if done > descriptor.size {
                break;
            }
            to.write_all(&piece).map_err(failed("write", std::path::Path::new(descriptor.digest.as_str())))?;
            report(done);
        }
        let (to, actual, _) = to.finish();
        verify(descriptor, done, &actual)?;
        Ok(to)
    }
}

pub(crate) fn verify(descriptor: &Descriptor, size: u64, actual: &Digest) -> Result<(), ImageError> {
    if size != descriptor.size {
        return Err(ImageError::WrongSize { digest: descriptor.digest.to_string(), expected: descriptor.size });
    }
    if *actual != descriptor.digest {
        let (expected, actual) = (descriptor.digest.to_string(), actual.to_string());
        return Err(ImageError::WrongDigest { what: "content", expected, actual });
    }
    Ok(())
}
