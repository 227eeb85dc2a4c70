//! Decides what someone may do, from the roles and bindings in the store.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kinds::registry::RESOURCES;
use kinds::{ObjectKey, Resource};
use plan::access::nodes::{self, Verdict};
use plan::access::{Ask, Asked, Decision, GROUP, Index, MASTERS, Target, Who, bootstrap};
use store::{Event, Range, Store, Watch, WatchMessage};

use super::{Identity, node};
use crate::error::ApiError;
use crate::keys;
use crate::route::{Call, Route, Verb};

/// What every key of a role or binding begins with.
pub(super) const PREFIX: &str = "/rbac.";

/// Decides what someone may do.
pub(crate) struct Authority {
    store: Arc<dyn Store>,
    /// What all agents of nodes may do, as far as it is about their own objects.
    node_rules: Vec<PolicyRule>,
    followed: Mutex<Option<Followed>>,
}

/// The roles and bindings as of the last question, and what has happened since.
struct Followed {
    index: Arc<Index>,
    watch: Box<dyn Watch>,
}

impl Authority {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, node_rules: bootstrap::node_rules(), followed: Mutex::new(None) }
    }

    /// Lets a request pass and says why, or refuses it in upstream's words.
    pub async fn authorize(&self, user: &Identity, route: &Route, method: &str, path: &str) -> Result<String, ApiError> {
        if user.is_in(MASTERS) || matches!(route, Route::Health { .. }) {
            return Ok(String::new());
        }
        let ask = match route {
            Route::Object(call) => asked_of(call),
            Route::Review { review, namespace } => {
                Ask::on("create", Asked { group: review.group, resource: review.plural, namespace, ..Asked::default() })
            }
            _ => return self.reason(user, &Ask { verb: &method.to_lowercase(), target: Target::Path(path) }).await,
        };
        self.reason(user, &ask).await
    }

    /// Lets someone do something, or refuses it in upstream's words.
    pub async fn check(&self, user: &Identity, ask: &Ask<'_>) -> Result<(), ApiError> {
        self.reason(user, ask).await.map(drop)
    }

    async fn reason(&self, user: &Identity, ask: &Ask<'_>) -> Result<String, ApiError> {
        match self.decide(user.who(), ask).await? {
            Decision::Allowed(reason) => Ok(reason),
            Decision::Denied(reason) => Err(denied(user, ask, &reason)),
        }
    }

    /// Whether someone may do something, and why.
    pub async fn decide(&self, who: Who<'_>, ask: &Ask<'_>) -> Result<Decision, ApiError> {
        if who.is_in(MASTERS) {
            return Ok(Decision::Allowed(String::new()));
        }
        let mut reasons = Vec::new();
        if let Some(node) = nodes::node_of(who) {
            match self.decide_for_node(node, ask).await? {
                Decision::Allowed(reason) => return Ok(Decision::Allowed(reason)),
                Decision::Denied(reason) => reasons.push(reason),
            }
        }
        let decision = self.index().await?.decide(who, ask);
        if let Decision::Denied(reason) = decision {
            reasons.push(reason);
            reasons.retain(|reason| !reason.is_empty());
            return Ok(Decision::Denied(reasons.join("\n")));
        }
        Ok(decision)
    }

    async fn decide_for_node(&self, name: &str, ask: &Ask<'_>) -> Result<Decision, ApiError> {
        let related = match nodes::judge(name, ask, &self.node_rules) {
            Verdict::Allowed => true,
            Verdict::Denied(reason) => return Ok(Decision::Denied(reason)),
            Verdict::IfReferred { namespace, to } => node::refers(&*self.store, name, namespace, to).await?,
            Verdict::IfBound { namespace, pod } => node::is_bound(&*self.store, name, namespace, pod).await?,
        };
        Ok(if related { Decision::Allowed(String::new()) } else { Decision::Denied(nodes::unrelated(name)) })
    }

    /// All roles and bindings, as new as the store tells them: whoever was answered that one is stored finds it here.
    pub async fn index(&self) -> Result<Arc<Index>, ApiError> {
        if self.store.is_shared() {
            // Another server may have answered for what this one has not been told yet. After this, the watch has all of it.
            self.store.newest().await?;
        }
        if let Some(index) = self.caught_up() {
            return Ok(index);
        }
        let page = self.store.range(Range { prefix: PREFIX, ..Range::default() }).await?;
        let watch = self.store.watch(PREFIX, page.revision);
        let watch = watch.map_err(|error| ApiError::Unavailable { message: format!("roles can't be followed: {error}") })?;
        let mut index = Index::default();
        for entry in page.entries {
            take_in(&mut index, &entry.key, Some(entry.document.json()));
        }
        index.settle();
        let index = Arc::new(index);
        let followed = Followed { index: Arc::clone(&index), watch };
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(followed);
        Ok(index)
    }

    /// The index with all that has happened; `None` when it has to be built anew.
    fn caught_up(&self) -> Option<Arc<Index>> {
        let mut slot = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = slot.as_mut()?;
        let mut changed = false;
        loop {
            match followed.watch.next().now_or_never() {
                None if changed => {
                    Arc::make_mut(&mut followed.index).settle();
                    changed = false;
                }
                None => return Some(Arc::clone(&followed.index)),
                Some(Ok(WatchMessage::Progress(_))) => {}
                Some(Ok(WatchMessage::Event(event))) => {
                    followed.take_in(&event);
                    changed = true;
                }
                Some(Err(_)) => {
                    *slot = None;
                    return None;
                }
            }
        }
    }
}

