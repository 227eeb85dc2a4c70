use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use kinds::ObjectKey;
use plan::zone::{Update, Zone};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::Cluster;
use crate::query::{Answerer, Reply};
use crate::view::View;
use crate::wire::Transport;
use crate::{Config, Server};

const REDIS: &str = "redis.default.svc.cluster.local.";

fn service(name: &str, spec: ServiceSpec) -> (ObjectKey, Option<Arc<Service>>) {
    let mut service = Service { spec: Some(spec), ..Service::default() };
    service.metadata.name = Some(name.to_owned());
    service.metadata.namespace = Some("default".to_owned());
    (ObjectKey::new("default", name), Some(Arc::new(service)))
}

fn headless() -> ServiceSpec {
    ServiceSpec { cluster_ip: Some("None".to_owned()), ..ServiceSpec::default() }
}

fn slice(of: &str, endpoints: u8) -> (ObjectKey, Option<Arc<EndpointSlice>>) {
    let endpoint = |number: u8| Endpoint {
        addresses: vec![format!("10.77.0.{}", number + 2)],
        hostname: Some(format!("{of}-{number}")),
        conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
        ..Endpoint::default()
    };
    let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
    slice.metadata.name = Some(format!("{of}-slice"));
    slice.metadata.namespace = Some("default".to_owned());
    slice.metadata.labels = Some([("kubernetes.io/service-name".to_owned(), of.to_owned())].into());
    slice.endpoints = Some((0..endpoints).map(endpoint).collect());
    (ObjectKey::new("default", format!("{of}-slice")), Some(Arc::new(slice)))
}

fn view() -> View {
    let view = View::new(Zone::new("cluster.local", &[config().pods, config().services]));
    let external =
        ServiceSpec { type_: Some("ExternalName".to_owned()), external_name: Some("db.example.com".to_owned()), ..ServiceSpec::default() };
    let services = vec![service("redis", headless()), service("big", headless()), service("db", external)];
    view.update(Update { services, slices: vec![slice("redis", 3), slice("big", 100)] });
    view
}

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        domain: "cluster.local".to_owned(),
        pods: "10.77.0.0/24".parse().unwrap(),
        services: "10.96.0.0/12".parse().unwrap(),
        upstreams: Vec::new(),
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(name.parse().unwrap(), kind));
    message
}

