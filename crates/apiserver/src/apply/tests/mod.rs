//! The rules of ownership and conflicts as upstream documents them, one test each, on texts alone; and their laws.

use kinds::{Resource, registry};
use serde_json::{Value, json};

use super::*;

mod laws;
mod lists;
mod rules;

/// An object without a server: only what is applied and updated happens to it.
#[derive(Clone, Debug, PartialEq)]
struct World {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    object: String,
    managed: String,
}

impl World {
    fn sets() -> Self {
        Self::of("apps", "statefulsets")
    }

    fn of(group: &'static str, plural: &'static str) -> Self {
        Self::of_resource(registry::find(group, "v1", plural).unwrap())
    }

    fn of_resource(resource: &'static Resource) -> Self {
        let Resource { group, version, plural, .. } = *resource;
        Self { group, version, plural, object: "{}".to_owned(), managed: String::new() }
    }

    fn claim<'a>(&self, manager: &str, operation: Operation, now: &'a str) -> Claim<'a> {
        let resource = registry::find(self.group, self.version, self.plural).unwrap();
        let owner = Owner::new(manager, operation, &resource.api_version(), "");
        Claim { schema: Schema::of(resource), owner, ignored: Set::of_fields(&["status"]), now }
    }

    fn attempt(&mut self, manager: &str, configuration: &Value, force: bool) -> Result<(), Refusal> {
        let text = configuration.to_string();
        let (live, configuration, account) =
            (Outline::of(&self.object).unwrap(), Outline::of(&text).unwrap(), account(&self.managed).unwrap());
        let claim = self.claim(manager, Operation::Apply, "2026-01-01T00:00:00Z");
        let application = Application { claim, configuration: &configuration, force, allowed: Set::default() };
        let applied = apply(&application, &live, Owners::read(&account).unwrap());
        assert_eq!(apply(&application, &live, Owners::kept(&account).unwrap()), applied, "as if anybody had written the account");
        let Applied { object, managed } = applied?;
        (self.object, self.managed) = (object, managed);
        Ok(())
    }

    /// Applies what must not conflict.
    fn apply(&mut self, manager: &str, configuration: Value) -> &mut Self {
        self.attempt(manager, &configuration, false).unwrap();
        self
    }

    fn force(&mut self, manager: &str, configuration: Value) -> &mut Self {
        self.attempt(manager, &configuration, true).unwrap();
        self
    }

    /// The conflicts of a configuration, one in a line.
    fn conflicts(&mut self, manager: &str, configuration: Value) -> Vec<String> {
        match self.attempt(manager, &configuration, false) {
            Err(Refusal::Conflicts(conflicts)) => {
                conflicts.iter().flat_map(|one| one.fields.iter().map(|field| format!("{}: {field}", one.owner))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn faults(&mut self, configuration: Value) -> Vec<String> {
        match self.attempt("a", &configuration, false) {
            Err(Refusal::Faults(faults)) => faults,
            other => panic!("{other:?}"),
        }
    }

    /// Replaces the object as by a PUT.
    fn update(&mut self, manager: &str, object: Value) -> &mut Self {
        let claim = self.claim(manager, Operation::Update, "2026-01-02T00:00:00Z");
        let text = object.to_string();
        self.managed = updated(&claim, &self.managed, &self.object, &text, self.object == "{}").unwrap();
        self.object = text;
        self
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.object).unwrap()
    }

    /// What a manager owns.
    fn owned(&self, manager: &str) -> Vec<String> {
        let account = account(&self.managed).unwrap();
        let owners = Owners::read(&account).unwrap();
        owners.0.iter().filter(|entry| entry.owner.manager == manager).flat_map(|entry| entry.fields.set().paths()).collect()
    }
}

fn replicas(number: i32) -> Value {
    json!({"spec": {"replicas": number}})
}

fn labels(pairs: Value) -> Value {
    json!({"metadata": {"labels": pairs}})
}
