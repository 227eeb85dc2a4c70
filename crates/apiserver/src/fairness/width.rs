//! How many seats a request takes: one, but a list takes more the longer it is, as upstream.

use store::{Range, Store};

use crate::keys;
use crate::query::ListOptions;
use crate::route::{Call, Route, Verb};

/// Objects that one seat is for.
const OBJECTS: usize = 100;
/// Seats of one request at most.
const MOST: usize = 10;

/// How many seats a request takes.
pub async fn of_call(store: &dyn Store, route: &Route) -> u32 {
    let objects = match route {
        Route::Object(Call { verb: Verb::List(options) | Verb::DeleteCollection(options, _), resource, namespace, .. })
            if options.fields.name().is_none() =>
        {
            of_list(store, &keys::collection(resource.stored(), namespace), options).await
        }
        _ => 0,
    };
    u32::try_from(objects.div_ceil(OBJECTS).clamp(1, MOST)).unwrap_or(1)
}

/// How many objects a list looks at, at most.
async fn of_list(store: &dyn Store, prefix: &str, options: &ListOptions) -> usize {
    if let Some(limit) = options.limit.filter(|limit| *limit <= OBJECTS) {
        return limit;
    }
    // As far as this process knows: an estimate is not worth asking an etcd.
    let counted = store.range(Range { prefix, limit: Some(1), at: Some(store.revision()), ..Range::default() }).await;
    let stored = counted.map_or(0, |page| page.entries.len() + page.remaining);
    stored.min(options.limit.unwrap_or(usize::MAX))
}
