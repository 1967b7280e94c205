//! EdgeX device profiles, written for this test in EdgeX's format, and what the profiles made of them read from registers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test may panic"
)]

use device_profiles::{
    Measurement, Profile, Value, decode,
    edgex::{ImportError, import},
    modbus::{ImageWriter, Table},
};

/// A profile with these resources.
fn edgex(resources: &str) -> String {
    format!("apiVersion: v3\nname: Test\nlabels: [a]\ndeviceResources:\n{resources}")
}

/// One resource as EdgeX writes it.
fn resource(name: &str, attributes: &str, properties: &str) -> String {
    format!(
        "  - name: \"{name}\"\n    isHidden: true\n    attributes: {{ {attributes} }}\n    properties: {{ {properties} }}\n"
    )
}

/// What the imported profile reads from holding registers 0 to 99 with these values; `?` for a rejected frame.
fn read(text: &str, registers: &[(u16, u16)]) -> Vec<String> {
    let made = import(text, 1_000).unwrap();
    let profile = Profile::parse(&made).unwrap_or_else(|error| panic!("{error}\n{made}"));
    let mut shown = Vec::new();
    for (name, stream) in &profile.streams {
        let mut image = ImageWriter::default();
        for request in &stream.poll.as_ref().unwrap().requests {
            let value = |at: u16| registers.iter().find(|(a, _)| *a == at).map_or(0, |(_, v)| *v);
            let items = request.start..request.start + request.count;
            if matches!(request.table, Table::Coil | Table::Discrete) {
                let bits: Vec<bool> = items.map(|at| value(at) != 0).collect();
                image.bits(request.table, request.start, &bits);
            } else {
                let words: Vec<u16> = items.map(value).collect();
                image.words(request.table, request.start, &words);
            }
        }
        match decode(&profile, name, &image.finish()) {
            Err(_) => shown.push("?".into()),
            Ok(reading) => shown.extend(reading.measurements.into_iter().map(|m| match m {
                Measurement::Value { name, value: Value::Number(n) } => format!("{name}={n}"),
                Measurement::Value { name, value: Value::Bool(b) } => format!("{name}={b}"),
                other => panic!("{other:?}"),
            })),
        }
    }
    shown
}

/// The value of one resource over registers 7 and up; the rest of the attributes and properties are given.
fn one(attributes: &str, properties: &str, words: &[u16]) -> String {
    let attributes = format!("primaryTable: HOLDING_REGISTERS, {attributes}");
    let properties = format!("readWrite: R, {properties}");
    let registers: Vec<(u16, u16)> = (7..).zip(words.iter().copied()).collect();
    let shown = read(&edgex(&resource("X", &attributes, &properties)), &registers);
    shown[0].strip_prefix("values.X=").unwrap_or(&shown[0]).to_owned()
}

/// Why one resource is refused, though another one is carried over.
fn refused(attributes: &str, properties: &str) -> String {
    let good = resource(
        "Good",
        "primaryTable: HOLDING_REGISTERS, startingAddress: 90",
        "valueType: Int16, readWrite: R",
    );
    let made = import(&edgex(&(good + &resource("Bad", attributes, properties))), 1_000).unwrap();
    assert!(Profile::parse(&made).is_ok(), "{made}");
    let why = made.lines().find_map(|l| l.strip_prefix("#   Bad: "));
    why.unwrap_or_else(|| panic!("carried over:\n{made}")).to_owned()
}

#[test]
fn types_and_orders() {
    let at = "startingAddress: 7";
    assert_eq!(one(at, "valueType: Int16", &[0xFFFE]), "-2");
    assert_eq!(one(at, "valueType: Uint16", &[0xFFFE]), "65534");
    assert_eq!(one(at, "valueType: Uint32", &[0x0A0B, 0x0C0D]), "168496141");
    let swapped =
        |flags: &str, words: &[u16]| one(&format!("{at}, {flags}"), "valueType: Uint32", words);
    assert_eq!(swapped("isWordSwap: true", &[0x0C0D, 0x0A0B]), "168496141");
    assert_eq!(swapped("isByteSwap: \"true\"", &[0x0B0A, 0x0D0C]), "168496141");
    assert_eq!(swapped("isByteSwap: true, isWordSwap: true", &[0x0D0C, 0x0B0A]), "168496141");
    assert_eq!(swapped("isByteSwap: false", &[0x0A0B, 0x0C0D]), "168496141");
    assert_eq!(one(at, "valueType: Float32", &[0x41AC, 0]), "21.5");
    assert_eq!(one(at, "valueType: Int64", &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]), "-2");
    // 21.5 as a double; EdgeX does not swap 64 bits, and neither do we.
    let double = [0x4035, 0x8000, 0, 0];
    assert_eq!(one(&format!("{at}, isWordSwap: true"), "valueType: Float64", &double), "21.5");
    assert_eq!(one(at, "valueType: Float32", &[0x7FC0, 0]), "?", "EdgeX refuses NaN too");
    let at = "startingAddress: \"7\", rawType: Int16";
    assert_eq!(one(at, "valueType: Float32, scale: 0.1", &[0xFF29]), "-21.5");
    assert_eq!(one(at, "valueType: Float64, scale: \"0.5\", offset: 10", &[3]), "11.5");
    let at = "startingAddress: 7, rawType: Int32, isWordSwap: true";
    assert_eq!(one(at, "valueType: Float64, scale: 0.5", &[3, 0]), "1.5");
}

