//! What passed, failed and was skipped, gathered from the steps and from the tests' own output.

use std::{collections::BTreeSet, time::Duration};

/// The tally of one run.
#[derive(Default)]
pub struct Summary {
    passed: u64,
    failed: u64,
    skipped: Vec<(String, String)>,
    steps: Vec<(String, bool, Duration)>,
    /// Names of the tests that failed.
    failures: Vec<String>,
    /// Tests that failed since the last step ended.
    failed_in_step: u64,
}

impl Summary {
    /// Reads one line of a test runner: `test result: ok. 3 passed; 0 failed; …`, `test name ... FAILED` or
    /// `SKIP name: reason`.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let words: Vec<&str> = rest
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| !w.is_empty())
                .collect();
            let count = |word: &str| -> u64 {
                let pair = words.windows(2).find(|pair| pair[1] == word);
                pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.failed_in_step += count("failed");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        } else if let Some(rest) = line.trim_start().strip_prefix("SKIP ") {
            let (name, reason) = rest.split_once(": ").unwrap_or((rest, ""));
            self.skip(name, reason);
        }
    }

    /// Notes a skip.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push((name.to_owned(), reason.to_owned()));
    }

    /// Notes the end of a step. It counts as one, unless it failed because of tests that are counted already.
    pub fn step(&mut self, name: &str, good: bool, took: Duration) {
        if good {
            self.passed += 1;
        } else if self.failed_in_step == 0 {
            self.failed += 1;
        }
        self.failed_in_step = 0;
        self.steps.push((name.to_owned(), good, took));
    }

    /// The summary, and whether all is well. `allowed` names the skips that are fine; without it all are.
    pub fn report(&mut self, allowed: Option<&BTreeSet<String>>) -> (String, bool) {
        let mut text = String::from("\n");
        for (name, good, took) in &self.steps {
            let mark = if *good { "ok    " } else { "FAILED" };
            text += &format!("{mark} {name:<16} {:>7.1} s\n", took.as_secs_f64());
        }
        for (name, reason) in &self.skipped {
            let fine = allowed.is_none_or(|allowed| allowed.contains(name));
            if !fine {
                self.failed += 1;
            }
            let mark = if fine { "" } else { " (NOT ALLOWED)" };
            text += &format!("skipped{mark} {name}: {reason}\n");
        }
        for name in &self.failures {
            text += &format!("failed {name}\n");
        }
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped.len());
        text += &format!("{passed} passed, {failed} failed, {skipped} skipped");
        (text, self.failed == 0 && self.steps.iter().all(|(_, good, _)| *good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_runners_lines() {
        let mut summary = Summary::default();
        summary.line("test result: ok. 21 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        summary.line("test a::b ... FAILED");
        summary.line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        summary.line("SKIP llrp-recordings: the data folder is absent");
        summary.step("tests", false, Duration::ZERO);
        assert_eq!((summary.passed, summary.failed), (24, 2));
        assert_eq!(summary.skipped[0].0, "llrp-recordings");
        let (text, good) = summary.report(None);
        assert!(!good && text.contains("\nfailed a::b\n"), "{text}");
    }

    #[test]
    fn a_step_that_fails_without_a_failed_test_counts() {
        let mut summary = Summary::default();
        summary.step("clippy", false, Duration::ZERO);
        assert_eq!(summary.failed, 1);
        assert!(!summary.report(None).1);
    }

    #[test]
    fn a_skip_that_is_not_listed_fails() {
        let mut summary = Summary::default();
        summary.skip("x", "y");
        assert!(summary.report(None).1);
        assert!(!summary.report(Some(&BTreeSet::new())).1);
    }
}
