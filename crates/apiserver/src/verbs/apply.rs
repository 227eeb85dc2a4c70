//! A configuration applied: what it says becomes so, and whoever applies it owns that from then on.

use std::borrow::Cow;

use http::StatusCode;
use kinds::Resource;
use kinds::registry::Subresource;

use super::{target, written};
use crate::apply::{self, Application, Claim, Json, Kind, Operation, Outline, Owners, Refusal, Set, last_applied};
use crate::context::Context;
use crate::decode::{self, Read};
use crate::error::ApiError;
use crate::ownership::{self, NOTHING};
use crate::query::{ApplyOptions, Query};
use crate::respond::Response;
use crate::route::{Call, Route, Verb};
use crate::stored::Current;
use crate::strategy::metadata;
use crate::writes::{self, Part, Proposal, Target};

/// How often a configuration is applied anew when the object comes and goes meanwhile.
const ATTEMPTS: usize = 16;

pub(super) async fn run(context: &Context<'_>, call: &Call, options: &ApplyOptions, body: &[u8]) -> Result<Response, ApiError> {
    let part = match call.subresource {
        Some(Subresource::Status) => Part::Status,
        Some(Subresource::EphemeralContainers) => Part::Ephemeral,
        _ => Part::Main,
    };
    let read = decode::configuration(call.resource, body, options.write.field_validation)?;
    let configuration = Configuration::of(read, options.force);
    configuration.check(call.resource)?;
    let target = Target { repeatable: true, ..target(context, call, options.write.dry_run) };
    for _ in 0..ATTEMPTS {
        let make = |current: &Current| configuration.proposal(target, part, Some(current));
        match writes::change(context, target, part, make).await {
            Err(ApiError::NotFound { resource, .. }) if part == Part::Main && std::ptr::eq(resource, call.resource) => {}
            done => return written(context, call, StatusCode::OK, &done?),
        }
        may_create(context, call, options).await?;
        match writes::create(context, target, configuration.proposal(target, part, None)?).await {
            Err(ApiError::AlreadyExists { .. }) => {}
            done => return written(context, call, StatusCode::CREATED, &done?),
        }
    }
    Err(crate::stored::modified(call.resource, &call.name))
}

/// Who applies what is not there creates it, and must be allowed to.
async fn may_create(context: &Context<'_>, call: &Call, options: &ApplyOptions) -> Result<(), ApiError> {
    let create = Call {
        resource: call.resource,
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        subresource: None,
        verb: Verb::Create(options.write),
        query: Query::default(),
    };
    context.shared.authority.authorize(context.user, &Route::Object(create), "POST", "").await.map(drop)
}

/// A configuration as a client sends it.
pub(super) struct Configuration {
    read: Read,
    head: Head,
    force: bool,
}

/// What a configuration says of which object it is about; empty where it says nothing.
struct Head {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    says_owners: bool,
}

impl Head {
    fn of(configuration: &Outline<'_>) -> Self {
        let root = configuration.root();
        let metadata = root.get("metadata");
        let text = |value: Option<Json<'_>>| value.and_then(|value| serde_json::from_str(value.raw()).ok()).unwrap_or_default();
        let of_metadata = |field: &str| metadata.and_then(|metadata| metadata.get(field));
        Self {
            api_version: text(root.get("apiVersion")),
            kind: text(root.get("kind")),
            namespace: text(of_metadata("namespace")),
            name: text(of_metadata("name")),
            uid: text(of_metadata("uid")),
            resource_version: text(of_metadata("resourceVersion")),
            says_owners: of_metadata("managedFields").is_some_and(|value| value.kind() != Kind::Null),
        }
    }
}

impl Configuration {
    pub fn of(read: Read, force: bool) -> Self {
        Self { head: Head::of(&read.text.outline()), read, force }
    }

