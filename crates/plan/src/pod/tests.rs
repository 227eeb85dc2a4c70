use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::extensions::HAS_BEEN_READY;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod ephemeral;
mod images;

/// A node with one pod, which does what the planner says.
#[derive(Clone, Debug)]
struct World {
    pod: Pod,
    now: Timestamp,
    sandbox: Sandbox,
    address: Option<String>,
    attached: bool,
    volumes_ready: bool,
    volumes_removed: bool,
    detached: bool,
    containers: BTreeMap<String, Container>,
    failures: BTreeMap<Action, Failure>,
    deleted: bool,
    /// Every start, as `container-attempt`.
    started: Vec<String>,
    ignores_signals: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let pod = json!({ "metadata": { "name": "web-0", "namespace": "shop", "uid": "u1" }, "spec": spec });
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            sandbox: Sandbox::Absent,
            address: None,
            attached: false,
            volumes_ready: false,
            volumes_removed: false,
            detached: false,
            containers: BTreeMap::new(),
            failures: BTreeMap::new(),
            deleted: false,
            started: Vec::new(),
            ignores_signals: false,
        }
    }

    fn plan(&self) -> Plan {
        let added = self.pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
        let ephemeral: Vec<_> = added.map(super::ephemeral).collect();
        let observed = Observed {
            pod: &self.pod,
            gone: false,
            host_addresses: &["192.0.2.1".to_owned()],
            rejection: None,
            sandbox: self.sandbox,
            address: self.address.as_deref(),
            attached: self.attached,
            volumes_ready: self.volumes_ready,
            volumes_removed: self.volumes_removed,
            detached: self.detached,
            ephemeral: &ephemeral,
            containers: &self.containers,
            failures: &self.failures,
            seen_at: self.now,
        };
        plan(&observed, self.now)
    }

    fn container(&mut self, name: &str) -> &mut Container {
        self.containers.entry(name.to_owned()).or_default()
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::ReserveAddress => self.address = Some("10.77.0.5".to_owned()),
            Action::CreateSandbox => self.sandbox = Sandbox::Ready,
            Action::AttachNetwork => self.attached = true,
            Action::PrepareVolumes => self.volumes_ready = true,
            Action::PrepareImage { container, attempt } => self.container(&container).image_for = Some(attempt),
            Action::StartContainer { container, attempt } => self.start(&container, attempt),
            Action::RunPostStart { container, .. } => self.container(&container).post_start = Hook::Done,
            Action::BeginStop { container, grace_seconds, .. } => {
                let began = self.now;
                let stop = Stop { began, grace_seconds, pre_stop_over: None, terminated: false, killed: false };
                self.container(&container).stop = Some(stop);
            }
            Action::RunPreStop { container, .. } => {
                let now = self.now;
                self.container(&container).stop.as_mut().unwrap().pre_stop_over = Some(now);
            }
            Action::Terminate { container, .. } => {
                self.container(&container).stop.as_mut().unwrap().terminated = true;
                if !self.ignores_signals {
                    self.exit(&container, 143);
                }
            }
            Action::Kill { container, .. } => {
                self.container(&container).stop.as_mut().unwrap().killed = true;
                self.exit(&container, 137);
            }
            Action::RemoveContainer { container, attempt } => {
                self.container(&container).attempts.retain(|seen| seen.number != attempt);
            }
            Action::RemoveSandbox => self.lose_sandbox(Sandbox::Absent),
            Action::TearDownVolumes => self.volumes_removed = true,
            Action::DetachNetwork => self.detached = true,
            Action::DeletePod => self.deleted = true,
        }
    }

    fn start(&mut self, name: &str, number: u32) {
        assert!(self.sandbox == Sandbox::Ready && self.attached && self.volumes_ready, "started without foundations");
        self.started.push(format!("{name}-{number}"));
        let started_at = self.now;
        let spec = self.pod.spec.iter().flat_map(roles).find(|(_, spec)| spec.name == name);
        let image = spec.and_then(|(_, spec)| spec.image.clone()).unwrap_or_default();
        let container = self.container(name);
        assert!(container.running().is_none(), "started while running");
        let crashes = container.crashes_so_far() + u32::from(container.latest().is_some());
        let mut attempts = std::mem::take(&mut container.attempts);
        attempts.push(Attempt {
            number,
            state: AttemptState::Running { started_at },
            image,
            image_id: "sha256:1".to_owned(),
            earlier_sandbox: false,
        });
        *container = Container { attempts, crashes, ..Container::default() };
    }

    fn exit(&mut self, name: &str, exit_code: i32) {
        let now = self.now;
        let Some(latest) = self.container(name).attempts.last_mut() else { return };
        if let AttemptState::Running { started_at } = latest.state {
            latest.state = AttemptState::Ended(ended(Some(started_at), now, exit_code));
        }
    }

    fn lose_sandbox(&mut self, to: Sandbox) {
        let names: Vec<_> = self.containers.keys().cloned().collect();
        for name in names {
            self.exit(&name, 137);
            for attempt in &mut self.container(&name).attempts {
                attempt.earlier_sandbox = true;
            }
        }
        self.sandbox = to;
        self.attached = false;
    }

    /// The agent forgets what only it knew.
    fn restart_agent(&mut self) {
        self.failures.clear();
        self.volumes_ready = false;
        for container in self.containers.values_mut() {
            container.image_for = None;
            container.stop = None;
            if container.running().is_some() {
                container.post_start = Hook::Done;
            }
        }
    }

    /// One round: reports, then does all that is planned. False if there was nothing to do.
    fn round(&mut self) -> bool {
        let plan = self.plan();
        let reported = self.pod.status.as_ref() == Some(&plan.status);
        self.pod.status = Some(plan.status);
        let idle = reported && plan.actions.is_empty();
        plan.actions.into_iter().for_each(|action| self.apply(action));
        !idle
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.deleted || !self.round() {
                return;
            }
        }
        panic!("no fixpoint: {:#?}", self.plan());
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.settle();
    }

    fn delete(&mut self, grace: i64) {
        let at = self.now + SignedDuration::from_secs(grace);
        self.pod.metadata.deletion_timestamp = Some(Time(at));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    fn status(&self) -> &PodStatus {
        self.pod.status.as_ref().unwrap()
    }

    fn phase(&self) -> &str {
        self.status().phase.as_deref().unwrap()
    }

    fn waiting_reason(&self) -> Option<String> {
        self.status().container_statuses.as_ref()?[0].state.as_ref()?.waiting.as_ref()?.reason.clone()
    }

    fn condition(&self, name: &str) -> &str {
        &self.status().conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == name).unwrap().status
    }
}

