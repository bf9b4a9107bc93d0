//! Who is logged in. In: users that were recognised. Out: a session, by the secret in its cookie.
//!
//! Sessions are in memory alone: a start of the station ends them. What a user may do, and whether there is such a user
//! still, is asked of the users file each time.

use std::time::Duration;

use super::random;
use super::users::{Role, Users};
use crate::clock::Timestamp;

/// Sessions at once; one more ends the one that was idle longest.
const MOST: usize = 32;

/// A session ends after so long, whatever it does: a shift and its handover.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);

/// A session without a request ends after so long.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Session {
    secret: String,
    csrf: String,
    user: String,
    /// The hash with which the password was right: another password ends the session.
    password: String,
    began: Timestamp,
    seen: Timestamp,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    pub(super) user: String,
    pub(super) role: Role,
    /// What a request that changes something must bring.
    pub(super) csrf: String,
}

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<Session>);

impl Sessions {
    /// Begins a session; returns its secret.
    pub(super) fn begin(&mut self, user: &str, password: &str, now: Timestamp) -> std::io::Result<String> {
        self.0.retain(|session| session.is_alive(now));
        if self.0.len() >= MOST
            && let Some(oldest) = (0..self.0.len()).min_by_key(|&at| self.0.get(at).map(|session| session.seen))
        {
            self.0.remove(oldest);
        }
        let (secret, csrf) = (random::token()?, random::token()?);
        let (user, password) = (user.to_owned(), password.to_owned());
        self.0.push(Session { secret: secret.clone(), csrf, user, password, began: now, seen: now });
        Ok(secret)
    }

    /// Who has this secret, and is a user still.
    pub(super) fn visitor(&mut self, secret: &str, users: &Users, now: Timestamp) -> Option<Visitor> {
        let session = self.0.iter_mut().find(|session| random::equal(&session.secret, secret))?;
        let user = users.get(&session.user).filter(|user| user.password == session.password)?;
        if !session.is_alive(now) {
            return None;
        }
        session.seen = now;
        Some(Visitor { user: session.user.clone(), role: user.role, csrf: session.csrf.clone() })
    }

    /// Ends a session.
    pub(super) fn end(&mut self, secret: &str) {
        self.0.retain(|session| !random::equal(&session.secret, secret));
    }
}

impl Session {
    fn is_alive(&self, now: Timestamp) -> bool {
        now.saturating_sub(self.began) < LIFE && now.saturating_sub(self.seen) < IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn users() -> Users {
        let mut users = Users::default();
        users.set("anna", Role::Label, "correct horse").unwrap();
        users
    }

    fn begin(sessions: &mut Sessions, users: &Users, now: Timestamp) -> String {
        sessions.begin("anna", &users.get("anna").unwrap().password, now).unwrap()
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_at_the_end_of_the_shift() {
        let (mut sessions, users) = (Sessions::default(), users());
        let secret = begin(&mut sessions, &users, HOUR);
        let mut now = HOUR;
        while now - HOUR + HOUR / 2 < LIFE {
            assert_eq!(sessions.visitor(&secret, &users, now).unwrap().role, Role::Label);
            now += HOUR / 2;
        }
        assert!(sessions.visitor(&secret, &users, HOUR + LIFE).is_none());
        let secret = begin(&mut sessions, &users, HOUR);
        assert!(sessions.visitor(&secret, &users, 2 * HOUR).is_none());
    }

    #[test]
    fn a_session_ends_with_its_user_its_password_and_its_log_out() {
        let (mut sessions, mut users) = (Sessions::default(), users());
        let secret = begin(&mut sessions, &users, HOUR);
        assert!(sessions.visitor("", &users, HOUR).is_none());
        assert!(sessions.visitor(&secret, &Users::default(), HOUR).is_none());
        users.set("anna", Role::See, "battery staple").unwrap();
        assert!(sessions.visitor(&secret, &users, HOUR).is_none());
        let secret = begin(&mut sessions, &users, HOUR);
        assert!(sessions.visitor(&secret, &users, HOUR).is_some());
        sessions.end(&secret);
        assert!(sessions.visitor(&secret, &users, HOUR).is_none());
    }

    #[test]
    fn there_are_never_more_than_a_fixed_number() {
        let (mut sessions, users) = (Sessions::default(), users());
        let first = begin(&mut sessions, &users, HOUR);
        for second in 1..=MOST as u64 {
            begin(&mut sessions, &users, HOUR + Duration::from_secs(second));
        }
        assert_eq!((sessions.0.len(), sessions.visitor(&first, &users, HOUR)), (MOST, None));
    }
}
