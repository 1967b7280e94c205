//! The steps by which a reader is set: which request comes after which answer.
//!
//! Every refusal has its place: what is optional is left out and the next step taken, what is not ends the session by name.

use device_profiles::{
    llrp as say,
    llrp::{Capabilities, Inventory, Message, Start, message},
};

use super::{ANSWER_MS_MAX, BEGIN_MS, FLUSH_MS, Pending, ROSPEC, ReaderError, Session, Step};

/// What became of a request.
pub(super) enum Outcome<'a> {
    Done(&'a Message),
    Refused { status: u16, text: String },
}

impl Session {
    /// Takes the next step after an answer.
    pub(super) fn go_on(
        &mut self,
        what: &'static str,
        outcome: &Outcome<'_>,
        now_us: u64,
    ) -> Result<(), ReaderError> {
        let done = match outcome {
            Outcome::Done(_) => Ok(()),
            Outcome::Refused { status, text } => {
                Err(ReaderError::Rejected { what, status: *status, text: text.clone() })
            }
        };
        match self.step {
            Step::Greeting | Step::Running | Step::Closed => {}
            Step::Capabilities => {
                done?;
                if let Outcome::Done(message) = outcome {
                    self.capabilities = Some(Capabilities::of(message));
                }
                let impinj = self.capabilities.as_ref().is_some_and(Capabilities::is_impinj);
                if self.settings.is_none() {
                    self.close(now_us);
                } else if impinj {
                    let what = "IMPINJ_ENABLE_EXTENSIONS";
                    self.ask(Step::Extensions, say::enable_extensions, 1_023, what, now_us);
                } else {
                    self.ask_config(now_us)?;
                }
            }
            Step::Extensions => {
                self.extended = done.is_ok();
                self.ask_config(now_us)?;
            }
            Step::Config => match done {
                Ok(()) => {
                    if self.holds {
                        let id = self.next_id();
                        self.send(&say::enable_reports(id));
                        self.unanswered[0] = Some(id);
                    }
                    self.ask_antennas(now_us);
                }
                Err(_) => {
                    self.holds = false;
                    let ms = self.settings.as_ref().map_or(0, |settings| settings.keepalive_ms);
                    let make = |id| say::set_keepalive(id, ms);
                    self.ask(Step::Keepalive, make, 13, "SET_READER_CONFIG", now_us);
                }
            },
            Step::Keepalive => {
                done?;
                self.ask_antennas(now_us);
            }
            // What it says of them is journaled where it came; one that does not say it is listened to all the same.
            Step::Antennas => self.ask_delete(now_us),
            // A reader that has nothing to delete says so, each in its own way.
            Step::Delete => self.ask_add(now_us)?,
            Step::Add => match done {
                Err(_) if self.extended => {
                    // Perhaps it is only Impinj's additions that this one does not know.
                    self.extended = false;
                    self.ask_add(now_us)?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let make = |id| say::enable_rospec(id, ROSPEC);
                    self.ask(Step::Enable, make, 34, "ENABLE_ROSPEC", now_us);
                }
            },
            Step::Enable => {
                done?;
                self.step = Step::Running;
                let settings = self.settings.as_ref();
                match settings.map_or(Start::Immediate, |settings| settings.start) {
                    Start::Request => self.ask_start(now_us),
                    Start::Immediate if !self.listening => {
                        self.begin_by_us = Some(now_us + BEGIN_MS * 1_000);
                    }
                    Start::Immediate | Start::Periodic { .. } | Start::Gpi { .. } => {}
                }
                if self.settings.as_ref().is_some_and(|settings| settings.report_tags > 1) {
                    self.flush_at_us = Some(now_us + FLUSH_MS * 1_000);
                }
            }
            Step::Start => match done {
                Ok(()) => {
                    self.step = Step::Running;
                    self.listening = true;
                }
                // It said so itself in the meantime.
                Err(_) if self.listening => self.step = Step::Running,
                Err(refusal) => {
                    // One that has begun by itself refuses to begin twice, and one that cannot begin refuses too. Each has its
                    // own status for either, so it is asked which of the two it is.
                    self.refusal = Some(refusal);
                    self.ask(Step::State, say::get_rospecs, 36, "GET_ROSPECS", now_us);
                }
            },
            Step::State => {
                self.step = Step::Running;
                let refusal = self.refusal.take();
                if let Outcome::Done(message) = outcome {
                    self.listening |= say::is_active(message, ROSPEC);
                }
                if let Some(refusal) = refusal.filter(|_| !self.listening) {
                    return Err(refusal);
                }
            }
            Step::Closing => self.step = Step::Closed,
        }
        Ok(())
    }

    fn inventory(&self) -> Result<Inventory, ReaderError> {
        let settings = self.settings.clone().unwrap_or_default();
        let capabilities = self.capabilities.clone().unwrap_or_default();
        capabilities.inventory(ROSPEC, &settings, self.extended).map_err(ReaderError::Unable)
    }

    fn ask_config(&mut self, now_us: u64) -> Result<(), ReaderError> {
        // What cannot be is told before anything at the reader is changed.
        self.inventory()?;
        let settings = self.settings.as_ref();
        let (ms, wanted) = settings.map_or((0, false), |s| (s.keepalive_ms, s.hold));
        self.holds = wanted && self.capabilities.as_ref().is_some_and(|c| c.can_hold);
        let holds = self.holds;
        let make = |id| say::set_config(id, ms, holds);
        self.ask(Step::Config, make, 13, "SET_READER_CONFIG", now_us);
        Ok(())
    }

    /// Asks which antennas are connected: of what was plugged or pulled while nobody was connected no event comes. Asked after
    /// held events were, so that what they say is not taken for newer.
    fn ask_antennas(&mut self, now_us: u64) {
        self.ask(Step::Antennas, say::get_antennas, message::CONFIG, "GET_READER_CONFIG", now_us);
    }

    pub(super) fn ask_delete(&mut self, now_us: u64) {
        self.ask(Step::Delete, say::delete_rospecs, 31, "DELETE_ROSPEC", now_us);
    }

    fn ask_add(&mut self, now_us: u64) -> Result<(), ReaderError> {
        let inventory = self.inventory()?;
        let make = |id| say::add_rospec(id, &inventory);
        self.ask(Step::Add, make, 30, "ADD_ROSPEC", now_us);
        Ok(())
    }

    pub(super) fn ask_start(&mut self, now_us: u64) {
        let make = |id| say::start_rospec(id, ROSPEC);
        self.ask(Step::Start, make, 32, "START_ROSPEC", now_us);
    }

    pub(super) fn ask(
        &mut self,
        step: Step,
        make: impl FnOnce(u32) -> Message,
        answer: u16,
        what: &'static str,
        now_us: u64,
    ) {
        let id = self.next_id();
        self.send(&make(id));
        self.step = step;
        let until_us = now_us + ANSWER_MS_MAX * 1_000;
        self.pending = Some(Pending { id, answer, what, until_us });
    }
}
