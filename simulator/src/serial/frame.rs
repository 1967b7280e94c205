//! Frames of an R200 module, `BB kind command length parameters sum 7E`, written and found.

/// Longest parameters of a command that is listened to, in bytes.
const PARAMETERS_BYTES_MAX: usize = 64;
/// Bytes around the parameters.
const AROUND: usize = 7;

/// Writes what the module says: kind 1 answers, 2 tells.
pub(super) fn frame(kind: u8, command: u8, parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![kind, command];
    body.extend((parameters.len() as u16).to_be_bytes());
    body.extend_from_slice(parameters);
    let sum = (body.iter().map(|byte| u32::from(*byte)).sum::<u32>() & 0xFF) as u8;
    [&[0xBB], &body[..], &[sum, 0x7E]].concat()
}

/// Tells of a tag: signal in dBm, PC, EPC, and the checksum that came over the air.
pub(super) fn tag(rssi_dbm: i8, epc: &[u8]) -> Vec<u8> {
    let words = epc.len().div_ceil(2) as u16;
    let mut air = (words << 11).to_be_bytes().to_vec();
    air.extend_from_slice(epc);
    // A PC counts words: half a word is filled up.
    air.resize(2 + usize::from(words) * 2, 0);
    let crc = crc(&air).to_be_bytes();
    frame(2, 0x22, &[&rssi_dbm.to_be_bytes()[..], &air, &crc].concat())
}

/// CRC-16 of Gen2, bit by bit from the highest: x¹⁶ + x¹² + x⁵ + 1, begun with ones, turned over at the end.
fn crc(bytes: &[u8]) -> u16 {
    let mut register = u16::MAX;
    for byte in bytes {
        for bit in (0..8).rev() {
            let carries = (register >> 15) as u8 ^ (byte >> bit & 1) == 1;
            register = (register << 1) ^ if carries { 0x1021 } else { 0 };
        }
    }
    !register
}

/// Takes the first command out of what came: its number and its parameters. What cannot be one is thrown away.
pub(super) fn take(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    loop {
        let begin = bytes.iter().position(|byte| *byte == 0xBB).unwrap_or(bytes.len());
        bytes.drain(..begin);
        let &[_, kind, command, high, low, ..] = &bytes[..] else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == 0 && length <= PARAMETERS_BYTES_MAX {
            let whole = bytes.get(..AROUND + length)?;
            let parameters = whole.get(5..5 + length)?.to_vec();
            let summed = whole.get(1..5 + length)?.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
            if whole.get(5 + length..) == Some(&[summed, 0x7E][..]) {
                bytes.drain(..AROUND + length);
                return Some((command, parameters));
            }
        }
        bytes.drain(..1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_written_as_a_real_module_wrote_it() {
        let epc = [0xE2, 0x80, 0x68, 0x90, 0x00, 0x00, 0x50, 0x0E, 0x88, 0xC6, 0xA4, 0xA7];
        let said = tag(-57, &epc);
        let mut real = vec![0xBB, 2, 0x22, 0, 0x11, 0xC7, 0x30, 0];
        real.extend(epc);
        real.extend([0x11, 0x9B, 0x29, 0x7E]);
        assert_eq!(said, real);
    }

    #[test]
    fn commands_are_found_behind_noise_and_in_pieces() {
        let multi = [0xBB, 0, 0x27, 0, 3, 0x22, 0xFF, 0xFF, 0x4A, 0x7E];
        let mut bytes = vec![7, 0xBB, 0xBB];
        bytes.extend(multi);
        bytes.extend([0xBB, 0, 0x28]);
        assert_eq!(take(&mut bytes), Some((0x27, vec![0x22, 0xFF, 0xFF])));
        assert_eq!(take(&mut bytes), None);
        bytes.extend([0, 0, 0x28, 0x7E]);
        assert_eq!(take(&mut bytes), Some((0x28, vec![])));
        // A wrong sum is no command, whatever follows is.
        let mut bytes = vec![0xBB, 0, 0x28, 0, 0, 0x29, 0x7E];
        bytes.extend(multi);
        assert_eq!(take(&mut bytes).map(|found| found.0), Some(0x27));
    }
}
