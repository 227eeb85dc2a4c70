//! `steadfast up`.
use crate::{Failure, arguments::Up};
pub async fn run(_up: Up) -> Result<(), Failure> { Ok(()) }
