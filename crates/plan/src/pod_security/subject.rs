//! A pod as the rules look at it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerPort, Lifecycle, PodSecurityContext, PodSpec, Probe, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A pod that is judged.
pub(super) struct Subject<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) spec: &'a PodSpec,
    pub(super) security: Option<&'a PodSecurityContext>,
    /// Init containers, containers, ephemeral containers.
    pub(super) containers: Vec<Contained<'a>>,
    /// The minor version by whose rules it is judged.
    pub(super) minor: u32,
}

/// A container of whatever sort.
pub(super) struct Contained<'a> {
    pub(super) name: &'a str,
    pub(super) security: Option<&'a SecurityContext>,
    pub(super) ports: &'a [ContainerPort],
    pub(super) probes: [Option<&'a Probe>; 3],
    pub(super) lifecycle: Option<&'a Lifecycle>,
}

macro_rules! contained {
    ($container:ident) => {
        Contained {
            name: &$container.name,
            security: $container.security_context.as_ref(),
            ports: $container.ports.as_deref().unwrap_or_default(),
            probes: [$container.liveness_probe.as_ref(), $container.readiness_probe.as_ref(), $container.startup_probe.as_ref()],
            lifecycle: $container.lifecycle.as_ref(),
        }
    };
}

impl<'a> Subject<'a> {
    pub(super) fn new(meta: &'a ObjectMeta, spec: &'a PodSpec, minor: u32) -> Self {
        let usual = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| contained!(container));
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| contained!(container));
        Self { meta, spec, security: spec.security_context.as_ref(), containers: usual.chain(ephemeral).collect(), minor }
    }

    /// The names of the containers that this is true of.
    pub(super) fn containers_that(&self, is_so: impl Fn(&Contained<'a>) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|container| is_so(container)).map(|container| container.name).collect()
    }

    /// The names of the containers whose security context this is true of.
    pub(super) fn containers_with(&self, is_so: impl Fn(&SecurityContext) -> bool) -> Vec<&'a str> {
        self.containers_that(|container| container.security.is_some_and(&is_so))
    }

    /// Whether the pod's users are none of the node's.
    pub(super) fn has_users_of_its_own(&self) -> bool {
        self.spec.host_users == Some(false)
    }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(what: &str, names: &[&str]) -> String {
    format!("{} {}", plural(what, names.len()), quoted(names.iter().copied()))
}

/// `pod and container "a"`.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let pod = pod.then(|| "pod".to_owned());
    let containers = (!containers.is_empty()).then(|| named("container", containers));
    let setters: Vec<_> = pod.into_iter().chain(containers).collect();
    (!setters.is_empty()).then(|| setters.join(" and "))
}

/// The word, with an s for any number but one.
pub(super) fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// The verb `use` for so many.
pub(super) fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// `"a", "b"`.
pub(super) fn quoted<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| format!("\"{text}\"")).collect();
    texts.join(", ")
}

/// Each text once, in order.
pub(super) fn sorted<'t>(texts: impl IntoIterator<Item = &'t str>) -> BTreeSet<&'t str> {
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}
