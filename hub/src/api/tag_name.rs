//! What a caller calls a tag: its memory in hexadecimal, a tag URI, a pure identity, or a Digital Link.
//!
//! Only the first two name one tag. An identity can be written to a tag with any filter and in any form that holds it, and a
//! key does not say how long its company prefix is: such names stand for every tag that could carry them, which are some
//! hundred at most, and are looked up together.

use device_profiles::{
    Tag,
    epc::{Digits, Epc, Form, Identity, Written, identify},
    gs1::parse_link,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;

/// Every form, tried in turn.
const FORMS: [Form; 6] =
    [Form::Sgtin96, Form::Sgtin198, Form::Sscc96, Form::Sgln96, Form::Grai96, Form::Giai96];
/// Filters a tag may have.
const FILTERS: std::ops::RangeInclusive<u8> = 0..=7;
/// Lengths of company prefixes, in digits.
const COMPANY_DIGITS: std::ops::RangeInclusive<u8> = 6..=12;

/// What a tag says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct TagIdentity {
    /// The form of its EPC, such as `sgtin-96`; nothing when it holds none.
    form: Option<&'static str>,
    /// Pure identity, such as `urn:epc:id:sgtin:0614141.812345.6789`.
    uri: Option<String>,
    /// Tag URI, such as `urn:epc:tag:sgtin-96:3.0614141.812345.6789`.
    tag_uri: Option<String>,
    /// Its GS1 key: GTIN-14, SSCC-18, GLN-13, GRAI or GIAI.
    key: Option<String>,
    /// The key as a Digital Link.
    digital_link: Option<String>,
    /// Why it holds no EPC.
    raw_because: Option<String>,
}

impl TagIdentity {
    /// Of a tag's memory in hexadecimal.
    pub fn of(hex: &str) -> Self {
        let Ok(tag) = hex.parse::<Tag>() else { return Self::default() };
        match identify(tag.bytes()) {
            Identity::Epc(written) => Self {
                form: Some(written.form.name()),
                uri: Some(written.epc.uri()),
                tag_uri: Some(written.uri()),
                key: Some(written.epc.key()),
                digital_link: Some(written.epc.digital_link()),
                raw_because: None,
            },
            Identity::Raw { why, .. } => {
                Self { raw_because: Some(why.to_string()), ..Self::default() }
            }
        }
    }

    /// Its pure identity, when it holds an EPC.
    pub fn name(&self) -> Option<&str> {
        self.uri.as_deref()
    }
}

/// The tags that a name may stand for: at least one.
pub fn tags_of(name: &str) -> Result<Vec<Tag>, Problem> {
    let refused = |why: String| {
        Problem::invalid(
            "tag",
            format!(
                "{name:?} names no tag: {why}. Write its EPC memory in hexadecimal, an EPC URI, or a Digital Link that is \
                 percent-encoded."
            ),
        )
    };
    let found = if name.starts_with("urn:epc:tag:") {
        let written = Written::parse_uri(name).map_err(|why| refused(why.to_string()))?;
        let bytes = written.encode().map_err(|why| refused(why.to_string()))?;
        Tag::of_bytes(&bytes).into_iter().collect()
    } else if name.starts_with("urn:epc:id:") {
        carriers(&Epc::parse_uri(name).map_err(|why| refused(why.to_string()))?)
    } else if name.contains("://") {
        linked(name).map_err(&refused)?.iter().flat_map(carriers).collect()
    } else {
        vec![name.parse().map_err(|why: device_profiles::tag::TagError| refused(why.to_string()))?]
    };
    if found.is_empty() {
        return Err(refused("no tag can carry it".to_owned()));
    }
    Ok(found)
}

/// Every tag that can carry an identity.
fn carriers(epc: &Epc) -> Vec<Tag> {
    let written = FORMS
        .into_iter()
        .flat_map(|form| FILTERS.map(move |filter| Written { epc: epc.clone(), filter, form }));
    written
        .filter_map(|written| written.encode().ok())
        .filter_map(|bytes| Tag::of_bytes(&bytes).ok())
        .collect()
}

