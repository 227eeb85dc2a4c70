//! Gives back the addresses that were kept for the ordinals of a StatefulSet when the set is gone.

use informer::Change;
use k8s_openapi::api::apps::v1::StatefulSet;
use kinds::ObjectKey;
use network::PodNetwork;

use crate::sources::Views;

/// Follows StatefulSets for ever.
pub(crate) async fn run(views: Views, network: PodNetwork) {
    views.stateful_sets.synced().await;
    views.pods.synced().await;
    let mut sets = views.stateful_sets.subscribe();
    release_unowned(&views, &network).await;
    loop {
        let changes: Vec<Change<StatefulSet>> = sets.changes().await;
        if changes.iter().any(|change| change.new.is_none()) {
            release_unowned(&views, &network).await;
        }
    }
}

/// Releases what is kept for names that no set has any more. A pod that still lives keeps its address until it is gone.
async fn release_unowned(views: &Views, network: &PodNetwork) {
    for key in network.kept() {
        let owned = set_of(&key).is_some_and(|set| views.stateful_sets.get(&set).is_some());
        if owned {
            continue;
        }
        if let Err(error) = network.release(&key).await {
            tracing::warn!(pod = %key, %error, "its kept address was not released");
        }
    }
}

/// The set whose ordinal has this name.
fn set_of(pod: &ObjectKey) -> Option<ObjectKey> {
    let (set, ordinal) = pod.name.rsplit_once('-')?;
    ordinal.parse::<u32>().is_ok().then(|| ObjectKey::new(&pod.namespace, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_names_its_set() {
        assert_eq!(set_of(&ObjectKey::new("shop", "my-db-12")), Some(ObjectKey::new("shop", "my-db")));
        assert_eq!(set_of(&ObjectKey::new("shop", "web-abc")), None);
    }
}
