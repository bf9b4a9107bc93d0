//! The Modbus servers from outside: bytes on a socket and on a pseudo-terminal. What other people's masters make of
//! them is in tests/tools/test_modbus.py.

#[path = "modbus/line.rs"]
mod line;
#[path = "modbus/page.rs"]
mod page;
#[path = "modbus/socket.rs"]
mod socket;
#[path = "modbus/station.rs"]
mod station;

use crate::random;
