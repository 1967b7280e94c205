//! The journal's files as `docs/specs/journal.md` describes them, read without the hub's code, and ways to damage them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of a segment's header.
const HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
const RECORD_BYTES: usize = 32;
/// Bits of an offset that name the byte in its segment.
const SHIFT: u32 = 26;
/// Record kind of a device's frame.
const KIND_FRAME: u8 = 1;

/// A record of a segment file.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it begins in its file.
    pub at: usize,
    /// Its bytes in all.
    pub bytes: usize,
    /// Its offset in the journal.
    pub offset: u64,
    /// It is a device's frame.
    pub is_frame: bool,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Segment files that hold records, oldest first.
pub fn segments(journal: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        let is_segment = file.extension().is_some_and(|e| e == "segment");
        is_segment && fs::read(file).unwrap()[..HEADER_BYTES].iter().any(|byte| *byte != 0)
    });
    files.sort();
    files
}

/// Number of a segment file.
pub fn number(file: &Path) -> u64 {
    file.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Every record of a segment file.
pub fn records(file: &Path) -> Vec<Record> {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut found) = (HEADER_BYTES, Vec::new());
    while let Some(size) = bytes.get(at..at + 4) {
        let size = u32::from_le_bytes(size.try_into().unwrap()) as usize;
        if size == 0 {
            break;
        }
        found.push(Record {
            at,
            bytes: size,
            offset: number(file) << SHIFT | at as u64,
            is_frame: bytes[at + 30] == KIND_FRAME,
            payload: bytes[at + RECORD_BYTES..at + size].to_vec(),
        });
        at += size;
    }
    found
}

/// Turns one bit of a file around.
pub fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// Writes over a place of a file.
pub fn overwrite(file: &Path, at: usize, with: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    fs::write(file, bytes).unwrap();
}
