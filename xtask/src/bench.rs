//! bench
pub fn run(_f: &[&str]) -> crate::run::Result {
    Ok(())
}