impl Followed {
    fn take_in(&mut self, event: &Event) {
        let json = event.document.as_ref().map(|document| document.json().as_ref());
        take_in(Arc::make_mut(&mut self.index), &event.key, json);
    }
}

fn take_in(index: &mut Index, key: &str, json: Option<&[u8]>) {
    let Some((resource, object_key)) = parse(key) else { return };
    match json.map(resource.codec.from_json) {
        Some(Ok(object)) => index.put(&*object),
        Some(Err(error)) => {
            // What can't be read gives nobody anything.
            tracing::warn!(key, %error, "a stored role or binding can't be read");
            index.remove(resource, &object_key);
        }
        None => index.remove(resource, &object_key),
    }
}

fn parse(key: &str) -> Option<(&'static Resource, ObjectKey)> {
    let of_key = |resource: &&Resource| key.starts_with(&keys::collection(resource, ""));
    let resource = RESOURCES.iter().filter(|resource| resource.group == GROUP).find(of_key)?;
    Some((resource, keys::parse(resource, key)))
}

/// What a request about objects asks for, as rules see it.
fn asked_of(call: &Call) -> Ask<'_> {
    let Call { resource, namespace, name, subresource, verb, .. } = call;
    let fields = match verb {
        Verb::List(options) | Verb::Watch(options) | Verb::DeleteCollection(options, _) => Some(&options.fields),
        _ => None,
    };
    let name = if name.is_empty() { fields.and_then(|fields| fields.name()).unwrap_or_default() } else { name };
    // A namespace is in itself, so that a role there can be about it.
    let namespace = if resource.storage == "namespaces" { name } else { namespace };
    let on_node = fields.and_then(|fields| fields.exactly("spec.nodeName")).unwrap_or_default();
    let (group, plural) = (resource.group, resource.plural);
    let subresource = subresource.map_or("", |subresource| subresource.name());
    Ask::on(verb.name(), Asked { group, resource: plural, subresource, namespace, name, on_node })
}

/// The refusal, in upstream's words.
fn denied(user: &Identity, ask: &Ask<'_>, reason: &str) -> ApiError {
    let asked = match ask.target {
        Target::Path(path) => {
            return ApiError::ForbiddenPath { user: user.user.clone(), verb: ask.verb.to_owned(), path: path.to_owned() };
        }
        Target::Resource(asked) => asked,
    };
    let Asked { group, resource, subresource, namespace, name, .. } = asked;
    let place = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let own = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
    let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let subject = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let message =
        format!("{subject} is forbidden: User {:?} cannot {} resource {own:?} in API group {group:?} {place}{reason}", user.user, ask.verb);
    ApiError::Denied { group: group.to_owned(), plural: resource.to_owned(), name: name.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use etcd_fixture::Cluster;
    use kinds::registry;
    use serde_json::{Value, json};
    use store::etcd::{Etcd, Options};
    use store::{Change, Expected};

    use super::*;
    use crate::document::Text;

    /// Stores an object as if the server had answered that it is there.
    async fn stored(store: &dyn Store, plural: &str, name: &str, object: Value) {
        let row = registry::find(GROUP, "v1", plural).unwrap();
        let mut object = row.codec.from_value(&object).unwrap();
        let key = keys::object(row, "", name);
        let expected = store.get(&key).await.unwrap().0.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        store.commit(&key, expected, Change::Put(Text::of(row, &mut *object).draft(""))).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_another_server_has_answered_counts_here() {
        let etcd = Cluster::start(1);
        let open = || async { Etcd::open(&etcd.address("test").parse().unwrap(), Options::default()).await.unwrap() };
        let (other, here) = (open().await, Authority::new(Arc::new(open().await)));
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
        stored(&other, "clusterroles", "r", json!({"metadata": {"name": "r"}, "rules": rules})).await;
        let who = Who { user: "bob", groups: &[] };
        let ask = Ask::on("list", Asked { resource: "pods", ..Asked::default() });
        for round in 0..200 {
            let may = round % 2 == 0;
            let user = if may { "bob" } else { "eve" };
            let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "User", "name": user}]});
            stored(&other, "clusterrolebindings", "b", binding).await;
            assert_eq!(here.decide(who, &ask).await.unwrap().is_allowed(), may, "round {round}");
        }
    }
}
