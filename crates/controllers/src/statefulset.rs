//! The StatefulSet controller.
