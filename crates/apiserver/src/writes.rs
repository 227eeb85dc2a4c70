//! The path every write takes: default, admit, prepare, validate, commit. Verbs differ in where the new object comes from.

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::{Object, Resource};
use store::{Change, Commit, CommitError, Expected, Guard};

use crate::admit::{Admitted, Operation, Request};
use crate::apply;
use crate::auth::{escalation, node};
use crate::context::Context;
use crate::decode::Decoded;
use crate::deletion;
use crate::document::Text;
use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::ownership::{self, Account};
use crate::stored::{self, Current};
use crate::strategy::{self, Erased, metadata};
use crate::{keys, random};

/// How often a write that may be repeated is tried when others come first.
const ATTEMPTS: usize = 256;
/// How many names are tried for `generateName`.
const GENERATED_NAMES: usize = 8;

/// The object that is written to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub resource: &'static Resource,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
    /// The change is made anew from whatever is found, so it need not insist on a resource version.
    pub repeatable: bool,
    /// Under whose name the change is kept.
    pub manager: &'a str,
    /// Where the change is asked for; empty for the object itself.
    pub subresource: &'static str,
}

/// A new state of an object, and who owns what of it, if that is decided already.
#[derive(Debug)]
pub struct Proposal {
    pub object: Box<dyn Object>,
    pub warnings: Vec<String>,
    /// `managedFields` as they will be stored.
    pub managed: Option<String>,
}

impl From<Decoded> for Proposal {
    fn from(Decoded { object, warnings }: Decoded) -> Self {
        Self { object, warnings, managed: None }
    }
}

/// What a write left behind.
#[derive(Debug)]
pub struct Written {
    /// Stored JSON.
    pub json: Bytes,
    pub warnings: Vec<String>,
}

/// What of an object a change may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but what belongs to subresources.
    Main,
    Status,
    /// The containers that are added to a pod.
    Ephemeral,
    /// What the server itself changes on behalf of a subresource; the kind's rules for clients don't apply.
    Internal,
}

/// Stores a new object.
pub async fn create(context: &Context<'_>, target: Target<'_>, proposal: Proposal) -> Result<Written, ApiError> {
    let Proposal { mut object, mut warnings, managed } = proposal;
    place(target, &mut *object)?;
    let meta = object.meta();
    let prefix = meta.generate_name.clone().filter(|prefix| !prefix.is_empty() && meta.name.as_deref().unwrap_or_default().is_empty());
    let Some(prefix) = prefix else {
        let json = create_named(context, target, object, managed, &mut warnings).await?;
        return Ok(Written { json, warnings });
    };
    let mut attempts = 1;
    loop {
        let mut named = object.clone_object();
        named.meta_mut().name = Some(random::name(&prefix));
        match create_named(context, target, named, managed.clone(), &mut warnings).await {
            Err(ApiError::AlreadyExists { .. }) if attempts < GENERATED_NAMES => attempts += 1,
            result => return result.map(|json| Written { json, warnings }),
        }
    }
}

/// Creates an object. Where another server came first with what was taken or counted for it, it is admitted anew.
async fn create_named(
    context: &Context<'_>,
    target: Target<'_>,
    object: Box<dyn Object>,
    managed: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Bytes, ApiError> {
    if !context.shared.store.is_shared() {
        return create_once(context, target, object, managed, warnings).await?.ok_or_else(overtaken);
    }
    for _ in 0..ATTEMPTS {
        let mut told = Vec::new();
        if let Some(json) = create_once(context, target, object.clone_object(), managed.clone(), &mut told).await? {
            warnings.append(&mut told);
            return Ok(json);
        }
    }
    Err(overtaken())
}

fn overtaken() -> ApiError {
    stored::commit_error(&CommitError::Overtaken)
}

/// Creates an object; `None` when another came first, though not to its name.
async fn create_once(
    context: &Context<'_>,
    target: Target<'_>,
    mut object: Box<dyn Object>,
    managed: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<Bytes>, ApiError> {
    let Target { resource, namespace, dry_run, .. } = target;
    let strategy = strategy::of(resource);
    let name = object.meta().name.clone().unwrap_or_default();
    strategy.default(&mut *object);
    // Who creates an object owns what they say and its defaults, not what admission adds.
    let managed = managed.unwrap_or_else(|| begin_account(target, &mut *object));
    node::restrict(context.user, resource, "", &name, Some(&*object), None)?;
    escalation::check(context, resource, namespace, &*object, None).await?;
    let request = Request { resource, operation: Operation::Create, namespace, name: &name, old: None, user: context.user, dry_run };
    let admitted = context.shared.admission.admit(&request, &mut *object).await?;
    warnings.extend_from_slice(&admitted.warnings);
    strategy.prepare_create(&mut *object);
    fill_system_fields(resource, &mut *object);
    let mut errors = metadata::validate_create(object.meta(), resource, strategy);
    errors.extend(strategy.validate(&*object));
    invalid(resource, &name, errors)?;
    warnings.extend(strategy.warnings(&*object));
    let key = keys::object(resource, namespace, &name);
    let exists = || ApiError::AlreadyExists { resource, name: name.clone() };
    if dry_run {
        let (found, _) = context.shared.store.get(&key).await?;
        if found.is_some() {
            return Err(exists());
        }
        object.meta_mut().managed_fields = serde_json::from_str(&managed).ok();
        return Ok(Some(Bytes::from(crate::views::to_stored(resource, &*object).to_json())));
    }
    let draft = Text::of(resource, &mut *object).draft(&managed);
    match admitted.store(&context.shared.store, key, Change::Put(draft)).await {
        Ok(event) => event.document.as_ref().map(|document| Some(document.json().clone())).ok_or_else(lost),
        Err(CommitError::Overtaken) => Ok(None),
        Err(CommitError::Conflict(_)) => Err(exists()),
        Err(error) => Err(stored::commit_error(&error)),
    }
}

fn begin_account(target: Target<'_>, object: &mut dyn Object) -> String {
    let account = ownership::supplied(object.meta_mut().managed_fields.take(), target);
    let text = String::from_utf8(object.to_json()).unwrap_or_default();
    let now = ownership::now();
    let claim = ownership::claim(target, Part::Main, apply::Operation::Update, &now);
    ownership::after(&claim, account, "", ownership::NOTHING, &text)
}

fn lost() -> ApiError {
    ApiError::internal("the store answered a write without the document")
}

/// Puts the object where the request's path says; refuses one that says otherwise.
fn place(target: Target<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
    let meta = object.meta_mut();
    metadata::drop_empty(meta);
    match meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) if namespace != target.namespace && target.resource.is_namespaced() => {
            Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
        }
        Some(_) => Ok(()),
        None => {
            meta.namespace = Some(target.namespace.to_owned()).filter(|namespace| !namespace.is_empty());
            Ok(())
        }
    }
}