    /// Refuses what is meant for another kind or version, and who says themselves who owns what.
    fn check(&self, resource: &Resource) -> Result<(), ApiError> {
        let (version, expected) = (self.head.api_version.as_str(), resource.api_version());
        if version != expected {
            let message = format!("Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}");
            return Err(ApiError::bad_request(message));
        }
        if self.head.says_owners {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        match self.head.kind.as_str() {
            kind if kind == resource.kind => Ok(()),
            "" => Err(self.not_typed(vec![format!("no corresponding type for {expected}, Kind=")])),
            kind => Err(ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be applied as a {}: the kind in the data ({kind}) does not match the expected kind ({})",
                resource.kind, resource.kind
            ))),
        }
    }

    fn not_typed(&self, faults: Vec<String>) -> ApiError {
        let Head { api_version, kind, namespace, name, .. } = &self.head;
        let object = format!("{namespace}/{name}; {api_version}, Kind={kind}");
        ApiError::NotTyped { object, faults }
    }

    /// What applying it makes of the object that is there, or of nothing.
    pub fn proposal(&self, target: Target<'_>, part: Part, current: Option<&Current>) -> Result<Proposal, ApiError> {
        let now = ownership::now();
        let claim = ownership::claim(target, part, Operation::Apply, &now);
        let applied = self.apply(target.resource, claim, current)?;
        let mut object = decode::applied(target.resource, &applied.object, self.read.bad_quantity.as_deref())?;
        let meta = object.meta_mut();
        if current.is_none() {
            self.check_new(target, meta.name.as_deref())?;
        }
        if self.head.resource_version.is_empty() {
            // The one that was met is no condition.
            meta.resource_version = None;
        }
        if target.manager == last_applied::KUBECTL
            && let Some(annotations) = meta.annotations.as_mut().filter(|annotations| annotations.contains_key(last_applied::ANNOTATION))
        {
            annotations.insert(last_applied::ANNOTATION.to_owned(), last_applied::text(self.read.text.text()));
            if metadata::too_many_annotations(annotations) {
                annotations.remove(last_applied::ANNOTATION);
            }
        }
        Ok(Proposal { object, warnings: self.read.warnings.clone(), managed: Some(applied.managed) })
    }

    fn apply(&self, resource: &Resource, claim: Claim<'_>, current: Option<&Current>) -> Result<apply::Applied, ApiError> {
        let broken = || ApiError::internal(format!("a stored {} is no JSON that can be compared", resource.kind));
        let outline = |text| Outline::of(text).ok_or_else(broken);
        let live_text = current.map_or(Cow::Borrowed(NOTHING), |current| current.text_as(resource));
        let (live, configuration, nothing) = (outline(&live_text)?, self.read.text.outline(), outline(NOTHING)?);
        let account = apply::account(current.map_or("", |current| &current.managed)).ok_or_else(broken)?;
        let mut owners = Owners::kept(&account).unwrap_or_default();
        if owners.0.is_empty() && current.is_some() {
            owners = apply::before_first_apply(&claim, &live, &nothing);
        }
        let last =
            current.filter(|_| claim.owner.manager == last_applied::KUBECTL).and_then(|current| last_configuration(current, resource));
        let last = last.as_deref().and_then(Outline::of);
        let allowed = last.as_ref().map_or(Set::default(), |last| last_applied::untouched(last, &live, claim.schema));
        let application = Application { claim, configuration: &configuration, force: self.force, allowed };
        apply::apply(&application, &live, owners).map_err(|refusal| match refusal {
            Refusal::Faults(faults) => self.not_typed(faults),
            Refusal::Conflicts(conflicts) => ApiError::ApplyConflict { conflicts },
        })
    }

    /// What only an object that is there can fulfil.
    fn check_new(&self, target: Target<'_>, name: Option<&str>) -> Result<(), ApiError> {
        let Target { resource, name: wanted, .. } = target;
        let conflict = |why: String| Err(ApiError::Conflict { resource, name: wanted.to_owned(), why });
        match name.unwrap_or_default() {
            name if name == wanted => {}
            "" => {
                let why = format!("the name of the object ({wanted} based on URL) was undeterminable: name must be provided");
                return Err(ApiError::bad_request(why));
            }
            name => {
                let why = format!("the name of the object ({name}) does not match the name on the URL ({wanted})");
                return Err(ApiError::bad_request(why));
            }
        }
        match (self.head.uid.as_str(), self.head.resource_version.as_str()) {
            ("", "" | "0") => Ok(()),
            ("", version) => conflict(format!("the provided object specified resourceVersion {version}, and no existing object was found")),
            (uid, _) => conflict(format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found")),
        }
    }
}

fn last_configuration(current: &Current, resource: &Resource) -> Option<String> {
    let annotation = current.object.meta().annotations.as_ref()?.get(last_applied::ANNOTATION)?;
    last_applied::configuration(annotation, &resource.api_version())
}
