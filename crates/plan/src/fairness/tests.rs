use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn flow(level: Level, client: &str) -> Flow {
    Flow { level, client: client.into() }
}

fn low(client: &str) -> Flow {
    flow(Level::WorkloadLow, client)
}

fn desk(seats: u32) -> Desk {
    Desk::new(seats, |level| level.bounds(seats))
}

#[test]
fn a_client_has_no_more_than_its_part_and_others_still_begin() {
    let mut desk = desk(16);
    let greedy = low("greedy");
    let begun = (0..100).filter(|ticket| desk.arrive(&greedy, Ticket(*ticket), 1) == Arrival::Begins).count();
    assert_eq!(begun, 4);
    assert_eq!(desk.arrive(&low("modest"), Ticket(100), 1), Arrival::Begins);
    assert_eq!(desk.occupancy(Level::WorkloadLow), Occupancy { seats: 5, serving: 5, waiting: 96 });
}

#[test]
fn the_system_begins_although_everyone_else_has_all_they_may() {
    let mut desk = desk(16);
    for client in 0..10 {
        for ticket in 0..10 {
            desk.arrive(&low(&client.to_string()), Ticket(client * 10 + ticket), 1);
        }
    }
    assert_eq!(desk.occupancy(Level::WorkloadLow).seats, 12);
    let agent = flow(Level::System, "system:node:n1");
    let begun = (100..110).filter(|ticket| desk.arrive(&agent, Ticket(*ticket), 1) == Arrival::Begins).count();
    assert_eq!(begun, 4);
}

#[test]
fn the_levels_of_users_leave_the_system_its_part_together() {
    let mut desk = desk(16);
    let users = [Level::WorkloadHigh, Level::WorkloadLow, Level::CatchAll];
    for ticket in 0..60 {
        let client = (ticket / 3 % 4).to_string();
        desk.arrive(&flow(users[ticket as usize % 3], &client), Ticket(ticket), 1);
    }
    let taken = users.map(|level| desk.occupancy(level).seats);
    assert!(taken.iter().sum::<u32>() == 12 && !taken.contains(&0), "{taken:?}");
    let agent = flow(Level::System, "system:node:n1");
    let begun = (100..110).filter(|ticket| desk.arrive(&agent, Ticket(*ticket), 1) == Arrival::Begins).count();
    assert_eq!(begun, 4);
}

#[test]
fn who_has_least_comes_next_whoever_came_first() {
    let mut desk = Desk::new(4, |_| Bounds { seats: 4, seats_of_client: 4, waiting: 100, waiting_of_client: 100 });
    for ticket in 0..50 {
        desk.arrive(&low("greedy"), Ticket(ticket), 1);
    }
    assert_eq!(desk.arrive(&low("a"), Ticket(50), 1), Arrival::Waits);
    assert_eq!(desk.arrive(&low("b"), Ticket(51), 1), Arrival::Waits);
    assert_eq!(desk.leave(&low("greedy"), 1), [Ticket(50)]);
    assert_eq!(desk.leave(&low("greedy"), 1), [Ticket(51)]);
    assert_eq!(desk.leave(&low("a"), 1), [Ticket(4)]);
}

#[test]
fn a_wide_request_gets_its_seats_although_narrow_ones_keep_coming() {
    let mut desk = Desk::new(4, |_| Bounds { seats: 4, seats_of_client: 4, waiting: 100, waiting_of_client: 100 });
    let narrow = |ticket: u64| low(&format!("narrow-{ticket}"));
    for ticket in 0..4 {
        assert_eq!(desk.arrive(&narrow(ticket), Ticket(ticket), 1), Arrival::Begins);
    }
    assert_eq!(desk.arrive(&low("wide"), Ticket(100), 9), Arrival::Waits);
    for ticket in 4..7 {
        assert_eq!(desk.arrive(&narrow(ticket), Ticket(ticket), 1), Arrival::Waits);
        assert_eq!(desk.leave(&narrow(ticket - 4), 1), [], "what is free is kept");
    }
    assert_eq!(desk.leave(&narrow(3), 1), [Ticket(100)]);
    assert_eq!(desk.leave(&low("wide"), 9), [Ticket(4), Ticket(5), Ticket(6)]);
}

