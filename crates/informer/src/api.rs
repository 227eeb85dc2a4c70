//! Requests about the objects of one kind, as [`kube::Api`] makes them, but for one thing: answers are decoded from bytes, as views and
//! the API server decode. So the program has one decoder per kind, which for the larger kinds is worth a hundred kilobytes each.

use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Error, Resource, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Watched;
use crate::feed::decode;

/// A client for the objects of one kind, in one namespace or all. Cheap to clone.
pub struct Api<K> {
    client: Client,
    requests: Request,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), requests: self.requests.clone(), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("path", &self.requests.url_path).finish_non_exhaustive()
    }
}

impl<K: Watched> Api<K> {
    /// Objects of all namespaces, or those that are in none.
    pub fn all(client: Client) -> Self {
        Self { client, requests: Request::new(K::url_path(&(), None)), kind: PhantomData }
    }

    /// Objects of one namespace.
    pub fn namespaced(client: Client, namespace: &str) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        Self { client, requests: Request::new(K::url_path(&(), Some(namespace))), kind: PhantomData }
    }

    /// The path of the collection.
    pub fn resource_url(&self) -> &str {
        &self.requests.url_path
    }

    /// The client that asks.
    pub fn into_client(self) -> Client {
        self.client
    }

    /// One object.
    ///
    /// # Errors
    /// If there is none, or the request fails.
    pub async fn get(&self, name: &str) -> Result<K> {
        self.ask(self.requests.get(name, &GetParams::default())).await
    }

    /// One object, if it is there.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects that fit; one page, if a limit is asked for.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn list(&self, params: &ListParams) -> Result<Vec<K>> {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            items: Vec<&'a RawValue>,
        }
        let text = self.text(self.requests.list(params)).await?;
        let list: List<'_> = serde_json::from_str(&text).map_err(Error::SerdeError)?;
        list.items.into_iter().map(|item| decode(item.get()).map_err(Error::SerdeError)).collect()
    }

    /// A new object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn create(&self, params: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        self.ask(self.requests.create(params, bytes(object)?)).await
    }

    /// Another version of an object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn replace(&self, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        self.ask(self.requests.replace(name, params, bytes(object)?)).await
    }

    /// Another status of an object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn replace_status(&self, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        self.replace_subresource("status", name, params, object).await
    }

    /// Another version of what is under an object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn replace_subresource(&self, subresource: &str, name: &str, params: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        self.ask(self.requests.replace_subresource(subresource, name, params, bytes(object)?)).await
    }

    /// Something of another kind under an object, whose answer is of no interest.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn create_subresource(&self, subresource: &str, name: &str, params: &PostParams, data: Vec<u8>) -> Result<()> {
        self.text(self.requests.create_subresource(subresource, name, params, data)).await.map(drop)
    }

    /// Changes to an object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn patch<P: Serialize + fmt::Debug>(&self, name: &str, params: &PatchParams, patch: &Patch<P>) -> Result<K> {
        self.ask(self.requests.patch(name, params, patch)).await
    }

    /// Changes to the status of an object.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn patch_status<P: Serialize + fmt::Debug>(&self, name: &str, params: &PatchParams, patch: &Patch<P>) -> Result<K> {
        self.ask(self.requests.patch_subresource("status", name, params, patch)).await
    }

    /// Asks an object to go.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<()> {
        self.text(self.requests.delete(name, params)).await.map(drop)
    }

    async fn ask(&self, request: Built) -> Result<K> {
        decode(&self.text(request).await?).map_err(Error::SerdeError)
    }

    async fn text(&self, request: Built) -> Result<String> {
        self.client.request_text(request.map_err(Error::BuildRequest)?).await
    }
}

/// A request, or why it can't be made.
type Built = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

fn bytes<K: Serialize>(object: &K) -> Result<Vec<u8>> {
    serde_json::to_vec(object).map_err(Error::SerdeError)
}
