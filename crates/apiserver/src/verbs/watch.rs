//! What happens to a collection, as it happens.

use http::{HeaderValue, StatusCode};
use store::{Entry, Range, Revision};

use super::form;
use crate::context::Context;
use crate::error::ApiError;
use crate::keys;
use crate::list;
use crate::query::ListOptions;
use crate::respond::{self, Response};
use crate::route::Call;
use crate::selection::Selection;
use crate::watching::{self, Framing, Watching};
use crate::{media, protobuf};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: &ListOptions) -> Result<Response, ApiError> {
    if context.shared.closing.is_cancelled() {
        // A watch that ended at once would be opened again at once; who is refused waits first.
        return Err(ApiError::Unavailable { message: "the server is shutting down".to_owned() });
    }
    let form = form(context, call)?;
    let resource = call.resource;
    let namespace = if call.namespace.is_empty() { options.fields.namespace().unwrap_or_default() } else { &call.namespace };
    let prefix = match options.fields.name() {
        Some(name) if !resource.is_namespaced() || !namespace.is_empty() => keys::object(resource, namespace, name),
        _ => keys::collection(resource, namespace),
    };
    let begin = begin(context, &prefix, options).await?;
    let selection = Selection::new(options.labels.clone(), options.fields.clone());
    let framing = match media::prefers_protobuf(context.headers) && protobuf::is_known(resource) {
        true => Framing::Protobuf,
        false => Framing::Json,
    };
    let watch = match context.shared.store.watch(&prefix, begin.after) {
        Ok(watch) => watch,
        Err(error) => return Ok(ended(&watching::failure(&error), framing)),
    };
    let watching = Watching::new(watching::Subject { resource, selection, form, framing }, watch, begin, options, context.shared);
    let body = respond::stream(futures::stream::unfold(watching, |mut watching| async move {
        let piece = watching.next().await?;
        Some((Ok(piece), watching))
    }));
    Ok(streaming(body, framing))
}

async fn begin(context: &Context<'_>, prefix: &str, options: &ListOptions) -> Result<Begin, ApiError> {
    let from_now = options.revision.is_none_or(|revision| revision == 0);
    let store = &context.shared.store;
    if !options.initial_events.unwrap_or(from_now) {
        let after = options.revision.filter(|&revision| revision > 0).map_or_else(|| store.revision(), Revision);
        return Ok(Begin { after, initial: Vec::new(), tells_end: false });
    }
    let newest = list::newest(&**store, options.revision).await?.0;
    if let Some(wanted) = options.revision.filter(|&wanted| wanted > newest) {
        return Err(ApiError::TooLargeRevision { wanted, current: newest });
    }
    let page = store.range(Range { prefix, ..Range::default() }).await?;
    Ok(Begin { after: page.revision, initial: page.entries, tells_end: options.initial_events == Some(true) && options.bookmarks })
}

/// How a watch begins.
pub(crate) struct Begin {
    /// The revision whose successors are told.
    pub after: Revision,
    /// What is told as added before that.
    pub initial: Vec<Entry>,
    /// Whether a bookmark says that this was all of it.
    pub tells_end: bool,
}

fn streaming(body: respond::Body, framing: Framing) -> Response {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(framing.media_type()));
    response
}

/// A watch that ends before it begins, with an event that says why.
fn ended(error: &ApiError, framing: Framing) -> Response {
    respond::typed(StatusCode::OK, framing.media_type(), framing.error(error))
}
