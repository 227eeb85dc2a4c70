use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::*;

/// The client's side, for tests.
struct Peer {
    connection: DuplexStream,
    decoder: Decoder,
    received: BytesMut,
    headers: headers::Writer,
}

impl Peer {
    fn connect() -> (Self, Session) {
        let (connection, servers) = tokio::io::duplex(256 << 10);
        let (read, write) = tokio::io::split(servers);
        let session = Session::begin(Incoming::Plain(Box::new(read)), Outgoing::Plain(Box::new(write)));
        (Self { connection, decoder: Decoder::default(), received: BytesMut::new(), headers: headers::Writer::default() }, session)
    }

    async fn say(&mut self, frame: Frame) {
        self.connection.write_all(&frame.encode()).await.unwrap();
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = self.headers.write(headers).into();
        self.say(Frame::Open { stream, fin: false, headers }).await;
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: &'static [u8]) {
        self.say(Frame::Data { stream, fin, bytes: Bytes::from_static(bytes) }).await;
    }

    /// The next frame; `None` at the end.
    async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received).unwrap() {
                return Some(frame);
            }
            if self.connection.read_buf(&mut self.received).await.unwrap() == 0 {
                return None;
            }
        }
    }
}

impl Peer {
    /// So many bytes of a stream, in however many parts they come.
    async fn hear_bytes(&mut self, from: u32, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            match self.hear().await {
                Some(Frame::Data { stream, fin: false, bytes }) if stream == from => heard.extend_from_slice(&bytes),
                other => panic!("no data: {other:?}"),
            }
        }
        heard
    }
}

/// Reads a stream to its end.
async fn read(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.input.next().await {
        all.extend_from_slice(&bytes);
    }
    all
}

fn is_reply(frame: Option<Frame>, to: u32) -> bool {
    matches!(frame, Some(Frame::Reply { stream, fin: false, .. }) if stream == to)
}

#[tokio::test]
async fn streams_are_told_apart_and_end_each_for_itself() {
    let (mut peer, mut session) = Peer::connect();
    peer.open(1, &[("streamtype", "error")]).await;
    peer.open(3, &[("streamtype", "data")]).await;
    assert!(is_reply(peer.hear().await, 1) && is_reply(peer.hear().await, 3));
    let (mut first, mut second) = (session.accept().await.unwrap(), session.accept().await.unwrap());
    assert_eq!((first.header("streamtype"), second.header("streamtype")), (Some("error"), Some("data")));
    peer.data(3, false, b"to the ").await;
    peer.data(1, true, b"").await;
    peer.data(3, true, b"second").await;
    assert_eq!((read(&mut second).await.as_slice(), read(&mut first).await.as_slice()), (&b"to the second"[..], &b""[..]));
    // The other direction is open still.
    assert!(second.output.send(b"back").await);
    second.output.finish().await;
    assert_eq!(peer.hear_bytes(3, 4).await, b"back");
    assert_eq!(peer.hear().await, Some(Frame::Data { stream: 3, fin: true, bytes: Bytes::new() }));
    assert!(!second.output.send(b"more").await);
}

