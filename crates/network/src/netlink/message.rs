//! Writing messages.

/// The bytes before the fixed part: length, type, flags, sequence number, port.
pub(super) const HEADER: usize = 16;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// One request. Attribute numbers are the kernel's.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// What it is about, for the error should the kernel refuse it.
    subject: String,
}

impl Message {
    /// A request of a kind, with its fixed part.
    pub(crate) fn new(kind: u16, fixed: &[u8], subject: impl Into<String>) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes, subject: subject.into() }.flag(REQUEST)
    }

    /// Makes the object, which must not exist.
    pub(crate) fn create(self) -> Self {
        self.flag(CREATE | EXCLUSIVE)
    }

    /// Makes the object, or changes the one that exists.
    pub(crate) fn create_or_replace(self) -> Self {
        self.flag(CREATE | REPLACE)
    }

    /// Makes the object; finding it there already is no error.
    pub(crate) fn create_or_keep(self) -> Self {
        self.flag(CREATE)
    }

    /// Adds the object behind the others of its kind.
    pub(crate) fn append(self) -> Self {
        self.flag(CREATE | APPEND)
    }

    /// Asks for every object there is.
    pub(crate) fn dump(self) -> Self {
        self.flag(DUMP)
    }

    /// Asks to be told when it has been done.
    pub(super) fn acknowledge(self) -> Self {
        self.flag(ACKNOWLEDGE)
    }

    fn flag(mut self, flag: u16) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flag;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// An attribute of raw bytes.
    pub(crate) fn bytes(mut self, attribute: u16, value: &[u8]) -> Self {
        let start = self.begin(attribute);
        self.bytes.extend_from_slice(value);
        self.end(start)
    }

    /// A text with a final zero.
    pub(crate) fn text(mut self, attribute: u16, value: &str) -> Self {
        let start = self.begin(attribute);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.end(start)
    }

    /// A number in the machine's byte order, as rtnetlink has it.
    pub(crate) fn number(self, attribute: u16, value: u32) -> Self {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    /// A number in network byte order, as netfilter has it.
    pub(crate) fn big(self, attribute: u16, value: u32) -> Self {
        self.bytes(attribute, &value.to_be_bytes())
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(mut self, attribute: u16, content: impl FnOnce(Self) -> Self) -> Self {
        let start = self.begin(attribute | NESTED);
        content(self).end(start)
    }

    /// Bytes without an attribute around them, for a fixed part inside an attribute.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// How long it is so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What it is about.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// The finished bytes, under a sequence number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a message is far smaller than 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn begin(&mut self, attribute: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&attribute.to_ne_bytes());
        start
    }

    fn end(mut self, start: usize) -> Self {
        let length = u16::try_from(self.bytes.len() - start).expect("lists are cut into messages before they reach 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}
