//! What a scanner's operator is doing, and the frames that say it.
//!
//! A mode is set by a person over the API, or by scanning a command barcode:
//!
//! ```text
//!  STOCKFOLD:RECEIVE   STOCKFOLD:PICK   STOCKFOLD:COUNT   STOCKFOLD:END
//!  STOCKFOLD:SLOT:A-1  where, until another is scanned; STOCKFOLD:SLOT: = the scanner's own place
//!  STOCKFOLD:WHO:ann   who, until another is scanned; STOCKFOLD:WHO: = nobody
//! ```
//! Receiving and picking count each scan as one unit. A **count** goes item by item: the third scan of a code says that three of it
//! are there, so that what is journaled is a level and needs nothing of what was before it. A count begins when its mode is set
//! or its slot is changed, and its tally is in memory only: after a restart of the hub the scanner has no mode (scans are kept
//! and rejected) until somebody sets one, because a tally that began anew would say that one is there where three are.
//!
//! A scanner's trigger bounces: the same line within [`SAME_SCAN_MS`] is one scan. When a line came is known only as well as the
//! line was listened to; lines that waited while nobody listened may be scans far apart, and only those that surely came
//! together are one. A bounce too many is seen and put right, a scan too few is not.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use device_profiles::{
    DeviceId, ScanMode, SlotId,
    codec::scanner::{Context, Doing, Line, code_of, command_of, frame, mode_of, name_of},
    ids::check_id,
};
use tokio::sync::Notify;

/// The same line within this time is one scan, in milliseconds.
pub const SAME_SCAN_MS: i64 = 300;
/// Codes of one count; scans of further ones are kept and rejected.
pub const COUNTED_CODES_MAX: usize = 4_096;

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// A scan, as it is journaled.
    Frame(Vec<u8>),
    /// The operator does something else now.
    Command,
    /// The same scan again.
    Again,
}

/// One scanner's session.
#[derive(Debug)]
pub struct Session {
    context: Context,
    boot: String,
    seq: u64,
    /// Its first scan with this operator.
    since: u64,
    tally: BTreeMap<String, u32>,
    /// The line that came last, and the earliest time when it may have come.
    last: Option<(Vec<u8>, i64)>,
    /// It was changed by the scanner and is to be written down.
    changed: bool,
}

impl Session {
    /// A session of a scanner; `boot` numbers its scans anew.
    pub fn new(boot: String, context: Context) -> Self {
        Self { context, boot, seq: 0, since: 1, tally: BTreeMap::new(), last: None, changed: false }
    }

    /// What its operator is doing.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// A person sets what the operator does. A count begins anew.
    pub fn set(&mut self, context: Context) {
        self.operated_by(context.operator.clone());
        self.context = context;
        self.tally.clear();
        self.changed = false;
    }

    fn operated_by(&mut self, who: Option<String>) {
        if self.context.operator != who {
            self.since = self.seq + 1;
            self.context.operator = who;
        }
    }

    /// What is to be written down since the last call, if anything.
    pub fn take_changed(&mut self) -> Option<Context> {
        std::mem::take(&mut self.changed).then(|| self.context.clone())
    }

    /// It could not be written down.
    pub fn still_changed(&mut self) {
        self.changed = true;
    }

    /// Takes a line that came some time between these two.
    pub fn scan(&mut self, line: &[u8], came_ms: RangeInclusive<i64>) -> Came {
        let (earliest, latest) = came_ms.into_inner();
        // Another life of the actor has another clock.
        let together = |first: i64| (0..SAME_SCAN_MS).contains(&latest.saturating_sub(first));
        let again = self.last.as_ref().is_some_and(|(last, at)| last == line && together(*at));
        if again {
            return Came::Again;
        }
        self.last = Some((line.to_vec(), earliest));
        let code = code_of(line).ok();
        if code.is_some_and(|code| self.command(code)) {
            self.changed = true;
            return Came::Command;
        }
        let mut context = self.context.clone();
        let mut quantity = 1;
        if context.mode == Doing::Mode(ScanMode::Count)
            && let Some(name) = code.and_then(|code| name_of(code).ok())
        {
            let is_full = self.tally.len() >= COUNTED_CODES_MAX && !self.tally.contains_key(&name);
            if is_full {
                context.mode = Doing::Unset;
            } else {
                let counted = self.tally.entry(name).or_default();
                *counted = counted.saturating_add(1);
                quantity = *counted;
            }
        }
        self.seq += 1;
        let since = context.operator.is_some().then_some(self.since);
        Came::Frame(frame(&Line {
            boot: &self.boot,
            seq: self.seq,
            context,
            since,
            quantity,
            line,
        }))
    }

