//! Namespaces. They end in two steps: their content goes before they do, which the finalizer `kubernetes` stands for.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use super::{Strategy, check, names};
use crate::field::{FieldError, Path};

/// The label that every namespace has its own name under.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer of the controller that empties namespaces.
const FINALIZER: &str = "kubernetes";

/// The rules of Namespaces.
pub(super) struct Namespaces;

impl Strategy for Namespaces {
    type Kind = Namespace;

    fn default(&self, namespace: &mut Namespace) {
        if let Some(name) = namespace.metadata.name.clone().filter(|name| !name.is_empty()) {
            namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        check::fill(&mut namespace.status.get_or_insert_default().phase, "Active");
    }

    fn prepare_create(&self, namespace: &mut Namespace) {
        namespace.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        // A generated name is known only now.
        self.default(namespace);
    }

    fn prepare_update(&self, namespace: &mut Namespace, old: &Namespace) {
        namespace.spec.clone_from(&old.spec);
        namespace.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, namespace: &mut Namespace, old: &Namespace) {
        namespace.spec.clone_from(&old.spec);
    }

    fn validate(&self, namespace: &Namespace) -> Vec<FieldError> {
        let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        let wrong = |name: &String| {
            names::qualified(name).map(|wrong| FieldError::invalid(Path::new("spec").child("finalizers"), name.as_str(), wrong))
        };
        finalizers.filter_map(wrong).collect()
    }

    fn validate_status_update(&self, namespace: &Namespace, _old: &Namespace) -> Vec<FieldError> {
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let path = Path::new("status").child("Phase");
        match (namespace.metadata.deletion_timestamp.is_some(), phase) {
            (false, phase) if phase != "Active" => {
                vec![FieldError::invalid(path, phase, "may only be 'Active' if `deletionTimestamp` is empty")]
            }
            (true, phase) if phase != "Terminating" => {
                vec![FieldError::invalid(path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
            }
            _ => Vec::new(),
        }
    }

    fn validate_name(&self, name: &str) -> Option<String> {
        names::dns_label(name)
    }
}
