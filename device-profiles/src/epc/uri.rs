//! EPCs as URIs: pure identities (`urn:epc:id:…`) and tags (`urn:epc:tag:…`), by TDS 6 and 12.

use super::{Digits, Epc, EpcError, Form, Written, digits::is_gs1};

const PURE: &str = "urn:epc:id:";
const TAG: &str = "urn:epc:tag:";

/// Characters of a serial that a URI cannot have as they are.
fn is_escaped(character: char) -> bool {
    matches!(character, '"' | '%' | '&' | '/' | '<' | '>' | '?')
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            out.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character == '%' {
            let code = rest.get(1..3)?;
            if !code.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let character = char::from(u8::from_str_radix(code, 16).ok()?);
            is_escaped(character).then(|| out.push(character))?;
            rest = rest.get(3..)?;
        } else {
            (is_gs1(character) && !is_escaped(character)).then(|| out.push(character))?;
            rest = rest.get(character.len_utf8()..)?;
        }
    }
    Some(out)
}

impl Epc {
    fn scheme(&self) -> &'static str {
        match self {
            Self::Sgtin { .. } => "sgtin",
            Self::Sscc { .. } => "sscc",
            Self::Sgln { .. } => "sgln",
            Self::Grai { .. } => "grai",
            Self::Giai { .. } => "giai",
        }
    }

    /// The fields as a URI has them.
    fn fields(&self) -> String {
        match self {
            Self::Sgtin { company, item, serial } => format!("{company}.{item}.{}", escape(serial)),
            Self::Sscc { company, serial } => format!("{company}.{serial}"),
            Self::Sgln { company, location, extension } => {
                format!("{company}.{location}.{}", escape(extension))
            }
            Self::Grai { company, asset_type, serial } => {
                format!("{company}.{asset_type}.{}", escape(serial))
            }
            Self::Giai { company, asset } => format!("{company}.{}", escape(asset)),
        }
    }

    /// The pure identity URI, such as `urn:epc:id:sgtin:0614141.812345.6789`.
    pub fn uri(&self) -> String {
        format!("{PURE}{}:{}", self.scheme(), self.fields())
    }

    /// Reads a pure identity URI.
    pub fn parse_uri(uri: &str) -> Result<Self, EpcError> {
        let no = || EpcError::Uri(uri.to_owned());
        let (scheme, fields) =
            uri.strip_prefix(PURE).and_then(|rest| rest.split_once(':')).ok_or_else(no)?;
        Self::of_fields(scheme, fields, uri)
    }

    fn of_fields(scheme: &str, fields: &str, uri: &str) -> Result<Self, EpcError> {
        let no = || EpcError::Uri(uri.to_owned());
        let (company, rest) = fields.split_once('.').ok_or_else(no)?;
        let company = Digits::parse(company, "company prefix")?;
        let text = |text: &str| match unescape(text) {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) | None => Err(no()),
        };
        let (form, epc) = match scheme {
            "sgtin" | "sgln" | "grai" => {
                // A serial may have dots in it, a reference has none.
                let (reference, serial) = rest.split_once('.').ok_or_else(no)?;
                let serial = text(serial)?;
                match scheme {
                    "sgtin" => {
                        let item = Digits::parse(reference, "item reference")?;
                        (Form::Sgtin198, Self::Sgtin { company, item, serial })
                    }
                    "sgln" => {
                        let location = Digits::parse(reference, "location reference")?;
                        (Form::Sgln96, Self::Sgln { company, location, extension: serial })
                    }
                    _ => {
                        let asset_type = Digits::parse(reference, "asset type")?;
                        (Form::Grai96, Self::Grai { company, asset_type, serial })
                    }
                }
            }
            "sscc" => {
                let serial = Digits::parse(rest, "serial reference")?;
                (Form::Sscc96, Self::Sscc { company, serial })
            }
            "giai" => (Form::Giai96, Self::Giai { company, asset: text(rest)? }),
            _ => return Err(no()),
        };
        let wanted = form.partition_for(company.len())?.digits;
        let (field, have) = match &epc {
            Self::Sgtin { item, .. } => ("item reference", item.len()),
            Self::Sscc { serial, .. } => ("serial reference", serial.len()),
            Self::Sgln { location, .. } => ("location reference", location.len()),
            Self::Grai { asset_type, .. } => ("asset type", asset_type.len()),
            Self::Giai { .. } => ("asset reference", wanted),
        };
        if have != wanted {
            return Err(EpcError::Length { field, have: have.into(), most: wanted.into() });
        }
        Ok(epc)
    }
}

impl Written {
    /// The tag URI, such as `urn:epc:tag:sgtin-96:3.0614141.812345.6789`.
    pub fn uri(&self) -> String {
        format!("{TAG}{}:{}.{}", self.form, self.filter, self.epc.fields())
    }

    /// Reads a tag URI. That the form holds the EPC, [`Written::encode`] tells.
    pub fn parse_uri(uri: &str) -> Result<Self, EpcError> {
        let no = || EpcError::Uri(uri.to_owned());
        let (form, rest) =
            uri.strip_prefix(TAG).and_then(|rest| rest.split_once(':')).ok_or_else(no)?;
        let form = Form::of_name(form).ok_or_else(no)?;
        let (filter, fields) = rest.split_once('.').ok_or_else(no)?;
        let filter = match filter.as_bytes() {
            [digit @ b'0'..=b'7'] => digit - b'0',
            [digit @ b'8'..=b'9'] => return Err(EpcError::Filter(digit - b'0')),
            _ => return Err(no()),
        };
        let scheme = form.name().split('-').next().unwrap_or_default();
        Ok(Self { epc: Epc::of_fields(scheme, fields, uri)?, filter, form })
    }
}