fn ended(started_at: Option<Timestamp>, finished_at: Timestamp, exit_code: i32) -> Ended {
    Ended { started_at, finished_at, exit_code, signal: None, out_of_memory: false, unknown: false, message: None }
}

fn simple() -> World {
    World::new(json!({ "containers": [{ "name": "main", "image": "busybox" }] }))
}

#[test]
fn independent_work_begins_side_by_side() {
    let image = Action::PrepareImage { container: "main".to_owned(), attempt: 0 };
    assert_eq!(simple().plan().actions, [Action::CreateSandbox, Action::ReserveAddress, Action::PrepareVolumes, image]);
}

#[test]
fn the_address_is_reported_before_anything_runs() {
    let mut world = simple();
    world.apply(Action::ReserveAddress);
    let status = world.plan().status;
    assert_eq!((status.phase.as_deref(), status.pod_ip.as_deref()), (Some("Pending"), Some("10.77.0.5")));
}

#[test]
fn a_pod_runs_and_a_settled_pod_plans_nothing() {
    let mut world = simple();
    world.settle();
    assert_eq!((world.phase(), world.condition("Ready")), ("Running", "True"));
    let plan = world.plan();
    assert!(plan.actions.is_empty() && plan.recheck_at.is_none());
    assert_eq!(&plan.status, world.status());
}

