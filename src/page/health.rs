//! Whether the station lives. In: its status and its watchdogs. Out: yes or no, and why.
//!
//! It lives while parts are judged, or would be if the line, the camera or the PLC let it: a restart mends none of
//! those.

use crate::handshake::{Condition, Status};

/// A word for whoever looks after it, and whether the station lives; `hung` are the threads that stand still.
pub(super) fn health(status: &Status, hung: &[&str]) -> (bool, String) {
    let guests = if hung.is_empty() { String::new() } else { format!("; stands still: {}", hung.join(", ")) };
    let Some(condition) = status.condition() else { return (true, format!("ready{guests}")) };
    let lives = !matches!(
        condition,
        Condition::Panic | Condition::Engine | Condition::Hung | Condition::Starting | Condition::Stopping
    );
    let name = serde_json::to_value(condition).unwrap_or_default();
    (lives, format!("takes no part: {} {}{guests}", condition.code(), name.as_str().unwrap_or("?")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Handshake, HandshakeOptions};

    #[test]
    fn a_station_lives_while_a_restart_would_not_help() {
        let mut handshake = Handshake::new(HandshakeOptions::default());
        assert_eq!(health(&handshake.status(), &[]), (false, "takes no part: 30 starting".into()));
        handshake.set(Condition::Starting, false);
        assert_eq!(health(&handshake.status(), &["record"]), (true, "ready; stands still: record".into()));
        handshake.set(Condition::Camera, true);
        assert_eq!(health(&handshake.status(), &[]), (true, "takes no part: 2 camera".into()));
        handshake.set(Condition::Hung, true);
        assert_eq!(health(&handshake.status(), &[]), (false, "takes no part: 23 hung".into()));
    }
}
