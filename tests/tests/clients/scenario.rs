//! What is asked of every client for every kind, and what must come of it.

use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::case::{Case, merge};
use crate::request::{Client, Failure, Patch, Request, Resource, Verb};

/// How often a writer reads again what somebody else, mostly a controller, has changed meanwhile.
const ATTEMPTS: usize = 8;

/// What an old kubectl says instead of the server's message, when that blames no field.
const UNTOLD: &str = "The request is invalid";

/// Runs all cases, by as many clients at a time as are given. Fails with all that was not as expected.
pub fn run(clients: Vec<Box<dyn Client>>, cases: &[(Resource, Case)]) {
    let (next, faults) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let take = || next.lock().expect("no panic").next();
    std::thread::scope(|scope| {
        for mut client in clients {
            let (take, faults) = (&take, &faults);
            scope.spawn(move || {
                while let Some((resource, case)) = take() {
                    let mut scenario = Scenario::new(client.as_mut(), resource, case);
                    scenario.run();
                    faults.lock().expect("no panic").append(&mut scenario.faults);
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no panic");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The namespace of a case.
pub fn namespace(resource: &Resource) -> Option<String> {
    resource.namespaced.then(|| resource.qualified().replace('.', "-"))
}

/// One case with one client.
struct Scenario<'a> {
    client: &'a mut dyn Client,
    resource: &'a Resource,
    case: &'a Case,
    namespace: Option<String>,
    /// The resource versions of the object that answers told since it is watched.
    versions: Vec<String>,
    faults: Vec<String>,
}

impl<'a> Scenario<'a> {
    fn new(client: &'a mut dyn Client, resource: &'a Resource, case: &'a Case) -> Self {
        Self { client, resource, case, namespace: namespace(resource), versions: Vec::new(), faults: Vec::new() }
    }

    fn run(&mut self) {
        self.nothing_is_there();
        let Some(created) = self.create() else { return };
        self.gives("watch", &Request { field_selector: "metadata.name=one".to_owned(), ..self.request(Verb::Watch) }, &Value::Null);
        self.versions.clear();
        self.read(&created);
        self.update(&created);
        self.patch();
        self.apply();
        self.invalid();
        self.delete(&created);
        self.delete_collection();
    }

    fn nothing_is_there(&mut self) {
        self.lists("list of none", 0);
        self.is_absent("read of none", Verb::Read, "absent");
        let dry = Request { body: self.object("one"), dry_run: true, ..self.request(Verb::Create) };
        self.gives("create in a dry run", &dry, &self.object("one"));
        self.is_absent("read after a dry run", Verb::Read, "one");
    }

    fn create(&mut self) -> Option<Value> {
        let create = Request { body: self.object("one"), ..self.request(Verb::Create) };
        let created = self.gives("create", &create, &self.object("one"))?;
        let says = format!("{} \"one\" already exists", self.resource.qualified());
        self.fails("create again", &create, (409, "AlreadyExists"), &says);
        Some(created)
    }

    fn read(&mut self, created: &Value) {
        let expected = json!({"metadata": {"name": "one", "uid": created["metadata"]["uid"]}});
        self.gives("read", &self.request(Verb::Read), &expected);
        for (field_selector, items) in
            [("", json!([expected])), ("metadata.name=one", json!([expected])), ("metadata.name!=one", json!([]))]
        {
            let list = Request { label_selector: self.selector(), field_selector: field_selector.to_owned(), ..self.request(Verb::List) };
            self.gives(&format!("list by label and {field_selector:?}"), &list, &json!({"items": items}));
        }
        let unknown = Request { field_selector: "spec.nothing=1".to_owned(), ..self.request(Verb::List) };
        self.fails("list by an unknown field", &unknown, (400, "BadRequest"), "spec.nothing");
    }

    fn update(&mut self, created: &Value) {
        let updated = self.case.updated().clone();
        let result = self.replace(&self.case.update.clone());
        self.expect("update", result, &updated);
        let stale = Request { body: created.clone(), ..self.request(Verb::Replace) };
        self.fails("update of what has changed", &stale, (409, "Conflict"), "the object has been modified");
    }

    /// Writes back what is read, with a change.
    fn replace(&mut self, change: &Value) -> Result<Value, Failure> {
        let mut result = Err(Failure::default());
        for _ in 0..ATTEMPTS {
            let mut body = self.client.call(&self.request(Verb::Read))?;
            merge(&mut body, change);
            result = self.client.call(&Request { body, ..self.request(Verb::Replace) });
            if !result.as_ref().is_err_and(|failure| failure.reason == "Conflict") {
                break;
            }
        }
        result
    }

    fn patch(&mut self) {
        for (what, format, patched) in [
            ("JSON patch", Patch::Json, &self.case.json),
            ("merge patch", Patch::Merge, &self.case.merge),
            ("strategic merge patch", Patch::Strategic, &self.case.strategic),
        ] {
            let request = Request { body: patched.patch.clone(), patch: Some(format), ..self.request(Verb::Patch) };
            self.gives(what, &request, patched.gives());
        }
        let test = json!([{"op": "test", "path": "/metadata/name", "value": "two"}]);
        let request = Request { body: test, patch: Some(Patch::Json), ..self.request(Verb::Patch) };
        self.fails("JSON patch whose test fails", &request, (422, "Invalid"), "failed at path '/metadata/name'");
        let request = Request { name: "absent".to_owned(), ..request };
        let says = format!("{} \"absent\" not found", self.resource.qualified());
        self.fails("JSON patch of none", &request, (404, "NotFound"), &says);
    }

    fn apply(&mut self) {
        let apply = |manager: &str, force, body| Request {
            body: self.with_identity(body),
            patch: Some(Patch::Apply),
            manager: manager.to_owned(),
            force,
            ..self.request(Verb::Patch)
        };
        let forced = apply("suite", true, &self.case.apply.patch);
        let rival = apply("rival", false, &json!({"metadata": {"labels": {"suite": "other"}}}));
        if let Some(applied) = self.gives("apply", &forced, self.case.apply.gives()) {
            let managers = applied["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            let owns = managers.iter().any(|entry| entry["manager"] == "suite" && entry["operation"] == "Apply");
            self.check("apply", "an entry of managedFields for the manager", owns, &applied["metadata"]["managedFields"]);
        }
        self.fails("apply of what another owns", &rival, (409, "Conflict"), "Apply failed with 1 conflict");
    }

    fn invalid(&mut self) {
        for invalid in &self.case.invalid {
            if let Some(change) = &invalid.create {
                let mut body = self.object("invalid");
                merge(&mut body, change);
                self.fails("invalid create", &Request { body, ..self.request(Verb::Create) }, (422, "Invalid"), &invalid.says);
            }
            if let Some(change) = &invalid.update {
                let result = self.replace(change);
                self.refuses("invalid update", result, (422, "Invalid"), &invalid.says);
            }
        }
    }

    fn delete(&mut self, created: &Value) {
        if self.client.has_preconditions() {
            let other = Request { uid: Some("other".to_owned()), ..self.request(Verb::Delete) };
            self.fails("delete of another uid", &other, (409, "Conflict"), "Precondition failed");
        }
        let uid = created["metadata"]["uid"].as_str().map(str::to_owned);
        self.gives("delete", &Request { uid, ..self.request(Verb::Delete) }, &Value::Null);
        self.events(created);
        self.is_absent("read of what was deleted", Verb::Read, "one");
        self.is_absent("delete of what was deleted", Verb::Delete, "one");
    }

    /// The watch has seen the object come, change and go, each change once and in order.
    fn events(&mut self, created: &Value) {
        let Some(answer) = self.gives("watch", &self.request(Verb::Events), &Value::Null) else { return };
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
        let in_order = types.first() == Some(&"ADDED")
            && types.last() == Some(&"DELETED")
            && types.len() >= 6
            && types[1..types.len() - 1].iter().all(|kind| *kind == "MODIFIED");
        self.check("watch", "ADDED, a MODIFIED for each change, DELETED", in_order, &json!(types));
        let version = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
        let versions: Vec<_> = events.iter().map(version).collect();
        let ascends = versions.iter().all(Option::is_some) && versions.windows(2).all(|pair| pair[0] < pair[1]);
        self.check("watch", "resource versions that ascend", ascends, &json!(versions));
        let versions: Vec<_> = events.iter().map(|event| &event["object"]["metadata"]["resourceVersion"]).collect();
        let untold: Vec<_> = self.versions.iter().filter(|version| !versions.contains(&&json!(version))).cloned().collect();
        self.check(
            "watch",
            &format!("events of {untold:?}, which answers told"),
            untold.is_empty() && !self.versions.is_empty(),
            &json!(versions),
        );
        let same = events.iter().all(|event| event["object"]["metadata"]["uid"] == created["metadata"]["uid"]);
        self.check("watch", "events of the one object", same, &answer);
    }

    fn delete_collection(&mut self) {
        for name in ["two", "three"] {
            let create = Request { body: self.object(name), name: name.to_owned(), ..self.request(Verb::Create) };
            self.gives("create of more", &create, &Value::Null);
        }
        let pages = Request { label_selector: self.selector(), limit: 1, ..self.request(Verb::List) };
        let both = json!({"items": [{"metadata": {"name": "three"}}, {"metadata": {"name": "two"}}], "metadata": {"continue": null}});
        self.gives("list in pages", &pages, &both);
        let verb = if self.resource.collection { Verb::DeleteCollection } else { Verb::Delete };
        let (names, label_selector) = match verb {
            Verb::DeleteCollection => (vec![""], self.selector()),
            _ => (vec!["two", "three"], String::new()),
        };
        for name in names {
            let request = Request { name: name.to_owned(), label_selector: label_selector.clone(), ..self.request(verb) };
            self.gives("delete of a collection", &request, &Value::Null);
        }
        // What goes in its own time, as pods do, is waited for.
        let all = Request { label_selector: self.selector(), ..self.request(Verb::List) };
        end_to_end::comes_true(|| {
            let list = self.client.call(&all).unwrap_or_default();
            list["items"].as_array().is_some_and(Vec::is_empty)
        });
        self.lists("list after the delete of a collection", 0);
    }

    /// Asks for what must succeed, and compares what it gives.
    fn gives(&mut self, what: &str, request: &Request, expected: &Value) -> Option<Value> {
        let result = self.client.call(request);
        self.expect(what, result, expected)
    }

    fn expect(&mut self, what: &str, result: Result<Value, Failure>, expected: &Value) -> Option<Value> {
        match result {
            Ok(answer) => {
                let metadata = &answer["metadata"];
                let version = metadata["resourceVersion"].as_str().filter(|_| metadata["name"] == "one");
                self.versions.extend(version.map(str::to_owned));
                self.check(what, &expected.to_string(), holds(&answer, expected), &answer);
                Some(answer)
            }
            Err(failure) => {
                self.fault(what, &expected.to_string(), &format!("{failure:?}"));
                None
            }
        }
    }

    /// Asks for what must be refused.
    fn fails(&mut self, what: &str, request: &Request, as_what: (u64, &str), says: &str) {
        let result = self.client.call(request);
        self.refuses(what, result, as_what, says);
    }

    fn refuses(&mut self, what: &str, result: Result<Value, Failure>, (code, reason): (u64, &str), says: &str) {
        let expected = format!("{code} {reason}: {says}");
        match result {
            Ok(answer) => self.fault(what, &expected, &answer.to_string()),
            Err(failure) => {
                let same = failure.code.is_none_or(|found| found == code) && failure.reason == reason;
                let same = same && (failure.message.contains(says) || failure.message == UNTOLD);
                let told = same && self.is_in_detail(&failure, says);
                self.check(what, &expected, told, &json!(format!("{failure:?}")));
            }
        }
    }

    /// Whether the details of a failure name the object and the field that the message names. Some clients tell no details.
    fn is_in_detail(&self, failure: &Failure, says: &str) -> bool {
        let (text, details) = (|value: &Value| value.as_str().unwrap_or_default().to_owned(), &failure.details);
        let causes = details["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kind = match failure.reason.as_str() {
            _ if failure.code.is_none() => return true,
            "NotFound" | "AlreadyExists" => &self.resource.plural,
            // Of an apply it is told which fields are in conflict, and of a patch that can't be carried out only that.
            "Conflict" if causes.is_empty() => &self.resource.plural,
            "Invalid" if !causes.is_empty() => &self.resource.kind,
            _ => return true,
        };
        let (group, name) = (text(&details["group"]), format!("\"{}\"", text(&details["name"])));
        let is_object = text(&details["kind"]) == *kind && group == self.resource.group && failure.message.contains(&name);
        let says_so = |cause: &Value| format!("{}: {}", text(&cause["field"]), text(&cause["message"])).contains(says);
        is_object && (causes.is_empty() || causes.iter().any(says_so))
    }

    fn is_absent(&mut self, what: &str, verb: Verb, name: &str) {
        let says = format!("{} \"{name}\" not found", self.resource.qualified());
        let request = Request { name: name.to_owned(), ..self.request(verb) };
        self.fails(what, &request, (404, "NotFound"), &says);
    }

    fn lists(&mut self, what: &str, count: usize) {
        let request = Request { label_selector: self.selector(), ..self.request(Verb::List) };
        if let Some(list) = self.gives(what, &request, &Value::Null) {
            let found = list["items"].as_array().map(Vec::len);
            self.check(what, &format!("{count} items"), found == Some(count), &list);
        }
    }

    fn check(&mut self, what: &str, expected: &str, holds: bool, got: &Value) {
        if !holds {
            self.fault(what, expected, &got.to_string());
        }
    }

    fn fault(&mut self, what: &str, expected: &str, got: &str) {
        let kind = format!("{} {}", self.resource.api_version(), self.resource.kind);
        self.faults.push(format!("{kind}: {what}\n  expected {expected}\n  got      {got}"));
    }

    fn selector(&self) -> String {
        format!("suite={}", self.case.label())
    }

    fn object(&self, name: &str) -> Value {
        self.case.object(self.namespace.as_deref(), name)
    }

    /// What is applied says which object it is.
    fn with_identity(&self, fields: &Value) -> Value {
        let mut object = fields.clone();
        let metadata = json!({"name": "one", "namespace": self.namespace});
        merge(&mut object, &json!({"apiVersion": self.resource.api_version(), "kind": self.resource.kind, "metadata": metadata}));
        object
    }

    fn request(&self, verb: Verb) -> Request {
        Request {
            verb,
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: "one".to_owned(),
            body: Value::Null,
            patch: None,
            manager: String::new(),
            force: false,
            dry_run: false,
            label_selector: String::new(),
            field_selector: String::new(),
            limit: 0,
            uid: None,
        }
    }
}

/// Whether an answer holds what is expected: null stands for absent, the elements of a list may come in any order.
fn holds(answer: &Value, expected: &Value) -> bool {
    match (answer, expected) {
        (_, Value::Null) => true,
        (Value::Object(answer), Value::Object(expected)) => expected.iter().all(|(key, expected)| match (answer.get(key), expected) {
            (found, Value::Null) => found.is_none_or(Value::is_null),
            (found, expected) => found.is_some_and(|found| holds(found, expected)),
        }),
        (Value::Array(answer), Value::Array(expected)) => {
            answer.len() == expected.len() && expected.iter().all(|expected| answer.iter().any(|found| holds(found, expected)))
        }
        // Some clients read times, and write them in another form.
        (Value::String(answer), Value::String(expected)) => answer == expected || same_time(answer, expected),
        (answer, expected) => answer == expected,
    }
}

fn same_time(one: &str, other: &str) -> bool {
    matches!((one.parse::<Timestamp>(), other.parse::<Timestamp>()), (Ok(one), Ok(other)) if one == other)
}