/// The identities that a Digital Link may mean, one a length of the company prefix.
fn linked(link: &str) -> Result<Vec<Epc>, String> {
    let elements = parse_link(link).map_err(|why| why.to_string())?;
    let value = |ai: &str| elements.iter().find(|e| e.ai() == ai).map(|e| e.value());
    let of =
        |epc: &dyn Fn(u8) -> Option<Epc>| -> Vec<Epc> { COMPANY_DIGITS.filter_map(epc).collect() };
    if let (Some(gtin), Some(serial)) = (value("01"), value("21")) {
        return Ok(of(&|digits| Epc::sgtin(gtin, digits, serial).ok()));
    }
    if let Some(sscc) = value("00") {
        return Ok(of(&|digits| Epc::sscc(sscc, digits).ok()));
    }
    if let Some(gln) = value("414") {
        let extension = value("254").unwrap_or("0");
        return Ok(of(&|digits| Epc::sgln(gln, digits, extension).ok()));
    }
    if let Some(grai) = value("8003") {
        return Ok(of(&|digits| returnable(grai, digits)));
    }
    if let Some(giai) = value("8004") {
        return Ok(of(&|digits| {
            let (company, asset) = giai.split_at_checked(digits.into())?;
            let company = Digits::parse(company, "company prefix").ok()?;
            Some(Epc::Giai { company, asset: asset.to_owned() })
        }));
    }
    Err("it has no key with a serial in it".to_owned())
}

/// A GRAI as its element has it: a zero, company prefix and asset type (12 digits), a check digit, and the serial.
fn returnable(element: &str, digits: u8) -> Option<Epc> {
    let body = element.strip_prefix('0')?;
    let (company, rest) = body.split_at_checked(digits.into())?;
    let (asset_type, rest) = rest.split_at_checked(usize::from(12 - digits))?;
    let (_check, serial) = rest.split_at_checked(1)?;
    Some(Epc::Grai {
        company: Digits::parse(company, "company prefix").ok()?,
        asset_type: Digits::parse(asset_type, "asset type").ok()?,
        serial: serial.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SGTIN: &str = "3074257BF7194E4000001A85";

    #[test]
    fn every_name_of_a_tag_finds_it() {
        let tag: Tag = SGTIN.parse().unwrap();
        let said = TagIdentity::of(SGTIN);
        assert_eq!(said.key.as_deref(), Some("80614141123458"));
        for name in [
            SGTIN.to_owned(),
            SGTIN.to_ascii_lowercase(),
            said.uri.unwrap(),
            said.tag_uri.unwrap(),
            said.digital_link.unwrap(),
        ] {
            assert!(tags_of(&name).unwrap().contains(&tag), "{name}");
        }
        assert_eq!(tags_of("urn:epc:tag:sgtin-96:3.0614141.812345.6789").unwrap(), [tag]);
    }

    #[test]
    fn every_key_of_a_link_is_read() {
        for uri in [
            "urn:epc:id:sgtin:0614141.812345.6789",
            "urn:epc:id:sscc:0614141.1234567890",
            "urn:epc:id:sgln:0614141.12345.400",
            "urn:epc:id:grai:0614141.12345.400",
            "urn:epc:id:giai:0614141.12345400",
        ] {
            let epc = Epc::parse_uri(uri).unwrap();
            let tags = tags_of(&epc.digital_link()).unwrap();
            assert!(tags.len() <= 7 * 8 * 2, "{uri}: {}", tags.len());
            for tag in carriers(&epc) {
                assert!(tags.contains(&tag), "{uri}: {tag}");
            }
        }
    }

    #[test]
    fn what_names_no_tag_is_refused() {
        for name in [
            "",
            "12345",
            "nothing",
            "urn:epc:id:sgtin:1.2.3",
            "urn:epc:id:other:1.2",
            "https://id.gs1.org/01/80614141123458",
            "https://example.com/",
            "https://id.gs1.org/8004/é",
        ] {
            assert_eq!(tags_of(name).unwrap_err().code, "invalid", "{name}");
        }
    }

    #[test]
    fn a_raw_tag_says_why_it_is_raw() {
        let said = TagIdentity::of("E2003412");
        assert!(said.uri.is_none() && said.raw_because.unwrap().contains("E2"));
    }
}
