//! The behaviour of StatefulSets that upstream's own end-to-end tests ask for, on real containers. All tests share one instance, with
//! a namespace each.

mod adoption;
mod canary;
mod claims;
mod claims_shared;
mod events;
mod eviction_by_node;
mod history;
mod identity;
mod max_unavailable;
mod min_ready;
mod on_delete;
mod ordinals;
mod rollout;
mod rollout_by_kubectl;
mod scaling;
mod subresources;
mod validation;
mod workload;
