//! EPCs: known tags in every way they are written, and what holds for all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

use device_profiles::epc::{
    Digits, Epc, EpcError, Form, Identity, Written, check_digit, checked, identify,
};
use proptest::prelude::*;

/// Scheme, filter, EPC memory, pure identity, element string, key. The first two are the examples of TDS annex E.3; the others
/// were computed by epcpy 0.1.8, and two more decoders agree.
#[rustfmt::skip]
const TAGS: [(&str, u8, &str, &str, &str, &str); 36] = [
    ("sgtin96", 3, "3074257BF7194E4000001A85", "urn:epc:id:sgtin:0614141.812345.6789", "(01)80614141123458(21)6789", "80614141123458"),
    ("sgtin198", 3, "3674257BF6B7A659B2C2BF100000000000000000000000000000", "urn:epc:id:sgtin:0614141.712345.32a%2Fb", "(01)70614141123451(21)32a/b", "70614141123451"),
    ("sscc96", 3, "3174257BF4499602D2000000", "urn:epc:id:sscc:0614141.1234567890", "(00)106141412345678908", "106141412345678908"),
    ("grai96", 3, "3374257BF40C0E4000000190", "urn:epc:id:grai:0614141.12345.400", "(8003)00614141123452400", "0614141123452400"),
    ("giai96", 3, "3474257BF40000000000162E", "urn:epc:id:giai:0614141.5678", "(8004)06141415678", "06141415678"),
    ("sgln96", 3, "3274257BF460720000000190", "urn:epc:id:sgln:0614141.12345.400", "(414)0614141123452(254)400", "0614141123452"),
    ("sgtin96", 1, "3034257BF7194E4000000000", "urn:epc:id:sgtin:0614141.812345.0", "(01)80614141123458(21)0", "80614141123458"),
    ("sgtin96", 0, "301800004000004000000001", "urn:epc:id:sgtin:000001.0000001.1", "(01)00000010000014(21)1", "00000010000014"),
    ("sgtin96", 7, "30E3A352943FFE7FFFFFFFFF", "urn:epc:id:sgtin:999999999999.9.274877906943", "(01)99999999999997(21)274877906943", "99999999999997"),
    ("sgtin96", 6, "30D83BF9A6259FFFFFFFFFFF", "urn:epc:id:sgtin:061414.9999999.274877906943", "(01)90614149999991(21)274877906943", "90614149999991"),
    ("sgtin198", 1, "36237550B459D8A0C287122C68F224CA97326CE9F428D2A75000", "urn:epc:id:sgtin:950600013430.2.ABCDEFGHIJKLMNOPQRST", "(01)29506000134301(21)ABCDEFGHIJKLMNOPQRST", "29506000134301"),
    ("sgtin198", 0, "36183BF983D09018000000000000000000000000000000000000", "urn:epc:id:sgtin:061414.1000000.0", "(01)10614140000003(21)0", "10614140000003"),
    ("sscc96", 0, "31183BF98000000000000000", "urn:epc:id:sscc:061414.00000000000", "(00)006141400000000006", "006141400000000006"),
    ("sscc96", 2, "3140393245B7983039000000", "urn:epc:id:sscc:061414141414.12345", "(00)106141414141423454", "106141414141423454"),
    ("sscc96", 6, "31D644334000000001000000", "urn:epc:id:sscc:9506000.0000000001", "(00)095060000000000015", "095060000000000015"),
    ("grai96", 0, "33183BF98078903FFFFFFFFF", "urn:epc:id:grai:061414.123456.274877906943", "(8003)00614141234561274877906943", "0614141234561274877906943"),
    ("grai96", 1, "3320393245B7980000000001", "urn:epc:id:grai:061414141414..1", "(8003)006141414141471", "06141414141471"),
    ("grai96", 0, "33164433400D1EC000000000", "urn:epc:id:grai:9506000.13435.0", "(8003)095060001343520", "95060001343520"),
    ("giai96", 0, "34183BF9BFFFFFFFFFFFFFFF", "urn:epc:id:giai:061414.4611686018427387903", "(8004)0614144611686018427387903", "0614144611686018427387903"),
    ("giai96", 1, "3420393245B79BFFFFFFFFFF", "urn:epc:id:giai:061414141414.4398046511103", "(8004)0614141414144398046511103", "0614141414144398046511103"),
    ("giai96", 0, "341644334000000000000000", "urn:epc:id:giai:9506000.0", "(8004)95060000", "95060000"),
    ("sgln96", 0, "32183BF983C4800000000000", "urn:epc:id:sgln:061414.123456.0", "(414)0614141234561(254)0", "0614141234561"),
    ("sgln96", 1, "3220393245B799FFFFFFFFFF", "urn:epc:id:sgln:061414141414..2199023255551", "(414)0614141414147(254)2199023255551", "0614141414147"),
    ("sgln96", 0, "321644334068F60000000001", "urn:epc:id:sgln:9506000.13435.1", "(414)9506000134352(254)1", "9506000134352"),
    ("sgtin96", 4, "308389820F9F6446CDC83011", "urn:epc:id:sgtin:972281866201.1.29222252561", "(01)19722818662017(21)29222252561", "19722818662017"),
    ("sgtin96", 5, "30B23C3C57A0FFF368E58909", "urn:epc:id:sgtin:75004079.33791.220803205385", "(01)37500407937915(21)220803205385", "37500407937915"),
    ("sgtin96", 0, "300989EB92DA0E2238D889D2", "urn:epc:id:sgtin:6608884442.056.146982603218", "(01)06608884442561(21)146982603218", "06608884442561"),
    ("sgtin96", 3, "30627838A2998836F9C4B930", "urn:epc:id:sgtin:678842377826.0.236118653232", "(01)06788423778266(21)236118653232", "06788423778266"),
    ("sgtin96", 0, "3010BACF7E3EE19C6763DF9C", "urn:epc:id:sgtin:24485628.64390.121993682844", "(01)62448562843909(21)121993682844", "62448562843909"),
    ("sgtin96", 6, "30C298217F3524DFA8869047", "urn:epc:id:sgtin:713105067337.3.135971377223", "(01)37131050673372(21)135971377223", "37131050673372"),
    ("sgtin96", 6, "30D1793395A2F42E8D885ADD", "urn:epc:id:sgtin:49440555.35792.199943019229", "(01)34944055557928(21)199943019229", "34944055557928"),
    ("sgtin96", 5, "30A3A2682B69BCF590F6FC3A", "urn:epc:id:sgtin:999016815215.3.230065372218", "(01)39990168152159(21)230065372218", "39990168152159"),
    ("sgtin96", 6, "30C07965636C864FAAE3D6F1", "urn:epc:id:sgtin:130348014369.9.67291567857", "(01)91303480143697(21)67291567857", "91303480143697"),
    ("sgtin96", 2, "3042537DF51D3538A9211F54", "urn:epc:id:sgtin:639404689229.4.243355688788", "(01)46394046892296(21)243355688788", "46394046892296"),
    ("sgtin96", 0, "30055642BDA298DF4EA578A6", "urn:epc:id:sgtin:45937454356.99.134463453350", "(01)94593745435699(21)134463453350", "94593745435699"),
    ("sgtin96", 3, "3071199E5C198C59BF7E829B", "urn:epc:id:sgtin:36912312.26161.110586921627", "(01)23691231261615(21)110586921627", "23691231261615"),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn known_tags_read_and_write_in_every_way() {
    for (scheme, filter, memory, uri, elements, key) in TAGS {
        let Identity::Epc(tag) = identify(&bytes(memory)) else { panic!("{memory} is an EPC") };
        assert_eq!(tag.form.name().replace('-', ""), scheme, "{memory}");
        assert_eq!(tag.filter, filter, "{memory}");
        assert_eq!(tag.epc.uri(), uri, "{memory}");
        assert_eq!(tag.epc.element_string(), elements, "{memory}");
        assert_eq!(tag.epc.key(), key, "{memory}");
        assert_eq!(Epc::parse_uri(uri).as_ref(), Ok(&tag.epc), "{memory}");
        assert_eq!(Written::parse_uri(&tag.uri()).as_ref(), Ok(&tag), "{}", tag.uri());
        assert_eq!(hex(&tag.encode().unwrap()), memory);
    }
}

#[test]
fn tags_are_named_as_the_standard_names_them() {
    let tag = Written::decode(&bytes("3074257BF7194E4000001A85")).unwrap();
    assert_eq!(tag.uri(), "urn:epc:tag:sgtin-96:3.0614141.812345.6789");
    assert_eq!(tag.epc.digital_link(), "https://id.gs1.org/01/80614141123458/21/6789");
    let tag = Written::decode(&bytes(TAGS[1].2)).unwrap();
    assert_eq!(tag.epc.digital_link(), "https://id.gs1.org/01/70614141123451/21/32a%2Fb");
    assert_eq!(Form::holding(&tag.epc), Form::Sgtin198);
}

#[test]
fn what_is_no_epc_is_kept_with_its_reason() {
    let why = |memory: &str| match identify(&bytes(memory)) {
        Identity::Raw { hex, why } => {
            assert_eq!(hex, memory);
            why
        }
        Identity::Epc(tag) => panic!("{memory} is {}", tag.uri()),
    };
    assert_eq!(why("000000000000000000000000"), EpcError::Unprogrammed);
    assert_eq!(why("E2000017010B016210000002"), EpcError::NotEpc(0xE2));
    assert!(matches!(why("3574257BF7194E4000001A85"), EpcError::Unsupported { header: 0x35, .. }));
    assert!(matches!(why("F7174257BF7194E4000001A8"), EpcError::Unsupported { header: 0xF7, .. }));
    assert_eq!(why(""), EpcError::Short { need: 8, have: 0 });
    assert_eq!(why("3074257BF7194E400000"), EpcError::Short { need: 96, have: 80 });
    assert_eq!(why("307C257BF7194E4000001A85"), EpcError::Partition(7));
    assert_eq!(why("3174257BF4499602D2000001"), EpcError::Trailing, "reserved bits of an SSCC");
    assert_eq!(why("3074257BF7194E4000001A850001"), EpcError::Trailing);
    assert!(identify(&bytes("3074257BF7194E4000001A850000")).to_string().starts_with("urn:epc:id"));
    // A company prefix of twelve digits in forty bits, all of them ones.
    let overflow = why("3063FFFFFFFFFE4000001A85");
    assert!(matches!(overflow, EpcError::Overflow { field: "company prefix", len: 12, .. }));
    // A serial in which a character follows its end, one with a character that is none, and none at all.
    let serial = |chars: &[u8]| {
        let mut bits = String::from("00110110001101");
        bits.push_str(&format!("{:024b}{:020b}", 614_141, 712_345));
        chars.iter().for_each(|c| bits.push_str(&format!("{c:07b}")));
        let bits = format!("{bits:0<208}");
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        hex(&(0..208).step_by(8).map(byte).collect::<Vec<u8>>())
    };
    assert_eq!(identify(&bytes(&serial(b"AB"))).to_string(), "urn:epc:id:sgtin:0614141.712345.AB");
    assert_eq!(why(&serial(b"A\0B")), EpcError::Character { field: "serial", character: 'B' });
    assert_eq!(why(&serial(b"A B")), EpcError::Character { field: "serial", character: ' ' });
    assert!(matches!(why(&serial(b"")), EpcError::Length { field: "serial", have: 0, .. }));
}

#[test]
fn what_cannot_be_written_is_refused_by_field() {
    let tag = |uri: &str| Written::parse_uri(uri).and_then(|tag| tag.encode());
    for (uri, why) in [
        ("urn:epc:tag:sgtin-96:3.0614141.812345.0123", "leading zeros"),
        ("urn:epc:tag:sgtin-96:3.0614141.812345.274877906944", "does not fit its 38 bits"),
        ("urn:epc:tag:sgtin-96:3.0614141.812345.A1", "'A'"),
        ("urn:epc:tag:sgtin-96:8.0614141.812345.1", "filter 8"),
        ("urn:epc:tag:sgtin-96:3.0614141.81234.1", "item reference has 5 characters"),
        ("urn:epc:tag:sgtin-96:3.06141.8123451.1", "company prefix has 5 characters"),
        (
            "urn:epc:tag:sgtin-198:3.0614141.812345.ABCDEFGHIJKLMNOPQRSTU",
            "serial has 21 characters",
        ),
        ("urn:epc:tag:sgtin-198:3.0614141.812345.a b", "no EPC URI"),
        ("urn:epc:tag:sgtin-198:3.0614141.812345.a%20b", "no EPC URI"),
        ("urn:epc:tag:sgtin-198:3.0614141.812345.a/b", "no EPC URI"),
        ("urn:epc:tag:sgtin-198:3.0614141.812345.", "no EPC URI"),
        ("urn:epc:tag:sscc-96:3.0614141.123456789", "serial reference has 9"),
        ("urn:epc:tag:giai-96:0.0614141.288230376151711744", "does not fit its 58 bits"),
        ("urn:epc:tag:giai-96:0.0614141.99999999999999999999", "does not fit"),
        ("urn:epc:tag:gid-96:1.2.3", "no EPC URI"),
        ("urn:epc:id:sgtin:0614141.812345.1", "no EPC URI"),
        ("sgtin", "no EPC URI"),
    ] {
        let told = tag(uri).unwrap_err().to_string();
        assert!(told.contains(why), "{uri}: {told}");
    }
    let epc = Epc::parse_uri("urn:epc:id:sscc:0614141.1234567890").unwrap();
    let wrong = Written { epc, filter: 0, form: Form::Sgtin96 };
    assert_eq!(wrong.encode(), Err(EpcError::Form(Form::Sgtin96)));
}

#[test]
fn keys_become_epcs_when_the_length_of_the_prefix_is_known() {
    for (scheme, _, _, uri, _, key) in TAGS {
        let epc = Epc::parse_uri(uri).unwrap();
        let digits = epc.company().len();
        let made = match &epc {
            Epc::Sgtin { serial, .. } => Epc::sgtin(key, digits, serial),
            Epc::Sscc { .. } => Epc::sscc(key, digits),
            Epc::Sgln { extension, .. } => Epc::sgln(key, digits, extension),
            Epc::Grai { .. } | Epc::Giai { .. } => continue,
        };
        assert_eq!(made, Ok(epc), "{scheme} {key}");
    }
    // An EAN-13 and a UPC-A are GTINs with zeros in front.
    let ean = Epc::sgtin("9506000134352", 7, "1").unwrap();
    assert_eq!(
        (ean.key(), ean.uri()),
        ("09506000134352".into(), "urn:epc:id:sgtin:9506000.013435.1".into())
    );
    assert_eq!(
        Epc::sgtin("9506000134353", 7, "1"),
        Err(EpcError::CheckDigit { key: "9506000134353".into(), wanted: '2', found: '3' })
    );
    assert!(Epc::sgtin("950600013435", 7, "1").is_err());
    assert!(Epc::sgtin("9506000134352", 5, "1").is_err());
    assert!(Epc::sscc("10614141123456789", 7).is_err());
    assert_eq!(check_digit("629104150021"), '3');
    assert_eq!(checked("6291041500213"), Ok("629104150021"));
    assert!(checked("").is_err() && checked("62910415002x").is_err());
}

fn company() -> impl Strategy<Value = Digits> {
    (6_u8..=12).prop_flat_map(|len| {
        (0..10_u64.pow(len.into())).prop_map(move |value| Digits::new(value, len, "x").unwrap())
    })
}

fn epc() -> impl Strategy<Value = Epc> {
    let fill = |total: u8, company: Digits, seed: u64| {
        let len = total - company.len();
        Digits::new(seed % 10_u64.pow(len.into()), len, "x").unwrap()
    };
    let serial = "[A-Za-z0-9!\"%&'()*+,./:;<=>?_-]{1,20}";
    prop_oneof![
        (company(), any::<u64>(), serial).prop_map(move |(c, s, serial)| Epc::Sgtin {
            company: c,
            item: fill(13, c, s),
            serial
        }),
        (company(), any::<u64>(), 0..1_u64 << 38).prop_map(move |(c, s, serial)| Epc::Sgtin {
            company: c,
            item: fill(13, c, s),
            serial: serial.to_string()
        }),
        (company(), any::<u64>())
            .prop_map(move |(c, s)| Epc::Sscc { company: c, serial: fill(17, c, s) }),
        (company(), any::<u64>(), 0..1_u64 << 41).prop_map(move |(c, s, e)| Epc::Sgln {
            company: c,
            location: fill(12, c, s),
            extension: e.to_string()
        }),
        (company(), any::<u64>(), 0..1_u64 << 38).prop_map(move |(c, s, e)| Epc::Grai {
            company: c,
            asset_type: fill(12, c, s),
            serial: e.to_string()
        }),
        (company(), 0..1_u64 << 42)
            .prop_map(|(company, asset)| Epc::Giai { company, asset: asset.to_string() }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(epc in epc(), filter in 0_u8..8) {
        let tag = Written { form: Form::holding(&epc), epc, filter };
        let memory = tag.encode().unwrap();
        prop_assert_eq!(memory.len() % 2, 0);
        prop_assert_eq!(Written::decode(&memory), Ok(tag.clone()));
        prop_assert_eq!(Written::parse_uri(&tag.uri()), Ok(tag.clone()));
        prop_assert_eq!(Epc::parse_uri(&tag.epc.uri()), Ok(tag.epc));
    }

    #[test]
    fn any_bytes_are_an_identity_and_an_epc_writes_the_same_bytes(
        mut memory in prop::collection::vec(any::<u8>(), 0..40),
        header in prop::sample::select(vec![0x30_u8, 0x31, 0x32, 0x33, 0x34, 0x36]),
    ) {
        identify(&memory);
        if let Some(first) = memory.first_mut() {
            *first = header;
        }
        if let Identity::Epc(tag) = identify(&memory) {
            let again = tag.encode().unwrap();
            prop_assert!(memory.starts_with(&again) || again.starts_with(&memory));
        }
    }

    #[test]
    fn any_text_is_a_uri_or_none(text in ".{0,60}", scheme in "(sgtin|sscc|sgln|grai|giai)") {
        let _ = Epc::parse_uri(&text);
        let _ = Written::parse_uri(&text);
        if let Ok(epc) = Epc::parse_uri(&format!("urn:epc:id:{scheme}:{text}")) {
            prop_assert_eq!(epc.uri(), format!("urn:epc:id:{scheme}:{text}"));
        }
    }
}
