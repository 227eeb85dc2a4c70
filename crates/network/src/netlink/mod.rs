//! Netlink: the messages the kernel's network is changed with, written and read without unsafe code.
//!
//! A request is a header, a fixed part and attributes; [`Message`] writes them, [`attributes`] reads them, [`Socket`]
//! carries them and knows which message of several the kernel refused.

mod attributes;
mod message;
mod socket;

pub(crate) use attributes::{attributes, find, number_of, text_of};
pub(crate) use message::Message;
pub(crate) use socket::{Bus, Refused, Socket};
