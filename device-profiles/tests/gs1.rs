//! GS1 data in barcodes: codes as scanners give them, and what holds for all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

use device_profiles::gs1::{
    Barcode, Date, Element, Gs1Error, date, element_string, human, parse_elements, parse_human,
    parse_link,
};
use proptest::prelude::*;

fn read(code: &str) -> String {
    match Barcode::read(code) {
        Barcode::Elements(elements) => human(&elements),
        Barcode::Gtin(gtin) => format!("GTIN {gtin}"),
        Barcode::Plain(text) => format!("plain {text}"),
        Barcode::Bad { why, .. } => format!("bad: {why}"),
    }
}

#[test]
fn codes_are_told_apart_as_scanners_give_them() {
    for (code, wanted) in [
        // GS1-128, DataMatrix, QR, with and without what is not needed.
        (
            "]C101095060001343521721123110ABC123\u{1D}21XYZ",
            "(01)09506000134352(17)211231(10)ABC123(21)XYZ",
        ),
        ("]d20109506000134352\u{1D}21XYZ\u{1D}", "(01)09506000134352(21)XYZ"),
        ("]Q3\u{1D}010950600013435210A\u{1D}3103001250", "(01)09506000134352(10)A(3103)001250"),
        ("]C100106141412345678908", "(00)106141412345678908"),
        // Without an identifier: by FNC1, or because it is sound to its end.
        ("\u{1D}10ABC", "(10)ABC"),
        ("010950600013435221XYZ", "(01)09506000134352(21)XYZ"),
        ("00106141412345678908", "(00)106141412345678908"),
        ("010950600013435321XYZ", "plain 010950600013435321XYZ"),
        ("10ABC", "plain 10ABC"),
        // As people write it, with brackets in a value.
        ("(01)09506000134352(10)A(B)1", "(01)09506000134352(10)A(B)1"),
        ("(not GS1)", "plain (not GS1)"),
        ("(01", "plain (01"),
        // Retail.
        ("]E09506000134352", "GTIN 09506000134352"),
        ("]E496385074", "GTIN 00000096385074"),
        ("9506000134352", "GTIN 09506000134352"),
        ("614141000036", "GTIN 00614141000036"),
        ("9506000134353", "plain 9506000134353"),
        ("]E09506000134353", "plain 9506000134353"),
        // Other symbologies and words of somebody's own.
        ("]C0SHELF-12", "plain SHELF-12"),
        ("]A0ABC", "plain ABC"),
        ("SHELF-12", "plain SHELF-12"),
        ("", "plain "),
        ("]", "plain ]"),
        // Links.
        ("https://id.gs1.org/01/09506000134352/21/32a%2Fb", "(01)09506000134352(21)32a/b"),
        (
            "HTTPS://EXAMPLE.COM/some/way/01/9506000134352/10/A?17=211231&x=1#top",
            "(01)09506000134352(10)A(17)211231",
        ),
        ("]Q1https://example.com/414/9506000134352/254/1", "(414)9506000134352(254)1"),
        ("https://example.com/about", "plain https://example.com/about"),
        (
            "https://example.com/01/09506000134353",
            "bad: (01): the check digit of 09506000134353 is wrong",
        ),
        // GS1 by its own word, and not sound.
        ("]C1", "bad: there is no element in it"),
        ("]C10109506000134353", "bad: (01): the check digit of 09506000134353 is wrong"),
        ("]C1010950600013435", "bad: (01): 13 characters are too few or too many"),
        ("]C117211331", "bad: \"211331\" is no date"),
        ("]C117210230", "bad: \"210230\" is no date"),
        ("]C10595", "bad: \"0595\" begins with no application identifier"),
        ("]C110ABCDEFGHIJKLMNOPQRSTU", "bad: (10): 21 characters are too few or too many"),
        ("]C110A B", "bad: (10) has ' ' in it"),
        ("]C110A\u{1D}10B", "bad: (10) is there twice, with different values"),
        ("]C110A\u{1D}10A", "(10)A"),
        ("]C131030012x0", "bad: (3103) has 'x' in it"),
        ("(01)09506000134352(0)", "bad: (01): 17 characters are too few or too many"),
    ] {
        assert_eq!(read(code), wanted, "{code:?}");
    }
    let link = Barcode::read("https://id.gs1.org/01/09506000134352/21/7");
    assert_eq!((link.gtin(), link.value("21")), (Some("09506000134352"), Some("7")));
    assert_eq!(Barcode::read("9506000134352").gtin(), Some("09506000134352"));
    assert_eq!(Barcode::read("]C1020950600013435237 12").gtin(), None);
    assert_eq!(Barcode::read("]C102095060001343523712").gtin(), Some("09506000134352"));
}

