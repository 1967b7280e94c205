//! A barcode scanner: a line for each code.

use super::Port;

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// CR.
    Cr,
    /// LF.
    Lf,
    /// CR and LF.
    CrLf,
}

/// A scanner on a port.
#[derive(Debug)]
pub struct Scanner {
    /// Its port, to be pulled and plugged.
    pub port: Port,
    ending: Ending,
}

impl Scanner {
    /// A scanner that ends its lines so.
    #[must_use]
    pub fn new(port: Port, ending: Ending) -> Self {
        Self { port, ending }
    }

    /// Scans a code; `aim` is its AIM identifier such as `]C1`, empty where they are switched off. False when the line did not take
    /// it whole.
    pub fn scan(&mut self, aim: &str, code: &str) -> bool {
        let ending = match self.ending {
            Ending::Cr => "\r",
            Ending::Lf => "\n",
            Ending::CrLf => "\r\n",
        };
        let line = format!("{aim}{code}{ending}");
        self.port.say(line.as_bytes()) == line.len()
    }
}