#[test]
fn init_containers_run_one_by_one_and_before_the_rest() {
    let mut world = World::new(json!({
        "initContainers": [{ "name": "one" }, { "name": "two" }],
        "containers": [{ "name": "main" }],
    }));
    world.settle();
    assert_eq!(world.started, ["one-0"]);
    assert_eq!((world.phase(), world.condition("Initialized")), ("Pending", "False"));
    assert_eq!(world.waiting_reason().as_deref(), Some("PodInitializing"));
    world.exit("one", 0);
    world.settle();
    world.exit("two", 0);
    world.settle();
    assert_eq!(world.started, ["one-0", "two-0", "main-0"]);
    assert_eq!((world.phase(), world.condition("Initialized")), ("Running", "True"));
}

#[test]
fn a_sidecar_stays_and_ends_last() {
    let mut world = World::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }, { "name": "init" }],
        "containers": [{ "name": "main" }],
    }));
    world.settle();
    assert_eq!(world.started, ["proxy-0", "init-0"]);
    world.exit("init", 0);
    world.settle();
    world.exit("proxy", 1);
    world.settle();
    assert_eq!(world.started, ["proxy-0", "init-0", "main-0", "proxy-1"]);
    world.exit("main", 0);
    world.settle();
    assert_eq!(world.phase(), "Succeeded");
    assert!(world.containers["proxy"].running().is_none());
}

#[test]
fn a_failing_init_container_fails_a_pod_that_never_restarts() {
    let mut world = World::new(json!({
        "restartPolicy": "Never", "initContainers": [{ "name": "init" }], "containers": [{ "name": "main" }],
    }));
    world.settle();
    world.exit("init", 3);
    world.settle();
    assert_eq!((world.phase(), world.started.len()), ("Failed", 1));
}

#[test]
fn crashes_wait_for_nothing_then_ten_seconds_then_twice_as_long() {
    let mut world = simple();
    world.settle();
    let mut delays = Vec::new();
    for _ in 0..8 {
        world.exit("main", 1);
        let ended_at = world.now;
        world.settle();
        while world.containers["main"].running().is_none() {
            assert_eq!(world.waiting_reason().as_deref(), Some("CrashLoopBackOff"));
            world.now = world.plan().recheck_at.unwrap();
            world.settle();
        }
        delays.push(world.now.duration_since(ended_at).as_secs());
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(world.status().container_statuses.as_ref().unwrap()[0].restart_count, 8);
    world.wait(600);
    world.exit("main", 1);
    world.settle();
    assert!(world.containers["main"].running().is_some(), "ten good minutes begin anew");
}

#[test]
fn exits_decide_the_phase_by_restart_policy() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let mut world = World::new(json!({ "restartPolicy": policy, "containers": [{ "name": "main" }] }));
        world.settle();
        world.exit("main", code);
        world.settle();
        assert_eq!(world.phase(), phase, "{policy} {code}");
        let cleaned = world.sandbox == Sandbox::Absent && world.volumes_removed && world.detached;
        assert_eq!(cleaned, phase != "Running");
    }
}

#[test]
fn deletion_asks_then_kills_then_deletes_the_object() {
    let mut world = simple();
    world.settle();
    world.ignores_signals = true;
    world.delete(30);
    world.settle();
    assert!(world.containers["main"].stop.as_ref().unwrap().terminated && !world.deleted);
    assert_eq!(world.plan().recheck_at, Some(world.now + SignedDuration::from_secs(30)));
    world.wait(30);
    assert!(world.deleted && world.sandbox == Sandbox::Absent && world.detached);
    assert_eq!(world.phase(), "Failed");
}

#[test]
fn a_shorter_grace_that_is_asked_for_later_counts() {
    let mut world = simple();
    world.settle();
    world.ignores_signals = true;
    world.delete(600);
    world.settle();
    world.delete(5);
    world.wait(5);
    assert!(world.deleted);
}

