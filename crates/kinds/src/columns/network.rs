//! Services and what stands behind them.

use k8s_openapi::api::core::v1::{Endpoints, LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, first_three, name, or_none, pairs, typed};

pub(crate) const SERVICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type", "How the service is reached."),
        Column::text("Cluster-IP", "The address inside the cluster."),
        Column::text("External-IP", "The addresses outside the cluster."),
        Column::text("Port(s)", "The ports it serves."),
        AGE,
        Column::wide("Selector", "The labels of the pods it selects."),
    ],
    cells: |object, now| {
        let service: &Service = typed(object);
        let default = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&default);
        let ports: Vec<_> = spec.ports.iter().flatten().map(port).collect();
        vec![
            name(&service.metadata),
            Value::from(spec.type_.as_deref().unwrap_or_default()),
            Value::from(or_none(spec.cluster_ip.as_deref())),
            Value::from(external(service, spec)),
            Value::from(or_none(Some(&ports.join(",")))),
            age(&service.metadata, now),
            Value::from(pairs(spec.selector.iter().flatten())),
        ]
    },
};

fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port != 0 => format!("{}:{node_port}/{protocol}", port.port),
        _ => format!("{}/{protocol}", port.port),
    }
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let listed = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        Some("LoadBalancer") => {
            let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
            let all: Vec<_> = ingress.iter().filter_map(address).chain(listed).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(Some(&listed.join(","))).to_owned(),
    }
}

fn address(ingress: &LoadBalancerIngress) -> Option<String> {
    ingress.ip.clone().or_else(|| ingress.hostname.clone())
}

pub(crate) const ENDPOINTS: Printer = Printer {
    columns: &[NAME, Column::text("Endpoints", "The addresses and ports that serve."), AGE],
    cells: |object, now| {
        let endpoints: &Endpoints = typed(object);
        let mut all = Vec::new();
        for subset in endpoints.subsets.iter().flatten() {
            let addresses = || subset.addresses.iter().flatten().map(|address| &address.ip);
            match subset.ports.as_deref() {
                None | Some([]) => all.extend(addresses().cloned()),
                Some(ports) => {
                    all.extend(ports.iter().flat_map(|port| addresses().map(move |ip| format!("{ip}:{}", port.port))));
                }
            }
        }
        vec![name(&endpoints.metadata), Value::from(first_three(&all, "<none>")), age(&endpoints.metadata, now)]
    },
};

pub(crate) const ENDPOINT_SLICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("AddressType", "IPv4, IPv6 or FQDN."),
        Column::text("Ports", "The ports of every endpoint."),
        Column::text("Endpoints", "The addresses of the endpoints."),
        AGE,
    ],
    cells: |object, now| {
        let slice: &EndpointSlice = typed(object);
        let ports: Vec<_> = slice.ports.iter().flatten().map(port_number).collect();
        let addresses: Vec<_> = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        vec![
            name(&slice.metadata),
            Value::from(slice.address_type.as_str()),
            Value::from(first_three(&ports, "<unset>")),
            Value::from(first_three(&addresses, "<unset>")),
            age(&slice.metadata, now),
        ]
    },
};

fn port_number(port: &EndpointPort) -> String {
    match (port.port, &port.name) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "*".to_owned(),
    }
}
