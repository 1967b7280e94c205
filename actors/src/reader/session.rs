//! A session with a reader: LLRP as a state machine without a socket and without a clock.
//!
//! ```text
//!  Greeting ─► Capabilities ─► Extensions? ─► Config ─► Antennas ─► Delete ─► Add ─► Enable ─► Start? ─► Running
//!    │ event "connected"        (Impinj)        │ 64: what was held comes first                  │
//!    └ refused: over                            └ refused: Keepalive (signs of life only)         └ refused: State (has it begun?)
//! ```
//! Bytes and the time go in ([`Session::receive`], [`Session::tick`]); bytes for the reader and frames for the journal come out
//! ([`Session::outgoing`], [`Session::frame`]). One request is under way at a time. Its answer has its id and the kind that
//! belongs to it, or is an ERROR_MESSAGE with its id; whatever comes between is what it is.
//!
//! Invariants: nothing is sent before the reader has greeted; a message leaves whole or not at all; what is kept of the stream is
//! at most one unfinished message and what one read brought; no memory is reserved for a length that was only announced.
//!
//! A sign of life becomes a frame only while the reader listens, because to the fold a frame without tags says that it listened
//! and heard nothing. That it listens is known from what it says of its ROSpec and from tags, never from a refusal: one that was
//! taken for listening and was not would let all its tags depart.

mod setup;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use device_profiles::{
    LlrpSettings,
    limits::{FRAME_BYTES_MAX, TAGS_MAX},
    llrp as say,
    llrp::{
        Capabilities, LlrpError, MESSAGE_BYTES_MAX, Message, Start, TagReads, frame_length,
        message, split,
    },
};

use super::ReaderError;
use setup::Outcome;

/// A reader greets within this time after it was connected, in milliseconds.
pub const GREETING_MS_MAX: u64 = 5_000;
/// A request is answered within this time, in milliseconds: some readers take seconds to arrange their radio.
pub const ANSWER_MS_MAX: u64 = 10_000;
/// A message is complete within this time after its first byte, in milliseconds.
pub const MESSAGE_MS_MAX: u64 = 10_000;
/// Signs of life that may be missing one after the other.
pub const MISSED_MAX: u64 = 3;
/// A reader that was told to begin at once is told to start after this time without a sign that it did, in milliseconds.
const BEGIN_MS: u64 = 1_000;
/// Reports that wait for more tags are asked for at this period, in milliseconds.
const FLUSH_MS: u64 = 250;
/// Signs of life are not journaled closer together than this, in milliseconds; a reader's period of a second trembles.
const LIFE_MS: u64 = 900;
/// The hub's ROSpec.
pub const ROSPEC: u32 = 1;
/// Longest text of a refusal that is kept, in characters.
const WHY_CHARS_MAX: usize = 160;

/// What a session counted since it was asked last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reports.
    pub reports: u64,
    /// Tags in them.
    pub reads: u64,
    /// Events.
    pub events: u64,
    /// Signs of life.
    pub keepalives: u64,
    /// Buffers that ran over.
    pub overflows: u64,
    /// Messages that are not what they say.
    pub garbled: u64,
    /// Messages of an unknown kind.
    pub unknown: u64,
    /// Answers to nothing.
    pub foreign: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Capabilities,
    Extensions,
    Config,
    Keepalive,
    Antennas,
    Delete,
    Add,
    Enable,
    Start,
    State,
    Running,
    Closing,
    Closed,
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
struct Pending {
    id: u32,
    /// Number of the message that answers it.
    answer: u16,
    what: &'static str,
    until_us: u64,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// `None` = only look who is there.
    settings: Option<LlrpSettings>,
    step: Step,
    pending: Option<Pending>,
    last_id: u32,
    /// Ids of what has no answer, so that a refusal of it is known as one: ENABLE_EVENTS_AND_REPORTS, GET_REPORT.
    unanswered: [Option<u32>; 2],
    capabilities: Option<Capabilities>,
    extended: bool,
    holds: bool,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    frames: VecDeque<Bytes>,
    counts: Counts,
    /// Why it did not start, while it is asked whether it had begun already.
    refusal: Option<ReaderError>,
    /// It hears tags, as far as it says.
    listening: bool,
    greet_by_us: u64,
    /// Since when an unfinished message lies in `incoming`.
    unfinished_us: Option<u64>,
    heard_us: u64,
    begin_by_us: Option<u64>,
    flush_at_us: Option<u64>,
    /// When a sign of life was journaled last.
    life_us: Option<u64>,
}

