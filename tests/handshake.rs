//! The dialogue with the PLC, from outside: held to an independent model, to what must never happen, and to its page.

#[path = "handshake/case.rs"]
mod case;
#[path = "handshake/model.rs"]
mod model;
#[path = "handshake/page.rs"]
mod page;
#[path = "handshake/property.rs"]
mod property;
