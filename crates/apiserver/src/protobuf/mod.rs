//! Protobuf bodies, which clients with typed objects send and ask for. They are read into JSON text and written from it, by one
//! table of messages; the rest of the server knows JSON only.

use kinds::Resource;

mod read;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream;
mod write;

pub use read::to_json;
pub use table::name_of;
pub use write::{event, from_json};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages inside messages at most.
const DEPTH: usize = 64;

/// Whether objects of a resource have a form in protobuf. Only upstream's kinds do.
pub fn is_known(resource: &Resource) -> bool {
    resource.codec.schema_name.strip_prefix("io.k8s.").is_some_and(|name| table::message(name).is_some())
}

/// The name of a kind's message in the table.
fn message_name(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let group = match group {
        "" => "core",
        // Of the groups of Kubernetes, the first word counts: `rbac.authorization.k8s.io`.
        group => group.strip_suffix(".k8s.io").map_or(group, |group| group.split('.').next().unwrap_or(group)),
    };
    let of_kind = format!("api.{group}.{version}.{kind}");
    if table::message(&of_kind).is_some() { of_kind } else { format!("apimachinery.pkg.apis.meta.v1.{kind}") }
}
