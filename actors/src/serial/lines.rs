//! Lines of a serial scanner: what comes between line ends, CR, LF or both.

/// Longest line, in bytes: the longest code there may be, and what stands around it.
pub const LINE_BYTES_MAX: usize = 512;

/// Cuts what comes into lines. A line that is too long is let go to its end.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    overlong: bool,
    noise: u64,
}

impl Lines {
    /// Takes some bytes and gives every line that is complete with them, without its end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for byte in bytes {
            if !matches!(byte, b'\r' | b'\n') {
                if self.overlong {
                    self.noise += 1;
                } else if self.held.len() == LINE_BYTES_MAX {
                    self.overlong = true;
                    self.forget();
                    self.noise += 1;
                } else {
                    self.held.push(*byte);
                }
                continue;
            }
            self.overlong = false;
            let line = std::mem::take(&mut self.held);
            // Between CR and LF there is nothing.
            if !line.is_empty() {
                lines.push(line);
            }
        }
        lines
    }

    /// Bytes that were part of no line.
    pub fn noise(&self) -> u64 {
        self.noise
    }

    /// Gives up what is held: it is the rest of something that was cut off.
    pub fn forget(&mut self) {
        self.noise += self.held.len() as u64;
        self.held.clear();
    }

    /// The port is gone: what comes next begins a line.
    pub fn cut(&mut self) {
        self.forget();
        self.overlong = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_line_end_ends_a_line() {
        let mut lines = Lines::default();
        let all = lines.push(b"a\rb\nc\r\n\r\n\x02d\x03\re");
        assert_eq!(all, [&b"a"[..], b"b", b"c", b"\x02d\x03"]);
        assert_eq!(lines.push(b"f\n"), [&b"ef"[..]]);
        assert_eq!(lines.noise(), 0);
    }

    #[test]
    fn a_line_without_end_is_let_go_to_its_end() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            assert!(lines.push(&[b'x'; 1_024]).is_empty());
        }
        assert_eq!(lines.push(b"tail\nnext\n"), [&b"next"[..]]);
        assert_eq!(lines.noise(), 10_000 * 1_024 + 4);
    }

    #[test]
    fn a_line_that_is_cut_leaves_nothing_behind() {
        let mut lines = Lines::default();
        for (before, noise) in [(7, 7), (LINE_BYTES_MAX + 9, LINE_BYTES_MAX + 16)] {
            assert!(lines.push(&vec![b'x'; before]).is_empty());
            lines.cut();
            assert_eq!(lines.push(b"next\n"), [&b"next"[..]]);
            assert_eq!(lines.noise(), noise as u64);
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), size in 1_usize..50) {
            let (mut whole, mut pieces) = (Lines::default(), Lines::default());
            let once = whole.push(&bytes);
            let cut: Vec<_> = bytes.chunks(size).flat_map(|piece| pieces.push(piece)).collect();
            prop_assert_eq!(once, cut);
            prop_assert_eq!(whole.noise(), pieces.noise());
        }
    }
}
