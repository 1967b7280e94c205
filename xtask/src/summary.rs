//! What passed, failed and was skipped, gathered from the steps and from the tests' own output.

use std::collections::BTreeSet;

/// The tally of one run.
#[derive(Default)]
pub struct Summary {
    /// Tests and steps that passed.
    pub passed: u64,
    /// Tests and steps that failed, by name.
    pub failed: Vec<String>,
    /// What was skipped, and why.
    pub skipped: Vec<(String, String)>,
    failed_tests: u64,
}

impl Summary {
    /// Reads one line of a test runner: `test result: ok. 3 passed; 0 failed; …` or `SKIP name: reason`.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                rest.split(|c: char| !c.is_ascii_alphanumeric())
                    .filter(|w| !w.is_empty())
                    .collect::<Vec<_>>()
                    .windows(2)
                    .find(|pair| pair[1] == word)
                    .and_then(|pair| pair[0].parse::<u64>().ok())
                    .unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed_tests += count("failed");
        } else if let Some(rest) = line.trim_start().strip_prefix("SKIP ") {
            let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
            self.skip(name, reason);
        }
    }

    /// Notes a skip.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push((name.to_owned(), reason.to_owned()));
    }

    /// Notes a step without tests of its own.
    pub fn step(&mut self, name: &str, good: bool) {
        if good {
            self.passed += 1;
        } else {
            self.failed.push(name.to_owned());
        }
    }

    /// Prints the summary; true when all is well. `allowed` names the skips that are fine.
    pub fn print(&self, allowed: Option<&BTreeSet<String>>) -> bool {
        let mut good = self.failed.is_empty() && self.failed_tests == 0;
        for (name, reason) in &self.skipped {
            let fine = allowed.is_none_or(|allowed| allowed.contains(name));
            good &= fine;
            println!("skipped{} {name}: {reason}", if fine { "" } else { " (NOT ALLOWED)" });
        }
        for name in &self.failed {
            println!("failed {name}");
        }
        let failed = self.failed_tests.max(self.failed.len() as u64);
        println!("{} passed, {failed} failed, {} skipped", self.passed, self.skipped.len());
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_runners_lines() {
        let mut summary = Summary::default();
        summary.line("test result: ok. 21 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        summary.line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        summary.line("SKIP llrp-recordings: the data folder is absent");
        assert_eq!((summary.passed, summary.failed_tests), (24, 2));
        assert_eq!(summary.skipped[0].0, "llrp-recordings");
        assert!(!summary.print(None));
    }

    #[test]
    fn a_skip_that_is_not_listed_fails() {
        let mut summary = Summary::default();
        summary.skip("x", "y");
        assert!(summary.print(None));
        assert!(!summary.print(Some(&BTreeSet::new())));
    }
}
