//! The finalizers of a namespace, which its controller removes when it is empty.

use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;

use super::{target, written};
use crate::context::Context;
use crate::decode::{self, Decoded};
use crate::error::ApiError;
use crate::query::WriteOptions;
use crate::respond::Response;
use crate::route::Call;
use crate::stored::Current;
use crate::writes::{self, Part};

pub(super) async fn run(context: &Context<'_>, call: &Call, options: WriteOptions, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = decode::body(call.resource, context.headers, body, options.field_validation)?;
    let wanted = decoded.object.downcast_ref::<Namespace>().cloned().ok_or(ApiError::MethodNotAllowed)?;
    let make = |current: &Current| {
        let mut object = current.object.clone_object();
        let meta = object.meta_mut();
        meta.resource_version.clone_from(&wanted.metadata.resource_version);
        meta.uid = wanted.metadata.uid.clone().or(meta.uid.take());
        if let Some(namespace) = object.downcast_mut::<Namespace>() {
            namespace.spec.clone_from(&wanted.spec);
        }
        Ok(Decoded { object, warnings: decoded.warnings.clone() })
    };
    let done = writes::change(context, target(context, call, options.dry_run), Part::Internal, make).await?;
    written(context, call, StatusCode::OK, &done)
}
