//! Progress: a bar on a terminal, a line every ten seconds elsewhere; always on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use simulator::clock::WallClock;
use std::io::{IsTerminal, Write};

/// From one plain line to the next, µs.
const LINE_US: u64 = 10_000_000;

/// Where progress is shown.
pub struct Screen {
    bar: Option<ProgressBar>,
    clock: WallClock,
    next_line_us: u64,
}

impl Screen {
    /// A screen for something that takes `seconds`.
    pub fn new(seconds: f64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
            let bar = ProgressBar::new(seconds.ceil() as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, clock: WallClock::start(), next_line_us: LINE_US }
    }

    /// Shows that `done` of `all` seconds are over.
    pub fn show(&mut self, done: f64, all: f64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_length(all.ceil() as u64);
            bar.set_position(done as u64);
            bar.set_message(message());
        } else if self.clock.elapsed_us() >= self.next_line_us {
            self.next_line_us += LINE_US;
            eprintln!("{done:.0} of {all:.0} s: {}", message());
        }
    }

    /// The thing is over.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Rows of a table: names left, values right.
pub fn table(rows: &[(&str, String)]) {
    let width = |text: &dyn Fn(&(&str, String)) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let (names, values) =
        (width(&|(name, _)| name.chars().count()), width(&|(_, value)| value.chars().count()));
    for (name, value) in rows {
        say(&format!("{name:names$}  {value:>values$}"));
    }
}

/// Writes a line to stdout; a reader who has seen enough and left is no error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
