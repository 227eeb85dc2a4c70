//! A client that may do what the table of rights says and no more, and remembers what was asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tower::BoxError;

use crate::rights::Right;

/// A verb, a group, and a resource with its subresource.
pub(crate) type Asked = (String, String, String);

/// What was asked for by all clients of this guard. Dropped, it complains of what was refused.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<Seen>);

#[derive(Default)]
struct Seen {
    asked: Mutex<BTreeSet<Asked>>,
    refused: Mutex<BTreeSet<Asked>>,
}

impl Guard {
    /// A client with these rights.
    pub(crate) fn client(&self, client: Client, rights: &[Right]) -> Client {
        let (seen, allowed) = (Arc::clone(&self.0), Arc::new(spelled(rights)));
        let pass = move |request: Request<Body>| {
            let asked = asked(&request);
            let passes = allowed.contains(&asked);
            let place = if passes { &seen.asked } else { &seen.refused };
            place.lock().unwrap().insert(asked);
            let client = client.clone();
            async move { if passes { client.send(request).await.map_err(BoxError::from) } else { Ok(forbidden()) } }
        };
        Client::new(tower::service_fn(pass), "default")
    }

    pub(crate) fn has(&self, verb: &str, resource: &str) -> bool {
        self.asked().iter().any(|(known, _, plural)| known == verb && plural == resource)
    }

    pub(crate) fn asked(&self) -> BTreeSet<Asked> {
        self.0.asked.lock().unwrap().clone()
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let refused = std::mem::take(&mut *self.refused.lock().unwrap());
        assert!(refused.is_empty() || std::thread::panicking(), "asked for without being in the table of rights: {refused:?}");
    }
}

/// The rights, verb by verb.
pub(crate) fn spelled(rights: &[Right]) -> BTreeSet<Asked> {
    let of = |right: &Right| {
        let (group, resource) = (right.group.to_owned(), right.resource.to_owned());
        right.verbs.iter().map(move |verb| ((*verb).to_owned(), group.clone(), resource.clone())).collect::<Vec<_>>()
    };
    rights.iter().flat_map(of).collect()
}

fn asked(request: &Request<Body>) -> Asked {
    let mut parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    let group = if parts[0] == "apis" { parts[1] } else { "" };
    parts.drain(..if parts[0] == "apis" { 3 } else { 2 });
    if parts.len() > 2 && parts[0] == "namespaces" && !matches!(parts[2], "status" | "finalize") {
        parts.drain(..2);
    }
    let named = parts.len() > 1;
    let verb = match *request.method() {
        Method::GET if named => "get",
        Method::GET if request.uri().query().is_some_and(|query| query.contains("watch=true")) => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ if named => "delete",
        _ => "deletecollection",
    };
    let resource = parts.get(2).map_or_else(|| parts[0].to_owned(), |subresource| format!("{}/{subresource}", parts[0]));
    (verb.to_owned(), group.to_owned(), resource)
}

fn forbidden() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "", "code": 403});
    let mut response = Response::new(Body::from(status.to_string().into_bytes()));
    *response.status_mut() = http::StatusCode::FORBIDDEN;
    response
}
