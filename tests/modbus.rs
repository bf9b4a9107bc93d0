//! The Modbus servers from outside: bytes on a socket and on a pseudo-terminal. What other people's masters make of them is in
//! tests/tools/test_modbus.py.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "modbus/line.rs"]
mod line;
#[path = "common/outcome.rs"]
mod outcome;
#[path = "modbus/page.rs"]
mod page;
#[path = "common/random.rs"]
mod random;
#[path = "modbus/socket.rs"]
mod socket;
#[path = "modbus/station.rs"]
mod station;
