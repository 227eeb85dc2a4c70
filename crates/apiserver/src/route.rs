//! What a request asks for: path, method and query become one typed value, once.

use http::{HeaderMap, Method};
use kinds::registry::{self, Subresource};
use kinds::reviews::{self, REVIEWS, Review};
use kinds::{Resource, Scope};

use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::health::Question;
use crate::patch::PatchType;
use crate::query::{ApplyOptions, ListOptions, Query, WriteOptions, percent_decoded};

/// What a request asks for.
#[derive(Debug)]
pub enum Route {
    /// `/healthz`, `/livez`, `/readyz`, or one check below them.
    Health {
        question: Question,
        check: String,
    },
    Version,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: all groups.
    Groups,
    /// `/apis/apps`: one group.
    Group(String),
    /// `/api/v1`, `/apis/apps/v1`: the resources of a version.
    Resources {
        group: String,
        version: String,
    },
    /// `/openapi/v3`: which documents there are.
    OpenApiIndex,
    /// `/openapi/v2`: everything in one document.
    OpenApiWhole,
    /// `/metrics`.
    Metrics,
    /// `/openapi/v3/apis/apps/v1`.
    OpenApi {
        group: String,
        version: String,
    },
    /// `/.well-known/openid-configuration` and its keys.
    TokenKeys,
    /// A question about who someone is or what they may do.
    Review {
        review: &'static Review,
        /// Empty for one that is about no namespace.
        namespace: String,
    },
    Object(Call),
}

/// A request about objects.
#[derive(Debug)]
pub struct Call {
    pub resource: &'static Resource,
    /// Empty for a cluster-scoped resource, and for a collection across all namespaces.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    pub subresource: Option<Subresource>,
    pub verb: Verb,
    pub query: Query,
}

/// What is done, with its options.
#[derive(Debug)]
pub enum Verb {
    Get,
    List(ListOptions),
    Watch(ListOptions),
    Create(WriteOptions),
    Update(WriteOptions),
    Patch(PatchType, WriteOptions),
    /// A patch that applies a configuration.
    Apply(ApplyOptions),
    Delete(WriteOptions),
    DeleteCollection(ListOptions, WriteOptions),
}

impl Verb {
    /// The verb's name in authorization.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List(_) => "list",
            Self::Watch(_) => "watch",
            Self::Create(_) => "create",
            Self::Update(_) => "update",
            Self::Patch(..) | Self::Apply(_) => "patch",
            Self::Delete(_) => "delete",
            Self::DeleteCollection(..) => "deletecollection",
        }
    }
}

/// Reads a request's line and headers.
pub fn parse(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Result<Route, ApiError> {
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(|part| percent_decoded(part, false)).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let route = match segments.as_slice() {
        ["healthz", check @ ..] => Route::Health { question: Question::Healthy, check: check.join("/") },
        ["livez", check @ ..] => Route::Health { question: Question::Alive, check: check.join("/") },
        ["readyz", check @ ..] => Route::Health { question: Question::Ready, check: check.join("/") },
        ["metrics"] => Route::Metrics,
        ["openapi", "v2"] => Route::OpenApiWhole,
        ["version"] => Route::Version,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Resources { group: String::new(), version: (*version).to_owned() },
        ["apis", group, version] => Route::Resources { group: (*group).to_owned(), version: (*version).to_owned() },
        ["openapi", "v3"] => Route::OpenApiIndex,
        ["openapi", "v3", "api", version] => Route::OpenApi { group: String::new(), version: (*version).to_owned() },
        ["openapi", "v3", "apis", group, version] => Route::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() },
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => Route::TokenKeys,
        ["apis", group, version, rest @ ..] if is_reviewed(group) => return review(group, version, rest, method),
        ["api", version, rest @ ..] => return object("", version, rest, method, query, headers).map(Route::Object),
        ["apis", group, version, rest @ ..] => return object(group, version, rest, method, query, headers).map(Route::Object),
        _ => return Err(ApiError::NoPath),
    };
    if reads { Ok(route) } else { Err(ApiError::MethodNotAllowed) }
}

fn is_reviewed(group: &str) -> bool {
    REVIEWS.iter().any(|review| review.group == group)
}

fn review(group: &str, version: &str, rest: &[&str], method: &Method) -> Result<Route, ApiError> {
    let (namespace, plural) = match rest {
        [plural] => ("", *plural),
        ["namespaces", namespace, plural] => (*namespace, *plural),
        _ => return Err(ApiError::NoRoute),
    };
    let review = reviews::find(group, version, plural).ok_or(ApiError::NoRoute)?;
    if (review.scope == Scope::Cluster) != namespace.is_empty() {
        return Err(ApiError::NoRoute);
    }
    if *method != Method::POST {
        return Err(ApiError::MethodNotAllowed);
    }
    Ok(Route::Review { review, namespace: namespace.to_owned() })
}

