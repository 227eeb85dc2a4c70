//! What is put on record of a request: the rules of upstream's `audit.k8s.io/v1` Policy. The first rule that fits decides.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// How much is put on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// What was sent, too.
    Request,
    /// What was answered, too.
    RequestResponse,
}

/// When something is put on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of watches and streams only.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// Why a policy can't be used.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("the policy is no YAML: {0}")]
    Syntax(String),
    #[error("the policy says {kind:?} of {api_version:?}; it must be a Policy of audit.k8s.io/v1")]
    OtherKind { kind: String, api_version: String },
    #[error("the policy can't be read: {0}")]
    Fields(#[from] serde_json::Error),
    #[error("the policy has no rules, so nothing would be put on record; add one such as `- level: Metadata`")]
    NoRules,
    #[error("rules[{0}] has both resources or namespaces and nonResourceURLs, which no request fits")]
    Contradiction(usize),
}

/// The rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A request as rules see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
    pub verb: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// `None` for what is about no resource.
    pub target: Option<Target<'a>>,
}

/// What of the API a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

/// What is to be put on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub level: Level,
    pub omitted: Vec<Stage>,
    pub omits_managed_fields: bool,
}

/// Whose bodies are secret: they are on record only if a rule names them.
const SECRET: [(&str, &str); 3] = [("", "secrets"), ("", "serviceaccounts/token"), ("authentication.k8s.io", "tokenreviews")];

impl Default for Policy {
    /// Everything, without bodies, once it is over.
    fn default() -> Self {
        let rule = Rule {
            level: Level::Metadata,
            users: Vec::new(),
            user_groups: Vec::new(),
            verbs: Vec::new(),
            resources: Vec::new(),
            namespaces: Vec::new(),
            non_resource_urls: Vec::new(),
            omit_stages: Vec::new(),
            omit_managed_fields: None,
        };
        Self {
            kind: String::new(),
            api_version: String::new(),
            _metadata: Value::Null,
            rules: vec![rule],
            omit_stages: vec![Stage::RequestReceived],
            omit_managed_fields: false,
        }
    }
}

impl Policy {
    /// Reads a policy's YAML.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        let policy: Self = serde_json::from_value(value)?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(PolicyError::OtherKind { kind: policy.kind, api_version: policy.api_version });
        }
        let contradicts = |rule: &Rule| {
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            of_resources && !rule.non_resource_urls.is_empty()
        };
        match policy.rules.iter().position(contradicts) {
            _ if policy.rules.is_empty() => Err(PolicyError::NoRules),
            Some(index) => Err(PolicyError::Contradiction(index)),
            None => Ok(policy),
        }
    }

    /// What is to be put on record of a request.
    pub fn judge(&self, asked: &Asked<'_>) -> Judgement {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(asked)) else {
            return Judgement { level: Level::None, omitted: Vec::new(), omits_managed_fields: false };
        };
        let hidden = asked.target.is_some_and(|target| target.is_secret() && !rule.names(target));
        Judgement {
            level: if hidden { rule.level.min(Level::Metadata) } else { rule.level },
            omitted: [&self.omit_stages[..], &rule.omit_stages].concat(),
            omits_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == wanted)
}

impl Rule {
    fn fits(&self, asked: &Asked<'_>) -> bool {
        let users = self.users.is_empty() || has(&self.users, asked.user);
        let groups = self.user_groups.is_empty() || asked.groups.iter().any(|group| has(&self.user_groups, group));
        let verbs = self.verbs.is_empty() || has(&self.verbs, asked.verb);
        users && groups && verbs && self.fits_target(asked)
    }

    fn fits_target(&self, asked: &Asked<'_>) -> bool {
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            return asked.target.is_some_and(|target| {
                let namespaces = self.namespaces.is_empty() || has(&self.namespaces, target.namespace);
                namespaces && (self.resources.is_empty() || self.resources.iter().any(|resources| resources.fit(target)))
            });
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        asked.target.is_none() && self.non_resource_urls.iter().any(|pattern| fits_path(pattern, asked.path))
    }

    /// Whether the rule names just this resource, rather than all of them.
    fn names(&self, target: Target<'_>) -> bool {
        let combined = target.combined();
        self.resources.iter().any(|own| own.group == target.group && own.resources.contains(&combined))
    }
}

