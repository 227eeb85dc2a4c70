//! A client of a Redis Cluster as applications use one: it follows redirections and asks another instance when one is gone.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a command is redirected before it has failed.
const REDIRECTIONS: usize = 16;

/// One client, with a connection for each instance it was sent to.
#[derive(Debug)]
pub struct RedisCluster {
    seeds: Vec<SocketAddr>,
    /// Where the last command was answered.
    last: SocketAddr,
    connections: HashMap<SocketAddr, BufReader<TcpStream>>,
}

/// Where a command is to be repeated.
enum Redirection {
    /// The slot lives there now.
    Moved(SocketAddr),
    /// The key is on its way there.
    Ask(SocketAddr),
}

impl RedisCluster {
    /// A client that knows these instances.
    pub fn new(seeds: Vec<SocketAddr>) -> Self {
        let last = *seeds.first().expect("at least one instance");
        Self { seeds, last, connections: HashMap::new() }
    }

    /// Runs a command of one key. An error says nothing about whether it took effect.
    pub fn command(&mut self, words: &[&str]) -> io::Result<Option<String>> {
        let (mut target, mut asking) = (self.last, false);
        for _ in 0..REDIRECTIONS {
            let answer = match self.ask(target, words, asking) {
                Ok(answer) => answer,
                Err(error) => {
                    self.connections.remove(&target);
                    self.try_next();
                    return Err(error);
                }
            };
            let Err(refusal) = answer else {
                self.last = target;
                return Ok(answer.expect("no refusal"));
            };
            (target, asking) = match redirection(&refusal) {
                Some(Redirection::Moved(to)) => (to, false),
                Some(Redirection::Ask(to)) => (to, true),
                None => return Err(io::Error::other(refusal)),
            };
        }
        Err(io::Error::other("redirected too often"))
    }

    /// The next command begins at another instance.
    fn try_next(&mut self) {
        let index = self.seeds.iter().position(|seed| *seed == self.last).map_or(0, |index| index + 1);
        self.last = self.seeds[index % self.seeds.len()];
    }

    fn ask(&mut self, target: SocketAddr, words: &[&str], asking: bool) -> io::Result<Result<Option<String>, String>> {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.connections.entry(target) {
            let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            entry.insert(BufReader::new(stream));
        }
        let connection = self.connections.get_mut(&target).expect("just connected");
        if asking {
            connection.get_mut().write_all(b"*1\r\n$6\r\nASKING\r\n")?;
            drop(read(connection)?);
        }
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        connection.get_mut().write_all(request.as_bytes())?;
        read(connection)
    }
}

/// A simple string, a bulk string, an integer, or nothing; a refusal is the inner error.
fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Result<Option<String>, String>> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "+" | ":" => Ok(Ok(Some(rest.to_owned()))),
        "-" => Ok(Err(rest.to_owned())),
        "$" if rest == "-1" => Ok(Ok(None)),
        "$" => {
            let length: usize = rest.parse().map_err(io::Error::other)?;
            let mut text = vec![0; length + 2];
            connection.read_exact(&mut text)?;
            text.truncate(length);
            Ok(Ok(Some(String::from_utf8_lossy(&text).into_owned())))
        }
        _ => Err(io::Error::other(format!("not understood: {line:?}"))),
    }
}

fn redirection(refusal: &str) -> Option<Redirection> {
    let mut words = refusal.split(' ');
    let make = match words.next()? {
        "MOVED" => Redirection::Moved,
        "ASK" => Redirection::Ask,
        _ => return None,
    };
    words.nth(1)?.parse().ok().map(make)
}