#[test]
fn arithmetic_in_the_order_of_edgex() {
    let at = "startingAddress: 7";
    assert_eq!(one(at, "valueType: Uint16, mask: 0x0F00, shift: 8", &[0xABCD]), "11");
    assert_eq!(one(at, "valueType: Uint16, mask: 0x0F00", &[0xABCD]), "2816");
    assert_eq!(
        one(at, "valueType: Uint16, mask: 240, shift: 4, scale: 10, offset: 5", &[0xABCD]),
        "125"
    );
    assert_eq!(one(at, "valueType: Uint16, shift: -4", &[0xABCD]), "48336");
    assert_eq!(one(at, "valueType: Uint32, shift: 16, scale: 2", &[3, 9]), "6");
    assert_eq!(one(at, "valueType: Int16, scale: -2, offset: 1", &[0xFFFE]), "5");
    assert_eq!(one(at, "valueType: Int16, mask: 0x7F", &[0xFFFF]), "127");
    assert_eq!(one(at, "valueType: Float32, mask: 255, scale: 2", &[0x41AC, 0]), "43");
    assert_eq!(
        one(at, "valueType: Int16, scale: 1.0, offset: \"0\", base: 0, mask: 0, shift: 0", &[7]),
        "7"
    );
}

#[test]
fn bits_and_tables() {
    // 10.10 and 10.1 are the same number in YAML, and EdgeX writes it with two decimals: bit 10.
    assert_eq!(one("startingAddress: 7.10", "valueType: Bool", &[0x0400]), "1");
    assert_eq!(one("startingAddress: 7.1", "valueType: Bool", &[0x0400]), "1");
    assert_eq!(one("startingAddress: 7.05", "valueType: Bool", &[0x0020]), "1");
    assert_eq!(one("startingAddress: \"7.5\"", "valueType: Bool", &[0x0020]), "1");
    assert_eq!(one("startingAddress: 7", "valueType: Bool", &[0xFFFE]), "0");
    let tables = edgex(
        &[
            resource(
                "Coil",
                "primaryTable: coils, startingAddress: 3",
                "valueType: Bool, readWrite: RW",
            ),
            resource(
                "In",
                "primaryTable: DISCRETES_INPUT, startingAddress: 3",
                "valueType: Bool, readWrite: R",
            ),
            resource(
                "In2",
                "primaryTable: DISCRETE_INPUTS, startingAddress: 4",
                "valueType: Bool, readWrite: R",
            ),
            resource(
                "Reg",
                "primaryTable: INPUT_REGISTERS, startingAddress: 3",
                "valueType: Uint16, readWrite: R, units: kg",
            ),
        ]
        .concat(),
    );
    assert_eq!(
        read(&tables, &[(3, 1)]),
        ["values.Coil=true", "values.In=true", "values.In2=false", "values.Reg=1"]
    );
    let made = import(&tables, 250).unwrap();
    assert!(made.contains("poll_ms: 250") && made.contains("# kg"), "{made}");
    assert!(made.contains("#   Coil: EdgeX could also write it"), "{made}");
}

