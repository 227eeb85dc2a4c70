//! `steadfast down`.
use crate::{Failure, arguments::Down};
pub async fn run(_down: Down) -> Result<(), Failure> { Ok(()) }
