//! Bodies on their way to a client: what is kept meanwhile, and what happens when the client takes nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::respond::{Body, BodyError, Response};

/// What is handed to a connection at a time, in bytes: it takes the next piece only when there is room for it.
pub const PIECE: usize = 64 << 10;

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// Keeps something for as long as the response's body is there.
pub fn holding(response: Response, kept: impl Send + Unpin + 'static) -> Response {
    response.map(|body| Held { body, _kept: kept }.boxed_unsync())
}

struct Held<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A large body in pieces, with something that is kept as long as it is there; with a small one nothing is kept. A client that
/// takes no piece for `limit` loses the rest, and what is kept with it; `ending` is told then, for a connection that can carry
/// nothing else.
pub fn paced(response: Response, kept: impl Send + Unpin + 'static, limit: Duration, ending: Option<CancellationToken>) -> Response {
    if response.body().size_hint().upper().is_some_and(|size| size <= PIECE as u64) {
        return response;
    }
    holding(response, kept).map(|body| {
        let slot = Arc::new(Slot { body: Mutex::new(Some(body)), taken: AtomicU64::new(0) });
        let over = CancellationToken::new();
        tokio::spawn(watch(Arc::clone(&slot), limit, over.clone(), ending));
        Paced { slot, rest: Bytes::new(), _over: over.drop_guard() }.boxed_unsync()
    })
}

/// A body that can be taken away from its reader.
struct Slot {
    body: Mutex<Option<Body>>,
    /// How many pieces were taken.
    taken: AtomicU64,
}

impl Slot {
    fn body(&self) -> MutexGuard<'_, Option<Body>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the body away once nothing was taken of it for the time given, and up to as much again.
async fn watch(slot: Arc<Slot>, limit: Duration, over: CancellationToken, ending: Option<CancellationToken>) {
    let mut seen = slot.taken.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(limit) => {}
        }
        let taken = slot.taken.load(Ordering::Relaxed);
        if taken == seen {
            break;
        }
        seen = taken;
    }
    tracing::debug!("a client takes nothing of its answer, which is given up");
    drop(slot.body().take());
    if let Some(ending) = ending {
        ending.cancel();
    }
}

struct Paced {
    slot: Arc<Slot>,
    /// What is left of a frame.
    rest: Bytes,
    _over: DropGuard,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let slot = Arc::clone(&self.slot);
        let mut body = slot.body();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err("the client took nothing of its answer for too long".into())));
        };
        slot.taken.fetch_add(1, Ordering::Relaxed);
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let size = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.slot.body().as_ref().map(http_body::Body::size_hint).unwrap_or_default();
        let rest = self.rest.len() as u64;
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

/// Texts one after the other, with a comma between them. Of a long list, no more than a piece is ever copied.
pub struct Joined {
    before: Bytes,
    items: std::vec::IntoIter<Bytes>,
    behind: &'static [u8],
    is_first: bool,
    left: u64,
}

impl Joined {
    /// Items between `before` and `behind`.
    pub fn new(before: Bytes, items: Vec<Bytes>, behind: &'static [u8]) -> Self {
        let commas = items.len().saturating_sub(1);
        let left = before.len() + items.iter().map(Bytes::len).sum::<usize>() + commas + behind.len();
        Self { before, items: items.into_iter(), behind, is_first: true, left: left as u64 }
    }

    /// The next piece; empty at the end.
    fn piece(&mut self) -> Bytes {
        let size = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = BytesMut::with_capacity(size + size / 8);
        piece.put(std::mem::take(&mut self.before));
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                piece.put_slice(std::mem::take(&mut self.behind));
                break;
            };
            if !std::mem::take(&mut self.is_first) {
                piece.put_u8(b',');
            }
            piece.put(item);
        }
        self.left -= piece.len() as u64;
        piece.freeze()
    }
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        Poll::Ready((self.left > 0).then(|| Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::respond;

    fn next(body: &mut Body) -> Option<Result<Bytes, String>> {
        let frame = body.frame().now_or_never().expect("nothing to wait for")?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_now_and_then_gets_all_and_who_takes_nothing_loses_the_rest() {
        let (limit, ending) = (Duration::from_secs(30), CancellationToken::new());
        let kept = Arc::new(());
        let response = http::Response::new(respond::full(vec![b'x'; 3 * PIECE]));
        let mut body = paced(response, Arc::clone(&kept), limit, Some(ending.clone())).into_body();
        assert_eq!(body.size_hint().exact(), Some(3 * PIECE as u64));
        for _ in 0..2 {
            assert_eq!(next(&mut body).unwrap().unwrap().len(), PIECE);
            tokio::time::sleep(limit * 9 / 10).await;
        }
        assert!(!ending.is_cancelled() && Arc::strong_count(&kept) == 2);
        tokio::time::sleep(limit * 2).await;
        assert!(ending.is_cancelled() && Arc::strong_count(&kept) == 1);
        assert!(next(&mut body).unwrap().unwrap_err().contains("took nothing"));
    }

    #[tokio::test]
    async fn a_small_answer_stays_as_it_is() {
        let ending = CancellationToken::new();
        let response = paced(http::Response::new(respond::full("small")), (), Duration::ZERO, Some(ending.clone()));
        tokio::task::yield_now().await;
        assert_eq!(next(&mut response.into_body()).unwrap().unwrap(), "small");
        assert!(!ending.is_cancelled());
    }

    #[test]
    fn a_long_list_comes_in_pieces_that_make_the_whole() {
        for (count, size) in [(0, 1), (1, 10), (3, PIECE / 2), (2, PIECE * 2), (20_000, 10)] {
            let items = vec![Bytes::from(vec![b'a'; size]); count];
            let mut body = Joined::new("[".into(), items, b"]").boxed_unsync();
            let told = body.size_hint().exact().unwrap();
            let mut whole = Vec::new();
            while let Some(piece) = next(&mut body) {
                let piece = piece.unwrap();
                assert!(piece.len() < PIECE + size + 2);
                whole.extend_from_slice(&piece);
            }
            assert_eq!(told, whole.len() as u64);
            assert_eq!(String::from_utf8(whole).unwrap(), format!("[{}]", vec!["a".repeat(size); count].join(",")));
        }
    }
}