fn object(group: &str, version: &str, rest: &[&str], method: &Method, query: &str, headers: &HeaderMap) -> Result<Call, ApiError> {
    if !registry::RESOURCES.iter().any(|row| row.group == group && row.version == version) {
        return Err(ApiError::NoPath);
    }
    let (namespace, rest) = match rest {
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, "", None),
        [plural, name] => (plural, *name, None),
        [plural, name, subresource] => (plural, *name, Some(*subresource)),
        _ => return Err(ApiError::NoRoute),
    };
    let resource = registry::find(group, version, plural).ok_or_else(|| not_served(group, plural))?;
    let find = |wanted: &str| resource.subresources.iter().copied().find(|own| own.name() == wanted).ok_or(ApiError::NoRoute);
    let subresource = subresource.map(find).transpose()?;
    let misplaced = match resource.scope {
        Scope::Cluster => !namespace.is_empty(),
        Scope::Namespaced => namespace.is_empty() && !name.is_empty(),
    };
    if misplaced {
        return Err(ApiError::NoRoute);
    }
    check_segment("Namespace", namespace)?;
    check_segment("Name", name)?;
    let query = Query::parse(query);
    let verb = verb(method, resource, namespace, name, subresource, &query, headers)?;
    Ok(Call { resource, namespace: namespace.to_owned(), name: name.to_owned(), subresource, verb, query })
}

/// A name with a slash, which a client can write as `%2F`, would be that of a key elsewhere.
fn check_segment(what: &str, name: &str) -> Result<(), ApiError> {
    let why = match name {
        "." | ".." => format!("may not be '{name}'"),
        name => match name.chars().find(|character| matches!(character, '/' | '%')) {
            Some(character) => format!("may not contain '{character}'"),
            None => return Ok(()),
        },
    };
    Err(ApiError::bad_request(format!("{what} parameter invalid: {name:?}: {why}")))
}

fn not_served(group: &str, plural: &str) -> ApiError {
    let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
    ApiError::NotServed { resource }
}