#[test]
fn measures_have_their_decimals() {
    let measure = |code: &str| parse_elements(code).unwrap()[0].measure();
    assert_eq!(measure("3103001250"), Some((1_250, 3)));
    assert_eq!(measure("3100001250"), Some((1_250, 0)));
    assert_eq!(measure("39329781995"), Some((1_995, 2)), "an amount behind its currency");
    assert_eq!(measure("10ABC"), None);
    assert_eq!(measure("3712"), None);
}

#[test]
fn the_century_is_the_nearest() {
    let year = |text: &str, now| date(text, now).unwrap().year;
    assert_eq!(
        (year("991231", 2026), year("760101", 2026), year("770101", 2026)),
        (1999, 2076, 1977)
    );
    assert_eq!(
        (year("260101", 2026), year("000101", 2026), year("501231", 2000)),
        (2026, 2000, 2050)
    );
    assert_eq!(
        (year("510101", 2000), year("010101", 2099), year("490101", 2099)),
        (1951, 2101, 2149)
    );
    assert_eq!(date("240200", 2026), Ok(Date { year: 2024, month: 2, day: 29 }));
    assert_eq!(date("250200", 2026), Ok(Date { year: 2025, month: 2, day: 28 }));
    for bad in ["250229", "251301", "250001", "25010", "2501011", "25a101", "+50101"] {
        assert_eq!(date(bad, 2026), Err(Gs1Error::Date(bad.into())));
    }
}

fn element() -> impl Strategy<Value = Element> {
    let text = "[A-Za-z0-9!\"%&'*+,./:;<=>?_-]{1,20}";
    prop_oneof![
        (0..10_u64.pow(13)).prop_map(|n| {
            let digits = format!("{n:013}");
            let check = device_profiles::epc::check_digit(&digits);
            Element::new("01", &format!("{digits}{check}")).unwrap()
        }),
        text.prop_map(|text| Element::new("21", &text).unwrap()),
        text.prop_map(|text| Element::new("10", &text).unwrap()),
        (0..1_000_000_u32).prop_map(|n| Element::new("3103", &format!("{n:06}")).unwrap()),
        (0..100_000_000_u32).prop_map(|n| Element::new("37", &n.to_string()).unwrap()),
        (0..100_u8, 1..13_u8, 0..29_u8).prop_map(|(y, m, d)| Element::new(
            "17",
            &format!("{y:02}{m:02}{d:02}")
        )
        .unwrap()),
    ]
}

proptest! {
    #[test]
    fn elements_come_back_from_every_way_they_are_written(
        elements in prop::collection::vec(element(), 1..6),
    ) {
        let mut seen = std::collections::BTreeSet::new();
        let elements: Vec<_> =
            elements.into_iter().filter(|e| seen.insert(e.ai().to_owned())).collect();
        prop_assert_eq!(parse_elements(&element_string(&elements)), Ok(elements.clone()));
        prop_assert_eq!(parse_human(&human(&elements)), Ok(elements));
    }

    #[test]
    fn any_text_is_a_barcode(code in "(\\PC{0,60}|[\u{1D}\\]()0-9A-Cd]{0,60}|https?://\\PC{0,60})") {
        Barcode::read(&code);
        let _ = parse_elements(&code);
        let _ = parse_human(&code);
        let _ = parse_link(&code);
        let _ = date(&code, 2026);
    }
}