#[test]
fn a_wide_request_is_not_overtaken_by_those_of_another_level_of_users() {
    let mut desk = desk(16);
    let narrow = |ticket: u64| low(&format!("narrow-{ticket}"));
    for ticket in 0..12 {
        assert_eq!(desk.arrive(&narrow(ticket), Ticket(ticket), 1), Arrival::Begins);
    }
    let wide = flow(Level::WorkloadHigh, "wide");
    assert_eq!(desk.arrive(&wide, Ticket(100), 8), Arrival::Waits);
    for ticket in 12..19 {
        assert_eq!(desk.arrive(&narrow(ticket), Ticket(ticket), 1), Arrival::Waits);
        assert_eq!(desk.leave(&narrow(ticket - 12), 1), [], "what is free is kept");
    }
    assert_eq!(desk.leave(&narrow(7), 1), [Ticket(100)]);
}

#[test]
fn nobody_begins_unnoticed_when_another_comes() {
    let mut desk = desk(16);
    let stranger = flow(Level::CatchAll, "stranger");
    for (number, (flow, seats)) in [(low("a"), 4), (low("b"), 4), (low("c"), 1), (stranger.clone(), 1)].into_iter().enumerate() {
        assert_eq!(desk.arrive(&flow, Ticket(number as u64), seats), Arrival::Begins);
    }
    assert_eq!(desk.arrive(&low("c"), Ticket(10), 3), Arrival::Waits);
    assert_eq!(desk.arrive(&stranger, Ticket(11), 1), Arrival::Waits, "what is free is kept");
    // It comes before the one that it is kept for, and does not fit itself.
    assert_eq!(desk.arrive(&low("d"), Ticket(12), 4), Arrival::Waits);
    assert_eq!(desk.occupancy(Level::CatchAll), Occupancy { seats: 1, serving: 1, waiting: 1 });
    assert_eq!(desk.leave(&low("a"), 4), [Ticket(12)]);
    assert_eq!(desk.leave(&low("b"), 4), [Ticket(10), Ticket(11)]);
}

#[test]
fn too_many_are_refused_and_where_nobody_waits_at_once() {
    let mut queue = Desk::new(1, |_| Bounds { seats: 1, seats_of_client: 1, waiting: 3, waiting_of_client: 2 });
    let arrivals: Vec<_> = (0..4).map(|ticket| queue.arrive(&low("a"), Ticket(ticket), 1)).collect();
    assert_eq!(arrivals, [Arrival::Begins, Arrival::Waits, Arrival::Waits, Arrival::Refused(Refusal::QueueFull)]);
    assert_eq!(queue.arrive(&low("b"), Ticket(4), 1), Arrival::Waits);
    assert_eq!(queue.arrive(&low("c"), Ticket(5), 1), Arrival::Refused(Refusal::QueueFull));
    let mut watches = Desk::new(2, |level| level.bounds_without_waiting(2));
    assert_eq!(watches.arrive(&low("a"), Ticket(0), 1), Arrival::Begins);
    assert_eq!(watches.arrive(&low("a"), Ticket(1), 1), Arrival::Refused(Refusal::NoSeat));
    assert_eq!(watches.arrive(&flow(Level::System, "s"), Ticket(2), 1), Arrival::Begins);
}

#[test]
fn who_gives_up_makes_room_and_who_has_begun_can_not() {
    let mut desk = Desk::new(2, |_| Bounds { seats: 2, seats_of_client: 2, waiting: 9, waiting_of_client: 9 });
    desk.arrive(&low("a"), Ticket(0), 1);
    desk.arrive(&low("wide"), Ticket(1), 2);
    desk.arrive(&low("b"), Ticket(2), 1);
    assert_eq!(desk.withdraw(&low("wide"), Ticket(1)), Some(vec![Ticket(2)]));
    assert_eq!((desk.withdraw(&low("wide"), Ticket(1)), desk.withdraw(&low("a"), Ticket(0))), (None, None));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive { level: Level, client: usize, seats: u32 },
    Leave(usize),
    Withdraw(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (proptest::sample::select(&Level::ALL[..]), 0..4_usize, 1..5_u32)
            .prop_map(|(level, client, seats)| Step::Arrive { level, client, seats }),
        2 => (0..64_usize).prop_map(Step::Leave),
        1 => (0..64_usize).prop_map(Step::Withdraw),
    ]
}

