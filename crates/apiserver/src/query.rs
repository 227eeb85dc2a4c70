//! The query of a request, read into typed options once.

use std::time::Duration;

use kinds::Selector;

use crate::error::ApiError;
use crate::field::{FieldError, Path};
use crate::ownership::MAX_MANAGER;
use crate::selection::FieldSelector;

/// Pairs of a query, decoded, in their order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the text behind the question mark.
    pub fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(key, true), percent_decoded(value, true))
        };
        Self(text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect())
    }

    /// The first value of a key; `None` when it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// A truth value: `true`, `1`, or the key alone.
    pub fn flag(&self, key: &str) -> bool {
        self.all(key).next().is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }

    fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let parse =
            |text: &str| text.parse().map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        self.get(key).map(parse).transpose()
    }
}

/// Turns `%2F` into `/`, and `+` into a space where that is the custom. What is not valid UTF-8 is replaced.
pub fn percent_decoded(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
                continue;
            }
            (b'+', ..) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = tail;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Exact,
    NotOlderThan,
}

/// Options of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: Selector,
    pub fields: FieldSelector,
    /// `None` for the newest; 0 for any.
    pub revision: Option<u64>,
    pub revision_match: Option<Match>,
    pub limit: Option<usize>,
    pub continue_token: Option<String>,
    pub timeout: Option<Duration>,
    pub bookmarks: bool,
    pub initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the options for one resource.
    pub fn read(query: &Query, resource: &'static kinds::Resource, watch: bool) -> Result<Self, ApiError> {
        let labels = Selector::parse(query.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(format!("unable to parse requirement: {error}")))?;
        let options = Self {
            labels,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), resource)?,
            revision: query.get("resourceVersion").map(parse_revision).transpose()?,
            revision_match: query.get("resourceVersionMatch").map(parse_match).transpose()?,
            limit: query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0),
            continue_token: query.get("continue").map(str::to_owned),
            timeout: query
                .number("timeoutSeconds")?
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|&s| s > 0)
                .map(Duration::from_secs),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        let errors = if watch { options.watch_errors() } else { options.list_errors() };
        if errors.is_empty() { Ok(options) } else { Err(ApiError::InvalidOptions { kind: "ListOptions", errors }) }
    }

    fn list_errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(Path::new(field), why));
        if let Some(revision_match) = self.revision_match {
            if self.revision.is_none() {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if self.continue_token.is_some() {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
            }
            if revision_match == Match::Exact && self.revision == Some(0) {
                forbid("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.initial_events.is_some() {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        errors
    }

    fn watch_errors(&self) -> Vec<FieldError> {
        let path = || Path::new("resourceVersionMatch");
        let is_newer = self.revision_match == Some(Match::NotOlderThan);
        let mut errors = Vec::new();
        if self.initial_events.is_some() && !is_newer {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(path(), why));
        }
        if self.revision_match.is_some() {
            if self.initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(path(), why));
            }
            if !is_newer {
                errors.push(FieldError::not_supported(path(), "Exact", &["NotOlderThan"]));
            }
            if self.continue_token.is_some() {
                errors.push(FieldError::forbidden(path(), "resourceVersionMatch is forbidden when continue is provided"));
            }
        }
        errors
    }
}

fn parse_revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })
}

fn parse_match(text: &str) -> Result<Match, ApiError> {
    match text {
        "Exact" => Ok(Match::Exact),
        "NotOlderThan" => Ok(Match::NotOlderThan),
        other => Err(ApiError::InvalidOptions {
            kind: "ListOptions",
            errors: vec![FieldError::not_supported(Path::new("resourceVersionMatch"), other, &["Exact", "NotOlderThan", ""])],
        }),
    }
}

/// What happens to unknown and repeated fields in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// Options of create, update and patch.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
}

impl WriteOptions {
    /// Reads and checks the options.
    pub fn read(query: &Query, kind: &'static str) -> Result<Self, ApiError> {
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let error = FieldError::not_supported(Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
                return Err(ApiError::InvalidOptions { kind, errors: vec![error] });
            }
        };
        check_manager(query, kind)?;
        Ok(Self { dry_run: dry_run(query.all("dryRun"), kind)?, field_validation })
    }
}

/// Options of a patch that applies a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyOptions {
    /// Takes what others own.
    pub force: bool,
    pub write: WriteOptions,
}

impl ApplyOptions {
    /// Reads and checks the options.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        if query.get("fieldManager").is_none() {
            let error = FieldError::required(Path::new("fieldManager"), "is required for apply patch");
            return Err(ApiError::InvalidOptions { kind: "PatchOptions", errors: vec![error] });
        }
        Ok(Self { force: query.flag("force"), write: WriteOptions::read(query, "PatchOptions")? })
    }
}

fn check_manager(query: &Query, kind: &'static str) -> Result<(), ApiError> {
    let name = query.get("fieldManager").unwrap_or_default();
    let path = Path::new("fieldManager");
    let error = if name.len() > MAX_MANAGER {
        FieldError::too_long(path, MAX_MANAGER)
    } else if name.chars().any(char::is_control) {
        FieldError::invalid(path, name, "should only contain printable characters")
    } else {
        return Ok(());
    };
    Err(ApiError::InvalidOptions { kind, errors: vec![error] })
}

/// `All` is the one value `dryRun` can have.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &'static str) -> Result<bool, ApiError> {
    let mut dry_run = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported(Path::new("dryRun"), serde_json::json!([value]), &["All"]);
            return Err(ApiError::InvalidOptions { kind, errors: vec![error] });
        }
        dry_run = true;
    }
    Ok(dry_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused_in_upstreams_words() {
        let resource = kinds::registry::find("", "v1", "pods").unwrap();
        let faults = |query: &str, watch: bool| match ListOptions::read(&Query::parse(query), resource, watch) {
            Ok(_) => 0,
            Err(ApiError::InvalidOptions { errors, .. }) => errors.len(),
            Err(error) => panic!("{query}: {error}"),
        };
        for (query, in_list, in_watch) in [
            ("resourceVersion=5&resourceVersionMatch=Exact", 0, 2),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", 0, 1),
            ("resourceVersion=0&resourceVersionMatch=Exact", 1, 2),
            ("resourceVersionMatch=Exact&continue=x", 2, 3),
            ("sendInitialEvents=true", 1, 1),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", 2, 0),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x", 3, 1),
            ("resourceVersionMatch=Newest", 1, 1),
        ] {
            assert_eq!((faults(query, false), faults(query, true)), (in_list, in_watch), "{query}");
        }
    }

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dredis%2Ctier+in+%28a%29&watch=1&empty=&command=sh&command=-c&x=%zz%4");
        assert_eq!(query.get("labelSelector"), Some("app=redis,tier in (a)"));
        assert!(query.flag("watch") && !query.flag("other"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c"]);
        assert_eq!(query.get("x"), Some("%zz%4"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Query::parse(&text);
            let _ = percent_decoded(&text, false);
        }
    }
}
