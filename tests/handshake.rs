//! The dialogue with the PLC, from outside: held to an independent model, to what must never happen, and to its page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "handshake/case.rs"]
mod case;
#[path = "handshake/model.rs"]
mod model;
#[path = "common/outcome.rs"]
mod outcome;
#[path = "handshake/page.rs"]
mod page;
#[path = "handshake/property.rs"]
mod property;