/// Requests by their tickets, in what state they are.
#[derive(Default)]
struct Book {
    serving: BTreeMap<Ticket, (Flow, u32)>,
    waiting: BTreeMap<Ticket, (Flow, u32)>,
}

impl Book {
    fn begin(&mut self, begun: Vec<Ticket>) {
        for ticket in begun {
            self.serving.insert(ticket, self.waiting.remove(&ticket).expect("only who waits begins"));
        }
    }

    fn take(&mut self, desk: &mut Desk, step: Step, ticket: Ticket) {
        match step {
            Step::Arrive { level, client, seats } => {
                let flow = flow(level, &client.to_string());
                match desk.arrive(&flow, ticket, seats) {
                    Arrival::Begins => drop(self.serving.insert(ticket, (flow, seats))),
                    Arrival::Waits => drop(self.waiting.insert(ticket, (flow, seats))),
                    Arrival::Refused(_) => {}
                }
            }
            Step::Leave(number) => {
                let Some(ticket) = self.serving.keys().nth(number).copied() else { return };
                let (flow, seats) = self.serving.remove(&ticket).expect("it is there");
                let begun = desk.leave(&flow, seats);
                self.begin(begun);
            }
            Step::Withdraw(number) => {
                let Some(ticket) = self.waiting.keys().nth(number).copied() else { return };
                let (flow, _) = self.waiting.remove(&ticket).expect("it is there");
                let begun = desk.withdraw(&flow, ticket).expect("who waits can give up");
                self.begin(begun);
            }
        }
    }

    fn check(&self, desk: &Desk, seats: u32) {
        let mut of_clients: BTreeMap<(Level, Arc<str>), u32> = BTreeMap::new();
        for (flow, seats) in self.serving.values() {
            let taken = (*seats).min(desk.bounds[flow.level as usize].seats_of_client);
            *of_clients.entry((flow.level, Arc::clone(&flow.client))).or_default() += taken;
        }
        for ((level, client), taken) in &of_clients {
            assert!(*taken <= level.bounds(seats).seats_of_client, "{client} has {taken}");
        }
        let mut all = 0;
        for level in Level::ALL {
            let taken: u32 = of_clients.iter().filter(|((own, _), _)| *own == level).map(|(_, taken)| taken).sum();
            let waiting = self.waiting.values().filter(|(flow, _)| flow.level == level).count();
            let serving = self.serving.values().filter(|(flow, _)| flow.level == level).count();
            assert_eq!(desk.occupancy(level), Occupancy { seats: taken, serving, waiting });
            assert!(taken <= level.bounds(seats).seats);
            all += taken;
        }
        assert!(all <= seats);
        assert!(all - desk.occupancy(Level::System).seats <= Level::WorkloadHigh.bounds(seats).seats, "the system's are taken");
        assert_eq!(desk.taken, all);
    }
}

proptest! {
    #[test]
    fn whatever_comes_bounds_hold_and_everyone_is_served_in_the_end(seats in 1..20_u32, steps in prop::collection::vec(step(), 0..200)) {
        let mut desk = desk(seats);
        let mut book = Book::default();
        for (ticket, step) in steps.into_iter().enumerate() {
            book.take(&mut desk, step, Ticket(ticket as u64));
            book.check(&desk, seats);
        }
        while !book.serving.is_empty() {
            book.take(&mut desk, Step::Leave(0), Ticket(0));
            book.check(&desk, seats);
        }
        prop_assert!(book.waiting.is_empty(), "some wait for ever");
        prop_assert!(desk.lines.is_empty() && desk.ready.iter().all(BTreeSet::is_empty), "some are remembered for ever");
    }
}
