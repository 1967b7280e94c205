//! Lines of serial scanners to readings.
//!
//! A plain scanner says a code and nothing of what its operator does. So the frame that is journaled has both: a header that
//! says it, as it was when the line came, and the line as it came. Nothing outside the frame is asked, and a replay years later
//! reads the scan as it was meant.
//!
//! ```text
//!  frame    header LF line
//!  header   scan1 TAB boot TAB seq TAB mode TAB quantity TAB slot TAB operator [TAB since]
//!  boot,seq number the scans: two of one item within a second are two
//!  mode     receive, pick, count; empty = as the profile says; - = nobody has said it, the scan counts for nothing
//!  since    number of the first scan of the boot with this operator; only with an operator, and not in frames of old
//!  quantity digits; empty = 1. A count goes item by item, so its quantity is how many of the code were scanned so far
//! ```
//! The code is that of the line without white space and control characters at its ends and without the AIM identifier in front.
//! Where it names a trade item (GTIN, GS1 elements, Digital Link), the item's GTIN of 14 digits is the code. A code that says it
//! is GS1 and is not is refused: a wrong digit is another item. A code that begins like a command ([`command_of`]) and is none is
//! refused too: nobody's goods are called so.

use crate::{
    gs1::Barcode,
    ids::{SlotId, check_id},
    limits::{CODE_BYTES_MAX, DELTA_UNITS_MAX, PLAIN_BYTES_MAX},
    profile::{Kind, Profile, ScanMap},
    reading::{BadText, DecodeReject, Measurement, Reading, ScanMode},
    units::Units,
};

/// What a scanner's operator is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// What a scan means.
    pub mode: Doing,
    /// Where; `None` = the scanner's own place.
    pub slot: Option<SlotId>,
    /// Who, an id; `None` = not told.
    pub operator: Option<String>,
}

/// What a scan means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doing {
    /// What the profile says.
    #[default]
    AsProfile,
    /// This.
    Mode(ScanMode),
    /// Nobody has said it: scans count for nothing.
    Unset,
}

impl Doing {
    /// As written in a frame.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsProfile => "",
            Self::Mode(mode) => mode_name(mode),
            Self::Unset => "-",
        }
    }
}

/// A mode's name.
pub fn mode_name(mode: ScanMode) -> &'static str {
    match mode {
        ScanMode::Receive => "receive",
        ScanMode::Pick => "pick",
        ScanMode::Count => "count",
    }
}

/// The mode of a name.
pub fn mode_of(name: &str) -> Option<ScanMode> {
    match name {
        "receive" => Some(ScanMode::Receive),
        "pick" => Some(ScanMode::Pick),
        "count" => Some(ScanMode::Count),
        _ => None,
    }
}

/// A line with everything its frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Since when the scans are numbered, an id.
    pub boot: &'a str,
    /// The number of the scan.
    pub seq: u64,
    /// What the operator was doing.
    pub context: Context,
    /// The first scan of the boot with this operator; `None` without one, and where a frame does not say it.
    pub since: Option<u64>,
    /// Units.
    pub quantity: u32,
    /// The line.
    pub line: &'a [u8],
}

/// The frame of a line.
pub fn frame(line: &Line<'_>) -> Vec<u8> {
    let Line { boot, seq, context, since, quantity, line } = line;
    let slot = context.slot.as_ref().map_or("", SlotId::as_str);
    let operator = context.operator.as_deref().unwrap_or("");
    let mode = context.mode.as_str();
    let since = since.map(|since| format!("\t{since}")).unwrap_or_default();
    let header = format!("scan1\t{boot}\t{seq}\t{mode}\t{quantity}\t{slot}\t{operator}{since}\n");
    let mut frame = header.into_bytes();
    frame.extend_from_slice(line);
    frame
}