fn fill_system_fields(resource: &Resource, object: &mut dyn Object) {
    let meta = object.meta_mut();
    meta.uid = Some(random::uid());
    meta.creation_timestamp = Some(Time(deletion::now()));
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    meta.resource_version = None;
    meta.generation = resource.generation.then_some(1);
}

fn invalid(resource: &'static Resource, name: &str, errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid { resource, name: name.to_owned(), errors }) }
}

/// Changes an object that exists. `make` is called with the newest state, again whenever another write came first and the new
/// object does not insist on a resource version.
pub async fn change<P: Into<Proposal>>(
    context: &Context<'_>,
    target: Target<'_>,
    part: Part,
    make: impl Fn(&Current) -> Result<P, ApiError> + Send,
) -> Result<Written, ApiError> {
    let Target { resource, namespace, name, .. } = target;
    let store = &*context.shared.store;
    let mut current = stored::current(store, resource, namespace, name).await?;
    for _ in 0..ATTEMPTS {
        let mut proposal = make(&current)?.into();
        let conditional = check_identity(target, &*proposal.object, &current)?;
        let admitted = prepare(context, target, part, &mut proposal, &current).await?;
        let guards = admitted.guards(store);
        let stored = store_change(context, target, part, &mut proposal, &current, &guards).await;
        drop(admitted);
        match stored {
            Ok(json) => return Ok(Written { json, warnings: proposal.warnings }),
            Err(Refused::Overtaken) => current = stored::current(store, resource, namespace, name).await?,
            Err(Refused::Conflict(Some(entry))) if !conditional => current = Current::new(resource, entry)?,
            Err(Refused::Conflict(None)) => return Err(stored::not_found(resource, name)),
            Err(Refused::Conflict(Some(_))) => break,
            Err(Refused::Error(error)) => return Err(error),
        }
    }
    Err(stored::modified(resource, name))
}

/// Checks name, uid and resource version of the new object; says whether it insists on the resource version.
fn check_identity(target: Target<'_>, object: &dyn Object, current: &Current) -> Result<bool, ApiError> {
    let Target { resource, name, namespace, .. } = target;
    let (meta, old) = (object.meta(), current.object.meta());
    let own_name = meta.name.as_deref().unwrap_or_default();
    if !own_name.is_empty() && own_name != name {
        return Err(ApiError::bad_request(format!("the name of the object ({own_name}) does not match the name on the URL ({name})")));
    }
    if meta.namespace.as_deref().is_some_and(|own| !own.is_empty() && own != namespace) {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({}) does not match the namespace on the URL ({namespace})",
            meta.namespace.as_deref().unwrap_or_default()
        )));
    }
    if let (Some(wanted), Some(found)) = (meta.uid.as_deref().filter(|uid| !uid.is_empty()), old.uid.as_deref())
        && wanted != found
    {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        return Err(ApiError::Conflict { resource, name: name.to_owned(), why });
    }
    match meta.resource_version.as_deref().unwrap_or_default() {
        "" | "0" => {
            if target.repeatable || strategy::of(resource).allow_unconditional_update() {
                return Ok(false);
            }
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(path, 0, "must be specified for an update");
            Err(ApiError::Invalid { resource, name: name.to_owned(), errors: vec![error] })
        }
        text => match text.parse::<u64>() {
            Ok(revision) if revision == current.entry.revision.0 => Ok(true),
            Ok(_) => Err(stored::modified(resource, name)),
            Err(_) => Err(ApiError::internal(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))),
        },
    }
}

