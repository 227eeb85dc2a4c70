//! The embedded store conforms.

use std::sync::Arc;
use std::time::Duration;

use store::embedded::{Embedded, Options};
use store::{Memory, Store};
use tempfile::TempDir;

async fn make() -> (Arc<dyn Store>, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        memory: Memory { watch_backlog: 900, progress_after: Duration::from_millis(20), ..Memory::default() },
        ..Options::default()
    };
    let store = Embedded::open(dir.path(), options).expect("the store opens");
    (Arc::new(store), dir)
}

store::store_conformance!(make);
