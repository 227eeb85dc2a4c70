//! A container's specification together with what is known of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, PodSpec};

use super::after;
use super::observed::{Container, Ended, Hook, Observed};

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next begins.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    Main,
    /// Added while the pod runs, to look into it: starts at once, and once only; the pod is neither ready nor over by it.
    Ephemeral,
}

impl Role {
    /// Whether the pod is ready only if the container is.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Sidecar | Self::Main)
    }
}

/// All containers of a pod with their roles, in the order of their start; not those that were added later.
pub fn roles(spec: &PodSpec) -> impl Iterator<Item = (Role, &core::Container)> {
    let of_init = |container: &core::Container| match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    };
    let inits = spec.init_containers.iter().flatten().map(move |container| (of_init(container), container));
    inits.chain(spec.containers.iter().map(|container| (Role::Main, container)))
}

/// An ephemeral container as a container; it has what others have, less what keeps them going.
pub fn ephemeral(container: &core::EphemeralContainer) -> core::Container {
    core::Container {
        name: container.name.clone(),
        image: container.image.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        working_dir: container.working_dir.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        volume_mounts: container.volume_mounts.clone(),
        volume_devices: container.volume_devices.clone(),
        termination_message_path: container.termination_message_path.clone(),
        termination_message_policy: container.termination_message_policy.clone(),
        image_pull_policy: container.image_pull_policy.clone(),
        security_context: container.security_context.clone(),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        ..core::Container::default()
    }
}

/// A container of a pod by its name, of whatever role.
pub fn container(spec: &PodSpec, name: &str) -> Option<core::Container> {
    let lasting = roles(spec).find(|(_, container)| container.name == name).map(|(_, container)| container.clone());
    lasting.or_else(|| spec.ephemeral_containers.iter().flatten().find(|container| container.name == name).map(ephemeral))
}

/// One container.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub role: Role,
    pub spec: &'a core::Container,
    pub seen: &'a Container,
    policy: &'a str,
}

/// When a container is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    /// It backs off until then.
    At(Timestamp),
    /// It runs, or has run and stays ended.
    No,
}

const UNSEEN: &Container = &Container {
    attempts: Vec::new(),
    first_attempt: 0,
    crashes: 0,
    image_for: None,
    startup: None,
    readiness: None,
    liveness: None,
    probe_failure: None,
    post_start: Hook::Pending,
    stop: None,
};

/// All containers, in the order of their start.
pub(super) fn units<'a>(observed: &'a Observed<'a>) -> impl DoubleEndedIterator<Item = Unit<'a>> {
    let policy = observed.spec().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let added = observed.ephemeral.iter().map(|container| (Role::Ephemeral, container));
    let pairs: Vec<_> = observed.spec().into_iter().flat_map(roles).chain(added).collect();
    pairs.into_iter().map(move |(role, spec)| {
        let seen = observed.containers.get(&spec.name).unwrap_or(UNSEEN);
        Unit { role, spec, seen, policy }
    })
}

impl Unit<'_> {
    pub fn name(&self) -> String {
        self.spec.name.clone()
    }

    /// Its newest attempt began with another image than its specification has now. Init containers are not run again for that.
    pub fn has_other_image(&self) -> bool {
        let image = self.seen.latest().map(|latest| latest.image.as_str()).filter(|image| !image.is_empty());
        !matches!(self.role, Role::Init | Role::Ephemeral) && image.is_some_and(|image| self.spec.image.as_deref() != Some(image))
    }

    /// Whether it is started again after this end.
    fn restarts_after(&self, ended: &Ended) -> bool {
        if self.has_other_image() {
            return true;
        }
        let failed = ended.exit_code != 0;
        match (self.role, self.policy) {
            (Role::Ephemeral, _) => false,
            (Role::Sidecar, _) => true,
            // An init container that was done in an earlier sandbox prepares the new one again.
            (Role::Init, _) if !failed => self.seen.latest().is_some_and(|latest| latest.earlier_sandbox),
            (_, "Never") => false,
            (Role::Main, "Always") => true,
            (Role::Init | Role::Main, _) => failed,
        }
    }

    pub fn due(&self, now: Timestamp) -> Due {
        if self.seen.running().is_some() {
            return Due::No;
        }
        let Some(ended) = self.seen.ended() else { return Due::Now };
        if !self.restarts_after(ended) {
            return Due::No;
        }
        // What failed with another image says nothing of this one.
        let back_off = if self.has_other_image() { 0 } else { self.seen.back_off_seconds() };
        match after(ended.finished_at, back_off) {
            at if at > now => Due::At(at),
            _ => Due::Now,
        }
    }

    /// It ended and stays so.
    pub fn is_over(&self) -> bool {
        self.seen.ended().is_some_and(|ended| !self.restarts_after(ended))
    }

    /// It ended well and stays so.
    pub fn is_done(&self) -> bool {
        self.is_over() && self.seen.ended().is_some_and(|ended| ended.exit_code == 0)
    }

    /// Its first phase is over: it runs, its postStart hook is done, and its startup probe has succeeded.
    pub fn is_started(&self) -> bool {
        let hook_over = !self.has_post_start() || self.seen.post_start == Hook::Done;
        let probe_over = self.spec.startup_probe.is_none() || self.seen.startup == Some(true);
        self.seen.running().is_some() && hook_over && probe_over
    }

    /// What its probes say while it runs and is not ready.
    pub fn probe_failure(&self) -> Option<&str> {
        let is_kept_back = self.role.counts() && self.seen.running().is_some() && !self.is_ready();
        self.seen.probe_failure.as_deref().filter(|_| is_kept_back)
    }

    pub fn is_ready(&self) -> bool {
        match self.role {
            Role::Init => self.is_done(),
            Role::Ephemeral => false,
            _ => !self.has_other_image() && self.is_started() && (self.spec.readiness_probe.is_none() || self.seen.readiness == Some(true)),
        }
    }

    pub fn has_post_start(&self) -> bool {
        self.spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
    }

    pub fn has_pre_stop(&self) -> bool {
        self.spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.pre_stop.is_some())
    }

    /// It was started in the sandbox that is there now.
    pub fn began_here(&self) -> bool {
        self.seen.latest().is_some_and(|latest| !latest.earlier_sandbox)
    }
}
