//! The conversation with one shim: a task that owns the socket.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::protocol::{self, Answer, Call, Message, Refusal, Request, SETUP_CALL, Setup};
use crate::{Attachment, Exec, Exit, RuntimeEvent, syscall};

/// How many requests may wait to be written.
pub(super) const QUEUE: usize = 64;

/// A request and who waits for its answer.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) request: Request,
    pub(super) waiter: Waiter,
}

#[derive(Debug)]
pub(super) enum Waiter {
    Answer(oneshot::Sender<Result<Answer, Refusal>>),
    Exec(oneshot::Sender<Result<Exec, Refusal>>),
    Attach(oneshot::Sender<Result<Attachment, Refusal>>),
}

/// One side of the socket, and what is under way.
pub(super) struct Connection {
    pod: String,
    socket: UnixStream,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    waiting: HashMap<u64, Waiter>,
    execs: HashMap<u64, oneshot::Sender<Exit>>,
    next: u64,
    events: mpsc::UnboundedSender<RuntimeEvent>,
}

impl Connection {
    pub(super) fn new(pod: &str, socket: std::os::unix::net::UnixStream, events: mpsc::UnboundedSender<RuntimeEvent>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            pod: pod.to_owned(),
            socket: UnixStream::from_std(socket)?,
            received: Vec::new(),
            descriptors: VecDeque::new(),
            waiting: HashMap::new(),
            execs: HashMap::new(),
            next: SETUP_CALL + 1,
            events,
        })
    }

    /// Tells a new shim what it is; the answer goes to `waiter`.
    pub(super) async fn set_up(&mut self, setup: &Setup, waiter: Waiter) -> io::Result<()> {
        self.waiting.insert(SETUP_CALL, waiter);
        self.write(&protocol::encode(setup)?).await
    }

    /// Talks until the shim ends, or does not make sense any more.
    pub(super) async fn run(mut self, calls: &mut mpsc::Receiver<Ask>) -> io::Error {
        loop {
            let step = tokio::select! {
                ask = calls.recv() => match ask {
                    Some(ask) => self.ask(ask).await,
                    // Nobody can ask any more, but exits are still news.
                    None => self.socket.readable().await.and_then(|()| self.read()),
                },
                readable = self.socket.readable() => readable.and_then(|()| self.read()),
            };
            if let Err(error) = step {
                return error;
            }
            for unwanted in self.take_unwanted() {
                if let Err(error) = self.send(Request::KillExec { exec: unwanted }, None).await {
                    return error;
                }
            }
        }
    }

    async fn ask(&mut self, ask: Ask) -> io::Result<()> {
        self.send(ask.request, Some(ask.waiter)).await
    }

    async fn send(&mut self, request: Request, waiter: Option<Waiter>) -> io::Result<()> {
        let id = self.next;
        self.next += 1;
        match (protocol::encode(&Call { id, request }), waiter) {
            (Ok(frame), waiter) => {
                self.waiting.extend(waiter.map(|waiter| (id, waiter)));
                self.write(&frame).await
            }
            (Err(error), Some(waiter)) => {
                waiter.refuse(Refusal::Failed(error.to_string()));
                Ok(())
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn write(&self, mut frame: &[u8]) -> io::Result<()> {
        while !frame.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(frame) {
                Ok(count) => frame = &frame[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let received = self.socket.try_io(Interest::READABLE, || syscall::receive(self.socket.as_fd(), &mut buffer));
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
            Ok((count, descriptors)) => {
                self.received.extend_from_slice(&buffer[..count]);
                self.descriptors.extend(descriptors);
            }
        }
        while let Some(message) = protocol::decode::<serde_json::Value>(&mut self.received)? {
            match serde_json::from_value(message) {
                Ok(message) => self.message(message)?,
                Err(error) => tracing::warn!(pod = self.pod, %error, "a shim said something unknown"),
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Reply { id, result } => self.reply(id, result)?,
            Message::Exited { container, exit } => {
                // Without a listener nobody wants to know.
                let _unheard = self.events.send(RuntimeEvent::Exited { pod: self.pod.clone(), container, exit });
            }
            Message::ExecExited { exec, exit } => {
                if let Some(waiter) = self.execs.remove(&exec) {
                    let _unheard = waiter.send(exit);
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, id: u64, result: Result<Answer, Refusal>) -> io::Result<()> {
        let waiter = self.waiting.remove(&id);
        match (result, waiter) {
            (Ok(Answer::Exec { exec, stdin, stderr }), waiter) => {
                // The descriptors are taken whether or not somebody waits.
                let (value, exit) = self.exec(exec, stdin, stderr)?;
                self.execs.insert(exec, exit);
                if let Some(Waiter::Exec(waiter)) = waiter {
                    // If the caller has given up, the value is dropped and the command is found unwanted.
                    let _unwanted = waiter.send(Ok(value));
                }
            }
            (Ok(Answer::Attached { stdin, stderr }), waiter) => {
                let [stdin, stdout, stderr] = self.streams(stdin, stderr)?;
                let stdout = stdout.ok_or_else(missing)?;
                if let Some(Waiter::Attach(waiter)) = waiter {
                    // If the caller has given up, the value is dropped: it has left.
                    let _left = waiter.send(Ok(Attachment { stdin, stdout, stderr }));
                }
            }
            (Ok(answer), Some(Waiter::Answer(waiter))) => {
                let _unheard = waiter.send(Ok(answer));
            }
            (Ok(answer), Some(waiter)) => waiter.refuse(Refusal::Failed(format!("the shim answered {answer:?}"))),
            (Err(refusal), Some(waiter)) => waiter.refuse(refusal),
            (_, None) => {}
        }
        Ok(())
    }

    fn exec(&mut self, id: u64, stdin: bool, stderr: bool) -> io::Result<(Exec, oneshot::Sender<Exit>)> {
        let [stdin, stdout, stderr] = self.streams(stdin, stderr)?;
        let stdout = stdout.ok_or_else(missing)?;
        // A terminal's master is both.
        let stdin = if stderr.is_none() { Some(stdout.try_clone()?) } else { stdin };
        let (sender, exit) = oneshot::channel();
        Ok((Exec { id, stdin, stdout, stderr, exit }, sender))
    }

    /// The descriptors that came with an answer, in the order of their numbers.
    fn streams(&mut self, stdin: bool, stderr: bool) -> io::Result<[Option<OwnedFd>; 3]> {
        let mut next = |wanted: bool| if wanted { self.descriptors.pop_front().ok_or_else(missing).map(Some) } else { Ok(None) };
        let stdout = next(true)?;
        Ok([next(stdin)?, stdout, next(stderr)?])
    }

    /// Commands whose callers gave up before they began.
    fn take_unwanted(&mut self) -> Vec<u64> {
        self.execs.extract_if(|_, exit| exit.is_closed()).map(|(exec, _)| exec).collect()
    }
}

fn missing() -> io::Error {
    io::Error::other("a descriptor is missing")
}

impl Waiter {
    fn refuse(self, refusal: Refusal) {
        match self {
            Self::Answer(waiter) => drop(waiter.send(Err(refusal))),
            Self::Exec(waiter) => drop(waiter.send(Err(refusal))),
            Self::Attach(waiter) => drop(waiter.send(Err(refusal))),
        }
    }
}
