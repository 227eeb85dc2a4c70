//! SPDY/3.1, the server's side: many streams over one connection. Older clients speak it, and newer ones through a WebSocket.
//!
//! # Guarantees
//! * A stream holds a bounded amount of what its reader has not taken; then the connection waits. A client that keeps to its windows never
//!   gets there.
//! * A connection whose client is gone ends, also while it waits: an idle one is asked now and then.
//! * A connection's end ends all its streams.
//! * Windows of clients that keep them are respected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod arrivals;
mod credit;
mod dictionary;
mod frame;
pub(super) mod fuzz;
mod headers;
mod transport;

use super::upgrade::IDLE;
use crate::Task;
use arrivals::Account;
pub(super) use arrivals::{Arrivals, Input, queue};
use credit::Credit;
use frame::{Decoder, Frame};
pub(super) use headers::Headers;
pub(super) use transport::{Incoming, Outgoing};

/// How many streams a connection may have at a time.
const MAX_STREAMS: usize = 2000;
/// Frames that wait to be written; then who writes waits.
const AHEAD: usize = 16;
/// New streams that wait to be taken.
const UNTAKEN: usize = 16;
/// What may be sent on the whole connection before the first credit, as the protocol says.
const CONNECTION_WINDOW: u32 = 64 << 10;

/// Why a stream is ended at once, by the protocol's numbers.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;
const FLOW_CONTROL_ERROR: u32 = 7;

/// One connection. Dropping it ends it abruptly: call [`Session::end`].
pub(super) struct Session {
    opened: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Bytes>,
    last: u32,
    writer: JoinHandle<()>,
    _reader: Task,
}

/// A stream that the client has opened.
#[derive(Debug)]
pub(super) struct Stream {
    pub headers: Headers,
    /// Its end is the end of what the client says.
    pub input: Input,
    pub output: Output,
}

/// Our side of a stream.
#[derive(Debug)]
pub(super) struct Output {
    stream: u32,
    frames: mpsc::Sender<Bytes>,
    credit: Arc<Credit>,
    /// The whole connection's.
    shared: Arc<Credit>,
}

impl Session {
    /// Begins to read and to write.
    pub(super) fn begin(incoming: Incoming, outgoing: Outgoing) -> Self {
        let (frames, to_write) = mpsc::channel(AHEAD);
        let (taken, opened) = mpsc::channel(UNTAKEN);
        let receiving = Receiving {
            streams: BTreeMap::new(),
            last: 0,
            headers: headers::Reader::new(),
            replies: headers::Writer::default(),
            frames: frames.clone(),
            opened: taken,
            window: None,
            keeps_windows: Arc::default(),
            shared: Arc::new(Credit::new(None)),
        };
        let writer = tokio::spawn(write(outgoing, to_write));
        Self { opened, frames, last: 0, writer, _reader: Task::start(receiving.run(incoming)) }
    }

    /// The next stream that the client opens. `None` when the connection has ended.
    pub(super) async fn accept(&mut self) -> Option<Stream> {
        let stream = self.opened.recv().await?;
        self.last = stream.output.stream;
        Some(stream)
    }

    /// Waits until nothing can be written any more.
    pub(super) async fn gone(&self) {
        self.frames.closed().await;
    }

    /// Says that it was all, and returns when everything is written.
    pub(super) async fn end(self) {
        let Self { frames, last, writer, .. } = self;
        let _gone = frames.send(Frame::GoAway { last, status: 0 }.encode().into()).await;
        drop(frames);
        drop(self.opened);
        drop(self._reader);
        let _ended = writer.await;
    }
}

impl Stream {
    /// The value of one of its headers.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl Output {
    /// Sends bytes, as fast as they are taken. False if nobody wants them any more.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some(room) = self.credit.take(bytes.len().min(frame::MAX_DATA)).await else { return false };
            let Some(shared) = self.shared.take(room).await else { return false };
            // Room that the connection has not is given back to the stream.
            self.credit.give(u32::try_from(room - shared).unwrap_or(0));
            let (piece, rest) = bytes.split_at(shared);
            if !self.tell(Frame::Data { stream: self.stream, fin: false, bytes: Bytes::copy_from_slice(piece) }).await {
                return false;
            }
            bytes = rest;
        }
        true
    }

    /// Waits until nobody wants anything any more.
    pub(super) async fn closed(&self) {
        self.credit.closed().await;
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&self) {
        if !self.credit.is_closed() {
            self.credit.close();
            self.tell(Frame::Data { stream: self.stream, fin: true, bytes: Bytes::new() }).await;
        }
    }

    /// Ends the stream in both directions, because it makes no sense.
    pub(super) async fn refuse(&self) {
        self.credit.close();
        self.tell(Frame::Reset { stream: self.stream, status: PROTOCOL_ERROR }).await;
    }

    async fn tell(&self, frame: Frame) -> bool {
        self.frames.send(frame.encode().into()).await.is_ok()
    }
}

async fn write(mut outgoing: Outgoing, mut frames: mpsc::Receiver<Bytes>) {
    let mut ping = 0_u32;
    loop {
        let frame = match timeout(IDLE, frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            // Nobody waits for the answer: that it can be written is what counts. Ours have even numbers.
            Err(_) => {
                ping = ping.wrapping_add(2);
                Frame::Ping { id: ping }.encode().into()
            }
        };
        if !outgoing.write(frame).await {
            return;
        }
    }
    outgoing.close().await;
}