#[test]
fn what_has_no_counterpart_is_named() {
    let holding = "primaryTable: HOLDING_REGISTERS, startingAddress: 7";
    for (attributes, properties, why) in [
        (holding, "valueType: Int16, readWrite: W", "only be written"),
        (holding, "valueType: String, readWrite: R", "valueType String"),
        (holding, "valueType: Binary, readWrite: R", "valueType Binary"),
        (holding, "valueType: Uint64, readWrite: R", "valueType Uint64"),
        (holding, "valueType: Uint8, readWrite: R", "valueType Uint8"),
        (holding, "valueType: Int16Array, readWrite: R", "valueType Int16Array"),
        (holding, "readWrite: R", "no valueType"),
        (holding, "valueType: Int16, readWrite: R, base: 10", "base"),
        (holding, "valueType: Int16, readWrite: R, scale: 0.1", "cut it"),
        (holding, "valueType: Uint16, readWrite: R, offset: -5", "cut it"),
        (holding, "valueType: Float32, readWrite: R, scale: 0", "scale 0"),
        (holding, "valueType: Float32, readWrite: R, scale: much", "no number"),
        (holding, "valueType: Int16, readWrite: R, mask: 0xFF00", "sign"),
        (holding, "valueType: Uint16, readWrite: R, mask: 15, shift: 4", "no bit"),
        ("startingAddress: 7", "valueType: Int16, readWrite: R", "primaryTable"),
        ("primaryTable: DRUM, startingAddress: 7", "valueType: Int16, readWrite: R", "no table"),
        ("primaryTable: COILS, startingAddress: 7", "valueType: Int16, readWrite: R", "only Bool"),
        ("primaryTable: HOLDING_REGISTERS", "valueType: Int16, readWrite: R", "startingAddress"),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 7.5",
            "valueType: Bool, readWrite: R",
            "bit 50",
        ),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 7.05",
            "valueType: Int16, readWrite: R",
            "a bit for Bool",
        ),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 70000",
            "valueType: Int16, readWrite: R",
            "no address",
        ),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 65535",
            "valueType: Int32, readWrite: R",
            "beyond",
        ),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 7, rawType: Int16",
            "valueType: Uint32, readWrite: R",
            "rawType INT16",
        ),
        (
            "primaryTable: HOLDING_REGISTERS, startingAddress: 89",
            "valueType: Int32, readWrite: R",
            "shares registers with Good",
        ),
    ] {
        let said = refused(attributes, properties);
        assert!(said.contains(why), "{attributes} {properties}: {said}");
    }
}

#[test]
fn names_and_commands_are_carried_or_told() {
    let text = "name: \"Cool Room #2\"\nmanufacturer: Acme\nmodel: CR-2\ndescription: \"two\\nlines: here\"\ndeviceResources:\n"
        .to_owned()
        + &resource("Room Temp", "primaryTable: INPUT_REGISTERS, startingAddress: 0", "valueType: Int16, readWrite: R")
        + &resource("Room_Temp", "primaryTable: INPUT_REGISTERS, startingAddress: 1", "valueType: Int16, readWrite: R")
        + "deviceCommands:\n  - name: Both\n    readWrite: R\n    resourceOperations:\n      - { deviceResource: \"Room Temp\", mappings: {\"0\": \"cold\"} }\n";
    let made = import(&text, 1_000).unwrap();
    let profile = Profile::parse(&made).unwrap();
    assert_eq!(profile.name.as_str(), "Cool-Room--2");
    assert_eq!(profile.description, "two lines: here");
    assert_eq!(profile.modbus.unwrap().source, "EdgeX device profile Cool Room #2 Acme CR-2");
    for line in [
        "#   Room_Temp: is Room Temp in EdgeX",
        "#   Room_Temp: another resource is named Room_Temp here already",
        "#   command Both: its grouping and its mappings of values; every resource is read",
    ] {
        assert!(made.lines().any(|l| l == line), "{line}\n{made}");
    }
}

#[test]
fn a_map_that_no_one_poll_can_read_becomes_several_streams() {
    let resources: String = (0..70)
        .map(|i| {
            let attributes =
                format!("primaryTable: HOLDING_REGISTERS, startingAddress: {}", i * 200);
            resource(&format!("R{i}"), &attributes, "valueType: Uint16, readWrite: R")
        })
        .collect();
    let profile = Profile::parse(&import(&edgex(&resources), 1_000).unwrap()).unwrap();
    assert_eq!(profile.streams.keys().collect::<Vec<_>>(), ["values-1", "values-2", "values-3"]);
}

#[test]
fn what_is_no_edgex_profile_is_refused() {
    let error = |text: &str| import(text, 1_000).unwrap_err();
    assert!(matches!(error("- a\n- b\n"), ImportError::NotEdgeX(_)));
    let missing = error("name: x\n");
    assert!(missing.to_string().contains("deviceResources"), "{missing}");
    let old = "name: x\ndeviceResources:\n  - name: a\n    properties: {value: {type: Int16, readWrite: R}, units: {type: String}}\n";
    assert_eq!(error(old), ImportError::OldFormat);
    let strings = resource(
        "S",
        "primaryTable: HOLDING_REGISTERS, startingAddress: 1",
        "valueType: String, readWrite: R",
    );
    let nothing = error(&edgex(&strings)).to_string();
    assert!(nothing.contains("S: valueType String"), "{nothing}");
    assert_eq!(import("name: x", 5), Err(ImportError::Period(5)));
    assert_eq!(error(&" ".repeat(2 << 20)), ImportError::TooLarge(2 << 20));
}
