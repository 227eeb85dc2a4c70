use std::sync::Arc;

use kinds::{Object, Resource, registry};
use serde_json::{Value, json};
use store::embedded::{Embedded, Options};
use store::{Change, Commit, Draft, Expected, Store};
use tempfile::TempDir;

use super::{Admission, Admitted, Operation, Request};
use crate::auth::Identity;
use crate::error::ApiError;
use crate::keys;

fn resource(plural: &str) -> &'static Resource {
    registry::RESOURCES.iter().find(|row| row.plural == plural).unwrap()
}

fn decode(plural: &str, value: Value) -> Box<dyn Object> {
    let strategy = crate::strategy::of(resource(plural));
    let mut object = resource(plural).codec.from_value(&value).unwrap();
    strategy.default(object.as_mut());
    object
}

/// A store with the namespace `default`, its service account, and an ending namespace.
struct World {
    store: Arc<dyn Store>,
    admission: Admission,
    user: Identity,
    _directory: TempDir,
}

fn request<'a>(plural: &str, user: &'a Identity) -> Request<'a> {
    let resource = resource(plural);
    Request { resource, operation: Operation::Create, namespace: "", name: "", old: None, user, dry_run: false }
}

fn update<'a>(plural: &str, old: &'a dyn Object, user: &'a Identity) -> Request<'a> {
    let name = old.meta().name.as_deref().unwrap_or_default();
    Request { operation: Operation::Update, namespace: "default", name, old: Some(old), ..request(plural, user) }
}

async fn put(store: &dyn Store, plural: &str, namespace: &str, name: &str, object: Value) {
    let text = with_version(object);
    store.commit(&keys::object(resource(plural), namespace, name), Expected::Absent, Change::Put(text)).await.unwrap();
}

/// The object with a gap for its resource version.
fn with_version(mut object: Value) -> Draft {
    object["metadata"]["resourceVersion"] = json!("@");
    let text = object.to_string();
    let gap = text.find("\"@\"").unwrap() + 1;
    Draft::new(text.replacen("\"@\"", "\"\"", 1), gap)
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(directory.path(), Options::default()).unwrap());
        put(&*store, "namespaces", "", "default", json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}})).await;
        put(&*store, "namespaces", "", "ending", json!({"metadata": {"name": "ending"}, "status": {"phase": "Terminating"}})).await;
        put(&*store, "serviceaccounts", "default", "default", json!({"metadata": {"name": "default"}})).await;
        let admission = Admission::open(Arc::clone(&store), "10.96.0.0/24".parse().unwrap()).await.unwrap();
        Self { store, admission, user: Identity::new("someone", &[]), _directory: directory }
    }

    async fn create(&self, plural: &str, namespace: &str, object: &mut Box<dyn Object>) -> Result<Admitted, ApiError> {
        let name = object.meta().name.clone().unwrap_or_default();
        let request = Request { namespace, name: &name, ..request(plural, &self.user) };
        self.admission.admit(&request, object.as_mut()).await
    }

    /// The object as it would be stored.
    async fn created(&self, plural: &str, value: Value) -> Result<Value, ApiError> {
        let mut object = decode(plural, value);
        drop(self.create(plural, "default", &mut object).await?);
        Ok(object.to_value())
    }

    /// The object as it is stored.
    async fn stored(&self, plural: &str, value: Value) -> Result<Value, ApiError> {
        let mut object = decode(plural, value);
        let admitted = self.create(plural, "default", &mut object).await?;
        let (text, name) = (object.to_value(), object.meta().name.clone().unwrap_or_default());
        put(&*self.store, plural, "default", &name, text.clone()).await;
        drop(admitted);
        Ok(text)
    }

    async fn change(&self, name: &str, change: Change) {
        let key = keys::object(resource("services"), "default", name);
        let there = self.store.get(&key).await.unwrap().0.unwrap();
        self.store.commit(&key, Expected::At(there.revision), change).await.unwrap();
    }

    async fn service(&self, name: &str, address: &str) -> Result<Value, ApiError> {
        self.stored("services", json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 1}]}})).await
    }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

#[tokio::test]
async fn an_object_needs_a_namespace_that_is_not_ending() {
    let world = World::new().await;
    let mut map = decode("configmaps", json!({"metadata": {"name": "c"}}));
    let error = world.create("configmaps", "nowhere", &mut map).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
    let error = world.create("configmaps", "ending", &mut map).await.unwrap_err();
    assert_eq!(error.code_and_reason(), (403, "Forbidden"));
    assert_eq!(
        error.to_string(),
        "configmaps \"c\" is forbidden: unable to create new content in namespace ending because it is being terminated"
    );
    drop(world.create("configmaps", "default", &mut map).await.unwrap());
}