/// Reads a frame; `None` when it is none.
pub fn split(raw: &[u8]) -> Option<Line<'_>> {
    let end = raw.iter().position(|byte| *byte == b'\n')?;
    let header = str::from_utf8(raw.get(..end)?).ok()?;
    let mut fields = header.split('\t');
    let (tag, boot, seq) = (fields.next()?, fields.next()?, fields.next()?);
    let (mode, quantity, slot, operator) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let since = fields.next().map(str::parse).transpose().ok()?;
    if tag != "scan1" || fields.next().is_some() || check_id(boot).is_err() {
        return None;
    }
    let mode = match mode {
        "" => Doing::AsProfile,
        "-" => Doing::Unset,
        name => Doing::Mode(mode_of(name)?),
    };
    let quantity = if quantity.is_empty() { 1 } else { quantity.parse().ok()? };
    let slot = if slot.is_empty() { None } else { Some(SlotId::parse(slot).ok()?) };
    let operator = match operator {
        "" => None,
        name => Some(check_id(name).map(|()| name.to_owned()).ok()?),
    };
    let (seq, line) = (seq.parse().ok()?, raw.get(end + 1..)?);
    let context = Context { mode, slot, operator };
    Some(Line { boot, seq, context, since, quantity, line })
}

/// The code of a line, as text.
pub fn code_of(line: &[u8]) -> Result<&str, DecodeReject> {
    let text = str::from_utf8(line).map_err(|_| DecodeReject::NotText(BadText::NotUtf8))?;
    let framing = |c: char| c.is_ascii_whitespace() || (c.is_ascii_control() && c != '\u{1D}');
    let text = text.trim_matches(framing);
    if text.is_empty() {
        return Err(DecodeReject::Empty);
    }
    if text.len() > CODE_BYTES_MAX {
        return Err(DecodeReject::OutOfRange("the code".into()));
    }
    Ok(text)
}

/// What every command barcode begins with.
const COMMAND: &str = "STOCKFOLD:";

/// What a command barcode says after its beginning, in front of which an AIM identifier may stand; `None` = it is none.
pub fn command_of(code: &str) -> Option<&str> {
    let bare = code.strip_prefix(']').and_then(|rest| rest.get(2..)).unwrap_or(code);
    bare.strip_prefix(COMMAND)
}

/// What a code names: the GTIN of a trade item, else the code itself without its AIM identifier.
pub fn name_of(code: &str) -> Result<String, DecodeReject> {
    if command_of(code).is_some() {
        return Err(DecodeReject::NotMessage(format!("unknown command {code:?}")));
    }
    match Barcode::read(code) {
        Barcode::Bad { why, .. } => Err(DecodeReject::NotMessage(format!("GS1: {why}"))),
        Barcode::Gtin(gtin) => Ok(gtin),
        Barcode::Plain(text) if text.is_empty() => Err(DecodeReject::Empty),
        Barcode::Plain(text) => Ok(text),
        barcode @ Barcode::Elements(_) => {
            Ok(barcode.gtin().map_or_else(|| code.to_owned(), str::to_owned))
        }
    }
}

