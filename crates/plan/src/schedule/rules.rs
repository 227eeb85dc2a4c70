//! What pods and volumes say about nodes: selectors, affinity, tolerations.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use kinds::Selector;

type Labels = BTreeMap<String, String>;

/// Alternatives, of which a node must meet one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRule {
    terms: Vec<NodeTerm>,
}

impl NodeRule {
    /// The rule that a node selector states.
    pub fn of(selector: &NodeSelector) -> Self {
        Self { terms: selector.node_selector_terms.iter().map(NodeTerm::of).collect() }
    }

    pub(super) fn any_of(terms: Vec<NodeTerm>) -> Self {
        Self { terms }
    }

    /// Whether the node of this name and with these labels meets it.
    pub fn admits(&self, name: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|term| term.admits(name, labels))
    }
}

/// Requirements on labels and on the name. Without any it admits no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeTerm {
    labels: Vec<Selector>,
    names: Vec<Selector>,
    /// A requirement that can't be understood admits no node.
    invalid: bool,
}

const NAME_FIELD: &str = "metadata.name";

impl NodeTerm {
    pub(super) fn of(term: &NodeSelectorTerm) -> Self {
        let mut invalid = false;
        let mut parsed = |requirements: &Option<Vec<NodeSelectorRequirement>>| -> Vec<Selector> {
            let all: Vec<_> = requirements.iter().flatten().map(parse).collect();
            invalid |= all.iter().any(Option::is_none);
            all.into_iter().flatten().collect()
        };
        let labels = parsed(&term.match_expressions);
        let names = parsed(&term.match_fields);
        let foreign = term.match_fields.iter().flatten().any(|field| field.key != NAME_FIELD);
        Self { labels, names, invalid: invalid || foreign }
    }

    /// A term of equalities or sets of values.
    pub(super) fn of_values<'a>(requirements: impl Iterator<Item = (&'a str, &'a [String])>) -> Self {
        let parsed = requirements.map(|(key, values)| Selector::from_expression(key, "In", values.to_vec()).ok());
        let all: Vec<_> = parsed.collect();
        let invalid = all.iter().any(Option::is_none);
        Self { labels: all.into_iter().flatten().collect(), names: Vec::new(), invalid }
    }

    pub(super) fn admits(&self, name: &str, labels: &Labels) -> bool {
        let empty = self.labels.is_empty() && self.names.is_empty();
        if empty || self.invalid {
            return false;
        }
        self.labels.iter().all(|selector| selector.matches(Some(labels))) && self.admits_name(name)
    }

    fn admits_name(&self, name: &str) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let fields = BTreeMap::from([(NAME_FIELD.to_owned(), name.to_owned())]);
        self.names.iter().all(|selector| selector.matches(Some(&fields)))
    }
}

fn parse(requirement: &NodeSelectorRequirement) -> Option<Selector> {
    let values = requirement.values.clone().unwrap_or_default();
    Selector::from_expression(&requirement.key, &requirement.operator, values).ok()
}

/// Whether a toleration covers a taint. Operators this does not know cover nothing.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let stated = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    let (key, effect) = (stated(&toleration.key), stated(&toleration.effect));
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => !key.is_empty() && stated(&toleration.value) == stated(&taint.value),
        Some("Exists") => true,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn admits(selector: Value) -> bool {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())]);
        NodeRule::of(&serde_json::from_value(selector).unwrap()).admits("node-1", &labels)
    }

    fn one(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]})
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_admits_nothing() {
        assert!(admits(one("zone", "In", &["a", "b"])) && admits(one("cores", "Gt", &["4"])));
        assert!(!admits(one("zone", "NotIn", &["a"])) && !admits(one("zone", "Like", &["a"])));
        assert!(!admits(json!({"nodeSelectorTerms": [{}]})));
        let name = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        assert!(admits(json!({"nodeSelectorTerms": [name("node-2"), name("node-1")]})));
        assert!(!admits(json!({"nodeSelectorTerms": [{"matchFields": [{"key": "spec.x", "operator": "In", "values": ["node-1"]}]}]})));
    }

    #[test]
    fn a_toleration_covers_by_key_value_and_effect() {
        let taint: Taint = serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).unwrap();
        let covers = |toleration: Value| tolerates(&serde_json::from_value(toleration).unwrap(), &taint);
        for toleration in [json!({"operator": "Exists"}), json!({"key": "k", "value": "v"}), json!({"key": "k", "operator": "Exists"})] {
            assert!(covers(toleration.clone()), "{toleration}");
        }
        for toleration in [
            json!({}),
            json!({"key": "k"}),
            json!({"operator": "Exists", "effect": "NoExecute"}),
            json!({"key": "x", "operator": "Exists"}),
        ] {
            assert!(!covers(toleration.clone()), "{toleration}");
        }
    }
}
