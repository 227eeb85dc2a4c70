use futures::FutureExt;

use super::*;

fn pool(seats: u32) -> Arc<Pool> {
    Pool::new(Desk::new(seats, |level| level.bounds(seats)), Duration::from_secs(15))
}

fn flow(client: &str) -> Flow {
    Flow { level: Level::WorkloadHigh, client: client.into() }
}

fn dispatched(pool: &Pool) -> (u64, [u64; 3], u32) {
    let mut found = Default::default();
    pool.tell(|level, _, occupancy, tally| {
        if level == Level::WorkloadHigh {
            found = (tally.dispatched, tally.rejected, occupancy.seats);
        }
    });
    found
}

#[tokio::test]
async fn a_seat_that_is_given_back_wakes_who_waits_for_it() {
    let pool = pool(2);
    let seat = pool.enter(flow("a"), 1).await.unwrap();
    let mut waiting = Box::pin(pool.enter(flow("a"), 1));
    assert!((&mut waiting).now_or_never().is_none());
    drop(seat);
    drop(waiting.await.unwrap());
    assert_eq!(dispatched(&pool), (2, [0; 3], 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_to_come_again_and_leaves_no_trace() {
    let pool = pool(2);
    let seat = pool.enter(flow("a"), 1).await.unwrap();
    let error = ApiError::from(pool.enter(flow("a"), 1).await.unwrap_err());
    assert!(matches!(error, ApiError::TooManyRequests { retry_after_seconds: 1, .. }));
    drop(seat);
    assert_eq!(dispatched(&pool), (1, [0, 0, 1], 0));
}

#[tokio::test]
async fn who_goes_away_while_waiting_or_after_being_called_takes_no_seat() {
    let pool = pool(2);
    let seat = pool.enter(flow("a"), 1).await.unwrap();
    let mut first = Box::pin(pool.enter(flow("a"), 1));
    let mut second = Box::pin(pool.enter(flow("a"), 1));
    let mut third = Box::pin(pool.enter(flow("a"), 1));
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(waiting.now_or_never().is_none());
    }
    drop(first);
    // The second is called and goes before it hears of it.
    drop(seat);
    drop(second);
    drop(third.await.unwrap());
    assert_eq!(dispatched(&pool).2, 0);
    assert!(pool.state().waiting.is_empty());
}
