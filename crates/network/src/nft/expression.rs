//! What a rule consists of: expressions that load registers, compare them, and act.

use crate::netlink::Message;

const DNAT: u32 = 1;
const INET: u32 = 2;
const RANDOM: u32 = 1;
const UPDATE: u32 = 1;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
const FIRST_REGISTER: u32 = 8;
const RANDOM_FULLY: u32 = 1 << 4;
const DROP: u32 = 0;
const PORT_UNREACHABLE: u8 = 3;

/// One of sixteen registers of four bytes; what is longer takes the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    fn number(self) -> u32 {
        FIRST_REGISTER + self.0
    }
}

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Source,
    Destination,
    DestinationPort,
    IcmpType,
}

/// How a client is told that nobody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    TcpReset,
    IcmpPort,
}

/// One expression. Sets are named together with the number they have in the transaction that makes them, or zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    Load {
        field: Header,
        into: Register,
    },
    LoadProtocol(Register),
    LoadOutputName(Register),
    Equal {
        register: Register,
        value: Vec<u8>,
    },
    Different {
        register: Register,
        value: Vec<u8>,
    },
    Mask {
        register: Register,
        mask: [u8; 4],
    },
    /// Goes on only if the key is in the set.
    Contains {
        set: String,
        key: Register,
    },
    /// Goes where the map says, or on if it says nothing.
    Dispatch {
        map: String,
        key: Register,
    },
    /// Loads what the map says, or ends the rule if it says nothing.
    Translate {
        map: String,
        id: u32,
        key: Register,
        into: Register,
    },
    /// Puts the pair into the map for some milliseconds from now on.
    Remember {
        map: String,
        key: Register,
        value: Register,
        milliseconds: u64,
    },
    Random {
        below: u32,
        into: Register,
    },
    DestinationNat {
        address: Register,
        port: Register,
    },
    Masquerade,
    Reject(Unreachable),
    Drop,
}

impl Expression {
    /// Only what is for this protocol goes on.
    pub(crate) fn protocol(number: u8, scratch: Register) -> [Self; 2] {
        [Self::LoadProtocol(scratch), Self::Equal { register: scratch, value: vec![number] }]
    }

    /// Writes the expression as an element of a rule's list.
    pub(super) fn write(&self, message: Message) -> Message {
        message.nest(1, |message| message.text(1, self.name()).nest(2, |data| self.data(data)))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Load { .. } => "payload",
            Self::LoadProtocol(_) | Self::LoadOutputName(_) => "meta",
            Self::Equal { .. } | Self::Different { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Contains { .. } | Self::Dispatch { .. } | Self::Translate { .. } => "lookup",
            Self::Remember { .. } => "dynset",
            Self::Random { .. } => "numgen",
            Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Drop => "immediate",
        }
    }

    fn data(&self, data: Message) -> Message {
        match self {
            Self::Load { field, into } => load(data, *field, *into),
            Self::LoadProtocol(into) => data.big(1, into.number()).big(2, META_L4PROTO),
            Self::LoadOutputName(into) => data.big(1, into.number()).big(2, META_OIFNAME),
            Self::Equal { register, value } => compare(data, *register, 0, value),
            Self::Different { register, value } => compare(data, *register, 1, value),
            Self::Mask { register, mask } => {
                let number = register.number();
                data.big(1, number).big(2, number).big(3, 4).nest(4, |data| data.bytes(1, mask)).nest(5, |data| data.bytes(1, &[0; 4]))
            }
            Self::Contains { set, key } => data.text(1, set).big(2, key.number()),
            Self::Dispatch { map, key } => data.text(1, map).big(2, key.number()).big(3, VERDICT_REGISTER),
            Self::Translate { map, id, key, into } => data.text(1, map).big(2, key.number()).big(3, into.number()).big(4, *id),
            Self::Remember { map, key, value, milliseconds } => {
                let data = data.text(1, map).big(3, UPDATE).big(4, key.number()).big(5, value.number());
                data.bytes(6, &milliseconds.to_be_bytes())
            }
            Self::Random { below, into } => data.big(1, into.number()).big(2, *below).big(3, RANDOM).big(4, 0),
            Self::DestinationNat { address, port } => data.big(1, DNAT).big(2, INET).big(3, address.number()).big(5, port.number()),
            Self::Masquerade => data.big(1, RANDOM_FULLY),
            Self::Reject(Unreachable::TcpReset) => data.big(1, 1),
            Self::Reject(Unreachable::IcmpPort) => data.big(1, 0).bytes(2, &[PORT_UNREACHABLE]),
            Self::Drop => data.big(1, VERDICT_REGISTER).nest(2, |data| data.nest(2, |verdict| verdict.big(1, DROP))),
        }
    }
}

fn load(data: Message, field: Header, into: Register) -> Message {
    let (base, offset, length) = match field {
        Header::Source => (NETWORK_HEADER, 12, 4),
        Header::Destination => (NETWORK_HEADER, 16, 4),
        Header::DestinationPort => (TRANSPORT_HEADER, 2, 2),
        Header::IcmpType => (TRANSPORT_HEADER, 0, 1),
    };
    data.big(1, into.number()).big(2, base).big(3, offset).big(4, length)
}

fn compare(data: Message, register: Register, operation: u32, value: &[u8]) -> Message {
    data.big(1, register.number()).big(2, operation).nest(3, |data| data.bytes(1, value))
}