#[tokio::test]
async fn a_pod_gets_the_token_of_its_service_account_in_every_container() {
    let world = World::new().await;
    let mut value = pod();
    value["spec"]["initContainers"] = json!([{"name": "b", "image": "x"}]);
    let pod = world.created("pods", value).await.unwrap();
    let spec = &pod["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    let mount = json!({"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": volume, "readOnly": true});
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
    assert_eq!(spec["initContainers"][0]["volumeMounts"], json!([mount]));
    let sources = &spec["volumes"][0]["projected"]["sources"];
    assert_eq!(sources[0], json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}));
    assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
}

#[tokio::test]
async fn a_pod_that_wants_no_token_gets_none_and_keeps_its_own_tolerations() {
    let world = World::new().await;
    let mut value = pod();
    value["spec"]["automountServiceAccountToken"] = json!(false);
    value["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    let pod = world.created("pods", value).await.unwrap();
    assert_eq!(pod["spec"].get("volumes"), None);
    assert_eq!(pod["spec"]["tolerations"], json!([{"operator": "Exists"}]));
}

#[tokio::test]
async fn an_admitted_pod_is_a_valid_pod() {
    let world = World::new().await;
    let mut object = decode("pods", pod());
    drop(world.create("pods", "default", &mut object).await.unwrap());
    assert_eq!(crate::strategy::of(resource("pods")).validate(object.as_ref()), []);
}

#[tokio::test]
async fn a_missing_service_account_or_priority_class_is_named() {
    let world = World::new().await;
    let mut value = pod();
    value["spec"]["serviceAccountName"] = json!("robot");
    let error = world.created("pods", value).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pods \"p\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found"
    );
    let mut value = pod();
    value["spec"]["priorityClassName"] = json!("high");
    let error = world.created("pods", value).await.unwrap_err();
    assert_eq!(error.to_string(), "pods \"p\" is forbidden: no PriorityClass with name high was found");
}

#[tokio::test]
async fn the_first_pod_of_a_new_namespace_waits_for_its_service_account() {
    let world = World::new().await;
    put(&*world.store, "namespaces", "", "new", json!({"metadata": {"name": "new"}})).await;
    let mut object = decode("pods", pod());
    let account = put(&*world.store, "serviceaccounts", "new", "default", json!({"metadata": {"name": "default"}}));
    let (admitted, ()) = tokio::join!(world.create("pods", "new", &mut object), account);
    drop(admitted.unwrap());
}