/// The reading side of a connection.
struct Receiving {
    streams: BTreeMap<u32, Known>,
    /// The newest stream's number; they only grow.
    last: u32,
    headers: headers::Reader,
    replies: headers::Writer,
    frames: mpsc::Sender<Bytes>,
    opened: mpsc::Sender<Stream>,
    /// The client keeps windows; new streams begin with this one.
    window: Option<u32>,
    /// The same, for those who take what it says.
    keeps_windows: Arc<AtomicBool>,
    shared: Arc<Credit>,
}

/// A stream as the reading side knows it.
struct Known {
    /// Gone when the client has said all.
    input: Option<Arrivals>,
    credit: Arc<Credit>,
}

impl Known {
    fn is_over(&self) -> bool {
        self.credit.is_closed() && self.input.as_ref().is_none_or(Arrivals::is_unwanted)
    }
}

/// Nothing more is to be read: the connection makes no sense, or nobody is there for it.
struct Ends;

impl Receiving {
    async fn run(mut self, mut incoming: Incoming) {
        let mut received = BytesMut::new();
        let mut decoder = Decoder::default();
        'connection: while incoming.read(&mut received).await {
            loop {
                match decoder.decode(&mut received) {
                    Ok(Some(frame)) => {
                        if self.frame(frame).await.is_err() {
                            break 'connection;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "a SPDY connection is given up");
                        break 'connection;
                    }
                }
            }
        }
        self.streams.values().for_each(|stream| stream.credit.close());
        self.shared.close();
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Ends> {
        match frame {
            Frame::Open { stream, fin, headers } => self.open(stream, fin, &headers).await,
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::Reset { stream, .. } => {
                if let Some(known) = self.streams.remove(&stream) {
                    known.credit.close();
                }
                Ok(())
            }
            Frame::Settings { initial_window: Some(window) } => {
                if self.window.is_none() {
                    self.shared = Arc::new(Credit::new(Some(CONNECTION_WINDOW)));
                }
                self.window = Some(window);
                self.keeps_windows.store(true, Ordering::Relaxed);
                Ok(())
            }
            Frame::Window { stream: 0, credit } => {
                if self.shared.give(credit) {
                    Ok(())
                } else {
                    Err(Ends)
                }
            }
            Frame::Window { stream, credit } => match self.streams.get(&stream) {
                Some(known) if !known.credit.give(credit) => {
                    known.credit.close();
                    self.tell(Frame::Reset { stream, status: FLOW_CONTROL_ERROR }).await
                }
                _ => Ok(()),
            },
            // The client's have odd numbers; an even one answers ours.
            Frame::Ping { id } if id % 2 == 1 => self.tell(Frame::Ping { id }).await,
            Frame::Headers { headers, .. } => {
                // Nobody asks for them, but what follows is compressed with them.
                self.headers.read(&headers).map(drop).map_err(|_| Ends)
            }
            Frame::Reply { .. } | Frame::Settings { .. } | Frame::Ping { .. } | Frame::GoAway { .. } => Ok(()),
        }
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: &[u8]) -> Result<(), Ends> {
        let headers = self.headers.read(headers).map_err(|error| {
            tracing::debug!(%error, "a SPDY connection is given up");
            Ends
        })?;
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(Ends);
        }
        self.last = stream;
        self.streams.retain(|_, known| !known.is_over());
        if self.streams.len() >= MAX_STREAMS {
            return self.tell(Frame::Reset { stream, status: REFUSED_STREAM }).await;
        }
        let (arrivals, input) =
            arrivals::accounted(Account { stream, frames: self.frames.downgrade(), keeps_windows: self.keeps_windows.clone() });
        let credit = Arc::new(Credit::new(self.window));
        self.streams.insert(stream, Known { input: (!fin).then_some(arrivals), credit: credit.clone() });
        let accepted = self.replies.write(&[]).into();
        self.tell(Frame::Reply { stream, fin: false, headers: accepted }).await?;
        let output = Output { stream, frames: self.frames.clone(), credit, shared: self.shared.clone() };
        self.opened.send(Stream { headers, input, output }).await.map_err(|_| Ends)
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: Bytes) -> Result<(), Ends> {
        let Some(known) = self.streams.get_mut(&stream) else { return Ok(()) };
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        let mut wanted = false;
        if let Some(input) = known.input.as_ref().filter(|_| length > 0) {
            wanted = tokio::select! {
                wanted = input.add(bytes) => wanted,
                () = self.frames.closed() => return Err(Ends),
            };
        }
        if fin {
            known.input = None;
        }
        if self.window.is_none() || length == 0 {
            return Ok(());
        }
        // What its reader does not want any more is passed over; for the rest of it, that one gives the credit.
        if !wanted {
            self.tell(Frame::Window { stream, credit: length }).await?;
        }
        // A stream that is not read must not hold the others.
        self.tell(Frame::Window { stream: 0, credit: length }).await
    }

    async fn tell(&self, frame: Frame) -> Result<(), Ends> {
        self.frames.send(frame.encode().into()).await.map_err(|_| Ends)
    }
}

#[cfg(test)]
mod tests;
