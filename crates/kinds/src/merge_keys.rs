//! How lists and maps of the served types are merged: upstream's patch strategies, merge keys and list types, as data.

use std::collections::HashMap;
use std::sync::OnceLock;

/// How one field is merged. Empty texts mean that upstream says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `x-kubernetes-list-type` (`atomic`, `map`, `set`) or, as `map:atomic`, `x-kubernetes-map-type`.
    pub list_type: &'static str,
    /// `x-kubernetes-list-map-keys`, separated by commas.
    pub list_map_keys: &'static str,
    /// `x-kubernetes-patch-strategy`, separated by commas: `merge`, `replace`, `retainKeys`.
    pub patch_strategy: &'static str,
    /// `x-kubernetes-patch-merge-key`.
    pub patch_merge_key: &'static str,
}

impl Rule {
    /// Whether lists of this field are merged item by item in a strategic merge patch.
    pub fn merges(&self) -> bool {
        self.patch_strategy.split(',').any(|strategy| strategy == "merge")
    }

    /// Whether a strategic merge patch replaces this field as a whole.
    pub fn replaces(&self) -> bool {
        self.patch_strategy == "replace"
    }
}

/// What stands in the field's place for a rule about a type itself.
pub const WHOLE_TYPE: &str = "(whole type)";

type Table = HashMap<&'static str, HashMap<&'static str, Rule>>;

/// The rule of a field of a schema such as `io.k8s.api.core.v1.PodSpec`.
pub fn rule(schema: &str, field: &str) -> Option<&'static Rule> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(read).get(schema)?.get(field)
}

/// The keys by which a list of this name is merged item by item, whatever its type; an empty one for a list of plain values.
/// For clients, who don't always know the type.
pub fn merge_keys_of(field: &str) -> &'static [&'static str] {
    static KEYS: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    KEYS.get_or_init(read_keys).get(field).map(Vec::as_slice).unwrap_or_default()
}

fn read_keys() -> HashMap<&'static str, Vec<&'static str>> {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for (field, rule) in read().into_values().flatten().filter(|(_, rule)| rule.merges()) {
        let known = keys.entry(field).or_default();
        if !known.contains(&rule.patch_merge_key) {
            known.push(rule.patch_merge_key);
        }
    }
    keys
}

fn read() -> Table {
    let mut table = Table::new();
    for ((schema, field), rule) in include_str!("../data/merge-keys.tsv").lines().skip(1).filter_map(parse) {
        table.entry(schema).or_default().insert(field, rule);
    }
    table
}

fn parse(line: &'static str) -> Option<((&'static str, &'static str), Rule)> {
    let mut columns = line.split('\t');
    let place = (columns.next()?, columns.next()?);
    let mut next = || columns.next().unwrap_or_default();
    Some((place, Rule { list_type: next(), list_map_keys: next(), patch_strategy: next(), patch_merge_key: next() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_merge_by_name_and_an_unlisted_field_has_no_rule() {
        let containers = rule("io.k8s.api.core.v1.PodSpec", "containers").unwrap();
        assert!(containers.merges() && !containers.replaces());
        assert_eq!(containers.patch_merge_key, "name");
        assert_eq!(rule("io.k8s.api.core.v1.PodSpec", "nodeName"), None);
    }

    #[test]
    fn a_list_may_be_merged_by_one_of_several_keys() {
        let mut keys = merge_keys_of("ports").to_vec();
        keys.sort_unstable();
        assert_eq!(keys, ["containerPort", "port"]);
        assert_eq!((merge_keys_of("finalizers"), merge_keys_of("args")), (&[""][..], &[][..]));
    }

    #[test]
    fn every_line_of_the_data_parses_to_a_rule_that_says_something() {
        for line in include_str!("../data/merge-keys.tsv").lines().skip(1) {
            let ((schema, _), rule) = parse(line).unwrap();
            assert!(schema.starts_with("io.k8s.") && rule != Rule::default(), "{line}");
        }
    }
}
