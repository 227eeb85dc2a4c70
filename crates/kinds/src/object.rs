//! One seam over all kinds: the server's verbs work on `dyn Object`, the strategies on the type behind it.

use std::any::Any;
use std::fmt;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How much space the text of an object is given at first, in bytes: most need no more.
const TEXT: usize = 1 << 10;

/// A Kubernetes object of any kind.
pub trait Object: Any + Send + Sync + fmt::Debug {
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The object as compact JSON, `apiVersion` and `kind` included.
    fn to_json(&self) -> Vec<u8>;
    /// A copy behind a new box.
    fn clone_object(&self) -> Box<dyn Object>;
    /// For a downcast to the kind's own type.
    fn as_any(&self) -> &dyn Any;
    /// For a downcast to the kind's own type.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T> Object for T
where
    T: Metadata<Ty = ObjectMeta> + Serialize + Clone + fmt::Debug + Send + Sync + 'static,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(TEXT);
        serde_json::to_writer(&mut text, self).expect("a Kubernetes object has string keys only");
        text
    }

    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl dyn Object {
    /// The object as a JSON tree, `apiVersion` and `kind` included.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.to_json()).expect("what was written as JSON is JSON")
    }

    /// The object as its own type, if it is a `T`.
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    /// The object as its own type, to change, if it is a `T`.
    pub fn downcast_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.as_any_mut().downcast_mut()
    }
}

/// An object of the kind that was asked for, or what the text has instead.
pub type Decoded = Result<Box<dyn Object>, serde_json::Error>;

/// What every kind's own type can do.
#[cfg(not(feature = "schemas"))]
pub trait Kind: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {}
#[cfg(not(feature = "schemas"))]
impl<T> Kind for T where T: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {}

/// What every kind's own type can do: describe itself, too.
#[cfg(feature = "schemas")]
pub trait Kind:
    Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + schemars::JsonSchema + Clone + fmt::Debug + Send + Sync + 'static
{
}
#[cfg(feature = "schemas")]
impl<T> Kind for T where
    T: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + schemars::JsonSchema + Clone + fmt::Debug + Send + Sync + 'static
{
}

/// How one kind is read from the wire, and the name of its schema.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Reads an object from JSON text; fields the kind does not have are dropped.
    pub from_json: fn(&[u8]) -> Decoded,
    /// The name of the kind's schema, for example `io.k8s.api.core.v1.Pod`.
    pub schema_name: &'static str,
    /// Adds the kind's schema and all it refers to to a generator.
    #[cfg(feature = "schemas")]
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

impl Codec {
    /// The codec of a generated type whose schema has this name.
    pub const fn of<T: Kind>(schema_name: &'static str) -> Self {
        Self {
            from_json: |json| Ok(Box::new(serde_json::from_slice::<T>(json)?)),
            schema_name,
            #[cfg(feature = "schemas")]
            schema: |generator| generator.subschema_for::<T>(),
        }
    }

    /// Reads an object from a JSON tree; fields the kind does not have are dropped. By way of its text, so that the program
    /// has one decoder per kind.
    pub fn from_value(&self, value: &Value) -> Decoded {
        (self.from_json)(value.to_string().as_bytes())
    }
}

/// A value as a JSON tree. By way of its text, so that the program has one encoder per type.
///
/// # Errors
/// If the value has keys that are no texts; no Kubernetes object has.
pub fn to_tree<T: Serialize>(value: &T) -> serde_json::Result<Value> {
    serde_json::to_vec(value).and_then(|text| serde_json::from_slice(&text))
}

/// A value from a JSON tree. By way of its text, so that the program has one decoder per type.
///
/// # Errors
/// If the tree does not fit the type.
pub fn from_tree<T: DeserializeOwned>(tree: &Value) -> serde_json::Result<T> {
    serde_json::from_slice(tree.to_string().as_bytes())
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema_name)
    }
}
