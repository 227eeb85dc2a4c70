//! Who owns what: `metadata.managedFields`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde_json::Value;

use super::compare::Changes;
use super::outline::{Json, Kind, Outline};
use super::set::Set;

/// So many managers that update are kept apart; the oldest become one.
const MAX_UPDATERS: usize = 10;
/// What the oldest become.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields. Sorted as entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields. Texts are as they stand in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner<'a> {
    pub manager: Cow<'a, str>,
    pub operation: Operation,
    pub api_version: Cow<'a, str>,
    /// Empty for the object itself.
    pub subresource: Cow<'a, str>,
}

impl<'a> Owner<'a> {
    /// Someone who does something; the manager's name is any text.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &'a str) -> Self {
        let quoted = Value::from(manager).to_string();
        Self {
            manager: Cow::Owned(quoted[1..quoted.len() - 1].to_owned()),
            operation,
            api_version: Cow::Owned(api_version.to_owned()),
            subresource: Cow::Borrowed(subresource),
        }
    }

    /// Whether both are the same. Who applies stays the same in another version of the API.
    pub fn is(&self, other: &Owner<'_>) -> bool {
        let same_version = self.operation == Operation::Apply || self.api_version == other.api_version;
        same_version && self.manager == other.manager && self.operation == other.operation && self.subresource == other.subresource
    }
}

/// As messages about conflicts name it.
impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource \"{}\"", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// What one owns, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub owner: Owner<'a>,
    /// RFC 3339.
    pub time: Option<Cow<'a, str>>,
    pub fields: Fields<'a>,
}

/// What one owns. Most who own something own the same after a change, and texts are compared and written faster than sets are.
#[derive(Clone, Debug)]
pub enum Fields<'a> {
    /// As we wrote it before; read only when somebody looks into it.
    Written(Json<'a>),
    Set(Set<'a>),
}

impl<'a> Fields<'a> {
    /// The set. Of what is none in an account that we wrote, nobody owns anything.
    pub fn set(&self) -> Cow<'_, Set<'a>> {
        match self {
            Self::Written(json) => Cow::Owned(Set::read(*json).unwrap_or_default()),
            Self::Set(set) => Cow::Borrowed(set),
        }
    }

    /// How the set is written.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Written(json) => Cow::Borrowed(json.raw()),
            Self::Set(set) => {
                let mut out = String::new();
                set.write(&mut out);
                Cow::Owned(out)
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Written(json) => json.is_hollow(),
            Self::Set(set) => set.is_empty(),
        }
    }
}

impl PartialEq for Fields<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Set(own), Self::Set(other)) => own == other,
            _ => self.text() == other.text() || self.set() == other.set(),
        }
    }
}

impl Eq for Fields<'_> {}

/// All who own fields of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners<'a>(pub Vec<Entry<'a>>);

impl<'a> Owners<'a> {
    /// Reads `managedFields` that anybody wrote; `None` when they are malformed.
    pub fn read(outline: &'a Outline<'a>) -> Option<Self> {
        Self::entries(outline, |json| Set::read(json).map(Fields::Set))
    }

    /// Reads `managedFields` that [`Owners::write`] wrote; `None` when they are malformed.
    pub fn kept(outline: &'a Outline<'a>) -> Option<Self> {
        Self::entries(outline, |json| Some(Fields::Written(json)))
    }

