//! Whatever happens, the invariants hold after every step, and once nothing more happens the set becomes as desired.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::extensions::{AUTO_ROLLBACK, PAUSED, RESERVED_ORDINALS, UPDATE_ORDER};
use proptest::prelude::*;
use serde_json::json;

use super::super::Observed;
use super::builders::{SetBuilder, set};
use super::cluster::{BROKEN, Cluster};
use crate::forecast::is_ready;

#[derive(Clone, Debug)]
enum Happening {
    Step(u32),
    Fail(u32),
    Unready(u32),
    Delete(u32),
    Scale(i32),
    Image(u8),
    Partition(i32),
    Start(i32),
    Retention(bool, bool),
    MaxUnavailable(i32),
    Annotate(&'static str, &'static str),
    /// So many seconds pass.
    Wait(i64),
    /// A controller looks at the state of so many happenings ago and dies after so many actions.
    Interrupted {
        behind: usize,
        actions: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Block,
    NoBlock,
    OnDelete,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..8u32).prop_map(Happening::Step),
        1 => (0..8u32).prop_map(Happening::Fail),
        1 => (0..8u32).prop_map(Happening::Unready),
        1 => (0..8u32).prop_map(Happening::Delete),
        1 => (0..6i32).prop_map(Happening::Scale),
        1 => (0..4u8).prop_map(Happening::Image),
        1 => (0..6i32).prop_map(Happening::Partition),
        1 => (0..3i32).prop_map(Happening::Start),
        2 => (0..6usize, 0..4usize).prop_map(|(behind, actions)| Happening::Interrupted { behind, actions }),
        1 => (1..4i32).prop_map(Happening::MaxUnavailable),
        2 => annotation().prop_map(|(key, value)| Happening::Annotate(key, value)),
        1 => Just(Happening::Wait(700)),
        1 => any::<(bool, bool)>().prop_map(|(deleted, scaled)| Happening::Retention(deleted, scaled)),
    ]
}

fn annotation() -> impl Strategy<Value = (&'static str, &'static str)> {
    let values = [
        (PAUSED, "true"),
        (PAUSED, "false"),
        (RESERVED_ORDINALS, "1"),
        (RESERVED_ORDINALS, "0,2-3"),
        (RESERVED_ORDINALS, ""),
        (AUTO_ROLLBACK, "true"),
        (UPDATE_ORDER, "app=web"),
        (UPDATE_ORDER, "not an order"),
    ];
    prop::sample::select(values.to_vec())
}

fn configured(parallel: bool, claims: bool, form: Form) -> SetBuilder {
    let set = if claims { set(3).claims() } else { set(3) };
    let set = if parallel { set.parallel() } else { set };
    match form {
        Form::Block => set,
        Form::NoBlock => set.strategy(json!({"type": "RollingUpdate"})),
        Form::OnDelete => set.on_delete(),
    }
}

fn happen(cluster: &mut Cluster, views: &[Observed], form: Form, happening: &Happening) {
    let name = |ordinal: &u32| format!("web-{ordinal}");
    match happening {
        Happening::Step(ordinal) => drop(cluster.step(&name(ordinal))),
        Happening::Fail(ordinal) => cluster.fail(&name(ordinal)),
        Happening::Unready(ordinal) => cluster.unready(&name(ordinal)),
        Happening::Delete(ordinal) => cluster.delete(&name(ordinal)),
        Happening::Scale(replicas) => cluster.scale(*replicas),
        // Under OnDelete a broken pod is the user's to delete.
        Happening::Image(3) if form != Form::OnDelete => cluster.image(BROKEN),
        Happening::Image(version) => cluster.image(&format!("v{version}")),
        Happening::Partition(partition) => cluster.partition(*partition),
        Happening::Start(start) => {
            cluster.change(|spec| spec.ordinals = Some(serde_json::from_value(json!({"start": start})).unwrap()));
        }
        Happening::Retention(deleted, scaled) => {
            let word = |delete: &bool| if *delete { "Delete" } else { "Retain" };
            let policy = json!({"whenDeleted": word(deleted), "whenScaled": word(scaled)});
            cluster.change(|spec| spec.persistent_volume_claim_retention_policy = Some(serde_json::from_value(policy).unwrap()));
        }
        Happening::MaxUnavailable(most) => cluster.change(|spec| {
            let block = spec.update_strategy.as_mut().and_then(|strategy| strategy.rolling_update.as_mut());
            block.into_iter().for_each(|block| block.max_unavailable = Some(IntOrString::Int(*most)));
        }),
        Happening::Annotate(key, value) => cluster.annotate(key, value),
        Happening::Wait(seconds) => cluster.world.now += SignedDuration::from_secs(*seconds),
        Happening::Interrupted { behind, actions } => {
            let view = views.len().checked_sub(behind + 1).map(|at| views[at].clone());
            cluster.interrupted_round(&view.unwrap_or_else(|| cluster.world.observed()), *actions);
        }
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![4 => Just(Form::Block), 1 => Just(Form::NoBlock), 1 => Just(Form::OnDelete)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_set_that_is_left_alone_becomes_as_desired(
        parallel: bool,
        claims: bool,
        form in form(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut cluster = Cluster::new(configured(parallel, claims, form));
        let mut views = Vec::new();
        for what in &happenings {
            happen(&mut cluster, &views, form, what);
            if !matches!(what, Happening::Interrupted { .. }) {
                cluster.round();
            }
            views.push(cluster.world.observed());
        }
        cluster.partition(0);
        cluster.annotate(PAUSED, "false");
        cluster.annotate(AUTO_ROLLBACK, "false");
        cluster.image("last");
        cluster.settle();

        let names = cluster.names();
        prop_assert_eq!(cluster.world.pods.keys().cloned().collect::<Vec<_>>(), names.clone());
        prop_assert!(cluster.world.pods.values().all(|pod| is_ready(pod)));
        prop_assert!(cluster.round().actions.is_empty());
        let told: Vec<_> = ["Available", "Progressing", "Stalled"].map(|kind| cluster.condition(kind)).into_iter().map(|told| told.0).collect();
        prop_assert_eq!(told, ["True", "True", "False"]);
        if form != Form::OnDelete {
            let images: Vec<_> = names.iter().map(|name| format!("{name} last")).collect();
            prop_assert_eq!(cluster.images(), images);
            let status = cluster.world.set.status.clone().unwrap();
            prop_assert_eq!(status.current_revision, status.update_revision);
        }
    }
}
