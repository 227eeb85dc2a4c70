//! What the crate `fuzz` asks of the name server: packets of strangers. Nothing else uses this module.

use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kinds::ObjectKey;
use plan::zone::{Update, Zone};

use crate::query::{Answerer, Reply};
use crate::view::View;
use crate::wire::Transport;

/// Where the packet of a client ends, and that of a server that was asked begins.
const SEPARATOR: &[u8] = b"----";

/// A client's packet, and behind `----` what another server says. What is answered is an answer to what was asked, and fits.
pub fn packet(input: &[u8]) {
    let split = input.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    let (asked, said) = split.map_or((input, &[][..]), |at| (&input[..at], &input[at + SEPARATOR.len()..]));
    let answerer = Answerer::new(view(), true);
    for (transport, limit) in [(Transport::Udp, 4096), (Transport::Tcp, usize::from(u16::MAX))] {
        match answerer.reply(asked, transport) {
            Reply::Send(bytes) | Reply::Absent(bytes) => check(asked, &bytes, limit),
            Reply::Forward(forward) => {
                let answer = match Message::from_vec(said) {
                    Ok(said) => forward.complete(said),
                    Err(_) => forward.fail(ResponseCode::ServFail),
                };
                if let Some(bytes) = answer {
                    check(asked, &bytes, limit);
                }
            }
            Reply::Nothing => {}
        }
    }
}

fn check(asked: &[u8], bytes: &[u8], limit: usize) {
    assert!(bytes.len() <= limit, "{} bytes", bytes.len());
    let answer = Message::from_vec(bytes).unwrap_or_else(|error| panic!("an answer that can't be read: {error}"));
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(asked[..2], answer.metadata.id.to_be_bytes());
    assert!(answer.queries.len() <= 1);
}

fn view() -> View {
    let view =
        View::new(Zone::new("cluster.local", &["10.77.0.0/24".parse().expect("a network"), "10.96.0.0/12".parse().expect("another")]));
    let outside =
        ServiceSpec { type_: Some("ExternalName".to_owned()), external_name: Some("db.example".to_owned()), ..ServiceSpec::default() };
    let headless = ServiceSpec { cluster_ip: Some("None".to_owned()), ..ServiceSpec::default() };
    let services = vec![service("a", headless), service("o", outside)];
    view.update(Update { services, slices: vec![slice("a", 40)] });
    view
}

fn service(name: &str, spec: ServiceSpec) -> (ObjectKey, Option<Arc<Service>>) {
    let mut service = Service { spec: Some(spec), ..Service::default() };
    service.metadata.name = Some(name.to_owned());
    service.metadata.namespace = Some("d".to_owned());
    (ObjectKey::new("d", name), Some(Arc::new(service)))
}

fn slice(of: &str, endpoints: u8) -> (ObjectKey, Option<Arc<EndpointSlice>>) {
    let endpoint = |number: u8| Endpoint {
        addresses: vec![format!("10.77.0.{}", number + 2)],
        hostname: Some(format!("{of}-{number}")),
        ..Endpoint::default()
    };
    let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
    slice.metadata.name = Some(of.to_owned());
    slice.metadata.namespace = Some("d".to_owned());
    slice.metadata.labels = Some([("kubernetes.io/service-name".to_owned(), of.to_owned())].into());
    slice.endpoints = Some((0..endpoints).map(endpoint).collect());
    (ObjectKey::new("d", of), Some(Arc::new(slice)))
}
