//! The paths of the resources and what can be done on each, in no version of OpenAPI yet.

use kinds::registry::Subresource;
use kinds::reviews::{self, Review};
use kinds::{Resource, Scope};

use super::{Served, document_path};
use crate::discovery::{response_kind, subresource_verbs};

/// A parameter in the query: name, type, meaning.
pub type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "All: check and answer as if it were done, but do nothing.");
/// Of operations that write.
const WRITE: &[Parameter] = &[
    DRY_RUN,
    ("fieldManager", "string", "Who writes."),
    ("fieldValidation", "string", "What to do about unknown and repeated fields: Ignore, Warn or Strict."),
];
/// Of patches, besides.
const FORCE: &[Parameter] = &[("force", "boolean", "Take fields that others own. For configurations that are applied only.")];
/// Of operations on collections.
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Send bookmarks in a watch."),
    ("continue", "string", "Where the page before ended."),
    ("fieldSelector", "string", "Select by fields."),
    ("labelSelector", "string", "Select by labels."),
    ("limit", "integer", "Objects of a page at most."),
    ("resourceVersion", "string", "The state that is asked for."),
    ("resourceVersionMatch", "string", "How that is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Begin a watch with what is there."),
    ("timeoutSeconds", "integer", "End a watch after so many seconds."),
    ("watch", "boolean", "Tell of changes as they happen."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds the object may take to end."),
    ("orphanDependents", "boolean", "Leave dependents alone. Say propagationPolicy instead."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const LOG: &[Parameter] = &[
    ("container", "string", "Whose log, if the pod has several containers."),
    ("follow", "boolean", "Go on as the log grows."),
    ("limitBytes", "integer", "Bytes at most."),
    ("previous", "boolean", "The log of the container that ran before."),
    ("sinceSeconds", "integer", "Nothing older than so many seconds."),
    ("tailLines", "integer", "So many lines of the end."),
    ("timestamps", "boolean", "Begin each line with its time."),
];
const COMMAND: &[Parameter] = &[("command", "string", "The command and its arguments, one by one.")];
const TERMINAL: &[Parameter] = &[
    ("container", "string", "Which container, if the pod has several."),
    ("stderr", "boolean", "Carry what it writes as errors."),
    ("stdin", "boolean", "Carry input to it."),
    ("stdout", "boolean", "Carry what it writes."),
    ("tty", "boolean", "It has a terminal."),
];
const PORTS: &[Parameter] = &[("ports", "integer", "Which ports, if they are forwarded through channels of a WebSocket.")];

/// The media types of an object that is sent.
const OBJECT: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The media types of a change that is sent.
const PATCH: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// The media types of what is answered.
pub const ANSWER: &[&str] = &["application/json", "application/vnd.kubernetes.protobuf"];

pub const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
/// What a patch is described as: its schema says no more than that it is an object.
pub const PATCH_SCHEMA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Group, version and kind.
pub type Kind = (&'static str, &'static str, &'static str);

/// One path and what can be done there.
pub struct Path {
    pub path: String,
    pub operations: Vec<Operation>,
}

/// One operation.
pub struct Operation {
    pub method: &'static str,
    /// Upstream's word for what is done; empty for none.
    pub action: &'static str,
    pub id: String,
    pub tag: String,
    pub parameters: Vec<Parameter>,
    /// Media types and schema of the body.
    pub body: Option<(&'static [&'static str], String)>,
    /// The schema of the answer; without one it is text.
    pub answer: Option<String>,
    pub kind: Option<Kind>,
}

/// The name of a kind's schema.
pub fn schema_of((group, version, kind): Kind) -> String {
    match kinds::registry::find_kind(group, version, kind) {
        Some(row) => row.codec.schema_name.to_owned(),
        None => format!("io.k8s.api.{}.{version}.{kind}", words(group)[0]),
    }
}

/// The words for a group in names: the first one says enough of a group of Kubernetes' own.
fn words(group: &str) -> Vec<&str> {
    match group {
        "" => vec!["core"],
        group => group.strip_suffix(".k8s.io").unwrap_or(group).split('.').collect(),
    }
}

/// The paths of a group in a version.
pub(super) fn of(served: &Served) -> Vec<Path> {
    let Served { group, version, rows, reviews } = served;
    let root = format!("/{}", document_path(group, version));
    let list = Operation {
        method: "get",
        action: "",
        id: format!("get{}APIResources", prefix(group, version)),
        tag: tag(group, version),
        parameters: Vec::new(),
        body: None,
        answer: Some(RESOURCE_LIST.to_owned()),
        kind: None,
    };
    let mut paths = vec![Path { path: format!("{root}/"), operations: vec![list] }];
    paths.extend(reviews.iter().map(|review| on_review(&root, review)));
    for row in rows {
        let collection = match row.is_namespaced() {
            true => format!("{root}/namespaces/{{namespace}}/{}", row.plural),
            false => format!("{root}/{}", row.plural),
        };
        if row.is_namespaced() {
            let everywhere =
                Operation { id: format!("list{}{}ForAllNamespaces", prefix(row.group, row.version), row.kind), ..self::list(row) };
            paths.push(Path { path: format!("{root}/{}", row.plural), operations: vec![everywhere] });
        }
        let object = format!("{collection}/{{name}}");
        paths.push(Path { path: collection, operations: on_collection(row) });
        for &subresource in row.subresources {
            paths.push(Path { path: format!("{object}/{}", subresource.name()), operations: on_subresource(row, subresource) });
        }
        paths.push(Path { path: object, operations: on_object(row) });
    }
    paths
}

/// A review is asked by creating it, and answered at once.
fn on_review(root: &str, review: &'static Review) -> Path {
    let kind = (review.group, reviews::VERSION, review.kind);
    let (place, namespaced) = match review.scope {
        Scope::Cluster => ("", ""),
        Scope::Namespaced => ("/namespaces/{namespace}", "Namespaced"),
    };
    let ask = Operation {
        method: "post",
        action: "post",
        id: format!("create{}{namespaced}{}", prefix(review.group, reviews::VERSION), review.kind),
        tag: tag(review.group, reviews::VERSION),
        parameters: WRITE.to_vec(),
        body: Some((OBJECT, schema_of(kind))),
        answer: Some(schema_of(kind)),
        kind: Some(kind),
    };
    Path { path: format!("{root}{place}/{}", review.plural), operations: vec![ask] }
}

/// `CoreV1`, `AppsV1`.
fn prefix(group: &'static str, version: &'static str) -> String {
    words(group).into_iter().chain([version]).map(capitalized).collect()
}

/// `core_v1`, `apps_v1`.
fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", words(group).join("_"))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn operation(row: &Resource, method: &'static str, action: &'static str, below: &str) -> Operation {
    let done = match action {
        "get" => "read",
        "put" => "replace",
        "post" => "create",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let namespaced = if row.is_namespaced() { "Namespaced" } else { "" };
    Operation {
        method,
        action,
        id: format!("{done}{}{namespaced}{}{}", prefix(row.group, row.version), row.kind, capitalized(below)),
        tag: tag(row.group, row.version),
        parameters: Vec::new(),
        body: None,
        answer: Some(row.codec.schema_name.to_owned()),
        kind: Some((row.group, row.version, row.kind)),
    }
}

fn list(row: &Resource) -> Operation {
    let answer = Some(format!("{}List", row.codec.schema_name));
    Operation { parameters: LIST.to_vec(), answer, ..operation(row, "get", "list", "") }
}

fn on_collection(row: &Resource) -> Vec<Operation> {
    let body = Some((OBJECT, row.codec.schema_name.to_owned()));
    let create = Operation { parameters: WRITE.to_vec(), body, ..operation(row, "post", "post", "") };
    let delete = Operation {
        parameters: [DELETE, LIST].concat(),
        body: Some((OBJECT, DELETE_OPTIONS.to_owned())),
        answer: Some(STATUS.to_owned()),
        ..operation(row, "delete", "deletecollection", "")
    };
    [list(row), create].into_iter().chain(row.delete_collection.then_some(delete)).collect()
}

fn on_object(row: &Resource) -> Vec<Operation> {
    let answer = if row.returns_deleted { row.codec.schema_name } else { STATUS };
    let delete = Operation {
        parameters: DELETE.to_vec(),
        body: Some((OBJECT, DELETE_OPTIONS.to_owned())),
        answer: Some(answer.to_owned()),
        ..operation(row, "delete", "delete", "")
    };
    let kind = (row.group, row.version, row.kind);
    let others = ["get", "update", "patch"].map(|verb| written(row, verb, "", kind));
    others.into_iter().chain([delete]).collect()
}

fn on_subresource(row: &Resource, subresource: Subresource) -> Vec<Operation> {
    let kind = response_kind(row, subresource);
    // Who connects to a container sends no object and is answered with a stream.
    let connects = kind.2.ends_with("Options");
    let is_text = connects || subresource == Subresource::Log;
    let verb = |verb: &&'static str| {
        let operation = written(row, verb, subresource.name(), kind);
        if !is_text {
            return operation;
        }
        let parameters = match subresource {
            Subresource::Exec => [COMMAND, TERMINAL].concat(),
            Subresource::Attach => TERMINAL.to_vec(),
            Subresource::PortForward => PORTS.to_vec(),
            _ => LOG.to_vec(),
        };
        let connected = connects.then(|| self::operation(row, operation.method, "connect", subresource.name()));
        let id = connected.map(|named| named.id.replacen("connect", &format!("connect{}", capitalized(operation.method)), 1));
        let action = if connects { "connect" } else { operation.action };
        Operation { answer: None, body: None, parameters, action, id: id.unwrap_or(operation.id), ..operation }
    };
    subresource_verbs(subresource).iter().map(verb).collect()
}

/// An operation by its verb, on the object itself or below it, where objects are of this kind.
fn written(row: &Resource, verb: &'static str, below: &str, kind: Kind) -> Operation {
    let (method, action, parameters) = match verb {
        "get" => ("get", "get", Vec::new()),
        "update" => ("put", "put", WRITE.to_vec()),
        "patch" => ("patch", "patch", [WRITE, FORCE].concat()),
        _ => ("post", "post", WRITE.to_vec()),
    };
    let schema = schema_of(kind);
    let body = match method {
        "get" => None,
        "patch" => Some((PATCH, PATCH_SCHEMA.to_owned())),
        _ => Some((OBJECT, schema.clone())),
    };
    Operation { parameters, body, answer: Some(schema), kind: Some(kind), ..operation(row, method, action, below) }
}