#[tokio::test]
async fn pings_are_answered_and_the_end_is_said() {
    let (mut peer, mut session) = Peer::connect();
    peer.say(Frame::Ping { id: 5 }).await;
    assert_eq!(peer.hear().await, Some(Frame::Ping { id: 5 }));
    peer.open(7, &[]).await;
    assert!(is_reply(peer.hear().await, 7));
    drop(session.accept().await);
    session.end().await;
    assert_eq!(peer.hear().await, Some(Frame::GoAway { last: 7, status: 0 }));
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_its_streams() {
    let (mut peer, mut session) = Peer::connect();
    peer.open(1, &[]).await;
    let mut stream = session.accept().await.unwrap();
    drop(peer);
    assert_eq!(read(&mut stream).await, b"");
    stream.output.closed().await;
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn a_stream_that_is_reset_takes_and_gives_nothing_more() {
    let (mut peer, mut session) = Peer::connect();
    peer.open(1, &[]).await;
    let mut stream = session.accept().await.unwrap();
    peer.say(Frame::Reset { stream: 1, status: 5 }).await;
    assert_eq!(read(&mut stream).await, b"");
    assert!(!stream.output.send(b"x").await);
}

#[tokio::test]
async fn windows_of_a_client_that_keeps_them_are_respected() {
    let (mut peer, mut session) = Peer::connect();
    peer.say(Frame::Settings { initial_window: Some(4) }).await;
    peer.open(1, &[]).await;
    assert!(is_reply(peer.hear().await, 1));
    let stream = session.accept().await.unwrap();
    let sending = tokio::spawn(async move { stream.output.send(b"abcdefgh").await });
    assert_eq!(peer.hear_bytes(1, 4).await, b"abcd");
    // An answer to this comes before any data that should not have been sent.
    peer.say(Frame::Ping { id: 1 }).await;
    assert_eq!(peer.hear().await, Some(Frame::Ping { id: 1 }));
    peer.say(Frame::Window { stream: 1, credit: 100 }).await;
    assert_eq!(peer.hear_bytes(1, 4).await, b"efgh");
    assert!(sending.await.unwrap());
    // And it is given credit for what it sends.
    peer.data(1, true, b"xyz").await;
    assert_eq!(peer.hear().await, Some(Frame::Window { stream: 0, credit: 3 }));
    let mut input = stream.input;
    assert_eq!(input.next().await.unwrap(), "xyz");
    // When its reader has dealt with it and comes back for more.
    assert_eq!(input.next().await, None);
    assert_eq!(peer.hear().await, Some(Frame::Window { stream: 1, credit: 3 }));
}

#[tokio::test]
async fn what_nobody_reads_of_a_client_within_its_window_holds_nothing() {
    let (mut peer, mut session) = Peer::connect();
    peer.say(Frame::Settings { initial_window: Some(4) }).await;
    peer.open(1, &[]).await;
    assert!(is_reply(peer.hear().await, 1));
    let Stream { mut input, output, .. } = session.accept().await.unwrap();
    let sending = tokio::spawn(async move { output.send(b"abcdefgh").await });
    assert_eq!(peer.hear_bytes(1, 4).await, b"abcd");
    let piece: &'static [u8] = &[b'x'; 1 << 10];
    for _ in 0..64 {
        peer.data(1, false, piece).await;
        assert_eq!(peer.hear().await, Some(Frame::Window { stream: 0, credit: 1 << 10 }));
    }
    peer.say(Frame::Window { stream: 1, credit: 4 }).await;
    assert_eq!(peer.hear_bytes(1, 4).await, b"efgh");
    assert!(sending.await.unwrap());
    assert_eq!(input.next().await.unwrap().len(), 64 << 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_though_nothing_that_it_said_is_read() {
    let (mut peer, mut session) = Peer::connect();
    peer.open(1, &[]).await;
    let stream = session.accept().await.unwrap();
    peer.data(1, false, vec![b'x'; 80 << 10].leak()).await;
    assert!(is_reply(peer.hear().await, 1));
    assert_eq!(peer.hear().await, Some(Frame::Ping { id: 2 }));
    assert_eq!(peer.hear().await, Some(Frame::Ping { id: 4 }));
    drop(peer);
    session.gone().await;
    stream.output.closed().await;
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn numbers_that_do_not_grow_end_the_connection() {
    for numbers in [[2, 4], [5, 3], [1, 1]] {
        let (mut peer, mut session) = Peer::connect();
        for number in numbers {
            peer.open(number, &[]).await;
        }
        let ends = async { while session.accept().await.is_some() {} };
        timeout(Duration::from_secs(20), ends).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_waits_in_the_connection() {
    let (mut peer, mut session) = Peer::connect();
    peer.open(1, &[]).await;
    let mut stream = session.accept().await.unwrap();
    // More than can wait anywhere: its writer is held back until it is read.
    let much: &'static [u8] = vec![b'x'; 3 << 20].leak();
    let writing = tokio::spawn(async move {
        peer.data(1, true, much).await;
        peer
    });
    let unread = stream.input.next().await.unwrap().len();
    assert!(unread <= 256 << 10, "{unread}");
    // The clock goes on when all wait: the writer has come as far as it can.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!writing.is_finished());
    assert_eq!(unread + read(&mut stream).await.len(), much.len());
    writing.await.unwrap();
}
