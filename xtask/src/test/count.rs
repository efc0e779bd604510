//! How many tests passed, failed and were skipped, and how to read that from what tools print.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Ran and held.
    pub passed: usize,
    /// Ran and did not hold, or did not end.
    pub failed: usize,
    /// Did not run.
    pub skipped: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Count {
    /// From nextest's summary line, such as
    /// `Summary [ 4.2s] 24 tests run: 23 passed (1 slow), 1 timed out, 2 skipped`. A run that was
    /// cut short says `20/24 tests run`; what did not run counts as failed.
    pub fn of_nextest(line: &str) -> Option<Self> {
        let line = plain(line);
        let (_, rest) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
        let (run, results) = rest.split_once(" run:")?;
        let all = run.split_whitespace().next()?;
        let all: usize = all.rsplit('/').next()?.parse().ok()?;
        let number = |word: &str| {
            let (before, _) = results.split_once(word)?;
            before.split([' ', '(', ',']).rfind(|part| !part.is_empty())?.parse::<usize>().ok()
        };
        let passed = number(" passed")?;
        Some(Self {
            passed,
            failed: all.checked_sub(passed)?,
            skipped: number(" skipped").unwrap_or(0),
        })
    }

    /// From a line of cargo's own test runner, such as
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
    pub fn of_libtest(line: &str) -> Option<Self> {
        let line = plain(line);
        let rest = line.trim_start().strip_prefix("test result: ")?;
        let number = |word: &str| {
            let (before, _) = rest.split_once(word)?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        };
        let skipped = number(" ignored")? + number(" filtered out")?;
        Some(Self { passed: number(" passed")?, failed: number(" failed")?, skipped })
    }
}

/// `line` without the colours of a terminal.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: usize, failed: usize, skipped: usize) -> Count {
        Count { passed, failed, skipped }
    }

    #[test]
    fn nextest_summaries() {
        let of = Count::of_nextest;
        assert_eq!(
            of("     Summary [   0.050s] 3 tests run: 3 passed, 0 skipped"),
            Some(count(3, 0, 0))
        );
        assert_eq!(of(" Summary [ 1.0s] 1 test run: 1 passed, 12 skipped"), Some(count(1, 0, 12)));
        let line = "Summary [ 4.2s] 24 tests run: 20 passed (2 slow, 1 leaky), 1 failed, 3 timed \
                    out, 2 skipped";
        assert_eq!(of(line), Some(count(20, 4, 2)));
        assert_eq!(
            of("Summary [ 4.2s] 20/24 tests run: 19 passed, 1 failed"),
            Some(count(19, 5, 0))
        );
        assert_eq!(
            of("Summary [ 4.2s] 2 tests run: 0 passed, 2 exec failed"),
            Some(count(0, 2, 0))
        );
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m3\u{1b}[0m tests \
                        run: \u{1b}[1m3\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \
                        \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(of(coloured), Some(count(3, 0, 0)));
        assert_eq!(of("        PASS [   0.013s] xtask test::count"), None);
        assert_eq!(of("Summary of something"), None);
    }

    #[test]
    fn libtest_results() {
        let of = Count::of_libtest;
        let line = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; \
                    finished in 0.42s";
        assert_eq!(of(line), Some(count(3, 0, 3)));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(of(line), Some(count(1, 2, 0)));
        assert_eq!(of("test src/lib.rs - (line 3) ... ok"), None);
    }
}
