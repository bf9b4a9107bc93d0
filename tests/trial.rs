//! The trials of bundles, from outside: cases in words, an independent model, and what must never happen in any order
//! of events.

#[path = "trial/case.rs"]
mod case;
#[path = "trial/model.rs"]
mod model;
#[path = "trial/property.rs"]
mod property;
#[path = "trial/world.rs"]
mod world;
