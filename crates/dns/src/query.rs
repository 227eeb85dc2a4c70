//! From a client's packet to what is to be done about it: without waiting, and without trusting a byte of it.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use plan::zone::{Answer, Outcome};

use crate::view::View;
use crate::wire::{self, Transport, edns_for, encode, key_of, kind_of, limit_for, record_of, start_of_authority};

const HEADER: usize = 12;
/// A packet with this bit in its third byte is itself an answer.
const IS_ANSWER: u8 = 0x80;
/// What a question may carry besides itself: EDNS and a signature.
const MAX_EXTRA: u16 = 2;

/// What is to be done about a packet.
#[derive(Debug)]
pub(crate) enum Reply {
    Send(Vec<u8>),
    /// This is to be sent if the name does not come in a moment.
    Absent(Vec<u8>),
    /// Others have to be asked.
    Forward(Box<Forward>),
    /// It is no question.
    Nothing,
}

/// A question for others, and the answer as far as it is known.
#[derive(Debug)]
pub(crate) struct Forward {
    /// What is to be asked.
    pub(crate) question: Query,
    /// The answer's beginning: the client's question and the aliases that led here.
    response: Message,
    limit: usize,
}

impl Forward {
    /// The finished answer, with what others said.
    pub(crate) fn complete(mut self, said: Message) -> Option<Vec<u8>> {
        self.response.metadata.response_code = said.metadata.response_code;
        self.response.metadata.truncation = said.metadata.truncation;
        self.response.answers.extend(said.answers);
        self.response.authorities = said.authorities;
        self.response.additionals = said.additionals;
        encode(&mut self.response, self.limit).ok()
    }

    /// The answer when nobody else could be asked.
    pub(crate) fn fail(mut self, code: ResponseCode) -> Option<Vec<u8>> {
        self.response.metadata.response_code = code;
        encode(&mut self.response, self.limit).ok()
    }
}

/// Answers from the view.
#[derive(Debug)]
pub(crate) struct Answerer {
    view: View,
    /// Differs for each answer, so that addresses come in another order.
    seed: AtomicU64,
    /// Whether other names can be asked for elsewhere.
    recursion: bool,
}

impl Answerer {
    pub(crate) fn new(view: View, recursion: bool) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { view, seed: AtomicU64::new(u64::from(now.subsec_nanos()) << 32), recursion }
    }

    /// Decides about one packet.
    pub(crate) fn reply(&self, packet: &[u8], transport: Transport) -> Reply {
        let Some(header) = packet.get(..HEADER).filter(|header| header[2] & IS_ANSWER == 0) else { return Reply::Nothing };
        let request = match read(packet, header) {
            Ok(request) => request,
            Err(code) => return refuse(u16::from_be_bytes([header[0], header[1]]), code),
        };
        let limit = limit_for(&request, transport);
        let mut response = self.begin(&request);
        let [question] = request.queries.as_slice() else { return finish(response, ResponseCode::FormErr, limit) };
        if let Some(code) = refusal(&request, question) {
            return finish(response, code, limit);
        }
        let key = key_of(&question.name);
        let answer = self.view.read().answer(&key, kind_of(question.query_type), self.seed.fetch_add(1, Ordering::Relaxed));
        let is_apex_question = question.query_type == RecordType::SOA && *answer.apex == *key;
        match answer.outcome {
            Outcome::NotOurs => Reply::Forward(Box::new(Forward { question: question.clone(), response, limit })),
            Outcome::Outside(ref target) => {
                let Some(name) = wire::name_of(target) else { return finish(response, ResponseCode::ServFail, limit) };
                fill(&mut response, &answer, &question.name, &key);
                Reply::Forward(Box::new(Forward { question: Query::query(name, question.query_type), response, limit }))
            }
            Outcome::NoData if is_apex_question => {
                response.metadata.authoritative = true;
                response.answers.extend(start_of_authority(&answer.apex));
                finish(response, ResponseCode::NoError, limit)
            }
            Outcome::Found | Outcome::NoData | Outcome::NoName => {
                fill(&mut response, &answer, &question.name, &key);
                match finish(response, code_of(&answer.outcome), limit) {
                    Reply::Send(bytes) if answer.outcome == Outcome::NoName && self.view.read().may_come(&key) => Reply::Absent(bytes),
                    reply => reply,
                }
            }
        }
    }

    /// Tells of every change of what is answered, from now on.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.view.changes()
    }

    fn begin(&self, request: &Message) -> Message {
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.metadata.recursion_available = self.recursion;
        response.queries.clone_from(&request.queries);
        response.edns = edns_for(request);
        response
    }
}

/// Reads a request, after a look at the counts: room is made for as many records as they promise.
fn read(packet: &[u8], header: &[u8]) -> Result<Message, ResponseCode> {
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > MAX_EXTRA {
        return Err(ResponseCode::FormErr);
    }
    Message::from_vec(packet).map_err(|_| ResponseCode::FormErr)
}

/// Why a question that can be read is not answered.
fn refusal(request: &Message, question: &Query) -> Option<ResponseCode> {
    if request.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    if request.version() > 0 {
        return Some(ResponseCode::BADVERS);
    }
    let transfer = matches!(question.query_type, RecordType::AXFR | RecordType::IXFR);
    (transfer || question.query_class != DNSClass::IN).then_some(ResponseCode::Refused)
}

fn fill(response: &mut Message, answer: &Answer, question: &Name, key: &str) {
    let records =
        |records: &[plan::zone::Record]| -> Vec<Record> { records.iter().filter_map(|record| record_of(record, question, key)).collect() };
    response.metadata.authoritative = true;
    response.answers = records(&answer.records);
    response.additionals = records(&answer.additional);
    if matches!(answer.outcome, Outcome::NoData | Outcome::NoName) {
        response.authorities.extend(start_of_authority(&answer.apex));
    }
}

fn code_of(outcome: &Outcome) -> ResponseCode {
    match outcome {
        Outcome::NoName => ResponseCode::NXDomain,
        _ => ResponseCode::NoError,
    }
}

fn finish(mut response: Message, code: ResponseCode, limit: usize) -> Reply {
    response.metadata.response_code = code;
    encode(&mut response, limit).map_or(Reply::Nothing, Reply::Send)
}

/// The answer to what could not be read.
fn refuse(id: u16, code: ResponseCode) -> Reply {
    let mut response = Message::error_msg(id, OpCode::Query, code);
    response.metadata.message_type = MessageType::Response;
    encode(&mut response, 512).map_or(Reply::Nothing, Reply::Send)
}
