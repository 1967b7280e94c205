//! Tags and barcodes as others read them: epcpy for EPCs, biip for GS1 element strings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic and print"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use device_profiles::{
    epc::{Epc, Form, Identity, Written, check_digit, identify},
    gs1::{Barcode, Element, element_string, human},
};
use serde_json::{Value, json};
use stockfold_tests::python;

/// Tags and codes compared; each run the same.
const ROUNDS: u64 = 3_000;

struct Oracle {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start(test: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/identity_oracle.py");
        let mut child = Command::new(python(test)?)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, asks, answers })
    }

    fn asks(&mut self, what: &Value) -> Value {
        writeln!(self.asks, "{what}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ends(self) {
        let Self { mut child, asks, .. } = self;
        drop(asks);
        assert!(child.wait().unwrap().success());
    }
}

/// Numbers that look like any, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 29)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn digits(&mut self, len: u64) -> String {
        (0..len).map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap())).collect()
    }

    fn text(&mut self, set: &str) -> String {
        let set: Vec<char> = set.chars().collect();
        let len = 1 + self.below(20);
        (0..len).map(|_| set[usize::try_from(self.below(set.len() as u64)).unwrap()]).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn epcpy_reads_every_tag_we_write_as_we_do() {
    let Some(mut oracle) = Oracle::start("identity-epcpy") else { return };
    let mut dice = Dice(4);
    for round in 0..ROUNDS {
        let company = 6 + dice.below(7);
        let prefix = dice.digits(company);
        let uri = match round % 6 {
            0 => format!("sgtin:{prefix}.{}.{}", dice.digits(13 - company), dice.below(1 << 38)),
            1 => {
                // epcpy stumbles over an escaped slash behind other escapes.
                let serial = dice.text(
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:;!'()*+,=",
                );
                format!("sgtin:{prefix}.{}.{serial}", dice.digits(13 - company))
            }
            2 => format!("sscc:{prefix}.{}", dice.digits(17 - company)),
            3 => format!("sgln:{prefix}.{}.{}", dice.digits(12 - company), dice.below(1 << 41)),
            4 => format!("grai:{prefix}.{}.{}", dice.digits(12 - company), dice.below(1 << 38)),
            _ => format!("giai:{prefix}.{}", dice.below(1 << 42)),
        };
        let epc = Epc::parse_uri(&format!("urn:epc:id:{uri}")).unwrap();
        let filter = u8::try_from(dice.below(8)).unwrap();
        let memory =
            Written { form: Form::holding(&epc), filter, epc: epc.clone() }.encode().unwrap();
        let told = oracle.asks(&json!({ "hex": hex(&memory) }));
        let ours = json!({ "pure": epc.uri(), "elements": epc.element_string(), "key": epc.key() });
        assert_eq!(told, ours, "{}", hex(&memory));
    }
    // Any bits behind a header that is known: whoever reads them, reads the same.
    let (mut both, mut neither) = (0, 0);
    for _ in 0..ROUNDS {
        let mut memory = [dice.roll().to_be_bytes(), dice.roll().to_be_bytes()].concat();
        memory.truncate(12);
        memory[0] = [0x30, 0x31, 0x32, 0x33, 0x34][usize::try_from(dice.below(5)).unwrap()];
        let told = oracle.asks(&json!({ "hex": hex(&memory) }));
        match identify(&memory) {
            Identity::Epc(tag) => {
                both += 1;
                assert_eq!(told["pure"], tag.epc.uri(), "{}", hex(&memory));
            }
            Identity::Raw { .. } => neither += 1,
        }
    }
    assert!(both > 100 && neither > 100, "{both} are EPCs, {neither} are none");
    oracle.ends();
}

#[test]
fn biip_reads_every_code_we_write_as_we_do() {
    let Some(mut oracle) = Oracle::start("identity-biip") else { return };
    let mut dice = Dice(5);
    for _ in 0..ROUNDS {
        let checked = |digits: String| {
            let check = check_digit(&digits);
            format!("{digits}{check}")
        };
        let text = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.+/*";
        let mut all = vec![
            ("01", checked(dice.digits(13))),
            ("10", dice.text(text)),
            ("21", dice.text(text)),
            ("240", dice.text(text)),
            ("37", (1 + dice.below(99_999_999)).to_string()),
            ("3103", dice.digits(6)),
            ("414", checked(dice.digits(12))),
            ("17", format!("{:02}{:02}{:02}", dice.below(100), 1 + dice.below(12), dice.below(29))),
        ];
        let mut elements = Vec::new();
        while elements.is_empty() || (!all.is_empty() && dice.below(3) > 0) {
            let at = usize::try_from(dice.below(all.len() as u64)).unwrap();
            let (ai, value) = all.swap_remove(at);
            elements.push(Element::new(ai, &value).unwrap());
        }
        let code = format!("]C1{}", element_string(&elements));
        assert_eq!(Barcode::read(&code), Barcode::Elements(elements.clone()));
        let told = oracle.asks(&json!({ "code": code }));
        assert_eq!(told, json!({ "elements": human(&elements) }), "{code:?}");
    }
    oracle.ends();
}
