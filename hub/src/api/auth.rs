//! Who calls: the bootstrap token, or a session begun with a one-time sign-in link.
//!
//! Until the hub knows people there is one token for everything. A person at a browser gets in by a link that `stockfold`
//! prints: its code is good once and for ten minutes, and is traded for a cookie whose session lives in memory only. Every
//! secret is compared by its SHA-256 in constant time. A secret of 256 bits is not guessed, so the limit on failures is there
//! to keep a broken client from filling the log, and a right secret is never turned away by it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    limits::{
        FAILURE_ADDRESSES_MAX, FAILURES_MAX, FAILURES_WINDOW, SESSION_AGE_MAX, SESSIONS_MAX,
        SIGN_IN_CODE_AGE_MAX, SIGN_IN_CODES_MAX,
    },
    secret::{self, Secret, SecretHash},
};

/// Name of the session cookie.
pub const SESSION_COOKIE: &str = "stockfold_session";

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name in the journal.
    pub name: Arc<str>,
    /// It was known by its cookie, so a browser sends it along on its own accord.
    pub by_cookie: bool,
}

/// Why nobody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Nothing was presented.
    Nothing,
    /// What was presented is wrong or expired.
    Wrong,
}

/// Tokens, codes and sessions. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    token: SecretHash,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    codes: HashMap<SecretHash, Instant>,
    sessions: HashMap<SecretHash, Instant>,
    failures: HashMap<IpAddr, Failures>,
}

#[derive(Clone, Copy)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Auth {
    /// Guards with the token of this SHA-256.
    pub fn new(token_sha256: [u8; 32]) -> Self {
        Self { inner: Arc::new(Inner { token: token_sha256, tables: Mutex::default() }) }
    }

    /// A code for `/signin?code=`; good once, for ten minutes.
    pub fn issue_sign_in_code(&self) -> Result<String, getrandom::Error> {
        let code = Secret::mint()?;
        insert_bounded(&mut self.tables().codes, code.hash(), SIGN_IN_CODES_MAX, Instant::now());
        Ok(code.reveal().to_owned())
    }

    /// Trades a code for a session; `None` when it is wrong, used or old.
    pub fn redeem(&self, code: &str) -> Result<Option<Secret>, getrandom::Error> {
        let session = Secret::mint()?;
        let good = self.tables().redeem(code, &session, Instant::now());
        Ok(good.then_some(session))
    }

    /// Who presents this token or this cookie. A token wins.
    pub fn check(&self, token: Option<&str>, cookie: Option<&str>) -> Result<Caller, Denied> {
        if let Some(token) = token {
            if secret::same(&secret::hash(token), &self.inner.token) {
                return Ok(Caller { name: "token".into(), by_cookie: false });
            }
            return Err(Denied::Wrong);
        }
        let Some(cookie) = cookie else { return Err(Denied::Nothing) };
        if self.tables().has_session(cookie, Instant::now()) {
            Ok(Caller { name: "console".into(), by_cookie: true })
        } else {
            Err(Denied::Wrong)
        }
    }

    /// Counts a failure; true when the address has had too many.
    pub fn failed(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.tables().failed(address, Instant::now()))
    }

    /// The tables hold whole values only, so a panic elsewhere while they were locked left them sound.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn redeem(&mut self, code: &str, session: &Secret, now: Instant) -> bool {
        let made = self.codes.remove(&secret::hash(code));
        let good = made.is_some_and(|made| now.duration_since(made) < SIGN_IN_CODE_AGE_MAX);
        if good {
            insert_bounded(&mut self.sessions, session.hash(), SESSIONS_MAX, now);
        }
        good
    }

    /// Looked up by hash: what the time tells is about the hash, which gives nothing away.
    fn has_session(&self, cookie: &str, now: Instant) -> bool {
        let made = self.sessions.get(&secret::hash(cookie));
        made.is_some_and(|made| now.duration_since(*made) < SESSION_AGE_MAX)
    }

    fn failed(&mut self, address: IpAddr, now: Instant) -> bool {
        let old = |failures: &Failures| now.duration_since(failures.since) >= FAILURES_WINDOW;
        if self.failures.len() >= FAILURE_ADDRESSES_MAX {
            self.failures.retain(|_, failures| !old(failures));
            if self.failures.len() >= FAILURE_ADDRESSES_MAX {
                self.failures.clear();
            }
        }
        let fresh = Failures { since: now, count: 0 };
        let failures = self.failures.entry(address).or_insert(fresh);
        if old(failures) {
            *failures = fresh;
        }
        failures.count = failures.count.saturating_add(1);
        failures.count > FAILURES_MAX
    }
}

/// Adds an entry; the oldest makes room.
fn insert_bounded(
    table: &mut HashMap<SecretHash, Instant>,
    key: SecretHash,
    most: usize,
    now: Instant,
) {
    while table.len() >= most {
        let Some(oldest) = table.iter().min_by_key(|(_, made)| **made).map(|(key, _)| *key) else {
            break;
        };
        table.remove(&oldest);
    }
    table.insert(key, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_known_and_nothing_else() {
        let auth = Auth::new(secret::hash("right"));
        assert!(auth.check(Some("right"), None).is_ok_and(|c| !c.by_cookie));
        assert_eq!(auth.check(Some("wrong"), None), Err(Denied::Wrong));
        assert_eq!(auth.check(None, None), Err(Denied::Nothing));
        assert_eq!(auth.check(None, Some("made up")), Err(Denied::Wrong));
    }

    #[test]
    fn a_code_is_good_once_and_ages() {
        let auth = Auth::new([0; 32]);
        let code = auth.issue_sign_in_code().unwrap();
        let session = auth.redeem(&code).unwrap().unwrap();
        assert!(auth.check(None, Some(session.reveal())).is_ok_and(|c| c.by_cookie));
        assert_eq!(auth.redeem(&code).unwrap(), None);
        let late = auth.issue_sign_in_code().unwrap();
        let mut tables = auth.tables();
        let now = Instant::now();
        assert!(!tables.redeem(&late, &session, now + SIGN_IN_CODE_AGE_MAX));
        assert!(tables.has_session(session.reveal(), now));
        assert!(!tables.has_session(session.reveal(), now + SESSION_AGE_MAX));
    }

    #[test]
    fn failures_add_up_an_address_and_pass() {
        let mut tables = Tables::default();
        let (address, now) = (IpAddr::from([127, 0, 0, 1]), Instant::now());
        assert!((0..FAILURES_MAX).all(|_| !tables.failed(address, now)));
        assert!(tables.failed(address, now));
        assert!(!tables.failed(IpAddr::from([127, 0, 0, 2]), now));
        assert!(!tables.failed(address, now + FAILURES_WINDOW));
    }

    #[test]
    fn tables_are_bounded() {
        let auth = Auth::new([0; 32]);
        for _ in 0..2 * SIGN_IN_CODES_MAX {
            auth.issue_sign_in_code().unwrap();
        }
        assert_eq!(auth.tables().codes.len(), SIGN_IN_CODES_MAX);
    }
}