/// Decodes one frame.
pub fn decode(profile: &Profile, name: &str, raw: &[u8]) -> Result<Reading, DecodeReject> {
    let map = match profile.stream(name).map(|stream| &stream.kind) {
        Some(Kind::Scan(ScanMap::Whole(map))) => map,
        Some(_) | None => return Err(DecodeReject::UnknownStream(name.to_owned())),
    };
    if raw.len() > PLAIN_BYTES_MAX {
        return Err(DecodeReject::TooLarge("line of a scanner"));
    }
    let no_header = || DecodeReject::NotMessage("no header of a scan".to_owned());
    let Line { boot, seq, context, quantity, line, .. } = split(raw).ok_or_else(no_header)?;
    let mode = match context.mode {
        Doing::AsProfile => map.mode,
        Doing::Mode(mode) => mode,
        Doing::Unset => return Err(DecodeReject::Missing("mode".into())),
    };
    let quantity = i64::from(quantity);
    let low = if mode == ScanMode::Count { 0 } else { 1 };
    if !(low..=DELTA_UNITS_MAX).contains(&quantity) {
        return Err(DecodeReject::OutOfRange("quantity".into()));
    }
    let code = name_of(code_of(line)?)?;
    let scan = Measurement::Scan { code, mode, quantity: Units(quantity), slot: context.slot };
    let (seq, boot) = (Some(seq), Some(boot.to_owned()));
    Ok(Reading { seq, boot, device_us: None, measurements: vec![scan] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile::parse(
            "name: x\ncodec: scanner\nstreams:\n  scan: {class: stock, dedupe: seq, code: {mode: pick}}\n",
        )
        .unwrap()
    }

    fn read(raw: &[u8]) -> Result<(String, ScanMode, i64, Option<String>), &'static str> {
        match decode(&profile(), "scan", raw) {
            Ok(reading) => match &reading.measurements[..] {
                [Measurement::Scan { code, mode, quantity, slot }] => {
                    Ok((code.clone(), *mode, quantity.0, slot.as_ref().map(ToString::to_string)))
                }
                other => panic!("{other:?}"),
            },
            Err(reject) => Err(reject.code()),
        }
    }

    fn frame(context: &Context, quantity: u32, line: &[u8]) -> Vec<u8> {
        let since = context.operator.is_some().then_some(5);
        super::frame(&Line { boot: "b1", seq: 7, context: context.clone(), since, quantity, line })
    }

    #[test]
    fn a_frame_says_what_the_operator_did() {
        let context = Context {
            mode: Doing::Mode(ScanMode::Count),
            slot: Some(SlotId::parse("A-1").unwrap()),
            operator: Some("ann".into()),
        };
        let raw = frame(&context, 3, b"]E04006381333931\r");
        let line = &b"]E04006381333931\r"[..];
        let said = Line { boot: "b1", seq: 7, context, since: Some(5), quantity: 3, line };
        assert_eq!(split(&raw).as_ref(), Some(&said));
        // Frames of old do not say since when.
        let old = b"scan1\tb1\t7\tcount\t3\tA-1\tann\n]E04006381333931\r";
        assert_eq!(split(old), Some(Line { since: None, ..said }));
        let reading = decode(&profile(), "scan", &raw).unwrap();
        assert_eq!((reading.seq, reading.boot.as_deref()), (Some(7), Some("b1")));
        assert_eq!(
            read(&raw),
            Ok(("04006381333931".into(), ScanMode::Count, 3, Some("A-1".into())))
        );
        let plain = frame(&Context::default(), 1, b"\x02tea-500\r\n");
        assert_eq!(read(&plain), Ok(("tea-500".into(), ScanMode::Pick, 1, None)));
    }

    #[test]
    fn aim_identifiers_lead_to_the_item() {
        for (line, code) in [
            ("]C10109506000134352172112311 0ABC", Err("not_message")),
            ("]C101095060001343521721123110ABC123\u{1D}21XYZ\r\n", Ok("09506000134352")),
            ("]d2\u{1D}0109506000134352", Ok("09506000134352")),
            ("]Q3https://x", Err("not_message")),
            ("]Q1https://id.gs1.org/01/09506000134352/21/7", Ok("09506000134352")),
            ("4006381333931", Ok("04006381333931")),
            ("4006381333932", Ok("4006381333932")),
            ("]A0BIN-7", Ok("BIN-7")),
            ("]C100006141411234567890", Ok("]C100006141411234567890")),
            ("]C0STOCKFOLD:EAT", Err("not_message")),
            ("STOCKFOLD:", Err("not_message")),
            ("my STOCKFOLD:PICK", Ok("my STOCKFOLD:PICK")),
            ("]A0", Err("empty")),
            ("  \r\n", Err("empty")),
        ] {
            let raw = frame(&Context::default(), 1, line.as_bytes());
            let code = code.map(|code| (code.to_owned(), ScanMode::Pick, 1, None));
            assert_eq!(read(&raw), code, "{line:?}");
        }
    }

    #[test]
    fn what_is_no_scan_is_named() {
        let unset = Context { mode: Doing::Unset, ..Context::default() };
        for (raw, code) in [
            (&b"4006381333931\r\n"[..], "not_message"),
            (b"scan2\tb\t1\t\t1\t\t\nx", "not_message"),
            (b"scan1\tb\t1\teat\t1\t\t\nx", "not_message"),
            (b"scan1\tb\t1\t\t-1\t\t\nx", "not_message"),
            (b"scan1\tb\t1\t\t0\t\t\nx", "out_of_range"),
            (b"scan1\tb\t1\t\t1\ta b\t\nx", "not_message"),
            (b"scan1\tb\t1\t\t1\t\t\t\nx", "not_message"),
            (b"scan1\tb\t1\t\t1\t\t\n\xff", "not_text"),
            (&frame(&Context::default(), 1, &[b'9'; 300]), "out_of_range"),
            (&frame(&Context::default(), 1, &[b'9'; 2_000]), "too_large"),
            (&frame(&unset, 1, b"x"), "missing_field"),
        ] {
            assert_eq!(read(raw), Err(code), "{raw:?}");
        }
    }
}
