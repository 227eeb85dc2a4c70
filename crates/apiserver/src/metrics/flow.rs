//! Seats, who has them, and who waits: under the names of upstream's flow control.

use plan::fairness::{Level, Occupancy};

use super::text::Page;
use crate::fairness::{Gate, Rejection, TALLY_BOUNDS, Tally};

/// What is told of the requests of one kind and level.
struct Told {
    kind: &'static str,
    level: Level,
    limit: u32,
    occupancy: Occupancy,
    dispatched: u64,
    rejected: [u64; Rejection::ALL.len()],
    /// Requests by how long they waited.
    classes: Vec<u64>,
    waited: f64,
}

impl Told {
    fn labels(&self) -> [(&'static str, &'static str); 2] {
        [("priority_level", self.level.name()), ("request_kind", self.kind)]
    }
}

/// A name, its help, and how much it is.
type Gauge = (&'static str, &'static str, fn(&Told) -> f64);

/// Tells of all seats.
pub fn tell(gate: &Gate, page: &mut Page) {
    let all = collect(gate);
    let gauges: [Gauge; 5] = [
        ("apiserver_flowcontrol_nominal_limit_seats", "Seats that a level may have.", |told| told.limit.into()),
        ("apiserver_flowcontrol_current_executing_seats", "Seats that are taken.", |told| told.occupancy.seats.into()),
        ("apiserver_flowcontrol_current_executing_requests", "Requests that have seats.", |told| told.occupancy.serving as f64),
        ("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for seats.", |told| told.occupancy.waiting as f64),
        ("apiserver_flowcontrol_dispatched_requests_total", "Requests that got seats.", |told| told.dispatched as f64),
    ];
    for (name, help, of) in gauges {
        page.family(name, if name.ends_with("_total") { "counter" } else { "gauge" }, help);
        all.iter().for_each(|told| page.sample("", &told.labels(), of(told)));
    }
    page.family("apiserver_flowcontrol_rejected_requests_total", "counter", "Requests that were told to come again.");
    for told in &all {
        for reason in Rejection::ALL {
            let labels = [&told.labels()[..], &[("reason", reason.name())]].concat();
            page.sample("", &labels, told.rejected[reason as usize] as f64);
        }
    }
    waits(&all, page);
}

fn waits(all: &[Told], page: &mut Page) {
    page.family("apiserver_flowcontrol_request_wait_duration_seconds", "histogram", "How long requests waited for seats.");
    for told in all {
        let mut sum = 0;
        let bounds = TALLY_BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&told.classes) {
            sum += count;
            page.sample("_bucket", &[&told.labels()[..], &[("le", &bound)]].concat(), sum as f64);
        }
        page.sample("_sum", &told.labels(), told.waited);
        page.sample("_count", &told.labels(), sum as f64);
    }
}

fn collect(gate: &Gate) -> Vec<Told> {
    let mut all = Vec::new();
    for (kind, pool) in gate.pools() {
        pool.tell(|level, limit, occupancy, tally: &Tally| {
            let Tally { dispatched, rejected, classes, waited } = tally;
            let (classes, waited) = (classes.to_vec(), waited.as_secs_f64());
            all.push(Told { kind, level, limit, occupancy, dispatched: *dispatched, rejected: *rejected, classes, waited });
        });
    }
    all
}
