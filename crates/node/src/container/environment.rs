//! A container's environment, and `$(NAME)` in its command.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Service};

use super::SpecificationError;
use super::downward::{self, Facts};

/// The ConfigMaps and Secrets a container refers to, as far as they exist: name to key to value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookups {
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug)]
enum Origin {
    ConfigMap,
    Secret,
}

impl Origin {
    fn resource(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl Lookups {
    fn get(&self, origin: Origin, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        match origin {
            Origin::ConfigMap => self.config_maps.get(name),
            Origin::Secret => self.secrets.get(name),
        }
    }

    /// One key; `None` if it is missing and may be.
    fn key(&self, origin: Origin, facts: &Facts<'_>, name: &str, key: &str, optional: bool) -> Result<Option<String>, SpecificationError> {
        let Some(data) = self.get(origin, name) else {
            let missing = SpecificationError::Missing { kind: origin.resource(), name: name.to_owned() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        match data.get(key) {
            Some(value) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => Err(SpecificationError::NoKey {
                kind: origin.kind(),
                namespace: facts.pod.metadata.namespace.clone().unwrap_or_default(),
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        }
    }
}

/// Names in the order of their definition; a later definition of a name replaces the value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Names and values, in order.
    pub fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String| {
            let value = self.values.remove(&name)?;
            Some((name, value))
        };
        self.order.into_iter().filter_map(take).collect()
    }

    /// `$(NAME)` becomes the value, `$$` becomes `$`; what is not defined stays as it is.
    pub fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(position) = rest.find('$') {
            expanded.push_str(&rest[..position]);
            rest = &rest[position + 1..];
            let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            match reference {
                _ if rest.starts_with('$') => {
                    expanded.push('$');
                    rest = &rest[1..];
                }
                Some((name, tail)) => {
                    match self.values.get(name) {
                        Some(value) => expanded.push_str(value),
                        None => expanded.push_str(&format!("$({name})")),
                    }
                    rest = tail;
                }
                None => expanded.push('$'),
            }
        }
        expanded.push_str(rest);
        expanded
    }
}

/// The environment of a container: the image's, the Services', `envFrom`, `env`, each over the one before.
pub(crate) fn resolve(
    container: &Container,
    image: &[String],
    services: &[(String, String)],
    facts: &Facts<'_>,
    lookups: &Lookups,
) -> Result<Environment, SpecificationError> {
    let mut environment = Environment::default();
    for (name, value) in image.iter().filter_map(|pair| pair.split_once('=')) {
        environment.set(name, value.to_owned());
    }
    for (name, value) in services {
        environment.set(name, value.clone());
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (origin, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(reference), _) => (Origin::ConfigMap, &reference.name, reference.optional),
            (_, Some(reference)) => (Origin::Secret, &reference.name, reference.optional),
            (None, None) => continue,
        };
        match lookups.get(origin, name) {
            Some(data) => data.iter().for_each(|(key, value)| environment.set(&format!("{prefix}{key}"), text(value))),
            None if optional == Some(true) => {}
            None => return Err(SpecificationError::Missing { kind: origin.resource(), name: name.clone() }),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, &environment, container, facts, lookups)? {
            environment.set(&variable.name, value);
        }
    }
    Ok(environment)
}

fn value(
    variable: &EnvVar,
    so_far: &Environment,
    container: &Container,
    facts: &Facts<'_>,
    lookups: &Lookups,
) -> Result<Option<String>, SpecificationError> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(so_far.expand(variable.value.as_deref().unwrap_or_default())));
    };
    if let Some(reference) = &source.field_ref {
        return downward::field(facts, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return downward::resource(facts, reference, &container.name).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        return lookups.key(Origin::ConfigMap, facts, &reference.name, &reference.key, reference.optional == Some(true));
    }
    if let Some(reference) = &source.secret_key_ref {
        return lookups.key(Origin::Secret, facts, &reference.name, &reference.key, reference.optional == Some(true));
    }
    Err(SpecificationError::Unsupported(format!("the source of variable {}", variable.name)))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// What a container is told of one Service, as `REDIS_SERVICE_HOST` and the like.
pub(crate) fn service_variables(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default().to_uppercase().replace('-', "_");
    let (Some(address), Some(ports)) = (spec.cluster_ip.filter(|ip| !matches!(ip.as_str(), "" | "None")), spec.ports) else {
        return Vec::new();
    };
    let mut variables = vec![(format!("{name}_SERVICE_HOST"), address.clone())];
    if let Some(first) = ports.first() {
        variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        let protocol = first.protocol.as_deref().unwrap_or("TCP").to_lowercase();
        variables.push((format!("{name}_PORT"), format!("{protocol}://{address}:{}", first.port)));
    }
    for port in &ports {
        if let Some(port_name) = &port.name {
            let port_name = port_name.to_uppercase().replace('-', "_");
            variables.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        variables.push((prefix.clone(), format!("{}://{address}:{}", protocol.to_lowercase(), port.port)));
        variables.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        variables.push((format!("{prefix}_PORT"), port.port.to_string()));
        variables.push((format!("{prefix}_ADDR"), address.clone()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn environment(container: serde_json::Value, lookups: &Lookups) -> Result<Environment, SpecificationError> {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "web-0", "namespace": "shop" } })).unwrap();
        let facts = Facts { pod: &pod, addresses: &["10.77.0.5".to_owned()], host_addresses: &[], allocatable: &BTreeMap::new() };
        let container: Container = serde_json::from_value(container).unwrap();
        resolve(&container, &["PATH=/bin".to_owned()], &[], &facts, lookups)
    }

    fn lookups() -> Lookups {
        let data = BTreeMap::from([("key".to_owned(), b"value".to_vec()), ("other".to_owned(), b"2".to_vec())]);
        Lookups { config_maps: [("map".to_owned(), data.clone())].into(), secrets: [("secret".to_owned(), data)].into() }
    }

    #[test]
    fn later_sources_win_and_variables_see_those_before_them() {
        let pairs = environment(
            json!({ "name": "c",
                "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "map" } }],
                "env": [
                    { "name": "PATH", "value": "/usr/bin:$(PATH)" },
                    { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                    { "name": "URL", "value": "http://$(POD_IP):80/$(P_key)/$$(X)/$(NONE)/$" },
                    { "name": "S", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "key" } } },
                    { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "none", "key": "key", "optional": true } } },
                ],
            }),
            &lookups(),
        );
        let pairs = pairs.unwrap().into_pairs();
        let expected = [
            ("PATH", "/usr/bin:/bin"),
            ("P_key", "value"),
            ("P_other", "2"),
            ("POD_IP", "10.77.0.5"),
            ("URL", "http://10.77.0.5:80/value/$(X)/$(NONE)/$"),
            ("S", "value"),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = environment(json!({ "name": "c", "envFrom": [{ "configMapRef": { "name": "none" } }] }), &lookups());
        assert_eq!(missing.unwrap_err().to_string(), "configmap \"none\" not found");
        let key = json!({ "name": "c", "env": [{ "name": "X", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "no" } } }] });
        assert_eq!(environment(key, &lookups()).unwrap_err().to_string(), "couldn't find key no in ConfigMap shop/map");
    }

    #[test]
    fn a_service_is_told_by_its_address_and_ports() {
        let service =
            json!({ "metadata": { "name": "my-db" }, "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 5432, "name": "sql" }] } });
        let variables: BTreeMap<_, _> = service_variables(&serde_json::from_value(service).unwrap()).into_iter().collect();
        assert_eq!(variables["MY_DB_SERVICE_HOST"], "10.96.0.7");
        assert_eq!(variables["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(variables["MY_DB_PORT_5432_TCP"], "tcp://10.96.0.7:5432");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_expansion_panic(text in "[$()A-Zä]{0,12}") {
            let mut environment = Environment::default();
            environment.set("A", "1".to_owned());
            let _ = environment.expand(&text);
        }
    }
}