fn verb(
    method: &Method,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    subresource: Option<Subresource>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Verb, ApiError> {
    let on_collection = name.is_empty();
    let everywhere = resource.is_namespaced() && namespace.is_empty();
    let watch = query.flag("watch");
    Ok(match (method, on_collection, subresource) {
        (&Method::GET, true, None) if watch => Verb::Watch(ListOptions::read(query, resource, true)?),
        (&Method::GET, true, None) => Verb::List(ListOptions::read(query, resource, false)?),
        (&Method::GET, false, None) if watch => {
            let mut options = ListOptions::read(query, resource, true)?;
            options.fields = crate::selection::FieldSelector::parse(&format!("metadata.name={name}"), resource)?;
            Verb::Watch(options)
        }
        (&Method::GET | &Method::POST, false, Some(subresource)) if subresource.connects() => Verb::Create(WriteOptions::default()),
        (_, _, Some(subresource)) if subresource.connects() => return Err(ApiError::MethodNotAllowed),
        (&Method::POST, false, Some(Subresource::Binding | Subresource::Eviction | Subresource::Token)) => {
            Verb::Create(WriteOptions::read(query, "CreateOptions")?)
        }
        (_, _, Some(Subresource::Binding | Subresource::Eviction | Subresource::Token)) => {
            return Err(ApiError::MethodNotAllowed);
        }
        (&Method::PUT, false, Some(Subresource::Finalize)) => Verb::Update(WriteOptions::read(query, "UpdateOptions")?),
        (_, _, Some(Subresource::Finalize)) => return Err(ApiError::MethodNotAllowed),
        (&Method::GET, false, _) => Verb::Get,
        (_, _, Some(Subresource::Log)) => return Err(ApiError::MethodNotAllowed),
        (&Method::POST, true, None) if !everywhere => Verb::Create(WriteOptions::read(query, "CreateOptions")?),
        (&Method::PUT, false, _) => Verb::Update(WriteOptions::read(query, "UpdateOptions")?),
        (&Method::PATCH, false, _) => patch(query, headers)?,
        (&Method::DELETE, false, None) => Verb::Delete(WriteOptions::read(query, "DeleteOptions")?),
        (&Method::DELETE, true, None) if resource.delete_collection && !everywhere => {
            Verb::DeleteCollection(ListOptions::read(query, resource, false)?, WriteOptions::read(query, "DeleteOptions")?)
        }
        _ => return Err(ApiError::MethodNotAllowed),
    })
}

fn patch(query: &Query, headers: &HeaderMap) -> Result<Verb, ApiError> {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let patch_type = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" => PatchType::Strategic,
        "application/apply-patch+yaml" => return ApplyOptions::read(query).map(Verb::Apply),
        other => {
            let message = format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml"
            );
            return Err(ApiError::UnsupportedMediaType { message });
        }
    };
    if query.all("force").next().is_some() {
        let error = FieldError::forbidden(Path::new("force"), "may not be specified for non-apply patch");
        return Err(ApiError::InvalidOptions { kind: "PatchOptions", errors: vec![error] });
    }
    Ok(Verb::Patch(patch_type, WriteOptions::read(query, "PatchOptions")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str) -> Result<(String, String, String, &'static str), ApiError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match parse(&method, path, query, &HeaderMap::new())? {
            Route::Object(call) => {
                let subresource = call.subresource.map_or(String::new(), |sub| format!("/{}", sub.name()));
                Ok((format!("{}{subresource}", call.resource.qualified()), call.namespace, call.name, call.verb.name()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_name_resources_namespaces_names_and_verbs() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/pods", ("pods", "", "", "list")),
            (Method::GET, "/api/v1/namespaces/a/pods?watch=true", ("pods", "a", "", "watch")),
            (Method::POST, "/apis/apps/v1/namespaces/a/statefulsets", ("statefulsets.apps", "a", "", "create")),
            (Method::PUT, "/apis/apps/v1/namespaces/a/statefulsets/web/status", ("statefulsets.apps/status", "a", "web", "update")),
            (Method::GET, "/api/v1/namespaces/a", ("namespaces", "", "a", "get")),
            (Method::PUT, "/api/v1/namespaces/a/finalize", ("namespaces/finalize", "", "a", "update")),
            (Method::DELETE, "/api/v1/namespaces/a/pods", ("pods", "a", "", "deletecollection")),
            (Method::POST, "/api/v1/namespaces/a/pods/p/binding", ("pods/binding", "a", "p", "create")),
            (Method::POST, "/api/v1/namespaces/a/pods/p/eviction", ("pods/eviction", "a", "p", "create")),
            (Method::GET, "/api/v1/namespaces/a/pods/p/exec?command=sh", ("pods/exec", "a", "p", "create")),
            (Method::POST, "/api/v1/namespaces/a/pods/p/portforward", ("pods/portforward", "a", "p", "create")),
            (Method::GET, "/api/v1/namespaces/a/pods/p/attach?stdin=1", ("pods/attach", "a", "p", "create")),
            (Method::GET, "/api/v1/namespaces/a/pods/p/log", ("pods/log", "a", "p", "get")),
        ] {
            let (resource, namespace, name, verb) = expected;
            assert_eq!(call(method, path).unwrap(), (resource.into(), namespace.into(), name.into(), verb), "{path}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused() {
        for (method, path, code) in [
            (Method::GET, "/apis/nope/v1/things", 404),
            (Method::GET, "/api/v1/things", 404),
            (Method::GET, "/api/v1/pods/p", 404),
            (Method::GET, "/api/v1/namespaces/a/nodes/n", 404),
            (Method::GET, "/api/v1/namespaces/a/configmaps/c/status", 404),
            (Method::POST, "/api/v1/namespaces/a/pods/p", 405),
            (Method::DELETE, "/api/v1/namespaces", 405),
            (Method::POST, "/api/v1/pods", 405),
            (Method::PUT, "/api/v1/namespaces/a/pods/p/attach", 405),
            (Method::PATCH, "/api/v1/namespaces/a/pods/p", 415),
            (Method::GET, "/api/v1/namespaces/a/pods/p%2Fq", 400),
            (Method::GET, "/api/v1/namespaces/a%2Fb/pods", 400),
            (Method::GET, "/api/v1/nodes/%2e%2E", 400),
        ] {
            assert_eq!(call(method, path).unwrap_err().code_and_reason().0, code, "{path}");
        }
        let refused = call(Method::POST, "/apis/apps/v1/namespaces/a/deployments").unwrap_err().to_string();
        assert!(refused.contains("deployments.apps is not served"), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[a-z0-9/%.]{0,60}", query in "\\PC{0,40}") {
            let _ = parse(&Method::GET, &path, &query, &HeaderMap::new());
        }
    }
}