    fn entries(outline: &'a Outline<'a>, fields: impl Fn(Json<'a>) -> Option<Fields<'a>>) -> Option<Self> {
        match outline.root().kind() {
            Kind::Null => Some(Self::default()),
            Kind::List => outline.root().children().map(|(_, entry)| read_entry(entry, &fields)).collect::<Option<_>>().map(Self),
            Kind::Object | Kind::Scalar => None,
        }
    }

    /// Writes `managedFields` in upstream's order; empty for nobody.
    pub fn write(&self) -> String {
        let mut entries: Vec<_> = self.0.iter().filter(|entry| !entry.fields.is_empty()).collect();
        entries.sort_by(|left, right| order(left).cmp(&order(right)));
        let mut out = String::new();
        for entry in entries {
            out.push(if out.is_empty() { '[' } else { ',' });
            write_entry(entry, &mut out);
        }
        if !out.is_empty() {
            out.push(']');
        }
        out
    }

    /// What one owns.
    pub fn of(&self, owner: &Owner<'_>) -> Option<&Entry<'a>> {
        self.0.iter().find(|entry| entry.owner.is(owner))
    }

    /// Takes what one owns out of the list.
    pub fn take(&mut self, owner: &Owner<'_>) -> Option<Entry<'a>> {
        let place = self.0.iter().position(|entry| entry.owner.is(owner))?;
        Some(self.0.remove(place))
    }

    /// What anyone owns in a version of the API.
    pub fn all(&self, api_version: &str) -> Set<'a> {
        let entries = self.0.iter().filter(|entry| entry.owner.api_version == api_version);
        entries.fold(Set::default(), |all, entry| all.union(&entry.fields.set()))
    }

    /// Takes from all what was changed or removed. Entries of another version of the API are about other fields.
    pub fn yield_to(&mut self, changes: &Changes<'a>, api_version: &str) {
        let taken = [&changes.changed, &changes.removed];
        if taken.iter().all(|taken| taken.is_empty()) {
            return;
        }
        for entry in self.0.iter_mut().filter(|entry| entry.owner.api_version == api_version) {
            let fields = entry.fields.set();
            if taken.iter().any(|taken| fields.meets(taken)) {
                entry.fields = Fields::Set(fields.difference(taken[0]).difference(taken[1]));
            }
        }
    }

    /// Someone changed fields, and owns them from now on.
    pub fn update(&mut self, changes: &Changes<'a>, owner: Owner<'a>, now: &'a str) {
        self.yield_to(changes, &owner.api_version);
        if !changes.changed.is_empty() {
            let before = self.take(&owner);
            let fields = before.map_or_else(|| changes.changed.clone(), |entry| entry.fields.set().union(&changes.changed));
            self.0.push(Entry { owner, time: Some(Cow::Borrowed(now)), fields: Fields::Set(fields) });
        }
        self.0.retain(|entry| !entry.fields.is_empty());
        self.bound();
    }

    /// Puts the oldest updaters together where there are too many.
    fn bound(&mut self) {
        let updates = |entry: &Entry<'_>| entry.owner.operation == Operation::Update;
        let count = self.0.iter().filter(|entry| updates(entry)).count();
        if count <= MAX_UPDATERS {
            return;
        }
        self.0.sort_by(|left, right| order(left).cmp(&order(right)));
        let first = self.0.iter().position(updates).unwrap_or(0);
        // One more than there are too many, as the one they become counts, too.
        let old: Vec<_> = self.0.drain(first..=first + count - MAX_UPDATERS).collect();
        for entry in old {
            let owner = Owner {
                manager: Cow::Borrowed(ANCIENT),
                operation: Operation::Update,
                api_version: entry.owner.api_version,
                subresource: Cow::Borrowed(""),
            };
            let fields = match self.take(&owner) {
                Some(before) => Fields::Set(before.fields.set().union(&entry.fields.set())),
                None => entry.fields,
            };
            self.0.push(Entry { owner, time: entry.time, fields });
        }
    }

    /// Whether all own the same in both, whenever they came to.
    pub fn same_fields(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|entry| other.of(&entry.owner).is_some_and(|twin| twin.fields == entry.fields))
    }
}

/// Upstream's order: who applies first, then by age, then by name.
fn order<'e>(entry: &'e Entry<'_>) -> (Operation, &'e str, &'e str, &'e str, &'e str) {
    let owner = &entry.owner;
    (owner.operation, entry.time.as_deref().unwrap_or_default(), &owner.manager, &owner.api_version, &owner.subresource)
}

fn read_entry<'a>(json: Json<'a>, fields: impl Fn(Json<'a>) -> Option<Fields<'a>>) -> Option<Entry<'a>> {
    let text = |key: &str| json.get(key).and_then(Json::quoted);
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("fieldsType")? != "FieldsV1" {
        return None;
    }
    let borrowed = |key: &str| Cow::Borrowed(text(key).unwrap_or_default());
    let owner =
        Owner { manager: borrowed("manager"), operation, api_version: borrowed("apiVersion"), subresource: borrowed("subresource") };
    let fields = json.get("fieldsV1").map_or_else(|| Some(Fields::Set(Set::default())), fields)?;
    Some(Entry { owner, time: text("time").map(Cow::Borrowed), fields })
}

/// With the keys in the order of the served type.
fn write_entry(Entry { owner, time, fields }: &Entry<'_>, out: &mut String) {
    // Writing to a String can't fail.
    let _ = write!(out, r#"{{"apiVersion":"{}","fieldsType":"FieldsV1","fieldsV1":"#, owner.api_version);
    out.push_str(&fields.text());
    let _ = write!(out, r#","manager":"{}","operation":"{}""#, owner.manager, owner.operation.name());
    if !owner.subresource.is_empty() {
        let _ = write!(out, r#","subresource":"{}""#, owner.subresource);
    }
    if let Some(time) = time {
        let _ = write!(out, r#","time":"{time}""#);
    }
    out.push('}');
}
