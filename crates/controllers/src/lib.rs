//! The controllers: one loop, observe, plan, execute ([`runtime`]), and a short shell per planner.

pub mod runtime;
pub mod statefulset;
