//! Levels of clients, named as upstream names its priority levels, and what each may have.

/// Levels of clients whose requests have bounds. What has none is not here: the server's own, and questions about health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The control plane and the nodes' agents.
    System,
    /// Administrators, and the cluster's own service accounts.
    WorkloadHigh,
    /// Everyone else who said who they are.
    WorkloadLow,
    /// Everyone who did not.
    CatchAll,
}

/// What a level may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Seats of all its clients.
    pub seats: u32,
    pub seats_of_client: u32,
    /// Requests that may wait; 0 if none may.
    pub waiting: usize,
    pub waiting_of_client: usize,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::System, Self::WorkloadHigh, Self::WorkloadLow, Self::CatchAll];

    /// The level's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::WorkloadHigh => "workload-high",
            Self::WorkloadLow => "workload-low",
            Self::CatchAll => "catch-all",
        }
    }

    /// What the level may have of so many seats: at least one. A quarter is for the system alone: what
    /// [`Level::WorkloadHigh`] may have is all that users may have together.
    pub fn bounds(self, seats: u32) -> Bounds {
        let parts = |eighths: u32| (seats * eighths / 8).max(1);
        let (all, of_client, waiting, waiting_of_client) = match self {
            Self::System => (8, 6, 20_000, 10_000),
            Self::WorkloadHigh => (6, 4, 2_000, 1_000),
            Self::WorkloadLow => (6, 2, 2_000, 500),
            Self::CatchAll => (1, 1, 50, 50),
        };
        Bounds { seats: parts(all), seats_of_client: parts(of_client), waiting, waiting_of_client }
    }

    /// The same where nobody may wait.
    pub fn bounds_without_waiting(self, seats: u32) -> Bounds {
        Bounds { waiting: 0, waiting_of_client: 0, ..self.bounds(seats) }
    }
}
