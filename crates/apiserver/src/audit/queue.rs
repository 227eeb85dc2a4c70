//! What waits to be written: bounded in number, and in bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A record that waits. It takes up its room until it is dropped.
#[derive(Debug)]
pub struct Line {
    pub text: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Where records are handed over to their writer.
#[derive(Debug)]
pub struct Queue {
    lines: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    /// All the room there is, in bytes.
    bytes: u32,
}

impl Queue {
    /// A queue of so many records and bytes, and its other end.
    pub fn new(records: usize, bytes: u32) -> (Self, mpsc::Receiver<Line>) {
        let (lines, waiting) = mpsc::channel(records);
        (Self { lines, room: Arc::new(Semaphore::new(bytes as usize)), bytes }, waiting)
    }

    /// Waits for room. `false` if the writer has ended.
    pub async fn put(&self, text: Bytes) -> bool {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(self.size(&text)).await else { return false };
        self.lines.send(Line { text, _room: room }).await.is_ok()
    }

    /// Gives it back if there is no room now.
    pub fn try_put(&self, text: Bytes) -> Result<(), Bytes> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(self.size(&text)) else { return Err(text) };
        let line = Line { text, _room: room };
        self.lines.try_send(line).map_err(|error| error.into_inner().text)
    }

    /// What is larger than all the room there is takes all of it.
    fn size(&self, text: &Bytes) -> u32 {
        u32::try_from(text.len()).unwrap_or(u32::MAX).min(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn records_wait_for_room_in_number_and_in_bytes() {
        let (queue, mut waiting) = Queue::new(2, 10);
        let text = Bytes::from_static;
        assert_eq!(queue.try_put(text(b"sixsix")), Ok(()));
        assert_eq!(queue.try_put(text(b"sixsix")), Err(text(b"sixsix")));
        let mut patient = std::pin::pin!(queue.put(text(b"more than there is room for")));
        assert_eq!(patient.as_mut().now_or_never(), None);
        let taken = waiting.try_recv().unwrap();
        assert_eq!(patient.as_mut().now_or_never(), None, "what is being written still takes up room");
        drop(taken);
        assert_eq!(patient.as_mut().now_or_never(), Some(true));
        drop(waiting.try_recv().unwrap());
        assert_eq!([queue.try_put(text(b"a")), queue.try_put(text(b"b"))], [Ok(()), Ok(())]);
        assert_eq!(queue.try_put(text(b"c")), Err(text(b"c")));
        drop(waiting);
        assert_eq!(queue.put(text(b"d")).now_or_never(), Some(false));
    }
}