#[tokio::test]
async fn services_get_different_addresses_and_may_ask_for_one() {
    let world = World::new().await;
    let one = world.service("a", "").await.unwrap();
    let other = world.service("b", "").await.unwrap();
    assert_ne!(one["spec"]["clusterIP"], other["spec"]["clusterIP"]);
    assert_eq!(one["spec"]["clusterIPs"], json!([one["spec"]["clusterIP"]]));
    let dns = world.service("dns", "10.96.0.10").await.unwrap();
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(world.service("kubernetes", "10.96.0.1").await.unwrap()["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn addresses_that_are_taken_reserved_or_outside_are_refused() {
    let world = World::new().await;
    world.service("a", "10.96.0.50").await.unwrap();
    for (address, words) in [
        ("10.96.0.50", "failed to allocate IP 10.96.0.50: provided IP is already allocated"),
        ("10.96.0.1", "failed to allocate IP 10.96.0.1: provided IP is already allocated"),
        ("10.1.0.1", "The range of valid IPs is 10.96.0.0/24"),
    ] {
        let error = world.service("b", address).await.unwrap_err();
        assert_eq!(error.code_and_reason(), (422, "Invalid"));
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_address_is_free_again_when_its_service_is_not_stored_or_is_deleted() {
    let world = World::new().await;
    let value = json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.50", "ports": [{"port": 1}]}});
    let mut object = decode("services", value);
    let claimed = world.create("services", "default", &mut object).await.unwrap();
    assert!(world.service("b", "10.96.0.50").await.is_err());
    drop(claimed);
    world.service("a", "10.96.0.50").await.unwrap();
    assert!(world.service("b", "10.96.0.50").await.is_err());
    world.change("a", Change::Delete).await;
    world.service("b", "10.96.0.50").await.unwrap();
}

#[tokio::test]
async fn what_is_taken_is_known_again_after_a_restart() {
    let world = World::new().await;
    let value = json!({"metadata": {"name": "a"}, "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.50"}});
    put(&*world.store, "services", "default", "a", value).await;
    let admission = Admission::open(Arc::clone(&world.store), "10.96.0.0/24".parse().unwrap()).await.unwrap();
    let world = World { admission, ..world };
    assert!(world.service("b", "10.96.0.50").await.is_err());
}

#[tokio::test]
async fn headless_and_external_services_get_no_address_and_node_ports_are_refused() {
    let world = World::new().await;
    assert_eq!(world.service("h", "None").await.unwrap()["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "x.y"}});
    assert_eq!(world.created("services", external).await.unwrap()["spec"].get("clusterIP"), None);
    let ports = json!({"metadata": {"name": "n"}, "spec": {"type": "NodePort", "ports": [{"port": 1}]}});
    let error = world.created("services", ports).await.unwrap_err();
    assert!(error.to_string().contains("spec.type: Forbidden: services of type NodePort are not served"), "{error}");
}

#[tokio::test]
async fn a_service_that_becomes_external_gives_its_address_up_once_that_is_stored() {
    let world = World::new().await;
    world.service("a", "10.96.0.50").await.unwrap();
    let old = decode("services", json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.50"}}));
    let mut new = decode("services", json!({"metadata": {"name": "a"}, "spec": {"type": "ExternalName", "externalName": "x"}}));
    let request = update("services", old.as_ref(), &world.user);
    drop(world.admission.admit(&request, new.as_mut()).await.unwrap());
    assert!(world.service("b", "10.96.0.50").await.is_err());
    world.change("a", Change::Put(with_version(new.to_value()))).await;
    world.service("b", "10.96.0.50").await.unwrap();
}

#[tokio::test]
async fn two_servers_never_give_one_address_to_two_services() {
    let world = World::new().await;
    let other = Admission::open(Arc::clone(&world.store), "10.96.0.0/24".parse().unwrap()).await.unwrap();
    let value = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.96.0.50", "ports": [{"port": 1}]}});
    let (mut one, mut two) = (decode("services", value("a")), decode("services", value("b")));
    let first = world.create("services", "default", &mut one).await.unwrap();
    let request = Request { namespace: "default", name: "b", ..request("services", &world.user) };
    let second = other.admit(&request, two.as_mut()).await.unwrap();
    // Each thinks that it was first; the store decides.
    let commit = |name: &str, admitted: &Admitted, object: &dyn Object| {
        let (key, guard) = (keys::object(resource("services"), "default", name), admitted.address.as_ref().unwrap().guard().clone());
        let (store, draft) = (Arc::clone(&world.store), with_version(object.to_value()));
        let change = Change::Put(draft);
        async move { store.commit_guarded(Commit { key: &key, expected: Expected::Absent, change, guards: &[guard] }).await }
    };
    commit("a", &first, one.as_ref()).await.unwrap();
    let refused = commit("b", &second, two.as_ref()).await;
    assert!(matches!(refused, Err(store::CommitError::Overtaken)), "{refused:?}");
    drop(second);
    assert!(other.admit(&request, two.as_mut()).await.is_err());
}

#[tokio::test]
async fn a_claim_gets_the_newest_default_class_and_its_finalizer() {
    let world = World::new().await;
    let claim = || json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"]}});
    assert_eq!(world.created("persistentvolumeclaims", claim()).await.unwrap()["spec"].get("storageClassName"), None);
    for (name, day) in [("old", 1), ("new", 2)] {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        let meta = json!({"name": name, "annotations": annotations, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")});
        put(&*world.store, "storageclasses", "", name, json!({"metadata": meta, "provisioner": "x/y"})).await;
    }
    let created = world.created("persistentvolumeclaims", claim()).await.unwrap();
    assert_eq!(created["spec"]["storageClassName"], "new");
    assert_eq!(created["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut none = claim();
    none["spec"]["storageClassName"] = json!("");
    assert_eq!(world.created("persistentvolumeclaims", none).await.unwrap()["spec"]["storageClassName"], "");
    let volume = world.created("persistentvolumes", json!({"metadata": {"name": "v"}})).await.unwrap();
    assert_eq!(volume["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
}

#[tokio::test]
async fn a_claim_grows_only_if_its_class_lets_it() {
    let world = World::new().await;
    let class = |grows: bool| json!({"metadata": {"name": "c"}, "provisioner": "x/y", "allowVolumeExpansion": grows});
    put(&*world.store, "storageclasses", "", "fixed", class(false)).await;
    put(&*world.store, "storageclasses", "", "elastic", class(true)).await;
    let claim = |class: &str, size: &str| {
        let spec = json!({"storageClassName": class, "resources": {"requests": {"storage": size}}});
        decode("persistentvolumeclaims", json!({"metadata": {"name": "c"}, "spec": spec}))
    };
    for (class, size, grows) in [("fixed", "2Gi", false), ("fixed", "1Gi", true), ("elastic", "2Gi", true), ("none", "2Gi", false)] {
        let (old, mut new) = (claim(class, "1Gi"), claim(class, size));
        let request = update("persistentvolumeclaims", old.as_ref(), &world.user);
        assert_eq!(world.admission.admit(&request, new.as_mut()).await.is_ok(), grows, "{class} {size}");
    }
}

#[tokio::test]
async fn the_namespaces_the_cluster_needs_may_not_be_deleted() {
    let world = World::new().await;
    for (name, may) in [("default", false), ("kube-system", false), ("mine", true)] {
        let request = Request { name, operation: Operation::Delete, ..request("namespaces", &world.user) };
        let mut namespace = decode("namespaces", json!({"metadata": {"name": name}}));
        assert_eq!(world.admission.admit(&request, namespace.as_mut()).await.is_ok(), may, "{name}");
    }
}
