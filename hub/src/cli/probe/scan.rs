//! The scan: who is on the line, and what each profile reads of them. It holds the line; what it reads is judged elsewhere.

use std::{collections::BTreeMap, time::Duration};

use actors::bus::{
    link::{CallError, Items},
    prober::Prober,
};
use device_profiles::{
    Profile,
    modbus::{ModbusMap, REGISTERS_MAX, Request, Table},
    probe::{Expected, Guess, Judgement, Look, Verdict, Words, halves, judge, search, sweep},
};
use tokio::time::{Instant, sleep_until};

use super::args::Span;

/// Looks at a unit with each profile.
const LOOKS: u64 = 4;
/// Pause before a unit that is busy is asked again, in milliseconds.
const BUSY_MS: u64 = 200;
/// Pause from one look to the next, in milliseconds: all looks together are longer than a counter may stand still.
const LOOK_MS: u64 = 400;
/// Requests of a search that may go unanswered in a table.
const LOST_MAX: usize = 3;
/// Rounds in which registers that were found are read again.
const ROUNDS: usize = 3;

/// What was found at an address.
#[derive(Debug)]
pub enum Found {
    /// Nobody answers.
    Silent,
    /// It answers every request with an exception.
    Refuses(CallError),
    /// What comes is no answer to the request.
    Garbled(CallError),
    /// It answers.
    Answers {
        /// Profiles, best first.
        candidates: Vec<Judgement>,
        /// How many of them share the first place.
        equal: usize,
        /// Places where the mass may be, best first; searched for when no profile fits.
        guesses: Vec<Guess>,
        /// Registers that were read for it.
        searched: usize,
    },
}

/// How to look.
pub struct Scan<'a> {
    /// Profiles to try, each with a register map.
    pub profiles: &'a [Profile],
    /// What lies on the scale.
    pub expected: Expected,
    /// Registers to search.
    pub span: Span,
    /// How long a unit may take, milliseconds.
    pub timeout_ms: u32,
}