#[test]
fn the_stop_signal_follows_the_pre_stop_hook() {
    let mut world = World::new(json!({
        "containers": [{ "name": "main", "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } }],
    }));
    world.settle();
    world.delete(30);
    world.round();
    assert_eq!(world.plan().actions, [Action::RunPreStop { container: "main".to_owned(), attempt: 0 }]);
    world.settle();
    assert!(world.deleted);
}

#[test]
fn a_failed_liveness_probe_restarts_the_container() {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "livenessProbe": { "terminationGracePeriodSeconds": 3 } }] }));
    world.settle();
    world.ignores_signals = true;
    world.container("main").liveness = Some(false);
    world.settle();
    assert_eq!(world.containers["main"].stop.as_ref().unwrap().grace_seconds, 3);
    world.wait(3);
    assert_eq!(world.started, ["main-0", "main-1"]);
}

#[test]
fn a_pod_says_which_probe_keeps_it_from_being_ready() {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "readinessProbe": {} }] }));
    world.settle();
    world.container("main").probe_failure = Some("readiness probe failed 4 times: no route".to_owned());
    world.settle();
    let told = |world: &World, kind: &str| {
        let conditions = world.status().conditions.as_ref().unwrap();
        conditions.iter().find(|condition| condition.type_ == kind).unwrap().message.clone()
    };
    let unready = "containers with unready status: [main]";
    assert_eq!(told(&world, "Ready").unwrap(), format!("{unready}; container main: readiness probe failed 4 times: no route"));
    assert_eq!(told(&world, "ContainersReady").unwrap(), unready);
    world.container("main").readiness = Some(true);
    world.settle();
    assert_eq!(told(&world, "Ready"), None);
}

#[test]
fn only_a_pod_that_has_been_ready_is_remembered_as_such() {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "readinessProbe": {} }] }));
    world.settle();
    let remembered = |world: &World| {
        let conditions = world.status().conditions.iter().flatten();
        conditions.filter(|condition| condition.type_ == HAS_BEEN_READY).map(|condition| condition.status.clone()).collect::<Vec<_>>()
    };
    world.container("main").readiness = Some(true);
    world.settle();
    assert_eq!(remembered(&world), [""; 0], "a pod that is ready says so itself");
    for readiness in [false, true, false] {
        world.container("main").readiness = Some(readiness);
        world.settle();
        assert_eq!(remembered(&world), ["True"]);
    }
}

#[test]
fn a_pod_that_was_never_ready_is_not_remembered_as_ready() {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "readinessProbe": {} }] }));
    world.settle();
    world.container("main").readiness = Some(false);
    world.settle();
    assert!(world.status().conditions.iter().flatten().all(|condition| condition.type_ != HAS_BEEN_READY));
}

#[test]
fn what_others_say_of_an_earlier_readiness_stands_once() {
    let mut world = World::new(json!({ "containers": [{ "name": "main", "readinessProbe": {} }] }));
    world.settle();
    world.container("main").readiness = Some(true);
    world.settle();
    let foreign = PodCondition { type_: HAS_BEEN_READY.to_owned(), status: "False".to_owned(), ..PodCondition::default() };
    world.pod.status.as_mut().unwrap().conditions.as_mut().unwrap().push(foreign);
    world.container("main").readiness = Some(false);
    world.settle();
    let said = world.status().conditions.iter().flatten().filter(|condition| condition.type_ == HAS_BEEN_READY);
    assert_eq!(said.map(|condition| condition.status.as_str()).collect::<Vec<_>>(), ["True"]);
}

#[test]
fn readiness_waits_for_startup_and_for_the_gates() {
    let mut world = World::new(json!({
        "readinessGates": [{ "conditionType": "example.com/in-service" }],
        "containers": [{ "name": "main", "startupProbe": {}, "readinessProbe": {} }],
    }));
    world.settle();
    world.container("main").readiness = Some(true);
    world.settle();
    assert_eq!(world.condition("ContainersReady"), "False");
    world.container("main").startup = Some(true);
    world.settle();
    assert_eq!((world.condition("ContainersReady"), world.condition("Ready")), ("True", "False"));
    let mut gate = world.status().conditions.as_ref().unwrap()[0].clone();
    (gate.type_, gate.status) = ("example.com/in-service".to_owned(), "True".to_owned());
    world.pod.status.as_mut().unwrap().conditions.as_mut().unwrap().push(gate);
    world.settle();
    assert_eq!(world.condition("Ready"), "True");
    assert_eq!(world.condition("example.com/in-service"), "True", "others' conditions stay");
}

