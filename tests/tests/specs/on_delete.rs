//! Updates that wait for the user.

use serde_json::json;

use crate::workload::{Workload, image, revision, web};

/// Upstream: the legacy replacement of pods with the strategy OnDelete.
#[test]
fn only_what_the_user_deletes_comes_back_at_the_new_revision() {
    let Some(work) = Workload::new("on-delete") else { return };
    let mut set = web(3);
    set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let first = work.run(&set)["status"]["currentRevision"].clone();
    let before = [work.pod(0), work.pod(2)];
    work.delete("pods/ss-0");
    work.delete("pods/ss-2");
    assert_eq!(revision(&work.replaced(0, &before[0])), first.as_str().unwrap_or_default());
    work.replaced(2, &before[1]);
    work.settled();
    work.change_image("busybox:2");
    let updated = work.observed();
    assert_ne!(updated["status"]["updateRevision"], first);
    assert_eq!(work.images(), ["busybox:1"; 3]);
    for ordinal in 0..3 {
        let before = work.pod(ordinal);
        work.delete(&format!("pods/ss-{ordinal}"));
        assert_eq!(image(&work.replaced(ordinal, &before)), "busybox:2");
        let others = (ordinal + 1..3).map(|other| work.pod(other));
        others.for_each(|other| assert_eq!(image(&other), "busybox:1"));
    }
    let set = work.settled();
    assert_eq!(set["status"]["updatedReplicas"], 3);
    // This strategy never ends a rollout.
    assert_eq!(set["status"]["currentRevision"], first);
}
