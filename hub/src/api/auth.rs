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
        let mut tables = self.tables();
        insert_bounded(&mut tables.codes, code.hash(), SIGN_IN_CODES_MAX);
        Ok(code.reveal().to_owned())
    }

    /// Trades a code for a session; `None` when it is wrong, used or old.
    pub fn redeem(&self, code: &str) -> Result<Option<Secret>, getrandom::Error> {
        let session = Secret::mint()?;
        let mut tables = self.tables();
        let good = tables
            .codes
            .remove(&secret::hash(code))
            .is_some_and(|made| made.elapsed() < SIGN_IN_CODE_AGE_MAX);
        if !good {
            return Ok(None);
        }
        insert_bounded(&mut tables.sessions, session.hash(), SESSIONS_MAX);
        Ok(Some(session))
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
        // Looked up by hash: what the time tells is about the hash, which gives nothing away.
        let made = self.tables().sessions.get(&secret::hash(cookie)).copied();
        match made {
            Some(made) if made.elapsed() < SESSION_AGE_MAX => {
                Ok(Caller { name: "console".into(), by_cookie: true })
            }
            Some(_) | None => Err(Denied::Wrong),
        }
    }

    /// Counts a failure; true when the address has had too many.
    pub fn failed(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let mut tables = self.tables();
        if tables.failures.len() >= FAILURE_ADDRESSES_MAX {
            tables.failures.retain(|_, failures| failures.since.elapsed() < FAILURES_WINDOW);
            if tables.failures.len() >= FAILURE_ADDRESSES_MAX {
                tables.failures.clear();
            }
        }
        let failures = tables
            .failures
            .entry(address)
            .or_insert_with(|| Failures { since: Instant::now(), count: 0 });
        if failures.since.elapsed() >= FAILURES_WINDOW {
            *failures = Failures { since: Instant::now(), count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        failures.count > FAILURES_MAX
    }

    /// The tables hold whole values only, so a panic elsewhere while they were locked left them sound.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.inner.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds an entry of now; the oldest makes room.
fn insert_bounded(table: &mut HashMap<SecretHash, Instant>, key: SecretHash, most: usize) {
    while table.len() >= most {
        let Some(oldest) = table.iter().min_by_key(|(_, made)| **made).map(|(key, _)| *key) else {
            break;
        };
        table.remove(&oldest);
    }
    table.insert(key, Instant::now());
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

    #[tokio::test(start_paused = true)]
    async fn a_code_is_good_once_and_ages() {
        let auth = Auth::new([0; 32]);
        let code = auth.issue_sign_in_code().unwrap();
        let session = auth.redeem(&code).unwrap().unwrap();
        assert!(auth.check(None, Some(session.reveal())).is_ok_and(|c| c.by_cookie));
        assert_eq!(auth.redeem(&code).unwrap(), None);
        let late = auth.issue_sign_in_code().unwrap();
        tokio::time::advance(SIGN_IN_CODE_AGE_MAX).await;
        assert_eq!(auth.redeem(&late).unwrap(), None);
        tokio::time::advance(SESSION_AGE_MAX).await;
        assert_eq!(auth.check(None, Some(session.reveal())), Err(Denied::Wrong));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_add_up_an_address_and_pass() {
        let auth = Auth::new([0; 32]);
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        assert!((0..FAILURES_MAX).all(|_| !auth.failed(address)));
        assert!(auth.failed(address));
        assert!(!auth.failed(Some(IpAddr::from([127, 0, 0, 2]))));
        tokio::time::advance(FAILURES_WINDOW).await;
        assert!(!auth.failed(address));
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
