//! Commands: what a device can be told, as steps, with a budget for its memory.
//!
//! Vendors know four styles: a value written to a command register, a bit that must rise and fall, a coil, a mailbox with an
//! acknowledgement. All are sequences of writes, waits and pauses. Registers kept in EEPROM wear out (Laumas: 100,000 writes),
//! so a command has a budget a day, and it is verified by reading, not by hope.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Field, GAP_MS_MAX, TIMEOUT_MS_MAX, Test, TestText, WRITE_REGISTERS_MAX};
use crate::limits::COMMAND_STEPS_MAX;

/// Commands of one kind a device may be told in a day when its profile does not say.
pub const COMMANDS_PER_DAY_DEFAULT: u32 = 200;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// How often in 24 hours.
    pub per_day_max: u32,
}

/// One step of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write holding registers, one or more in one request.
    Write {
        /// First address on the wire.
        at: u16,
        /// The words.
        values: Vec<u16>,
    },
    /// Switch a coil.
    Coil {
        /// Its address on the wire.
        at: u16,
        /// On or off.
        on: bool,
    },
    /// Leave the device alone for so many milliseconds.
    Pause(u32),
    /// Read until a test holds.
    Wait {
        /// The test.
        test: Test,
        /// For at most so many milliseconds; then the command has failed.
        within_ms: u32,
    },
}

/// A command as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandText {
    steps: Vec<StepText>,
    #[serde(default = "per_day_default")]
    per_day_max: u32,
}

fn per_day_default() -> u32 {
    COMMANDS_PER_DAY_DEFAULT
}

/// A step as written: one of `write`, `coil`, `pause_ms`, `wait`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    #[serde(default)]
    write: Option<WriteText>,
    #[serde(default)]
    coil: Option<CoilText>,
    #[serde(default)]
    pause_ms: Option<u32>,
    #[serde(default)]
    wait: Option<WaitText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteText {
    at: u32,
    values: Vec<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CoilText {
    at: u32,
    on: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitText {
    test: TestText,
    within_ms: u32,
}

impl CommandText {
    /// Checks and compiles it.
    pub fn compile(self, base: u32, fields: &BTreeMap<String, Field>) -> Result<Command, String> {
        if self.steps.is_empty() || self.steps.len() > COMMAND_STEPS_MAX {
            return Err(format!("it must have 1 to {COMMAND_STEPS_MAX} steps"));
        }
        if self.per_day_max == 0 {
            return Err("per_day_max must be at least 1".into());
        }
        let steps = self.steps.into_iter().map(|step| step.compile(base, fields));
        Ok(Command { steps: steps.collect::<Result<_, _>>()?, per_day_max: self.per_day_max })
    }
}

impl StepText {
    fn compile(self, base: u32, fields: &BTreeMap<String, Field>) -> Result<Step, String> {
        let wire = |at| super::wire(base, at).map_err(|e| e.to_string());
        match (self.write, self.coil, self.pause_ms, self.wait) {
            (Some(write), None, None, None) => {
                if write.values.is_empty() || write.values.len() > WRITE_REGISTERS_MAX {
                    return Err(format!("write takes 1 to {WRITE_REGISTERS_MAX} values"));
                }
                Ok(Step::Write { at: wire(write.at)?, values: write.values })
            }
            (None, Some(coil), None, None) => Ok(Step::Coil { at: wire(coil.at)?, on: coil.on }),
            (None, None, Some(ms), None) if ms <= GAP_MS_MAX => Ok(Step::Pause(ms)),
            (None, None, Some(_), None) => Err(format!("pause_ms must be at most {GAP_MS_MAX}")),
            (None, None, None, Some(wait)) => {
                if wait.within_ms == 0 || wait.within_ms > TIMEOUT_MS_MAX {
                    return Err(format!("within_ms must be 1 to {TIMEOUT_MS_MAX}"));
                }
                let test = wait.test.compile()?;
                test.check(fields)?;
                Ok(Step::Wait { test, within_ms: wait.within_ms })
            }
            _ => Err("a step is exactly one of write, coil, pause_ms and wait".into()),
        }
    }
}
