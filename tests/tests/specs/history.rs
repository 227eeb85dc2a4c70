//! What happened to the pods of a namespace, in the order in which it happened: the truth about order, without a clock.

use std::collections::BTreeMap;

use end_to_end::Watch;
use serde_json::Value;

use crate::workload::{Workload, is_ready, name};

/// All pods at one moment, by name.
pub type Pods = BTreeMap<String, Value>;

/// A watch of pods and what it has told so far.
pub struct History {
    watch: Watch,
    begin: Pods,
    steps: Vec<Step>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Step {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: String,
    pub pod: Value,
    /// The pods before it.
    pub before: Pods,
}

impl Step {
    pub fn name(&self) -> &str {
        name(&self.pod)
    }

    pub fn adds(&self) -> bool {
        self.kind == "ADDED"
    }

    pub fn removes(&self) -> bool {
        self.kind == "DELETED"
    }

    /// Whether the pod was told to go in this step.
    pub fn condemns(&self) -> bool {
        let goes = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
        goes(&self.pod) && !self.before.get(self.name()).is_some_and(goes)
    }

    /// Whether all these ordinals were there, ready and staying, before the step.
    pub fn had_ready(&self, mut ordinals: std::ops::Range<u32>) -> bool {
        ordinals.all(|ordinal| {
            let pod = self.before.get(&format!("ss-{ordinal}"));
            pod.is_some_and(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null())
        })
    }

    /// The pod's ordinal.
    pub fn ordinal(&self) -> u32 {
        self.name().rsplit('-').next().and_then(|digits| digits.parse().ok()).expect("a pod of a set")
    }
}

impl History {
    pub fn new(pods: Vec<Value>, watch: Watch) -> Self {
        let begin = pods.into_iter().map(|pod| (name(&pod).to_owned(), pod)).collect();
        Self { watch, begin, steps: Vec::new() }
    }

    /// Reads on until a step is the one that is waited for; returns all steps up to it.
    pub fn until(&mut self, what: &str, mut last: impl FnMut(&Step) -> bool) -> &[Step] {
        loop {
            let event = self.watch.next().unwrap_or_else(|| panic!("the watch ended before: {what}"));
            let step = Step { kind: event["type"].as_str().expect("a type").to_owned(), pod: event["object"].clone(), before: self.pods() };
            let found = last(&step);
            self.steps.push(step);
            if found {
                return &self.steps;
            }
        }
    }

    /// Everything up to now: a mark is made in the namespace, and read up to it.
    pub fn until_now(&mut self, work: &Workload) -> &[Step] {
        let container = serde_json::json!({"name": "mark", "image": "busybox:1"});
        let spec = serde_json::json!({"containers": [container], "schedulingGates": [{"name": "example.com/mark"}]});
        work.create("pods", &serde_json::json!({"metadata": {"name": "mark"}, "spec": spec}));
        self.until("the mark", |step| step.name() == "mark");
        self.steps.pop();
        &self.steps
    }

    /// Reads on until so many pods were removed or added; returns the names, in order.
    pub fn names(&mut self, kind: &str, count: usize) -> Vec<String> {
        let of_kind = |steps: &[Step]| {
            let steps = steps.iter().filter(|step| step.kind == kind);
            steps.map(|step| step.name().to_owned()).collect::<Vec<_>>()
        };
        while of_kind(&self.steps).len() < count {
            self.until(&format!("{count} pods are {kind}"), |step| step.kind == kind);
        }
        of_kind(&self.steps)
    }

    /// The pods after the last step that was read.
    pub fn pods(&self) -> Pods {
        let Some(last) = self.steps.last() else { return self.begin.clone() };
        let mut pods = last.before.clone();
        match last.removes() {
            true => drop(pods.remove(last.name())),
            false => drop(pods.insert(last.name().to_owned(), last.pod.clone())),
        }
        pods
    }
}