fn answer(request: &Message, transport: Transport) -> Message {
    match Answerer::new(view(), true).reply(&request.to_vec().unwrap(), transport) {
        Reply::Send(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn addresses(message: &Message) -> BTreeSet<Ipv4Addr> {
    let address = |record: &Record| match record.data {
        RData::A(A(address)) => Some(address),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

#[test]
fn an_answer_repeats_the_question_as_it_was_spelt_and_says_who_it_is() {
    let request = question("ReDiS.default.SVC.cluster.local.", RecordType::A);
    let response = answer(&request, Transport::Udp);
    assert_eq!((response.metadata.id, response.metadata.response_code), (request.metadata.id, ResponseCode::NoError));
    assert!(response.metadata.authoritative && response.metadata.recursion_available && response.metadata.recursion_desired);
    assert_eq!(response.queries, request.queries);
    assert!(response.answers.iter().all(|record| record.ttl == 5 && record.name.eq_case(&request.queries[0].name)));
    assert_eq!(addresses(&response).len(), 3);
}

#[test]
fn absent_names_and_absent_records_are_never_remembered() {
    for (name, kind, code) in [
        ("none.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        (REDIS, RecordType::AAAA, ResponseCode::NoError),
        ("200.0.77.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let response = answer(&question(name, kind), Transport::Udp);
        assert_eq!((response.metadata.response_code, response.answers.len()), (code, 0), "{name}");
        let [Record { ttl: 0, data: RData::SOA(SOA { minimum: 0, .. }), name: zone, .. }] = response.authorities.as_slice() else {
            panic!("{name}: {:?}", response.authorities)
        };
        assert!(zone.zone_of(&name.parse::<Name>().unwrap()), "{zone} {name}");
    }
}

#[test]
fn addresses_come_in_another_order_from_one_time_to_the_next() {
    let answerer = Answerer::new(view(), true);
    let request = question(REDIS, RecordType::A).to_vec().unwrap();
    let first = || match answerer.reply(&request, Transport::Udp) {
        Reply::Send(bytes) => Message::from_vec(&bytes).unwrap().answers[0].data.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!((0..64).map(|_| first()).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn the_top_of_the_zone_says_its_authority() {
    let response = answer(&question("cluster.local.", RecordType::SOA), Transport::Udp);
    assert!(matches!(response.answers.as_slice(), [Record { data: RData::SOA(_), .. }]));
}

#[test]
fn a_large_answer_is_cut_to_what_the_client_takes_and_whole_by_tcp() {
    let mut request = question("big.default.svc.cluster.local.", RecordType::A);
    let size = |request: &Message| match Answerer::new(view(), true).reply(&request.to_vec().unwrap(), Transport::Udp) {
        Reply::Send(bytes) => bytes.len(),
        other => panic!("{other:?}"),
    };
    let plain = answer(&request, Transport::Udp);
    assert!(plain.metadata.truncation && size(&request) <= 512 && plain.answers.len() > 10 && plain.edns.is_none());
    assert_eq!(addresses(&answer(&request, Transport::Tcp)).len(), 100);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    request.edns = Some(edns);
    let larger = answer(&request, Transport::Udp);
    assert!(larger.metadata.truncation && size(&request) <= 1232 && larger.answers.len() > plain.answers.len() && larger.edns.is_some());
    request.edns.as_mut().unwrap().set_max_payload(4096);
    assert!(!answer(&request, Transport::Udp).metadata.truncation);
}

#[test]
fn what_is_not_a_plain_question_is_refused_by_its_code() {
    let refused = |change: &dyn Fn(&mut Message)| {
        let mut request = question(REDIS, RecordType::A);
        change(&mut request);
        answer(&request, Transport::Udp).metadata.response_code
    };
    assert_eq!(refused(&|request| request.metadata.op_code = OpCode::Notify), ResponseCode::NotImp);
    assert_eq!(refused(&|request| request.queries.clear()), ResponseCode::FormErr);
    assert_eq!(refused(&|request| request.queries.push(request.queries[0].clone())), ResponseCode::FormErr);
    assert_eq!(refused(&|request| request.queries[0].query_type = RecordType::AXFR), ResponseCode::Refused);
    assert_eq!(refused(&|request| request.queries[0].query_class = hickory_proto::rr::DNSClass::CH), ResponseCode::Refused);
}

#[test]
fn answers_and_fragments_are_not_answered() {
    let answerer = Answerer::new(view(), true);
    let response = answer(&question(REDIS, RecordType::A), Transport::Udp).to_vec().unwrap();
    assert!(matches!(answerer.reply(&response, Transport::Udp), Reply::Nothing));
    assert!(matches!(answerer.reply(&response[..11], Transport::Udp), Reply::Nothing));
}

#[test]
fn only_pods_and_the_node_are_served() {
    let mut config = config();
    config.listen = vec!["10.77.0.1:53".parse().unwrap(), "192.0.2.7:53".parse().unwrap()];
    let served = |text: &str| config.serves(text.parse().unwrap());
    assert!(served("10.77.0.200") && served("127.0.0.1") && served("192.0.2.7"));
    assert!(!served("10.78.0.1") && !served("192.0.2.8") && !served("2001:db8::1"));
}

static ANSWERER: LazyLock<Answerer> = LazyLock::new(|| Answerer::new(view(), true));

proptest! {
    #[test]
    fn no_packet_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
        ANSWERER.reply(&bytes, Transport::Udp);
    }

    #[test]
    fn no_damaged_question_makes_it_panic(damage in proptest::collection::vec((0..64_usize, any::<u8>()), 1..6), cut in 0..64_usize) {
        let mut request = question("_redis._tcp.redis.default.svc.cluster.local.", RecordType::SRV);
        request.edns = Some(Edns::new());
        let mut bytes = request.to_vec().unwrap();
        for (position, byte) in damage {
            let position = position % bytes.len();
            bytes[position] = byte;
        }
        bytes.truncate(bytes.len() - cut % 8);
        ANSWERER.reply(&bytes, Transport::Udp);
    }
}

async fn serve(upstreams: Vec<SocketAddr>) -> Server {
    let (sender, complete) = watch::channel(true);
    let server = Server::listen(Config { upstreams, ..config() }, view(), complete).await.unwrap();
    drop(sender);
    server
}

async fn by_udp(server: &Server, request: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&request.to_vec().unwrap(), server.addresses()[0]).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn over(stream: &mut TcpStream, request: &Message) -> Message {
    let bytes = request.to_vec().unwrap();
    stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

/// A name server of the world: knows every name, and cuts its answers short by UDP.
async fn upstream() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let answer = |packet: &[u8], whole: bool| {
        let mut message = Message::from_vec(packet).unwrap().into_response();
        message.metadata.truncation = !whole;
        let name = message.queries[0].name.clone();
        let record = Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 77].into())));
        message.answers.extend(whole.then_some(record));
        message.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
            udp.send_to(b"nonsense", client).await.unwrap();
            udp.send_to(&answer(&buffer[..length], false), client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut packet = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut packet).await.unwrap();
            let bytes = answer(&packet, true);
            stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn it_answers_by_udp_and_several_questions_over_one_connection() {
    let server = serve(Vec::new()).await;
    server.ready().await;
    let request = question(REDIS, RecordType::A);
    assert_eq!(addresses(&by_udp(&server, &request).await).len(), 3);
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(addresses(&over(&mut stream, &request).await).len(), 3);
    }
}

#[tokio::test]
async fn other_names_are_asked_for_upstream_by_tcp_if_need_be() {
    let server = serve(vec![upstream().await]).await;
    let response = by_udp(&server, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&response), [[192, 0, 2, 77].into()].into());
    assert!(!response.metadata.authoritative && !response.metadata.truncation);
}

#[tokio::test]
async fn an_external_name_is_answered_with_the_addresses_of_its_target() {
    let server = serve(vec![upstream().await]).await;
    let response = by_udp(&server, &question("db.default.svc.cluster.local.", RecordType::A)).await;
    assert!(matches!(&response.answers[0].data, RData::CNAME(target) if target.0.to_ascii() == "db.example.com."));
    assert_eq!(addresses(&response), [[192, 0, 2, 77].into()].into());
}

#[tokio::test]
async fn without_upstream_servers_other_names_are_refused() {
    let server = serve(Vec::new()).await;
    let response = by_udp(&server, &question("www.example.com.", RecordType::A)).await;
    assert_eq!(response.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn questions_that_come_before_the_zone_is_complete_are_answered_when_it_is() {
    let (sender, complete) = watch::channel(false);
    let server = Server::listen(config(), view(), complete).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(REDIS, RecordType::A).to_vec().unwrap(), server.addresses()[0]).await.unwrap();
    let mut buffer = [0; 512];
    assert!(timeout(Duration::from_millis(20), socket.recv(&mut buffer)).await.is_err());
    sender.send_replace(true);
    assert!(timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap() > 12);
}

#[tokio::test]
async fn a_pod_that_comes_a_moment_after_the_question_is_found() {
    let view = view();
    let (sender, complete) = watch::channel(true);
    let server = Server::listen(config(), view.clone(), complete).await.unwrap();
    let request = question("redis-7.redis.default.svc.cluster.local.", RecordType::A);
    let comes = async {
        // Something else changes first.
        for (of, endpoints) in [("big", 101), ("redis", 8)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
            view.update(Update { services: Vec::new(), slices: vec![slice(of, endpoints)] });
        }
    };
    let (response, ()) = tokio::join!(by_udp(&server, &request), comes);
    assert_eq!(addresses(&response), [[10, 77, 0, 9].into()].into());
    // Over a connection likewise; and what does not come is absent after all.
    view.update(Update { services: Vec::new(), slices: vec![slice("redis", 3)] });
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    assert_eq!(over(&mut stream, &request).await.metadata.response_code, ResponseCode::NXDomain);
    drop(sender);
}

#[tokio::test]
async fn a_pod_that_gets_an_address_is_found_and_one_that_goes_is_not() {
    let cluster = Cluster::new(service("redis", headless()).1.as_deref().unwrap());
    let server = Server::start(config(), cluster.informer("services"), cluster.informer("endpointslices")).await.unwrap();
    server.ready().await;
    let request = question("redis-1.redis.default.svc.cluster.local.", RecordType::A);
    let code = async || by_udp(&server, &request).await.metadata.response_code;
    assert_eq!(code().await, ResponseCode::NXDomain);
    let slices = |endpoints| slice("redis", endpoints).1.unwrap();
    for (event, endpoints, expected) in [
        ("ADDED", 2, ResponseCode::NoError),
        ("MODIFIED", 1, ResponseCode::NXDomain),
        ("MODIFIED", 2, ResponseCode::NoError),
        ("DELETED", 2, ResponseCode::NXDomain),
    ] {
        cluster.tell(event, &slices(endpoints));
        let found = async {
            while code().await != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), found).await.unwrap();
    }
}
