//! One atomic change of one table.

use crate::NetworkError;
use crate::netlink::{Bus, Message, Socket};

use super::Expression;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The fixed part of a batch's ends: any family, version 0, for nf_tables.
const BATCH: [u8; 4] = [0, 0, 0, 10];
/// The fixed part of all else: IPv4, version 0, no resource.
const FAMILY: [u8; 4] = [2, 0, 0, 0];

const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DELETE_SET: u16 = SUBSYSTEM | 11;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

const ANONYMOUS_CONSTANT: u32 = 0x1 | 0x2;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const FROM_RULES: u32 = 0x20;
const VERDICT_DATA: u32 = 0xffff_ff00;
const GOTO: u32 = (-4_i32).cast_unsigned();
/// A list of elements is cut when it reaches this, well below what an attribute can hold.
const FULL_LIST: usize = 48 << 10;
/// How many clients a map of rules' making remembers.
const REMEMBERED: u32 = 65_536;
/// What the kernel makes of this name is unique.
const ANONYMOUS_NAME: &str = "__map%d";

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    NatPrerouting,
    NatOutput,
    NatPostrouting,
    FilterForward,
    FilterOutput,
}

impl Hook {
    /// The chain's type, the hook's number, the priority.
    fn place(self) -> (&'static str, u32, i32) {
        match self {
            Self::NatPrerouting => ("nat", 0, -100),
            Self::NatOutput => ("nat", 3, -100),
            Self::NatPostrouting => ("nat", 4, 100),
            Self::FilterForward => ("filter", 2, 0),
            Self::FilterOutput => ("filter", 3, 0),
        }
    }
}

/// The parts of a key or value, for those who list the rules. Each takes a whole number of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetType {
    Number,
    Address,
    Protocol,
    Port,
}