#[test]
fn an_image_that_can_not_be_pulled_is_tried_again_later() {
    let mut world = simple();
    let action = Action::PrepareImage { container: "main".to_owned(), attempt: 0 };
    let failure = Failure { reason: "ErrImagePull".to_owned(), message: "no such image".to_owned(), count: 2, at: world.now };
    world.failures.insert(action.clone(), failure);
    assert!(!world.plan().actions.contains(&action));
    assert_eq!(world.plan().recheck_at, Some(world.now + SignedDuration::from_secs(20)));
    world.settle();
    assert_eq!(world.waiting_reason().as_deref(), Some("ErrImagePull"));
    world.wait(5);
    assert_eq!(world.waiting_reason().as_deref(), Some("ImagePullBackOff"));
    world.now += SignedDuration::from_secs(15);
    assert!(world.plan().actions.contains(&action));
}

#[test]
fn a_lost_sandbox_is_made_anew_and_counts_as_a_restart() {
    let mut world = World::new(json!({ "initContainers": [{ "name": "init" }], "containers": [{ "name": "main" }] }));
    world.settle();
    world.exit("init", 0);
    world.settle();
    world.lose_sandbox(Sandbox::Lost);
    world.settle();
    world.exit("init", 0);
    world.wait(10);
    assert_eq!(world.started, ["init-0", "main-0", "init-1", "main-1"]);
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut world = World::new(json!({ "activeDeadlineSeconds": 60, "containers": [{ "name": "main" }] }));
    world.settle();
    world.wait(60);
    assert_eq!((world.phase(), world.status().reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
}

#[test]
fn transition_times_change_only_with_the_status() {
    let mut world = simple();
    world.settle();
    let before = world.status().clone();
    world.now += SignedDuration::from_secs(100);
    assert_eq!(world.plan().status, before);
}

fn node() -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": "n", "labels": { "disk": "ssd" } },
        "status": { "allocatable": { "cpu": "2", "memory": "1Gi", "pods": "3" } },
    }))
    .unwrap()
}

fn bound(spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
}

#[test]
fn what_the_node_can_not_take_is_refused_by_name() {
    let other = bound(
        json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1500m" } }, "ports": [{ "containerPort": 80, "hostPort": 80 }] }] }),
    );
    for (spec, reason) in [
        (json!({ "containers": [{ "name": "c" }] }), None),
        (json!({ "nodeSelector": { "disk": "hdd" }, "containers": [] }), Some("NodeAffinity")),
        (json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "600m" } } }] }), Some("OutOfcpu")),
        (json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 1, "hostPort": 80 }] }] }), Some("NodePorts")),
        (json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 1, "hostPort": 81 }] }] }), None),
        (json!({ "hostPID": true, "containers": [] }), Some("UnsupportedFeature")),
    ] {
        let verdict = admit(&bound(spec.clone()), &node(), std::iter::once(&other));
        assert_eq!(verdict.err().map(|rejection| rejection.reason).as_deref(), reason, "{spec}");
    }
    let full = [other.clone(), bound(json!({ "containers": [] })), bound(json!({ "containers": [] }))];
    let verdict = admit(&bound(json!({ "containers": [] })), &node(), full.iter());
    assert_eq!(verdict.unwrap_err().message, "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3");
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let of = |resources: Value| {
        quality_of_service(bound(json!({ "containers": [{ "name": "c", "resources": resources }] })).spec.as_ref().unwrap())
    };
    assert_eq!(of(json!({})), "BestEffort");
    assert_eq!(of(json!({ "requests": { "cpu": "1" } })), "Burstable");
    assert_eq!(of(json!({ "limits": { "cpu": "1", "memory": "1Gi" } })), "Guaranteed");
    assert_eq!(of(json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m" } })), "Burstable");
}

/// Something that happens to a pod.
#[derive(Clone, Debug)]
enum Happening {
    Exit(usize, i32),
    LoseSandbox,
    Wait(i64),
    RestartAgent,
    Round,
    Delete,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4_usize, prop_oneof![Just(0), Just(1)]).prop_map(|(index, code)| Happening::Exit(index, code)),
        Just(Happening::LoseSandbox),
        (0..400_i64).prop_map(Happening::Wait),
        Just(Happening::RestartAgent),
        Just(Happening::Round),
        Just(Happening::Round),
    ]
}

