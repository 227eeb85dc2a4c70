//! Results for programs.

use serde::Serialize;

use crate::arguments::Format;
use crate::failure::Failure;

/// A result as JSON or YAML, with a line end.
pub fn structured(result: &impl Serialize, format: Format) -> Result<String, Failure> {
    let unwritable = |reason: String| Failure::Message(format!("the result can't be written: {reason}"));
    let value = serde_json::to_value(result).map_err(|error| unwritable(error.to_string()))?;
    match format {
        Format::Yaml => serde_saphyr::to_string(&value).map_err(|error| unwritable(error.to_string())),
        Format::Json | Format::Text => Ok(format!("{value:#}\n")),
    }
}
