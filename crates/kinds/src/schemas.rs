//! The schemas of all that is served, as the generated types tell them. Only build scripts use this.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview};
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions, ListMeta, Status,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::registry::RESOURCES;

/// Every schema by its name: of the registry's kinds, of the objects that are sent and answered besides them, and of what these
/// refer to.
///
/// # Panics
/// When a row of the registry and its type disagree about the schema's name.
pub fn definitions() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    for row in RESOURCES {
        (row.codec.schema)(&mut generator);
        let name = row.codec.schema_name;
        assert!(generator.definitions().contains_key(name), "{}: there is no schema {name}", row.kind);
    }
    macro_rules! add {
        ($($type:ty),*) => { $(generator.subschema_for::<$type>();)* };
    }
    add!(DeleteOptions, Status, ListMeta, Scale, Binding, Eviction, TokenRequest, TokenReview, SelfSubjectReview);
    add!(SubjectAccessReview, LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview);
    add!(APIGroup, APIGroupList, APIResourceList, APIVersions);
    generator.take_definitions(true)
}

/// The schema of a StatefulSet under a name of its own.
pub(crate) struct SteadfastSet;

impl JsonSchema for SteadfastSet {
    fn schema_name() -> Cow<'static, str> {
        crate::set_kind::STEADFAST_SCHEMA.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        StatefulSet::json_schema(generator)
    }
}
