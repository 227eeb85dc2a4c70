//! What is wrong with which field, in upstream's words
//! (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde_json::Value;

/// The path of a field: `spec.containers[0].ports[1].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path that begins at a field of the object itself.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of what this path names.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of the list that this path names.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A value of the map that this path names.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// Why a field is refused. The name of each variant, prefixed with `FieldValue`, is the reason in a Status' causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    NotSupported,
    Forbidden,
    Duplicate,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
}

impl Reason {
    /// The reason as it stands in `details.causes[].reason`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One field that is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub path: Path,
    pub reason: Reason,
    /// The value that was found; shown for some reasons only.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    /// A field that must be there is missing.
    pub fn required(path: Path, detail: impl Into<String>) -> Self {
        Self { path, reason: Reason::Required, value: None, detail: detail.into() }
    }

    /// A value is malformed.
    pub fn invalid(path: Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { path, reason: Reason::Invalid, value: Some(value.into()), detail: detail.into() }
    }

    /// A value is not one of those that are possible.
    pub fn not_supported(path: Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        Self { path, reason: Reason::NotSupported, value: Some(value.into()), detail: format!("supported values: {}", quoted.join(", ")) }
    }

    /// A value may not be set, or not changed.
    pub fn forbidden(path: Path, detail: impl Into<String>) -> Self {
        Self { path, reason: Reason::Forbidden, value: None, detail: detail.into() }
    }

    /// A value names something that is not there.
    pub fn not_found(path: Path, value: impl Into<Value>) -> Self {
        Self { path, reason: Reason::NotFound, value: Some(value.into()), detail: String::new() }
    }

    /// A value that must be unique stands twice.
    pub fn duplicate(path: Path, value: impl Into<Value>) -> Self {
        Self { path, reason: Reason::Duplicate, value: Some(value.into()), detail: String::new() }
    }

    /// A value is longer than allowed, in bytes.
    pub fn too_long(path: Path, limit: usize) -> Self {
        Self { path, reason: Reason::TooLong, value: None, detail: format!("may not be more than {limit} bytes") }
    }

    /// The message without the field's path, as it stands in `details.causes[].message`.
    pub fn message(&self) -> String {
        let shown = match (&self.value, self.reason) {
            (Some(value), Reason::Invalid | Reason::NotSupported | Reason::Duplicate | Reason::NotFound | Reason::TypeInvalid) => {
                format!(": {value}")
            }
            _ => String::new(),
        };
        let detail = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        format!("{}{shown}{detail}", self.reason.words())
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}
