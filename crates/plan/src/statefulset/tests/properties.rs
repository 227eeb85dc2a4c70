//! Whatever happens, the invariants hold after every step, and once nothing more happens the set becomes as desired.

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
        1 => any::<(bool, bool)>().prop_map(|(deleted, scaled)| Happening::Retention(deleted, scaled)),
    ]
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
        cluster.image("last");
        cluster.settle();

        let names: Vec<_> = cluster.range().map(|ordinal| format!("web-{ordinal}")).collect();
        prop_assert_eq!(cluster.world.pods.keys().cloned().collect::<Vec<_>>(), names.clone());
        prop_assert!(cluster.world.pods.values().all(|pod| is_ready(pod)));
        prop_assert!(cluster.round().actions.is_empty());
        if form != Form::OnDelete {
            let images: Vec<_> = names.iter().map(|name| format!("{name} last")).collect();
            prop_assert_eq!(cluster.images(), images);
            let status = cluster.world.set.status.clone().unwrap();
            prop_assert_eq!(status.current_revision, status.update_revision);
        }
    }
}
