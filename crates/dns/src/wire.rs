//! Between the zone's records and DNS messages.

use std::sync::Arc;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use plan::zone::{self, Data, Kind};

use crate::LIFETIME;

/// The largest answer by UDP, whatever the client offers.
const MAX_UDP: u16 = 4096;
/// What we can receive ourselves without the network cutting it.
const OUR_PAYLOAD: u16 = 1232;
const NEVER_REMEMBERED: u32 = 0;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The name as the zone knows it: in lower case, without a final dot. A label that no object could have becomes one that
/// none has.
pub(crate) fn key_of(name: &Name) -> String {
    let mut key = String::with_capacity(usize::from(name.num_labels()) * 12);
    for label in name.iter() {
        if !key.is_empty() {
            key.push('.');
        }
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        key.extend(label.iter().map(|byte| if plain(byte) { char::from(byte.to_ascii_lowercase()) } else { '?' }));
    }
    key
}

pub(crate) fn kind_of(record_type: RecordType) -> Kind {
    match record_type {
        RecordType::A => Kind::Address,
        RecordType::SRV => Kind::Service,
        RecordType::PTR => Kind::Pointer,
        RecordType::CNAME => Kind::Alias,
        RecordType::TXT => Kind::Text,
        _ => Kind::Other,
    }
}

/// A record of the zone for a message; none if a name in it is none DNS can carry. The owner keeps the spelling of the
/// question.
pub(crate) fn record_of(record: &zone::Record, question: &Name, key: &str) -> Option<Record> {
    let owner = if *record.name == *key { question.clone() } else { name_of(&record.name)? };
    let data = match &record.data {
        Data::Address(address) => RData::A(A(*address)),
        Data::Service { port, target } => RData::SRV(SRV::new(0, 100, *port, name_of(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(name_of(target)?)),
        Data::Alias(target) => RData::CNAME(CNAME(name_of(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.to_string()])),
    };
    Some(Record::from_rdata(owner, LIFETIME, data))
}

/// What says who answers, and that nothing is not to be remembered.
pub(crate) fn start_of_authority(apex: &Arc<str>) -> Option<Record> {
    let (server, mailbox) = (name_of(&format!("ns.dns.{apex}"))?, name_of(&format!("hostmaster.{apex}"))?);
    let data = RData::SOA(SOA::new(server, mailbox, 1, 7200, 1800, 86400, NEVER_REMEMBERED));
    Some(Record::from_rdata(name_of(apex)?, NEVER_REMEMBERED, data))
}

/// A fully qualified name.
pub(crate) fn name_of(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Says to a client who speaks EDNS that we do too.
pub(crate) fn edns_for(request: &Message) -> Option<Edns> {
    request.edns.as_ref().map(|_| our_edns())
}

pub(crate) fn our_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(OUR_PAYLOAD);
    edns
}

/// The most bytes a client can take.
pub(crate) fn limit_for(request: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Udp => usize::from(request.max_payload().min(MAX_UDP)),
        Transport::Tcp => usize::from(u16::MAX),
    }
}

/// The bytes of a message. If there are too many, first what is additional goes, then answers, which the client is told.
pub(crate) fn encode(message: &mut Message, limit: usize) -> Result<Vec<u8>, ProtoError> {
    loop {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        message.emit(&mut encoder)?;
        let nothing_left = message.additionals.is_empty() && message.authorities.is_empty() && message.answers.is_empty();
        if bytes.len() <= limit || nothing_left {
            return Ok(bytes);
        }
        shorten(message, bytes.len(), limit);
    }
}

fn shorten(message: &mut Message, length: usize, limit: usize) {
    if !message.additionals.is_empty() {
        message.additionals.clear();
        return;
    }
    message.metadata.truncation = true;
    if message.answers.is_empty() {
        message.authorities.clear();
        return;
    }
    // At least one fewer, so that this ends.
    let fitting = message.answers.len() * limit / length.max(1);
    message.answers.truncate(fitting.min(message.answers.len() - 1));
}
