//! Calls that block, each in a thread of its own and under a deadline.
//!
//! A thread that has entered another network namespace must not be used for anything else afterwards, so none returns to
//! a pool. A call that is given up keeps its place until it ends: a kernel that hangs can't collect threads without bound.

use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::NetworkError;

const DEADLINE: Duration = Duration::from_secs(15);
const AT_ONCE: usize = 32;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Runs `work` in the network namespace of the calling thread.
pub(crate) async fn call<T, W>(action: &str, work: W) -> Result<T, NetworkError>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, NetworkError> + Send + 'static,
{
    let late = || NetworkError::Deadline { action: action.to_owned(), seconds: DEADLINE.as_secs() };
    let failed = |source| NetworkError::Kernel { action: action.to_owned(), source };
    let place = timeout(DEADLINE, PLACES.acquire()).await.map_err(|_| late())?.expect("the semaphore is never closed");
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let _place = place;
        // Nobody waits any more if this fails.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name("network".to_owned()).spawn(run).map_err(failed)?;
    match timeout(DEADLINE, receiver).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(failed(std::io::Error::other("the thread ended without a result"))),
        Err(_) => Err(late()),
    }
}
