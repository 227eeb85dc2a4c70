//! A command in a running container.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};

use super::command::Program;
use super::{Child, failed, set_out_of_memory_score};
use crate::cgroup::Group;
use crate::protocol::Refusal;

/// Everything the child needs.
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Program,
    pub(crate) group: &'a Group,
    /// The container's first process.
    pub(crate) container: &'a OwnedFd,
    pub(crate) oom_score_adjust: Option<i32>,
}

/// Becomes the command. Born into the container's process namespace; the shim's other namespaces are the pod's already.
pub(crate) fn run(plan: &Plan<'_>, child: &mut Child) -> Result<Infallible, Refusal> {
    plan.group.join().map_err(failed("joining the control group"))?;
    set_out_of_memory_score(plan.oom_score_adjust).map_err(failed("setting the out-of-memory score"))?;
    // Entering the mount namespace also makes the container's root this process's root.
    setns(plan.container, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
        .map_err(|error| failed("entering the container")(error.into()))?;
    plan.program.become_it(child)
}
