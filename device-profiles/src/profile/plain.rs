//! Plain frames, for codec `raw`: one value, one code, or one line of a scale.
//!
//! A line is described by a form and not by a regular expression, so that reading it takes one pass without ever going back:
//!
//! ```text
//! "{state},{skip},{mass} {unit}"      reads   ST,GS,+  12.50 kg
//!
//! {mass}   sign, blanks, digits with one decimal mark     {unit}   mg, g, kg or lb; may be absent
//! {state}  a word of `states`                             {skip}   a word that does not matter
//! {rest}   everything to the end; last only               blank    any number of blanks, none too
//! ```
//!
//! Anything else stands for itself. A word ends before a blank and before the first byte of what follows it in the form.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{LineMap, MassUnit, ProfileError, invalid, weight::channel_default};
use crate::{
    ids::{Channel, check_id},
    limits::{LINE_FORM_BYTES_MAX, WORD_BYTES_MAX, WORDS_MAX},
    reading::{CellFault, ScanMode},
};

/// The one value that a raw frame is.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainValue {
    /// Series name after the stream's.
    pub name: String,
    /// Its type.
    pub kind: PlainType,
}

/// Type of a raw value.
#[derive(Debug, Clone, PartialEq)]
pub enum PlainType {
    /// A number: value × scale + offset.
    Number {
        /// Multiplies it.
        scale: f64,
        /// Added after `scale`.
        offset: f64,
        /// The decimal mark is a comma.
        decimal_comma: bool,
    },
    /// A switch; words are compared without regard to the case of ASCII letters.
    Bool {
        /// Words for on.
        on: Vec<String>,
        /// Words for off.
        off: Vec<String>,
    },
    /// A short text.
    Text,
}

/// A raw frame that is a scanned code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeMap {
    /// What a scan of this stream means.
    pub mode: ScanMode,
}

/// What a word in a scale's line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleState {
    /// The mass holds still.
    Stable,
    /// It does not.
    Moving,
    /// Something is wrong.
    Fault(CellFault),
}

/// How a line of a scale is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its parts, in order.
    pub parts: Vec<LinePart>,
}

/// One part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinePart {
    /// Exactly this.
    Literal(String),
    /// Any number of blanks.
    Blanks,
    /// The mass.
    Mass,
    /// Its unit.
    Unit,
    /// A word of the states.
    State,
    /// A word that does not matter.
    Skip,
    /// Everything to the end.
    Rest,
}

/// A value as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainText {
    #[serde(rename = "type")]
    kind: TypeText,
    #[serde(default = "name_default")]
    name: String,
    #[serde(default)]
    scale: Option<f64>,
    #[serde(default)]
    offset: Option<f64>,
    #[serde(default)]
    decimal_comma: bool,
    #[serde(default)]
    on: Vec<String>,
    #[serde(default)]
    off: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeText {
    Number,
    Bool,
    Text,
}

/// A code as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeText {
    #[serde(default)]
    mode: ModeText,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeText {
    Receive,
    #[default]
    Pick,
    Count,
}

impl ModeText {
    /// What it says.
    pub(super) fn mode(self) -> ScanMode {
        match self {
            Self::Receive => ScanMode::Receive,
            Self::Pick => ScanMode::Pick,
            Self::Count => ScanMode::Count,
        }
    }
}

/// A scale's line as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineText {
    #[serde(default = "form_default")]
    form: String,
    #[serde(default)]
    unit: MassUnit,
    #[serde(default = "channel_default")]
    channel: String,
    #[serde(default)]
    decimal_comma: bool,
    #[serde(default)]
    states: BTreeMap<String, StateText>,
}