async fn prepare(
    context: &Context<'_>,
    target: Target<'_>,
    part: Part,
    proposal: &mut Proposal,
    current: &Current,
) -> Result<Admitted, ApiError> {
    let Target { resource, namespace, name, dry_run, .. } = target;
    let (strategy, old) = (strategy::of(resource), &*current.object);
    let object = &mut *proposal.object;
    metadata::restore(object.meta_mut(), old.meta());
    let account = ownership::supplied(object.meta_mut().managed_fields.take(), target);
    strategy.default(object);
    match part {
        Part::Main => strategy.prepare_update(object, old),
        Part::Status => strategy.prepare_status_update(object, old),
        Part::Ephemeral => strategy.prepare_ephemeral_update(object, old),
        Part::Internal => {}
    }
    node::restrict(context.user, resource, target.subresource, name, Some(&*object), Some(old))?;
    escalation::check(context, resource, namespace, &*object, Some(old)).await?;
    if proposal.managed.is_none() && part == Part::Main {
        // What admission adds is nobody's.
        let text = String::from_utf8(object.to_json()).unwrap_or_default();
        proposal.managed = Some(go_on_with_account(target, part, account, &text, current));
    }
    let admitted = if matches!(part, Part::Main | Part::Ephemeral) {
        let request = Request { resource, operation: Operation::Update, namespace, name, old: Some(old), user: context.user, dry_run };
        context.shared.admission.admit(&request, object).await?
    } else {
        Admitted::default()
    };
    if resource.generation && strategy.spec_changed(object, old) {
        object.meta_mut().generation = Some(old.meta().generation.unwrap_or(0) + 1);
    }
    let errors = change_errors(strategy, part, object, old);
    invalid(resource, name, errors)?;
    if part == Part::Main {
        proposal.warnings.extend_from_slice(&admitted.warnings);
        proposal.warnings.extend(strategy.warnings(object));
    }
    Ok(admitted)
}

/// Who owns what after a change.
fn go_on_with_account(target: Target<'_>, part: Part, account: Account, text: &str, current: &Current) -> String {
    let now = ownership::now();
    let claim = ownership::claim(target, part, apply::Operation::Update, &now);
    ownership::after(&claim, account, &current.managed, &current.text_as(target.resource), text)
}

fn change_errors(strategy: &dyn Erased, part: Part, object: &dyn Object, old: &dyn Object) -> Vec<FieldError> {
    let mut errors = metadata::validate_update(object.meta(), old.meta());
    match part {
        Part::Main => errors.extend(strategy.validate_update(object, old)),
        Part::Status => errors.extend(strategy.validate_status_update(object, old)),
        Part::Ephemeral => errors.extend(strategy.validate_ephemeral_update(object, old)),
        Part::Internal => {}
    }
    errors
}

enum Refused {
    /// What is there instead.
    Conflict(Option<store::Entry>),
    /// Another server came first with what was taken or counted.
    Overtaken,
    Error(ApiError),
}

async fn store_change(
    context: &Context<'_>,
    target: Target<'_>,
    part: Part,
    proposal: &mut Proposal,
    current: &Current,
    guards: &[Guard],
) -> Result<Bytes, Refused> {
    let (resource, object) = (target.resource, &mut *proposal.object);
    let ends = deletion::ends_with_this(object);
    let text = Text::of(resource, object);
    let managed = match (proposal.managed.take(), part) {
        (Some(managed), _) => managed,
        (None, Part::Status | Part::Ephemeral) => go_on_with_account(target, part, Account::Kept, text.as_str(), current),
        (None, Part::Main | Part::Internal) => current.managed.clone(),
    };
    let is_same = text.is(&current.text, current.entry.revision) && apply::same_account(&managed, &current.managed);
    if is_same && !ends {
        return Ok(current.entry.document.json().clone());
    }
    let draft = text.draft(&managed);
    if target.dry_run {
        return Ok(draft.at(current.entry.revision).json().clone());
    }
    // What ends is told as it would have become.
    let last = ends.then(|| draft.at(current.entry.revision));
    let change = if ends { Change::Delete } else { Change::Put(draft) };
    let store = &context.shared.store;
    let commit = Commit { key: &current.entry.key, expected: Expected::At(current.entry.revision), change, guards };
    let event = store.commit_guarded(commit).await.map_err(|error| match error {
        CommitError::Conflict(entry) => Refused::Conflict(entry.map(|entry| *entry)),
        CommitError::Overtaken => Refused::Overtaken,
        error => Refused::Error(stored::commit_error(&error)),
    })?;
    let written = event.document.clone().or_else(|| last.map(|last| last.restated(event.revision)));
    written.map(|document| document.json().clone()).ok_or_else(|| Refused::Error(lost()))
}