impl Resources {
    fn fit(&self, target: Target<'_>) -> bool {
        let names = self.resource_names.is_empty() || has(&self.resource_names, target.name);
        let any = self.resources.is_empty() || (names && self.resources.iter().any(|pattern| target.fits(pattern)));
        self.group == target.group && any
    }
}

impl Target<'_> {
    fn combined(&self) -> String {
        let Self { resource, subresource, .. } = self;
        if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") }
    }

    fn fits(&self, pattern: &str) -> bool {
        let of_subresource = |rest: &str| !self.subresource.is_empty() && rest == self.subresource;
        pattern == "*"
            || pattern == self.combined()
            || pattern.strip_prefix("*/").is_some_and(of_subresource)
            || pattern.strip_suffix("/*") == Some(self.resource)
    }

    fn is_secret(&self) -> bool {
        SECRET.contains(&(self.group, &self.combined()))
    }
}

fn fits_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources: [{resources: [endpoints, services]}]
- level: RequestResponse
  resources: [{resources: [pods, 'pods/*'], resourceNames: [special]}]
- level: Request
  namespaces: [kube-system, '']
  resources: [{group: apps}]
  omitStages: [ResponseStarted]
  omitManagedFields: true
- level: None
  userGroups: [system:authenticated]
  nonResourceURLs: ['/api*', /version]
- level: Request
  resources: [{resources: ['*/status']}]
- level: RequestResponse
  verbs: [create]
- level: Request
  verbs: [update]
  resources: [{resources: [secrets]}]
";

    fn level(asked: Asked<'_>) -> Level {
        Policy::parse(POLICY).unwrap().judge(&asked).level
    }

    fn on<'a>(verb: &'a str, resource: &'a str, name: &'a str) -> Asked<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Asked { user: "jane", verb, target: Some(Target { resource, subresource, name, ..Target::default() }), ..Asked::default() }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        for (asked, expected) in [
            (Asked { user: "system:kube-proxy", ..on("watch", "endpoints", "") }, Level::None),
            (on("get", "pods", "special"), Level::RequestResponse),
            (on("get", "pods/log", "special"), Level::RequestResponse),
            (on("get", "pods", "other"), Level::None),
            (on("update", "pods/status", "other"), Level::Request),
            (on("create", "pods", ""), Level::RequestResponse),
            (on("create", "secrets", ""), Level::Metadata),
            (on("create", "serviceaccounts/token", "a"), Level::Metadata),
            (on("update", "secrets", "a"), Level::Request),
        ] {
            assert_eq!(level(asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn paths_and_namespaces_fit_as_upstream_lets_them() {
        let groups = ["system:authenticated".to_owned()];
        let at = |path: &'static str| Asked { user: "jane", groups: &groups, verb: "create", path, ..Asked::default() };
        assert_eq!(
            [level(at("/apis/apps")), level(at("/version")), level(at("/versions"))],
            [Level::None, Level::None, Level::RequestResponse]
        );
        let target = Target { group: "apps", resource: "statefulsets", namespace: "kube-system", ..Target::default() };
        let asked = Asked { verb: "list", target: Some(target), ..Asked::default() };
        let judgement = Policy::parse(POLICY).unwrap().judge(&asked);
        let omitted = vec![Stage::RequestReceived, Stage::ResponseStarted];
        assert_eq!(judgement, Judgement { level: Level::Request, omitted, omits_managed_fields: true });
        let elsewhere = Asked { target: Some(Target { namespace: "default", ..target }), ..asked };
        assert_eq!(level(elsewhere), Level::None);
        assert_eq!(Policy::default().judge(&elsewhere).level, Level::Metadata);
    }

    #[test]
    fn what_is_no_policy_is_refused_by_name() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        for (text, part) in [
            ("kind: Policy\napiVersion: audit.k8s.io/v1beta1\nrules: []".to_owned(), "audit.k8s.io/v1beta1"),
            (format!("{head}rules: []"), "no rules"),
            (format!("{head}rules: [{{level: Everything}}]"), "Everything"),
            (format!("{head}rules: [{{level: None, user: [a]}}]"), "`user`"),
            (format!("{head}rules: [{{level: None}}, {{level: None, namespaces: [a], nonResourceURLs: [/b]}}]"), "rules[1]"),
            ("{".to_owned(), "no YAML"),
        ] {
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
