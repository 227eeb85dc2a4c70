use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;

/// Answers each round from a script; tells what it was asked.
struct Scripted {
    rounds: Mutex<Vec<String>>,
    inside: AtomicUsize,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Controller for Arc<Scripted> {
    type Key = String;

    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn reconcile(&self, key: &String) -> Result<Outcome, ReconcileError> {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "one key, two rounds at a time");
        tokio::task::yield_now().await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        let round = {
            let mut rounds = self.rounds.lock().unwrap();
            rounds.push(key.clone());
            rounds.len()
        };
        match round {
            1 => panic!("the first round panics"),
            2 => Err(ReconcileError::Endless),
            3 => Ok(Outcome::recheck_after(Duration::from_millis(1))),
            _ => {
                self.stop.lock().unwrap().take().map(|stop| stop.send(()));
                Ok(Outcome::done())
            }
        }
    }
}

#[tokio::test]
async fn a_round_is_repeated_after_a_panic_after_an_error_and_when_it_asks_for_it() {
    let (stop, stopped) = oneshot::channel();
    let scripted = Arc::new(Scripted { rounds: Mutex::default(), inside: AtomicUsize::new(0), stop: Mutex::new(Some(stop)) });
    let runner = Runner::new(scripted.clone());
    runner.queue().add("a".to_owned());
    runner.run(async { stopped.await.unwrap() }).await;
    assert_eq!(*scripted.rounds.lock().unwrap(), ["a"; 4]);
}
