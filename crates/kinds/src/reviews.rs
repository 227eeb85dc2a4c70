//! Questions about who someone is and what they may do. They are asked by creating an object that is answered, never stored.

use crate::Scope;

/// A kind that is only ever asked.
#[derive(Debug)]
pub struct Review {
    pub group: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
}

/// The version of all of them.
pub const VERSION: &str = "v1";

const fn review(group: &'static str, kind: &'static str, plural: &'static str, scope: Scope) -> Review {
    Review { group, kind, plural, scope }
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Every review that is answered, in discovery order.
pub static REVIEWS: [Review; 6] = [
    review(AUTHENTICATION, "TokenReview", "tokenreviews", Scope::Cluster),
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", Scope::Cluster),
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", Scope::Cluster),
    review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", Scope::Cluster),
    review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", Scope::Cluster),
    review(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", Scope::Namespaced),
];

impl Review {
    /// `group/version`.
    pub fn api_version(&self) -> String {
        format!("{}/{VERSION}", self.group)
    }

    /// As discovery names one of them.
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }
}

/// The review of a group, version and plural name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS.iter().find(|review| review.group == group && version == VERSION && review.plural == plural)
}
