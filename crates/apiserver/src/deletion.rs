//! How objects end: grace, finalizers, and what is left to do for whom. The rules are pure; [`delete`] carries them out.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Time};
use kinds::Object;
use store::{Change, CommitError, Expected};

use crate::admit::{Operation, Request};
use crate::auth::node;
use crate::context::Context;
use crate::document::Text;
use crate::error::ApiError;
use crate::stored::{self, Current};
use crate::strategy;
use crate::writes::Target;

/// Lets dependents live on; the garbage collector removes it once they are released.
const ORPHAN: &str = "orphan";
/// Makes the object wait for its dependents; the garbage collector removes it once they are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// How often a deletion is tried when others change the object meanwhile.
const ATTEMPTS: usize = 256;

/// Now, to the second, as metadata keeps time.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What a deletion came to.
#[derive(Debug)]
pub enum Outcome {
    /// The object is gone; this was its last state.
    Gone { json: Bytes, uid: String },
    /// The object is marked; someone has to finish first.
    Pending { json: Bytes },
}

/// What a deletion has to do to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Remove,
    Mark,
    Nothing,
}

/// Deletes an object, or marks it for those who have to finish first.
pub async fn delete(context: &Context<'_>, target: Target<'_>, options: &DeleteOptions) -> Result<Outcome, ApiError> {
    delete_after(context, target, options, |_| {}).await
}

/// The same, with a last change in the write that marks or removes the object.
pub async fn delete_after(
    context: &Context<'_>,
    target: Target<'_>,
    options: &DeleteOptions,
    change: impl Fn(&mut dyn Object) + Send + Sync,
) -> Result<Outcome, ApiError> {
    let Target { resource, namespace, name, dry_run, .. } = target;
    let store = &*context.shared.store;
    let mut current = stored::current(store, resource, namespace, name).await?;
    for _ in 0..ATTEMPTS {
        check_preconditions(target, options, &current)?;
        let mut object = current.object.clone_object();
        let old = Some(&*current.object);
        node::restrict(context.user, resource, target.subresource, name, None, old)?;
        let request = Request { resource, operation: Operation::Delete, namespace, name, old, user: context.user, dry_run };
        drop(context.shared.admission.admit(&request, &mut *object).await?);
        change(&mut *object);
        let step = step(&mut *object, options, strategy::of(resource).grace_period_seconds(&*current.object), now());
        match carry_out(context, target, step, &mut *object, &current).await {
            Err(CommitError::Conflict(Some(entry))) => current = Current::new(resource, *entry)?,
            Err(CommitError::Conflict(None)) => return Err(stored::not_found(resource, name)),
            Err(error) => return Err(stored::commit_error(&error)),
            Ok(outcome) => return Ok(outcome),
        }
    }
    Err(stored::modified(resource, name))
}

async fn carry_out(
    context: &Context<'_>,
    target: Target<'_>,
    step: Step,
    object: &mut dyn Object,
    current: &Current,
) -> Result<Outcome, CommitError> {
    let draft = Text::of(target.resource, object).draft(&current.managed);
    let expected = Expected::At(current.entry.revision);
    let unwritten = draft.at(current.entry.revision);
    let uid = object.meta().uid.clone().unwrap_or_default();
    let commit = |change| context.shared.store.commit(&current.entry.key, expected, change);
    match step {
        Step::Nothing => Ok(Outcome::Pending { json: current.entry.document.json().clone() }),
        Step::Mark if target.dry_run => Ok(Outcome::Pending { json: unwritten.json().clone() }),
        Step::Remove if target.dry_run => Ok(Outcome::Gone { json: unwritten.json().clone(), uid }),
        Step::Mark => {
            let event = commit(Change::Put(draft)).await?;
            Ok(Outcome::Pending { json: event.document.as_ref().unwrap_or(&unwritten).json().clone() })
        }
        Step::Remove => {
            let event = commit(Change::Delete).await?;
            Ok(Outcome::Gone { json: unwritten.restated(event.revision).json().clone(), uid })
        }
    }
}

fn check_preconditions(target: Target<'_>, options: &DeleteOptions, current: &Current) -> Result<(), ApiError> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let conflict = |what: &str, wanted: &str, found: &str| {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Err(ApiError::Conflict { resource: target.resource, name: target.name.to_owned(), why })
    };
    let meta = current.object.meta();
    let (uid, version) = (meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default());
    match (wanted.uid.as_deref(), wanted.resource_version.as_deref()) {
        (Some(wanted), _) if wanted != uid => conflict("UID", wanted, uid),
        (_, Some(wanted)) if wanted != version => conflict("ResourceVersion", wanted, version),
        _ => Ok(()),
    }
}

/// Marks the object as the options ask, and says what is to be done with it. A kind whose grace is 0 ends at once.
fn step(object: &mut dyn Object, options: &DeleteOptions, default_grace: i64, now: Timestamp) -> Step {
    let before = object.meta().clone();
    set_propagation(object.meta_mut(), options);
    let grace = match default_grace {
        0 => 0,
        default => options.grace_period_seconds.unwrap_or(default).max(0),
    };
    set_deadline(object.meta_mut(), grace, now);
    if let Some(namespace) = object.downcast_mut::<Namespace>() {
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }
    let meta = object.meta();
    if ends_with_this(object) {
        Step::Remove
    } else if meta.finalizers != before.finalizers
        || meta.deletion_timestamp != before.deletion_timestamp
        || meta.deletion_grace_period_seconds != before.deletion_grace_period_seconds
    {
        Step::Mark
    } else {
        Step::Nothing
    }
}

