//! The forms that are read and written here, and what a partition divides (TDS 14, table of partitions of each scheme).

use std::fmt;

use super::{Epc, EpcError};

/// A binary form of an EPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// SGTIN with a number as serial.
    Sgtin96,
    /// SGTIN with any serial.
    Sgtin198,
    /// SSCC.
    Sscc96,
    /// SGLN with a number as extension.
    Sgln96,
    /// GRAI with a number as serial.
    Grai96,
    /// GIAI with a number as reference.
    Giai96,
}

/// Every form: header, name in URIs, bits in all, bits after the partitioned fields.
const FORMS: [(Form, u8, &str, u32, u32); 6] = [
    (Form::Sgtin96, 0x30, "sgtin-96", 96, 38),
    (Form::Sgtin198, 0x36, "sgtin-198", 198, 140),
    (Form::Sscc96, 0x31, "sscc-96", 96, 24),
    (Form::Sgln96, 0x32, "sgln-96", 96, 41),
    (Form::Grai96, 0x33, "grai-96", 96, 38),
    (Form::Giai96, 0x34, "giai-96", 96, 0),
];

/// Schemes of the standard that are not read here.
const OTHERS: [(u8, &str); 23] = [
    (0x2C, "GDTI-96"),
    (0x2D, "GSRN-96"),
    (0x2E, "GSRNP-96"),
    (0x2F, "USDoD-96"),
    (0x35, "GID-96"),
    (0x37, "GRAI-170"),
    (0x38, "GIAI-202"),
    (0x39, "SGLN-195"),
    (0x3A, "GDTI-113"),
    (0x3B, "ADI-var"),
    (0x3C, "CPI-96"),
    (0x3D, "CPI-var"),
    (0x3E, "GDTI-174"),
    (0x3F, "SGCN-96"),
    (0x40, "ITIP-110"),
    (0x41, "ITIP-212"),
    (0xF1, "GRAI+"),
    (0xF2, "SGLN+"),
    (0xF7, "SGTIN+"),
    (0xF9, "SSCC+"),
    (0xFA, "GIAI+"),
    (0xFB, "DSGTIN+"),
    (0xF8, "ITIP+"),
];

/// How a partition divides a form: bits and digits of the company prefix, then of the field after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) number: u8,
    pub(super) company_bits: u32,
    pub(super) company_digits: u8,
    pub(super) bits: u32,
    pub(super) digits: u8,
}

impl Form {
    fn row(self) -> (Self, u8, &'static str, u32, u32) {
        // Every form has its row; a test says so.
        FORMS.into_iter().find(|(form, ..)| *form == self).unwrap_or(FORMS[0])
    }

    /// The form of a header.
    pub fn of_header(header: u8) -> Result<Self, EpcError> {
        if header == 0 {
            return Err(EpcError::Unprogrammed);
        }
        let known = FORMS.into_iter().find(|(_, of, ..)| *of == header);
        known.map(|(form, ..)| form).ok_or_else(|| {
            match OTHERS.into_iter().find(|(of, _)| *of == header) {
                Some((header, name)) => EpcError::Unsupported { header, name },
                None => EpcError::NotEpc(header),
            }
        })
    }

    /// The form of a name such as `sgtin-96`.
    pub fn of_name(name: &str) -> Option<Self> {
        FORMS.into_iter().find(|(_, _, of, ..)| *of == name).map(|(form, ..)| form)
    }

    /// The shortest form that holds an EPC.
    pub fn holding(epc: &Epc) -> Self {
        match epc {
            Epc::Sgtin { serial, .. } => {
                let is_number = serial == "0" || !serial.starts_with('0');
                match serial.parse::<u64>() {
                    Ok(number) if is_number && number < 1 << 38 => Self::Sgtin96,
                    Ok(_) | Err(_) => Self::Sgtin198,
                }
            }
            Epc::Sscc { .. } => Self::Sscc96,
            Epc::Sgln { .. } => Self::Sgln96,
            Epc::Grai { .. } => Self::Grai96,
            Epc::Giai { .. } => Self::Giai96,
        }
    }

    /// Its header.
    pub fn header(self) -> u8 {
        self.row().1
    }

    /// Its name in tag URIs.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Bits in all.
    pub fn bits(self) -> u32 {
        self.row().3
    }

    /// Bits of what follows the partitioned fields.
    pub(super) fn rest_bits(self) -> u32 {
        self.row().4
    }

    /// What a partition divides, by its number.
    pub(super) fn partition(self, number: u8) -> Result<Partition, EpcError> {
        const COMPANY_BITS: [u32; 7] = [40, 37, 34, 30, 27, 24, 20];
        let &company_bits =
            COMPANY_BITS.get(usize::from(number)).ok_or(EpcError::Partition(number))?;
        let company_digits = 12 - number;
        // Bits and digits of prefix and field together.
        let (bits, digits) = match self {
            Self::Sgtin96 | Self::Sgtin198 => (44, 13),
            Self::Sscc96 => (58, 17),
            Self::Sgln96 => (41, 12),
            Self::Grai96 => (44, 12),
            Self::Giai96 => (82, 25),
        };
        Ok(Partition {
            number,
            company_bits,
            company_digits,
            bits: bits - company_bits,
            digits: digits - company_digits,
        })
    }

    /// The partition for a company prefix.
    pub(super) fn partition_for(self, company_digits: u8) -> Result<Partition, EpcError> {
        match company_digits {
            6..=12 => self.partition(12 - company_digits),
            _ => Err(EpcError::Length {
                field: "company prefix",
                have: company_digits.into(),
                most: 12,
            }),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
