//! nf_tables by netlink: tables, chains, rules, sets and maps, changed in one transaction or not at all.

mod expression;
mod transaction;

pub(crate) use expression::{Expression, Header, Register, Unreachable};
pub(crate) use transaction::{Element, Hook, SetSpec, SetType, Transaction, Verdict, open};