    /// Whether a code is a command, and then it is carried out.
    fn command(&mut self, code: &str) -> bool {
        let Some(word) = command_of(code) else { return false };
        match word.split_once(':') {
            None if word == "END" => self.context.mode = Doing::Unset,
            None => match mode_of(&word.to_ascii_lowercase()) {
                Some(mode) => self.context.mode = Doing::Mode(mode),
                None => return false,
            },
            Some(("SLOT", "")) => self.context.slot = None,
            Some(("SLOT", slot)) => match SlotId::parse(slot) {
                Ok(slot) => self.context.slot = Some(slot),
                Err(_) => return false,
            },
            Some(("WHO", "")) => self.operated_by(None),
            Some(("WHO", who)) if check_id(who).is_ok() => {
                self.operated_by(Some(who.to_owned()));
                // Who counts goes on counting.
                return true;
            }
            Some(_) => return false,
        }
        self.tally.clear();
        true
    }
}

/// The sessions of all scanners. Cheap to clone; all clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    all: Mutex<BTreeMap<DeviceId, Session>>,
    changed: Notify,
}

impl Sessions {
    /// Uses the session of a scanner; one that has none yet gets `fresh`.
    pub fn with<T>(
        &self,
        device: &DeviceId,
        fresh: impl FnOnce() -> Session,
        use_it: impl FnOnce(&mut Session) -> T,
    ) -> T {
        let mut all = self.all();
        let session = all.entry(device.clone()).or_insert_with(fresh);
        let used = use_it(session);
        if session.changed {
            self.0.changed.notify_one();
        }
        used
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Session>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a scanner has changed its session. Cancel safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What its operator is doing, if the scanner has a session.
    pub fn context(&self, device: &DeviceId) -> Option<Context> {
        let all = self.all();
        all.get(device).map(|session| session.context().clone())
    }

    /// Every session that a scanner changed, to be written down.
    pub fn take_changed(&self) -> Vec<(DeviceId, Context)> {
        let mut all = self.all();
        all.iter_mut()
            .filter_map(|(device, session)| Some((device.clone(), session.take_changed()?)))
            .collect()
    }

    /// These could not be written down.
    pub fn still_changed(&self, devices: &[(DeviceId, Context)]) {
        let mut all = self.all();
        for (device, _) in devices {
            if let Some(session) = all.get_mut(device) {
                session.still_changed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use device_profiles::codec::scanner::split;

    use super::*;

    /// It came just then.
    fn at(ms: i64) -> RangeInclusive<i64> {
        ms..=ms
    }

    fn session() -> Session {
        Session::new("b1".into(), Context::default())
    }

    /// Mode, quantity, slot and operator of the frame that a line becomes.
    fn said(session: &mut Session, line: &str, now_ms: i64) -> (&'static str, u32, String, String) {
        let Came::Frame(raw) = session.scan(line.as_bytes(), at(now_ms)) else {
            panic!("no frame")
        };
        let line = split(&raw).unwrap();
        let slot = line.context.slot.map(|slot| slot.to_string());
        let who = line.context.operator.unwrap_or_default();
        (line.context.mode.as_str(), line.quantity, slot.unwrap_or_default(), who)
    }

    #[test]
    fn commands_are_scanned() {
        let mut session = session();
        let nothing = (String::new(), String::new());
        assert_eq!(said(&mut session, "x", 0), ("", 1, nothing.0, nothing.1));
        for (code, n) in
            ["STOCKFOLD:RECEIVE", "]C0STOCKFOLD:SLOT:A-1", "STOCKFOLD:WHO:ann"].into_iter().zip(0..)
        {
            assert_eq!(session.scan(code.as_bytes(), at(1_000 + n)), Came::Command, "{code}");
        }
        assert_eq!(said(&mut session, "x", 2_000), ("receive", 1, "A-1".into(), "ann".into()));
        let written = session.take_changed().unwrap();
        assert_eq!((written.operator.as_deref(), session.take_changed()), (Some("ann"), None));
        session.scan(b"STOCKFOLD:END", at(3_000));
        session.scan(b"STOCKFOLD:SLOT:", at(3_001));
        session.scan(b"STOCKFOLD:WHO:", at(3_002));
        assert_eq!(said(&mut session, "x", 4_000), ("-", 1, String::new(), String::new()));
        // What only looks like a command is kept like any other scan, and refused when it is read.
        for code in ["STOCKFOLD:EAT", "STOCKFOLD:SLOT:a b", "STOCKFOLD:", "my STOCKFOLD:PICK"] {
            assert!(matches!(session.scan(code.as_bytes(), at(5_000)), Came::Frame(_)), "{code}");
        }
    }

    #[test]
    fn a_frame_says_since_when_its_operator_has_the_scanner() {
        let mut session = session();
        let mut now_ms = 0;
        let mut since = |session: &mut Session, line: &str| {
            now_ms += 1_000;
            let Came::Frame(raw) = session.scan(line.as_bytes(), at(now_ms)) else { return None };
            split(&raw).unwrap().since
        };
        assert_eq!(since(&mut session, "x"), None, "nobody has it");
        since(&mut session, "STOCKFOLD:WHO:ann");
        assert_eq!(since(&mut session, "x"), Some(2));
        // Whoever says it again has had it before, whatever else changes.
        since(&mut session, "STOCKFOLD:WHO:ann");
        since(&mut session, "STOCKFOLD:RECEIVE");
        session.set(Context { operator: Some("ann".into()), ..Context::default() });
        assert_eq!(since(&mut session, "x"), Some(2));
        session.set(Context { operator: Some("bo".into()), ..Context::default() });
        assert_eq!((since(&mut session, "x"), since(&mut session, "y")), (Some(4), Some(4)));
        since(&mut session, "STOCKFOLD:WHO:");
        assert_eq!(since(&mut session, "x"), None);
    }

    #[test]
    fn the_same_line_at_once_is_one_scan() {
        let mut session = session();
        assert!(matches!(session.scan(b"x", at(0)), Came::Frame(_)));
        assert_eq!(session.scan(b"x", at(SAME_SCAN_MS - 1)), Came::Again);
        assert!(matches!(session.scan(b"y", at(SAME_SCAN_MS - 1)), Came::Frame(_)));
        assert!(matches!(session.scan(b"x", at(SAME_SCAN_MS - 1)), Came::Frame(_)));
        assert!(matches!(session.scan(b"x", at(2 * SAME_SCAN_MS - 1)), Came::Frame(_)));
        let Came::Frame(last) = session.scan(b"x", at(9_999)) else { panic!() };
        assert_eq!(split(&last).unwrap().seq, 5, "each scan has its number");
    }

    #[test]
    fn lines_that_waited_are_scans_of_their_own() {
        let mut session = session();
        for _ in 0..5 {
            assert!(matches!(session.scan(b"x", 0..=5_000), Came::Frame(_)));
        }
        // The first waited, so it is not known how long before the second it came.
        assert!(matches!(session.scan(b"x", at(5_010)), Came::Frame(_)));
        assert_eq!(session.scan(b"x", 5_010..=5_100), Came::Again);
        assert!(matches!(session.scan(b"y", i64::MIN..=5_200), Came::Frame(_)));
        assert!(matches!(session.scan(b"y", at(5_200)), Came::Frame(_)));
        assert!(matches!(session.scan(b"y", at(7)), Came::Frame(_)), "a clock that began anew");
    }

    #[test]
    fn a_count_says_how_many_so_far() {
        let mut session = session();
        session.scan(b"STOCKFOLD:COUNT", at(0));
        let mut now_ms = 0;
        let mut count = |session: &mut Session, line: &str| {
            now_ms += 1_000;
            said(session, line, now_ms).1
        };
        // One item, with and without its identifier.
        assert_eq!(count(&mut session, "4006381333931"), 1);
        assert_eq!(count(&mut session, "]E04006381333931"), 2);
        assert_eq!(count(&mut session, "other"), 1);
        assert_eq!(count(&mut session, "]C10104006381333931"), 3);
        session.scan(b"STOCKFOLD:SLOT:B", at(90_000));
        assert_eq!(count(&mut session, "4006381333931"), 1, "another slot, another count");
        session.set(Context { mode: Doing::Mode(ScanMode::Count), ..Context::default() });
        assert_eq!(count(&mut session, "4006381333931"), 1);
        for n in 1..COUNTED_CODES_MAX {
            count(&mut session, &format!("code{n}"));
        }
        assert_eq!(said(&mut session, "too many", 99_000_000).0, "-");
        assert_eq!(
            said(&mut session, "4006381333931", 99_001_000),
            ("count", 2, "".into(), "".into())
        );
    }
}