impl SetType {
    fn number(self) -> u32 {
        match self {
            Self::Number => 4,
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// What a set or a map is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetSpec<'a> {
    /// Keys alone.
    Keys(&'a [SetType]),
    /// From keys to chains.
    Verdicts(&'a [SetType]),
    /// From keys to values that rules put in and that go away by themselves.
    Remembered(&'a [SetType], &'a [SetType]),
}

/// Where a verdict map leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoTo(String),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Key(Vec<u8>),
    Verdict(Vec<u8>, Verdict),
    Value(Vec<u8>, Vec<u8>),
}

/// Steps that are done together or not at all.
#[derive(Debug)]
pub(crate) struct Transaction {
    table: String,
    messages: Vec<Message>,
    anonymous: u32,
}

impl Transaction {
    pub(crate) fn new(table: &str) -> Self {
        let begin = Message::new(BATCH_BEGIN, &BATCH, format!("changing table {table}"));
        Self { table: table.to_owned(), messages: vec![begin], anonymous: 0 }
    }

    /// Begins with an empty table, whatever was in it.
    pub(crate) fn replacing(table: &str, socket: &mut Socket) -> Result<Self, NetworkError> {
        let mut transaction = Self::deleting(table, socket)?;
        transaction.make_table();
        Ok(transaction)
    }

    /// Begins without the table, whatever was in it. One that is not there costs nothing: where something is deleted,
    /// the kernel waits until no packet sees it any more.
    pub(crate) fn deleting(table: &str, socket: &mut Socket) -> Result<Self, NetworkError> {
        let mut transaction = Self::new(table);
        let question = transaction.about(GET_TABLE, "looking").text(1, table);
        if socket.get(question)?.is_some() {
            let message = transaction.about(DELETE_TABLE, "deleting everything").text(1, table);
            transaction.messages.push(message);
        }
        Ok(transaction)
    }

    fn make_table(&mut self) {
        let message = self.about(NEW_TABLE, "making").text(1, &self.table).big(2, 0).create_or_keep();
        self.messages.push(message);
    }

    pub(crate) fn base_chain(&mut self, name: &str, hook: Hook) {
        let (kind, number, priority) = hook.place();
        let message = self.chain_message(NEW_CHAIN, name).nest(4, |hook| hook.big(1, number).big(2, priority.cast_unsigned()));
        self.messages.push(message.text(7, kind).create_or_keep());
    }

    pub(crate) fn chain(&mut self, name: &str) {
        self.messages.push(self.chain_message(NEW_CHAIN, name).create_or_keep());
    }

    /// Deletes a chain and its rules. Nothing may lead to it any more.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.messages.push(self.chain_message(DELETE_CHAIN, name));
    }

    /// Deletes all rules of a chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        let message = self.about(DELETE_RULE, &format!("emptying chain {name}")).text(1, &self.table).text(2, name);
        self.messages.push(message);
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn rule(&mut self, chain: &str, expressions: &[Expression]) {
        let message = self.about(NEW_RULE, &format!("adding a rule to chain {chain}")).text(1, &self.table).text(2, chain);
        let list = |list: Message| expressions.iter().fold(list, |list, expression| expression.write(list));
        self.messages.push(message.nest(4, list).append());
    }

    pub(crate) fn set(&mut self, name: &str, spec: SetSpec<'_>) {
        self.anonymous += 1;
        let message = self.about(NEW_SET, &format!("making set {name}")).text(1, &self.table).text(2, name);
        let keyed = |flags: u32, key: &[SetType]| message.big(3, flags).big(4, type_of(key)).big(5, length_of(key));
        let message = match spec {
            SetSpec::Keys(key) => keyed(0, key),
            SetSpec::Verdicts(key) => keyed(MAP, key).big(6, VERDICT_DATA),
            SetSpec::Remembered(key, value) => {
                let message = keyed(MAP | TIMEOUT | FROM_RULES, key).big(6, type_of(value)).big(7, length_of(value));
                message.nest(9, |description| description.big(1, REMEMBERED))
            }
        };
        self.messages.push(message.big(10, self.anonymous).create_or_keep());
    }

    /// A map that lives as long as the rule that names it; the number to name it by in this transaction.
    pub(crate) fn anonymous_map(&mut self, key: &[SetType], value: &[SetType], elements: Vec<Element>) -> (String, u32) {
        self.anonymous += 1;
        let size = u32::try_from(elements.len()).unwrap_or(u32::MAX);
        let message = self.about(NEW_SET, "making a map").text(1, &self.table).text(2, ANONYMOUS_NAME);
        let message = message.big(3, ANONYMOUS_CONSTANT | MAP).big(4, type_of(key)).big(5, length_of(key));
        let message = message.big(6, type_of(value)).big(7, length_of(value)).nest(9, |description| description.big(1, size));
        self.messages.push(message.big(10, self.anonymous).create_or_keep());
        self.elements(NEW_ELEMENT, ANONYMOUS_NAME, self.anonymous, elements);
        (ANONYMOUS_NAME.to_owned(), self.anonymous)
    }

    /// Deletes a set no rule names any more.
    pub(crate) fn delete_set(&mut self, name: &str) {
        let message = self.about(DELETE_SET, &format!("deleting set {name}")).text(1, &self.table).text(2, name);
        self.messages.push(message);
    }

    pub(crate) fn add_elements(&mut self, set: &str, elements: Vec<Element>) {
        self.elements(NEW_ELEMENT, set, 0, elements);
    }

    pub(crate) fn delete_elements(&mut self, set: &str, elements: Vec<Element>) {
        self.elements(DELETE_ELEMENT, set, 0, elements);
    }

    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// Does all of it, or nothing.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), NetworkError> {
        if self.is_empty() {
            return Ok(());
        }
        self.messages.push(Message::new(BATCH_END, &BATCH, ""));
        socket.transact(self.messages).map_err(NetworkError::from)
    }

    /// One message for as many elements as fit.
    fn elements(&mut self, kind: u16, set: &str, id: u32, elements: Vec<Element>) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let message = self.element_message(kind, set, id).nest(3, |mut list| {
                let start = list.len();
                while list.len() - start < FULL_LIST
                    && let Some(element) = elements.next()
                {
                    list = list.nest(1, |message| write_element(message, &element));
                }
                list
            });
            self.messages.push(message.create_or_keep());
        }
    }

    fn element_message(&self, kind: u16, set: &str, id: u32) -> Message {
        let verb = if kind == NEW_ELEMENT { "adding to" } else { "deleting from" };
        let message = self.about(kind, &format!("{verb} set {set}")).text(1, &self.table).text(2, set);
        if id == 0 { message } else { message.big(4, id) }
    }

    fn chain_message(&self, kind: u16, name: &str) -> Message {
        let verb = if kind == NEW_CHAIN { "making" } else { "deleting" };
        self.about(kind, &format!("{verb} chain {name}")).text(1, &self.table).text(3, name)
    }

    fn about(&self, kind: u16, action: &str) -> Message {
        Message::new(kind, &FAMILY, format!("{action} in table {}", self.table))
    }
}

/// A connection to nf_tables. Closing it waits until the kernel has freed what was deleted, some ten milliseconds: who
/// changes often keeps it.
pub(crate) fn open() -> Result<Socket, NetworkError> {
    Socket::open(Bus::Netfilter).map_err(|source| NetworkError::Kernel { action: "opening nf_tables".to_owned(), source })
}

fn write_element(message: Message, element: &Element) -> Message {
    let key = |message: Message, key: &[u8]| message.nest(1, |data| data.bytes(1, key));
    match element {
        Element::Key(bytes) => key(message, bytes),
        Element::Value(bytes, value) => key(message, bytes).nest(2, |data| data.bytes(1, value)),
        Element::Verdict(bytes, Verdict::GoTo(chain)) => {
            key(message, bytes).nest(2, |data| data.nest(2, |verdict| verdict.big(1, GOTO).text(2, chain)))
        }
    }
}

fn type_of(parts: &[SetType]) -> u32 {
    parts.iter().fold(0, |number, part| (number << 6) | part.number())
}

fn length_of(parts: &[SetType]) -> u32 {
    u32::try_from(parts.len() * 4).unwrap_or(0)
}
