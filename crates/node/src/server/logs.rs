//! `containerLogs`: what a container wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};

use super::cri::Renderer;
use super::follow::{Extent, Lines, Watcher};
use super::{Body, RequestError, is_true, last_values};
use crate::container::specification::container_id;
use crate::volumes::blocking;
use crate::{Running, Shared, operations, rotation};

/// Pieces that wait for a slow reader.
const AHEAD: usize = 8;

/// What part of the log is wanted, and how.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    since: Option<Timestamp>,
    limit_bytes: Option<u64>,
}

impl Options {
    pub fn parse(query: &str) -> Result<Self, RequestError> {
        let values = last_values(query);
        let number = |name: &str| match values.get(name) {
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| RequestError::Bad(format!("{name} must be a number, not {text:?}"))),
            None => Ok(None),
        };
        let since_time = match values.get("sinceTime") {
            Some(text) => Some(text.parse::<Timestamp>().map_err(|error| RequestError::Bad(format!("sinceTime: {error}")))?),
            None => None,
        };
        let ago = |seconds: u64| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
        };
        Ok(Self {
            follow: is_true(values.get("follow")),
            previous: is_true(values.get("previous")),
            timestamps: is_true(values.get("timestamps")),
            tail_lines: number("tailLines")?,
            since: since_time.or(number("sinceSeconds")?.map(ago)),
            limit_bytes: number("limitBytes")?,
        })
    }
}

/// Answers with the log as it is, or as it grows until the container ends.
pub(super) fn serve(shared: &Arc<Shared>, pod: &Pod, container: &str, options: Options) -> Result<Response<Body>, RequestError> {
    let name = operations::name(pod);
    if operations::container(pod, container).is_none() {
        return Err(RequestError::NotFound(format!("container {container} not found in pod {name}")));
    }
    let directory = shared.paths.container_logs(pod, container);
    let mut attempts = attempts(&directory);
    let newest = attempts.pop();
    let attempt = if options.previous { attempts.pop() } else { newest };
    let attempt = attempt.ok_or_else(|| match options.previous {
        true => RequestError::Bad(format!("previous terminated container \"{container}\" in pod \"{name}\" not found")),
        false => RequestError::Bad(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
            waiting_reason(pod, container)
        )),
    })?;
    let id = (operations::uid(pod).to_owned(), container_id(container, attempt));
    let reader = Reader { path: directory.join(format!("{attempt}.log")), id, running: shared.running.subscribe(), options };
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(error) = reader.run(sender).await {
            tracing::debug!(%error, "a log was not read to its end");
        }
    });
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        let piece: Bytes = receiver.recv().await?;
        Some((Ok(Frame::data(piece)), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let all = status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
    let all = all.chain(status.ephemeral_container_statuses.into_iter().flatten());
    let waiting = all.filter(|status| status.name == container).find_map(|status| status.state?.waiting?.reason);
    waiting.unwrap_or_else(|| "ContainerCreating".to_owned())
}

/// The attempts that have a log, ascending.
fn attempts(directory: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok();
    let mut attempts: Vec<u32> = entries.filter_map(number).collect();
    attempts.sort_unstable();
    attempts
}

/// Reads one log for one client.
struct Reader {
    path: PathBuf,
    id: (String, String),
    running: watch::Receiver<Running>,
    options: Options,
}

impl Reader {
    async fn run(mut self, sender: mpsc::Sender<Bytes>) -> std::io::Result<()> {
        let Options { follow, timestamps, since, limit_bytes, tail_lines, .. } = self.options;
        let directory = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        // Before the first look, so that nothing is missed between.
        let mut watcher = if follow { Some(Watcher::new(&directory)?) } else { None };
        let mut renderer = Renderer::new(timestamps, since, limit_bytes);
        let (path, extent) = (self.path.clone(), Extent { tail: tail_lines, grows: follow });
        let mut lines = blocking(move || Lines::open(rotation::files(&path), &path, extent)).await?;
        loop {
            // Before the look, so that what was written before the end is still read.
            let ended = !self.running.borrow_and_update().contains(&self.id);
            let (back, read) = blocking(move || {
                let read = lines.read();
                Ok((lines, read))
            })
            .await?;
            lines = back;
            let read = read?;
            if !read.is_empty() {
                if !give(&mut renderer, &read, &sender).await {
                    return Ok(());
                }
                continue;
            }
            let Some(watcher) = watcher.as_mut().filter(|_| !ended) else { return Ok(()) };
            tokio::select! {
                changed = watcher.changed() => changed?,
                changed = self.running.changed() => if changed.is_err() { return Ok(()) },
                () = sender.closed() => return Ok(()),
            }
        }
    }
}

/// False if the client wants no more.
async fn give(renderer: &mut Renderer, lines: &[u8], sender: &mpsc::Sender<Bytes>) -> bool {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if renderer.is_exhausted() {
            break;
        }
        renderer.render(line, &mut out);
    }
    let given = out.is_empty() || sender.send(Bytes::from(out)).await.is_ok();
    given && !renderer.is_exhausted()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(path: PathBuf, running: watch::Receiver<Running>, query: &str) -> Reader {
        Reader { path, id: ("u".to_owned(), "main-0".to_owned()), running, options: Options::parse(query).unwrap() }
    }

    async fn text(mut receiver: mpsc::Receiver<Bytes>) -> String {
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap()
    }

    const LOG: &str = "2026-01-02T03:04:05Z stdout F one\n2026-01-02T03:04:06Z stdout F two\n";

    #[tokio::test]
    async fn a_log_ends_where_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (running, _) = watch::channel(Running::from([("u".to_owned(), "main-0".to_owned())]));
        let (sender, receiver) = mpsc::channel(AHEAD);
        reader(path, running.subscribe(), "tailLines=1").run(sender).await.unwrap();
        assert_eq!(text(receiver).await, "two\n");
    }

    #[tokio::test]
    async fn a_followed_log_ends_with_its_container() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (running, _) = watch::channel(Running::from([("u".to_owned(), "main-0".to_owned())]));
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let task = tokio::spawn(reader(path.clone(), running.subscribe(), "follow=true").run(sender));
        assert_eq!(receiver.recv().await.unwrap(), "one\ntwo\n");
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2026-01-02T03:04:07Z stderr F three\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "three\n");
        file.write_all(b"2026-01-02T03:04:08Z stderr F last\n").unwrap();
        running.send_modify(|running| running.clear());
        assert_eq!(text(receiver).await, "last\n");
        task.await.unwrap().unwrap();
    }

    #[test]
    fn options_are_checked() {
        assert!(Options::parse("tailLines=x").is_err() && Options::parse("sinceTime=yesterday").is_err());
        let options = Options::parse("follow=1&previous=true&limitBytes=5&sinceTime=2026-01-02T03:04:05Z").unwrap();
        assert!(options.follow && options.previous && options.limit_bytes == Some(5) && options.since.is_some());
    }
}
