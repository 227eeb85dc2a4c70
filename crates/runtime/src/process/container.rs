//! A container's first process.

use std::convert::Infallible;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use super::command::Program;
use super::{Child, failed, root, set_out_of_memory_score};
use crate::ContainerSpec;
use crate::cgroup::Group;
use crate::protocol::Refusal;

/// Everything the child needs; resolved by the shim before it is born.
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) program: &'a Program,
    pub(crate) group: &'a Group,
    /// The pod's `/dev/shm` on the node.
    pub(crate) shared_memory: &'a Path,
}

/// Becomes the container. Born into a mount namespace of its own, it still sees the node's file system.
pub(crate) fn run(plan: &Plan<'_>, child: &mut Child) -> Result<Infallible, Refusal> {
    plan.group.join().map_err(failed("joining the control group"))?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|error| failed("making a cgroup namespace")(error.into()))?;
    set_out_of_memory_score(plan.spec.resources.oom_score_adjust).map_err(failed("setting the out-of-memory score"))?;
    root::enter(plan)?;
    plan.program.become_it(child)
}