/// The first deletion sets the deadline; a later one can only bring it forward.
fn set_deadline(meta: &mut ObjectMeta, grace: i64, now: Timestamp) {
    let later = |from: Timestamp, seconds: i64| from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds.unwrap_or(0)) {
        (None, _) => {
            meta.deletion_timestamp = Some(Time(later(now, grace)));
            meta.deletion_grace_period_seconds = Some(grace);
            meta.generation = meta.generation.map(|generation| generation + 1);
        }
        (Some(Time(at)), existing) if grace < existing => {
            meta.deletion_timestamp = Some(Time(later(*at, grace - existing)));
            meta.deletion_grace_period_seconds = Some(grace);
        }
        (Some(_), _) => {}
    }
}

fn set_propagation(meta: &mut ObjectMeta, options: &DeleteOptions) {
    let wanted = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
        (Some("Foreground"), _) => Some(FOREGROUND),
        (Some(_), _) | (None, Some(false)) => None,
        (None, None) => return,
    };
    let mut finalizers = meta.finalizers.take().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    finalizers.extend(wanted.map(str::to_owned));
    meta.finalizers = Some(finalizers).filter(|finalizers| !finalizers.is_empty());
}

/// Whether an object that is being deleted has nothing left to wait for.
pub fn ends_with_this(object: &dyn Object) -> bool {
    let meta = object.meta();
    let namespace = object.downcast_ref::<Namespace>().and_then(|namespace| namespace.spec.as_ref());
    let emptied = namespace.and_then(|spec| spec.finalizers.as_ref()).is_none_or(Vec::is_empty);
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        && emptied
}

/// The propagation policies there are.
pub fn check_policy(options: &DeleteOptions) -> Result<(), ApiError> {
    use crate::field::{FieldError, Path};
    let path = Path::new("propagationPolicy");
    let error = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some(_), Some(_)) => {
            FieldError::invalid(path, options.propagation_policy.clone(), "orphanDependents and deletionPropagation cannot be both set")
        }
        (None | Some("Orphan" | "Foreground" | "Background"), _) => return Ok(()),
        (Some(other), _) => FieldError::not_supported(path, other, &["Background", "Foreground", "Orphan"]),
    };
    Err(ApiError::InvalidOptions { kind: "DeleteOptions", errors: vec![error] })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NamespaceSpec, Pod};

    use super::*;

    fn pod(finalizers: &[&str]) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.finalizers = Some(finalizers.iter().map(|name| name.to_string()).collect());
        pod
    }

    fn graceful(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_pod_is_marked_then_shortened_then_removed() {
        let mut pod = pod(&[]);
        assert_eq!(step(&mut pod, &DeleteOptions::default(), 30, at(100)), Step::Mark);
        assert_eq!(pod.metadata.deletion_timestamp, Some(Time(at(130))));
        assert_eq!(step(&mut pod, &graceful(60), 30, at(105)), Step::Nothing);
        assert_eq!(step(&mut pod, &graceful(10), 30, at(105)), Step::Mark);
        assert_eq!(pod.metadata.deletion_timestamp, Some(Time(at(110))));
        assert_eq!(step(&mut pod, &graceful(0), 30, at(106)), Step::Remove);
    }

    #[test]
    fn without_grace_only_finalizers_hold_an_object() {
        assert_eq!(step(&mut pod(&[]), &graceful(30), 0, at(1)), Step::Remove);
        let mut held = pod(&["example.com/held"]);
        assert_eq!(step(&mut held, &DeleteOptions::default(), 0, at(1)), Step::Mark);
        assert!(!ends_with_this(&held));
        held.metadata.finalizers = None;
        assert!(ends_with_this(&held));
    }

    #[test]
    fn propagation_is_kept_as_a_finalizer() {
        for (policy, expected) in [("Orphan", Some("orphan")), ("Foreground", Some("foregroundDeletion")), ("Background", None)] {
            let mut pod = pod(&["orphan"]);
            let options = DeleteOptions { propagation_policy: Some(policy.to_owned()), ..DeleteOptions::default() };
            step(&mut pod, &options, 0, at(1));
            assert_eq!(pod.metadata.finalizers, expected.map(|name| vec![name.to_owned()]), "{policy}");
        }
    }

    #[test]
    fn a_namespace_waits_for_its_content() {
        let spec = NamespaceSpec { finalizers: Some(vec!["kubernetes".to_owned()]) };
        let mut namespace = Namespace { spec: Some(spec), ..Namespace::default() };
        assert_eq!(step(&mut namespace, &DeleteOptions::default(), 0, at(1)), Step::Mark);
        assert_eq!(namespace.status.as_ref().unwrap().phase.as_deref(), Some("Terminating"));
        namespace.spec = None;
        assert_eq!(step(&mut namespace, &DeleteOptions::default(), 0, at(2)), Step::Remove);
    }
}