impl Session {
    /// A session with a reader that is to listen.
    pub fn new(settings: LlrpSettings, now_us: u64) -> Self {
        Self::of(Some(settings), now_us)
    }

    /// A session that asks for capabilities and ends.
    pub fn look(now_us: u64) -> Self {
        Self::of(None, now_us)
    }

    fn of(settings: Option<LlrpSettings>, now_us: u64) -> Self {
        Self {
            settings,
            step: Step::Greeting,
            pending: None,
            last_id: 0,
            unanswered: [None; 2],
            capabilities: None,
            extended: false,
            holds: false,
            incoming: BytesMut::new(),
            outgoing: Vec::new(),
            frames: VecDeque::new(),
            counts: Counts::default(),
            refusal: None,
            listening: false,
            greet_by_us: now_us + GREETING_MS_MAX * 1_000,
            unfinished_us: None,
            heard_us: now_us,
            begin_by_us: None,
            flush_at_us: None,
            life_us: None,
        }
    }

    /// What the reader can do, once it has said so.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.capabilities.as_ref()
    }

    /// The reader is set.
    pub fn is_running(&self) -> bool {
        matches!(self.step, Step::Start | Step::State | Step::Running)
    }

    /// Good-bye was said and answered.
    pub fn is_closed(&self) -> bool {
        self.step == Step::Closed
    }

    /// What was counted since the last call.
    pub fn counted(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Bytes for the reader; empty when there are none.
    pub fn outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// The next frame for the journal.
    pub fn frame(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    /// When something is due, at the latest.
    pub fn due_us(&self) -> u64 {
        let timers = [
            (self.step == Step::Greeting).then_some(self.greet_by_us),
            self.pending.map(|pending| pending.until_us),
            self.unfinished_us.map(|since| since + MESSAGE_MS_MAX * 1_000),
            self.silence_us().map(|silence| self.heard_us + silence),
            self.begin_by_us,
            self.flush_at_us,
        ];
        timers.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// How long it may be silent; `None` before signs of life were asked for.
    fn silence_us(&self) -> Option<u64> {
        let settings = self.settings.as_ref()?;
        let asked = match self.step {
            Step::Greeting
            | Step::Capabilities
            | Step::Extensions
            | Step::Config
            | Step::Keepalive
            | Step::Closing
            | Step::Closed => false,
            Step::Antennas
            | Step::Delete
            | Step::Add
            | Step::Enable
            | Step::Start
            | Step::State
            | Step::Running => true,
        };
        asked.then(|| u64::from(settings.keepalive_ms) * MISSED_MAX * 1_000)
    }

    /// Nothing was read for so long because nobody could take it: the reader is not to blame.
    pub fn paused(&mut self, us: u64) {
        self.heard_us += us;
        self.greet_by_us += us;
        for at in [&mut self.unfinished_us, &mut self.begin_by_us, &mut self.flush_at_us] {
            *at = at.map(|at| at + us);
        }
        if let Some(pending) = &mut self.pending {
            pending.until_us += us;
        }
    }

    /// Says good-bye.
    pub fn close(&mut self, now_us: u64) {
        if self.step == Step::Greeting {
            self.step = Step::Closed;
        } else {
            self.ask(Step::Closing, say::close, 4, "CLOSE_CONNECTION", now_us);
        }
    }

    /// Does what the time asks for.
    pub fn tick(&mut self, now_us: u64) -> Result<(), ReaderError> {
        if self.step == Step::Greeting && now_us >= self.greet_by_us {
            return Err(ReaderError::NoGreeting(GREETING_MS_MAX));
        }
        if let Some(since) = self.unfinished_us
            && now_us >= since + MESSAGE_MS_MAX * 1_000
        {
            return Err(ReaderError::Hang(MESSAGE_MS_MAX));
        }
        if let Some(silence) = self.silence_us()
            && now_us >= self.heard_us + silence
        {
            let ms = silence / 1_000;
            return Err(match self.unfinished_us {
                Some(_) => ReaderError::Hang(ms),
                None => ReaderError::Silent(ms),
            });
        }
        if let Some(pending) = self.pending
            && now_us >= pending.until_us
        {
            if self.step == Step::Antennas {
                self.ask_delete(now_us);
                return Ok(());
            }
            return Err(ReaderError::Timeout { what: pending.what, ms: ANSWER_MS_MAX });
        }
        if self.begin_by_us.is_some_and(|by| now_us >= by) {
            self.begin_by_us = None;
            self.ask_start(now_us);
        }
        if self.flush_at_us.is_some_and(|at| now_us >= at) {
            let id = self.next_id();
            self.send(&say::get_report(id));
            self.unanswered[1] = Some(id);
            self.flush_at_us = Some(now_us + FLUSH_MS * 1_000);
        }
        Ok(())
    }

    /// Takes what came. After an error the session is over; frames that came before it are still to be taken.
    pub fn receive(&mut self, bytes: &[u8], now_us: u64) -> Result<(), ReaderError> {
        self.heard_us = now_us;
        self.incoming.extend_from_slice(bytes);
        let mut taken = false;
        while let Some(message) = self.whole()? {
            taken = true;
            self.take(message, now_us)?;
        }
        self.unfinished_us = match (self.incoming.is_empty(), self.unfinished_us) {
            (true, _) => None,
            (false, Some(since)) if !taken => Some(since),
            (false, _) => Some(now_us),
        };
        Ok(())
    }

    /// The next whole message.
    fn whole(&mut self) -> Result<Option<Bytes>, ReaderError> {
        let garbled = |error: LlrpError| ReaderError::Garbled(error.to_string());
        let Some(length) = frame_length(&self.incoming).map_err(garbled)? else { return Ok(None) };
        if self.incoming.len() < length {
            return Ok(None);
        }
        Ok(Some(self.incoming.split_to(length).freeze()))
    }

    fn take(&mut self, bytes: Bytes, now_us: u64) -> Result<(), ReaderError> {
        let head = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let number = u16::from_be_bytes([head(0), head(1)]) & 0x3FF;
        let id = u32::from_be_bytes([head(6), head(7), head(8), head(9)]);
        match number {
            message::REPORT => self.report(bytes, now_us),
            message::KEEPALIVE => {
                self.counts.keepalives += 1;
                if self.step != Step::Greeting {
                    self.send(&say::keepalive_ack(id));
                }
                self.sign_of_life(bytes, now_us);
                Ok(())
            }
            message::EVENT => self.event(bytes, now_us),
            _ => self.answer(number, id, bytes, now_us),
        }
    }

    /// Its inventory has no end of its own.
    fn listens_always(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| match settings.start {
            Start::Immediate | Start::Request => true,
            Start::Periodic { .. } | Start::Gpi { .. } => false,
        })
    }

    fn sign_of_life(&mut self, bytes: Bytes, now_us: u64) {
        let due = self.life_us.is_none_or(|last| now_us >= last + LIFE_MS * 1_000);
        if self.listening && due {
            self.life_us = Some(now_us);
            self.frames.push_back(bytes);
        }
    }

    fn report(&mut self, bytes: Bytes, now_us: u64) -> Result<(), ReaderError> {
        self.counts.reports += 1;
        let garbled = |error: LlrpError| ReaderError::Garbled(error.to_string());
        let (mut tags, mut sound) = (0, true);
        for read in TagReads::of(&bytes).map_err(garbled)? {
            match read {
                Ok(_) => tags += 1,
                Err(_) => sound = false,
            }
        }
        self.counts.reads += tags as u64;
        if tags > 0 && self.is_running() && self.listens_always() {
            // Whatever it says of its specs: it listens.
            self.begin_by_us = None;
            self.listening = true;
        }
        if !sound {
            self.counts.garbled += 1;
        }
        if tags == 0 && sound {
            self.sign_of_life(bytes, now_us);
        } else if bytes.len() <= FRAME_BYTES_MAX && tags <= TAGS_MAX {
            // One that is not sound goes on too: the fold refuses it and keeps it as it came.
            self.frames.push_back(bytes);
        } else {
            let parts = split(&bytes, FRAME_BYTES_MAX, TAGS_MAX).map_err(garbled)?;
            self.frames.extend(parts.into_iter().map(Bytes::from));
        }
        Ok(())
    }

    fn event(&mut self, bytes: Bytes, now_us: u64) -> Result<(), ReaderError> {
        self.counts.events += 1;
        let decoded = match Message::decode(&bytes) {
            Ok(decoded) => decoded,
            Err(_) => {
                self.counts.garbled += 1;
                if bytes.len() <= FRAME_BYTES_MAX {
                    self.frames.push_back(bytes);
                }
                return Ok(());
            }
        };
        let data = decoded.parameter("ReaderEventNotificationData");
        let attempt = data
            .and_then(|data| data.parameter("ConnectionAttemptEvent"))
            .and_then(|event| event.number_of("Status"));
        if let Some(status @ 1..) = attempt {
            // No frame: to the fold it would say that the reader listens.
            if self.step == Step::Greeting {
                return Err(ReaderError::Taken(u16::try_from(status).unwrap_or(u16::MAX)));
            }
            // Somebody else knocked and was turned away.
            return Ok(());
        }
        let has = |name: &str| data.is_some_and(|data| data.parameter(name).is_some());
        if has("ReportBufferOverflowErrorEvent") {
            self.counts.overflows += 1;
        }
        let closed = has("ConnectionCloseEvent");
        if let Some(event) = data.and_then(|data| data.parameter("ROSpecEvent"))
            && event.number_of("ROSpecID") == Some(ROSPEC.into())
        {
            self.listening = event.number_of("EventType") == Some(0);
            // One that ended what should never end is told to begin again.
            let again = !self.listening && self.is_running() && self.listens_always();
            self.begin_by_us = again.then_some(now_us + BEGIN_MS * 1_000);
        }
        if bytes.len() <= FRAME_BYTES_MAX {
            self.frames.push_back(bytes);
        } else {
            self.counts.garbled += 1;
        }
        if closed {
            return Err(ReaderError::Closed);
        }
        if attempt.is_some() && self.step == Step::Greeting {
            self.ask(Step::Capabilities, say::capabilities, 11, "GET_READER_CAPABILITIES", now_us);
        }
        Ok(())
    }

    /// Takes a message that is neither report, event nor sign of life.
    fn answer(
        &mut self,
        number: u16,
        id: u32,
        bytes: Bytes,
        now_us: u64,
    ) -> Result<(), ReaderError> {
        if number == message::ERROR {
            if self.unanswered[1] == Some(id) {
                // It cannot be asked for reports; they come when they are full.
                self.flush_at_us = None;
            }
            if self.unanswered.contains(&Some(id)) {
                return Ok(());
            }
        }
        let fits = |pending: &Pending| {
            pending.id == id && (pending.answer == number || number == message::ERROR)
        };
        let Some(pending) = self.pending.filter(fits) else {
            match Message::decode(&bytes) {
                Err(LlrpError::Message(_)) => self.counts.unknown += 1,
                Ok(_) | Err(_) => self.counts.foreign += 1,
            }
            return Ok(());
        };
        let decoded =
            Message::decode(&bytes).map_err(|error| ReaderError::Garbled(error.to_string()))?;
        self.pending = None;
        let outcome = match decoded.status() {
            Some((0, _)) if number != message::ERROR => Outcome::Done(&decoded),
            Some((status, text)) => {
                Outcome::Refused { status, text: text.chars().take(WHY_CHARS_MAX).collect() }
            }
            None => Outcome::Refused { status: 0, text: "an answer without a status".into() },
        };
        if let (message::CONFIG, Outcome::Done(_)) = (number, &outcome)
            && decoded.parameter("AntennaProperties").is_some()
            && bytes.len() <= FRAME_BYTES_MAX
        {
            self.frames.push_back(bytes);
        }
        self.go_on(pending.what, &outcome, now_us)
    }

    fn next_id(&mut self) -> u32 {
        // 0 is what readers give to messages nobody asked for.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    fn send(&mut self, message: &Message) {
        match message.encode() {
            Ok(bytes) => self.outgoing.extend(bytes),
            // Requests are made of checked settings; what cannot be written is not sent, and is missed by its time limit.
            Err(error) => {
                tracing::error!(%error, what = message.name(), "a request cannot be written")
            }
        }
    }
}

const _: () = assert!(FRAME_BYTES_MAX < MESSAGE_BYTES_MAX);
