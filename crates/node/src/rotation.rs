//! Keeps logs small: a file that has grown too large is moved away, and the oldest of those goes.
//!
//! Looking at the sizes of a few files now and then is cheaper than hearing of every write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::volumes::blocking;

/// How often sizes are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// A file larger than this is moved away.
const MAX_SIZE: u64 = 10 << 20;
/// The current file and those that were moved away.
const MAX_FILES: usize = 5;

/// A log that grew too large.
#[derive(Debug, PartialEq, Eq)]
struct Large {
    uid: String,
    container: String,
    path: PathBuf,
}

/// Looks after the logs of all pods for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let logs = shared.paths.logs();
        let large = blocking(move || find_large(&logs, MAX_SIZE)).await.unwrap_or_default();
        for log in large {
            if let Err(error) = rotate(&shared, &log).await {
                tracing::warn!(path = %log.path.display(), %error, "the log was not rotated");
            }
        }
    }
}

async fn rotate(shared: &Shared, log: &Large) -> io::Result<()> {
    let path = log.path.clone();
    blocking(move || move_away(&path)).await?;
    let attempt = log.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = format!("{}-{attempt}", log.container);
    match shared.runtime.reopen_log(&log.uid, &id).await {
        // It has ended: nobody writes any more.
        Err(runtime::RuntimeError::NotRunning(_) | runtime::RuntimeError::NoContainer { .. } | runtime::RuntimeError::NoSandbox(_)) => {
            Ok(())
        }
        other => other.map_err(io::Error::other),
    }
}

/// Large files named `<attempt>.log` in `<namespace>_<pod>_<uid>/<container>/`.
fn find_large(logs: &Path, limit: u64) -> io::Result<Vec<Large>> {
    let mut large = Vec::new();
    for pod in directories(logs)? {
        let uid = pod.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit('_').next()).unwrap_or_default().to_owned();
        for container in directories(&pod)? {
            let name = container.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let files = std::fs::read_dir(&container)?.filter_map(Result::ok);
            let is_large = |entry: &std::fs::DirEntry| {
                entry.path().extension().is_some_and(|extension| extension == "log")
                    && entry.metadata().is_ok_and(|metadata| metadata.len() > limit)
            };
            large.extend(files.filter(is_large).map(|entry| Large { uid: uid.clone(), container: name.clone(), path: entry.path() }));
        }
    }
    Ok(large)
}

fn directories(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(parent)?.filter_map(Result::ok);
    Ok(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect())
}

/// `0.log` becomes `0.log.1`, `0.log.1` becomes `0.log.2` and so on; the last goes.
fn move_away(path: &Path) -> io::Result<()> {
    let numbered = |number: usize| PathBuf::from(format!("{}.{number}", path.display()));
    for number in (1..MAX_FILES - 1).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}

/// All files of one attempt's log, the oldest first.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let old = (1..MAX_FILES).rev().map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    old.chain([path.to_owned()]).filter(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_numbered_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        for round in 0..8 {
            std::fs::write(&path, round.to_string()).unwrap();
            move_away(&path).unwrap();
        }
        std::fs::write(&path, "now").unwrap();
        let texts: Vec<_> = files(&path).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["4", "5", "6", "7", "now"]);
    }

    #[test]
    fn large_logs_are_found_with_their_container() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("shop_web-0_uid-1/main");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("0.log"), [0; 100]).unwrap();
        std::fs::write(directory.join("0.log.1"), [0; 100]).unwrap();
        std::fs::write(directory.join("1.log"), [0; 10]).unwrap();
        let expected = Large { uid: "uid-1".to_owned(), container: "main".to_owned(), path: directory.join("0.log") };
        assert_eq!(find_large(root.path(), 50).unwrap(), [expected]);
    }
}