impl Default for LineText {
    fn default() -> Self {
        Self {
            form: form_default(),
            unit: MassUnit::default(),
            channel: channel_default(),
            decimal_comma: false,
            states: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateText {
    Stable,
    Moving,
    Cell,
    Overload,
    Underload,
    Busy,
}

fn name_default() -> String {
    "value".into()
}
fn form_default() -> String {
    "{mass} {unit}".into()
}

impl PlainText {
    /// Checks and compiles it.
    pub(super) fn check(self) -> Result<PlainValue, ProfileError> {
        check_id(&self.name).map_err(|e| invalid(format!("name {:?}: {e}", self.name)))?;
        let number = self.kind == TypeText::Number;
        if !number && (self.scale.is_some() || self.offset.is_some() || self.decimal_comma) {
            return Err(invalid("scale, offset and decimal_comma are for type: number"));
        }
        if self.kind != TypeText::Bool && !(self.on.is_empty() && self.off.is_empty()) {
            return Err(invalid("on and off are for type: bool"));
        }
        let kind = match self.kind {
            TypeText::Text => PlainType::Text,
            TypeText::Number => {
                let (scale, offset) = (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0));
                if !scale.is_finite() || !offset.is_finite() {
                    return Err(invalid("scale and offset must be finite numbers"));
                }
                PlainType::Number { scale, offset, decimal_comma: self.decimal_comma }
            }
            TypeText::Bool => {
                let or = |words: Vec<String>, usual: [&str; 4]| {
                    if words.is_empty() { usual.map(str::to_owned).to_vec() } else { words }
                };
                let on = or(self.on, ["true", "on", "yes", "1"]);
                let off = or(self.off, ["false", "off", "no", "0"]);
                on.iter().chain(&off).try_for_each(|word| check_word(word))?;
                if on.len() + off.len() > WORDS_MAX {
                    return Err(invalid(format!("more than {WORDS_MAX} words")));
                }
                if let Some(both) =
                    on.iter().find(|w| off.iter().any(|o| o.eq_ignore_ascii_case(w)))
                {
                    return Err(invalid(format!("{both:?} cannot mean both on and off")));
                }
                PlainType::Bool { on, off }
            }
        };
        Ok(PlainValue { name: self.name, kind })
    }
}

impl CodeText {
    /// Compiles it.
    pub(super) fn check(self) -> CodeMap {
        CodeMap { mode: self.mode.mode() }
    }
}

fn check_word(word: &str) -> Result<(), ProfileError> {
    if word.is_empty() || word.len() > WORD_BYTES_MAX {
        return Err(invalid(format!("a word has 1 to {WORD_BYTES_MAX} bytes, not {word:?}")));
    }
    Ok(())
}

impl LineText {
    /// Checks and compiles it.
    pub(super) fn check(self) -> Result<LineMap, ProfileError> {
        let channel =
            Channel::parse(&self.channel).map_err(|e| invalid(format!("channel: {e}")))?;
        let line = Line::parse(&self.form).map_err(|why| invalid(format!("form: {why}")))?;
        if self.states.len() > WORDS_MAX {
            return Err(invalid(format!("more than {WORDS_MAX} states")));
        }
        self.states.keys().try_for_each(|word| check_word(word))?;
        if line.parts.contains(&LinePart::State) == self.states.is_empty() {
            return Err(invalid("{state} in the form and states belong together"));
        }
        let states = self.states.into_iter().map(|(word, state)| (word, state.state())).collect();
        Ok(LineMap { channel, unit: self.unit, decimal_comma: self.decimal_comma, line, states })
    }
}

impl StateText {
    fn state(self) -> ScaleState {
        match self {
            Self::Stable => ScaleState::Stable,
            Self::Moving => ScaleState::Moving,
            Self::Cell => ScaleState::Fault(CellFault::Cell),
            Self::Overload => ScaleState::Fault(CellFault::Overload),
            Self::Underload => ScaleState::Fault(CellFault::Underload),
            Self::Busy => ScaleState::Fault(CellFault::Busy),
        }
    }
}

impl Line {
    /// Compiles a form; see the module comment.
    pub fn parse(form: &str) -> Result<Self, String> {
        if form.len() > LINE_FORM_BYTES_MAX {
            return Err(format!("longer than {LINE_FORM_BYTES_MAX} bytes"));
        }
        let mut parts: Vec<LinePart> = Vec::new();
        let mut rest = form;
        while let Some(first) = rest.chars().next() {
            let (part, after) = match first {
                ' ' => (LinePart::Blanks, rest.trim_start_matches(' ')),
                '{' => {
                    let (name, after) =
                        rest.get(1..).and_then(|r| r.split_once('}')).ok_or("a { is not closed")?;
                    (LinePart::named(name)?, after)
                }
                '}' => return Err("a } is not opened".into()),
                c if c.is_control() => return Err("a control character".into()),
                _ => {
                    let (literal, after) =
                        rest.split_at(rest.find([' ', '{', '}']).unwrap_or(rest.len()));
                    (LinePart::Literal(literal.to_owned()), after)
                }
            };
            parts.push(part);
            rest = after;
        }
        Self { parts }.check()
    }

    fn check(self) -> Result<Self, String> {
        let count = |part: &LinePart| self.parts.iter().filter(|p| *p == part).count();
        if count(&LinePart::Mass) != 1 {
            return Err("it must have {mass} once".into());
        }
        if count(&LinePart::Unit) > 1 || count(&LinePart::State) > 1 {
            return Err("it may have {unit} and {state} once each".into());
        }
        for pair in self.parts.windows(2) {
            let [part, next] = pair else { continue };
            if *part == LinePart::Rest {
                return Err("{rest} must be the last part".into());
            }
            let word = matches!(part, LinePart::State | LinePart::Skip);
            if word && !matches!(next, LinePart::Literal(_) | LinePart::Blanks) {
                return Err("a word must be followed by a blank or a character".into());
            }
            if *part == LinePart::Unit && matches!(next, LinePart::State | LinePart::Skip) {
                return Err("a word cannot follow {unit} at once".into());
            }
        }
        Ok(self)
    }
}

impl LinePart {
    fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "mass" => Self::Mass,
            "unit" => Self::Unit,
            "state" => Self::State,
            "skip" => Self::Skip,
            "rest" => Self::Rest,
            _ => return Err(format!("{{{name}}} is none of mass, unit, state, skip and rest")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_split_into_parts() {
        use LinePart::{Blanks, Literal, Mass, Rest, Skip, State, Unit};
        let comma = || Literal(",".into());
        assert_eq!(
            Line::parse("{state},{skip},{mass} {unit}").unwrap().parts,
            [State, comma(), Skip, comma(), Mass, Blanks, Unit]
        );
        assert_eq!(
            Line::parse("W:  {mass}{unit};{rest}").unwrap().parts,
            [Literal("W:".into()), Blanks, Mass, Unit, Literal(";".into()), Rest]
        );
    }

    #[test]
    fn impossible_forms_are_refused() {
        for (form, why) in [
            ("", "{mass} once"),
            ("{mass}{mass}", "{mass} once"),
            ("{mass", "not closed"),
            ("mass}", "not opened"),
            ("{weight}", "none of"),
            ("{state}{mass}", "followed by"),
            ("{rest}{mass}", "last part"),
            ("{mass}\u{7}", "control"),
            (&"x".repeat(200), "longer"),
        ] {
            let error = Line::parse(form).unwrap_err();
            assert!(error.contains(why), "{form}: {error}");
        }
    }
}