fn random_world() -> impl Strategy<Value = World> {
    prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")].prop_map(|policy| {
        World::new(json!({
            "restartPolicy": policy,
            "initContainers": [{ "name": "first" }, { "name": "proxy", "restartPolicy": "Always" }],
            "containers": [{ "name": "main" }, { "name": "other", "lifecycle": { "postStart": { "exec": {} } } }],
        }))
    })
}

impl World {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Exit(index, code) => self.exit(["first", "proxy", "main", "other"][*index], *code),
            Happening::LoseSandbox if self.sandbox == Sandbox::Ready => self.lose_sandbox(Sandbox::Lost),
            Happening::LoseSandbox => {}
            Happening::Wait(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Happening::RestartAgent => self.restart_agent(),
            Happening::Round => drop(self.round()),
            Happening::Delete => self.delete(30),
        }
    }

    /// Lets init containers succeed until the pod stands still.
    fn come_to_rest(&mut self) {
        for _ in 0..20 {
            self.exit("first", 0);
            self.wait(301);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_the_pod_comes_to_run_or_to_its_end(mut world in random_world(), events in prop::collection::vec(happening(), 0..25)) {
        events.iter().for_each(|event| world.happen(event));
        world.come_to_rest();
        let phase = world.phase().to_owned();
        prop_assert!(["Running", "Succeeded", "Failed"].contains(&phase.as_str()));
        if world.pod.spec.as_ref().unwrap().restart_policy.as_deref() == Some("Always") {
            prop_assert_eq!(&phase, "Running");
            prop_assert!(["proxy", "main", "other"].iter().all(|name| world.containers[*name].running().is_some()));
        }
        prop_assert!(world.plan().actions.is_empty());
        prop_assert!(world.started.iter().collect::<std::collections::BTreeSet<_>>().len() == world.started.len(), "no attempt twice");
    }

    #[test]
    fn a_deleted_pod_always_goes_and_leaves_nothing(mut world in random_world(), events in prop::collection::vec(happening(), 0..25), more in prop::collection::vec(happening(), 0..5)) {
        events.iter().for_each(|event| world.happen(event));
        world.happen(&Happening::Delete);
        more.iter().for_each(|event| world.happen(event));
        let starts = world.started.len();
        for _ in 0..4 {
            if !world.deleted { world.wait(31); }
        }
        prop_assert!(world.deleted && world.sandbox == Sandbox::Absent && world.detached && world.volumes_removed);
        prop_assert_eq!(world.started.len(), starts);
    }

    #[test]
    fn a_restart_of_the_agent_changes_nothing_in_the_end(world in random_world(), events in prop::collection::vec(happening(), 0..15), at in 0..15_usize) {
        let without: Vec<_> = events.into_iter().filter(|event| !matches!(event, Happening::RestartAgent)).collect();
        let (mut one, mut other) = (world.clone(), world);
        for (index, event) in without.iter().enumerate() {
            if index == at { other.restart_agent(); other.settle(); one.settle(); }
            one.happen(event);
            other.happen(event);
        }
        one.come_to_rest();
        other.come_to_rest();
        prop_assert_eq!(one.phase(), other.phase());
        prop_assert_eq!(one.started, other.started);
    }
}