impl Scan<'_> {
    /// Looks at one unit. An error is the line's, and no unit's.
    pub async fn unit(
        &self,
        line: &mut Prober,
        unit: u8,
        tell: impl Fn(&str),
    ) -> Result<Found, CallError> {
        line.connect().await?;
        tell("is it there?");
        if let Some(found) = self.hello(line, unit).await {
            return Ok(found);
        }
        let mut candidates = self.candidates(line, unit, &tell).await;
        let equal = Judgement::rank(&mut candidates);
        let known = candidates.first().is_some_and(|best| best.verdict == Verdict::Fits);
        let (mut guesses, mut searched) = (Vec::new(), 0);
        if !known && self.expected != Expected::Nothing {
            let rounds = self.registers(line, unit, &tell).await;
            searched = rounds.first().map_or(0, Words::len);
            guesses = search(&rounds, self.expected);
        }
        Ok(Found::Answers { candidates, equal, guesses, searched })
    }

    /// How a device nobody knows is asked: with patience, and not for what a profile under trial forbids.
    fn manners(&self) -> ModbusMap {
        let maps = || self.profiles.iter().filter_map(|profile| profile.modbus.as_ref());
        ModbusMap {
            source: String::new(),
            registers_max: REGISTERS_MAX,
            gap_max: 0,
            forbidden: maps().flat_map(|map| map.forbidden.iter().copied()).collect(),
            min_gap_ms: 0,
            timeout_ms: self.timeout_ms,
            fields: BTreeMap::new(),
            heartbeat: None,
            commands: BTreeMap::new(),
        }
    }

    /// Asks for a register of each table. `None` when the unit answers and is worth a longer look.
    async fn hello(&self, line: &mut Prober, unit: u8) -> Option<Found> {
        let map = self.manners();
        let mut last = Found::Silent;
        for table in [Table::Holding, Table::Input] {
            let first = sweep(table, self.span.0, self.span.1, &map.forbidden).first().copied();
            let Some(request) = first.map(|request| Request { count: 1, ..request }) else {
                continue;
            };
            match again(line, unit, &map, request).await {
                Ok(_) => return None,
                // It knows what it has, though not this.
                Err(CallError::Exception(2 | 3)) => return None,
                Err(CallError::Exception(0x0A | 0x0B)) => return Some(Found::Silent),
                Err(error @ CallError::Exception(_)) => last = Found::Refuses(error),
                Err(CallError::Timeout(_) | CallError::Down(_)) => return Some(Found::Silent),
                Err(error @ (CallError::Foreign(_) | CallError::Length { .. })) => {
                    return Some(Found::Garbled(error));
                }
            }
        }
        Some(last)
    }

    /// Looks with every profile in turn, several times, and judges each.
    async fn candidates(
        &self,
        line: &mut Prober,
        unit: u8,
        tell: &impl Fn(&str),
    ) -> Vec<Judgement> {
        let began = Instant::now();
        let mut tried: Vec<(&Profile, Result<Vec<Look>, CallError>)> =
            self.profiles.iter().map(|profile| (profile, Ok(Vec::new()))).collect();
        for round in 0..LOOKS {
            sleep_until(began + Duration::from_millis(round * LOOK_MS)).await;
            for (profile, looks) in &mut tried {
                let Ok(known) = looks else { continue };
                tell(&format!("{}, look {} of {LOOKS}", profile.name, round + 1));
                let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                match self.look(line, unit, profile, at_ms).await {
                    Ok(mut more) => known.append(&mut more),
                    Err(error) => *looks = Err(error),
                }
            }
        }
        let judged = |(profile, looks): (&Profile, Result<Vec<Look>, CallError>)| match looks {
            Ok(looks) => judge(profile, &looks, self.expected),
            Err(error) => Judgement::unreadable(profile, &error.to_string()),
        };
        tried.into_iter().map(judged).collect()
    }

    /// Every stream of a profile, once.
    async fn look(
        &self,
        line: &mut Prober,
        unit: u8,
        profile: &Profile,
        at_ms: u64,
    ) -> Result<Vec<Look>, CallError> {
        let mut looks = Vec::new();
        let Some(map) = &profile.modbus else { return Ok(looks) };
        let map = ModbusMap { timeout_ms: self.timeout_ms, ..map.clone() };
        for (stream, of) in &profile.streams {
            let Some(poll) = &of.poll else { continue };
            let image = match line.image(unit, &map, poll).await {
                Err(error) if !error.keeps_link() => line.image(unit, &map, poll).await?,
                // It has taken the request and is not ready, or is busy: that says nothing of what it is.
                Err(CallError::Exception(5 | 6)) => {
                    sleep_until(Instant::now() + Duration::from_millis(BUSY_MS)).await;
                    line.image(unit, &map, poll).await?
                }
                result => result?,
            };
            looks.push(Look { at_ms, stream: stream.clone(), image });
        }
        Ok(looks)
    }

    /// The registers of both tables, in several rounds.
    async fn registers(&self, line: &mut Prober, unit: u8, tell: &impl Fn(&str)) -> Vec<Words> {
        let map = self.manners();
        let (mut given, mut first) = (Vec::new(), Words::new());
        for table in [Table::Holding, Table::Input] {
            let mut waiting = sweep(table, self.span.0, self.span.1, &map.forbidden);
            waiting.reverse();
            let mut lost = 0;
            while let Some(request) = waiting.pop() {
                tell(&format!("register {} and on", request.start));
                match again(line, unit, &map, request).await {
                    Ok(items) => {
                        keep(&mut first, request, &items);
                        given.push(request);
                    }
                    // It has no such table.
                    Err(CallError::Exception(1)) => break,
                    Err(CallError::Exception(2..=4)) => {
                        waiting.extend(halves(request).into_iter().flatten().rev());
                    }
                    Err(CallError::Exception(_)) => {}
                    // Not a matter of which registers; a unit that went away would cost a timeout for each.
                    Err(_) if lost == LOST_MAX => break,
                    Err(_) => lost += 1,
                }
            }
        }
        let mut rounds = vec![first];
        while rounds.len() < ROUNDS {
            let mut round = Words::new();
            for request in &given {
                if let Ok(items) = again(line, unit, &map, *request).await {
                    keep(&mut round, *request, &items);
                }
            }
            rounds.push(round);
        }
        rounds
    }
}

/// Reads, and once more when the line was out of step: what spoiled it may have been meant for the request before.
async fn again(
    line: &mut Prober,
    unit: u8,
    map: &ModbusMap,
    request: Request,
) -> Result<Items, CallError> {
    match line.read(unit, map, request).await {
        Err(CallError::Foreign(_) | CallError::Length { .. } | CallError::Down(_)) => {
            line.read(unit, map, request).await
        }
        result => result,
    }
}

fn keep(words: &mut Words, request: Request, items: &Items) {
    let Items::Words(values) = items else { return };
    for (i, word) in (0..).zip(values) {
        words.insert((request.table, request.start.saturating_add(i)), *word);
    }
}
