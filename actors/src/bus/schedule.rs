//! The schedule of a bus: what to ask next, and whom to leave alone. Pure: time comes in as microseconds.
//!
//! Each job (one stream of one unit) has a period. Of the jobs that are due the one with the earliest deadline goes first, so
//! a fast scale is not held up by a slow thermometer; missed periods are skipped and not made up. A unit that fails
//! [`FAILURES_MAX`] times in a row is set aside: it is tried again after a pause that doubles up to [`PROBE_PAUSE_MS_MAX`], and
//! only while all such tries together have used at most [`PROBE_SHARE_PERCENT`] of the time. So a dead unit costs the others
//! three timeouts once and a tenth of their rate after that, however many are dead.

/// Failures in a row after which a unit is set aside.
pub const FAILURES_MAX: u32 = 3;
/// First pause before a unit that was set aside is tried again, in milliseconds.
pub const PROBE_PAUSE_MS_MIN: u64 = 500;
/// Longest pause before a unit that was set aside is tried again, in milliseconds.
pub const PROBE_PAUSE_MS_MAX: u64 = 4_000;
/// Share of the bus's time that tries of failed units may use, in percent; with the draining after each it is a tenth.
pub const PROBE_SHARE_PERCENT: i64 = 7;
/// Time for such tries that may be saved up, in microseconds.
const PROBE_SAVED_US_MAX: i64 = 400_000;

/// A stream of a unit that is polled.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Index of the unit.
    pub unit: usize,
    /// Period, microseconds.
    pub every_us: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Poll this job.
    Poll(usize),
    /// Nothing before this time.
    Until(u64),
    /// There is nothing to poll at all.
    Never,
}

#[derive(Debug)]
struct Timed {
    job: Job,
    due: u64,
}

/// A unit's breaker.
#[derive(Debug, Clone, Copy, Default)]
struct Breaker {
    failures: u32,
    /// When it may be tried again; only while set aside.
    probe_at: u64,
    pause_ms: u64,
}

impl Breaker {
    fn is_open(&self) -> bool {
        self.failures >= FAILURES_MAX
    }
}

/// The schedule.
#[derive(Debug)]
pub struct Schedule {
    jobs: Vec<Timed>,
    breakers: Vec<Breaker>,
    /// Time that tries of failed units may still use, microseconds; negative when overdrawn.
    probe_saved_us: i64,
    looked_us: u64,
}

impl Schedule {
    /// A schedule of jobs on so many units, which begin spread over their periods so that they do not all fall due at once.
    pub fn new(jobs: Vec<Job>, units: usize, now_us: u64) -> Self {
        let n = jobs.len().max(1) as u64;
        let spread =
            |(i, job): (usize, Job)| Timed { due: now_us + job.every_us * i as u64 / n, job };
        Self {
            jobs: jobs.into_iter().enumerate().map(spread).collect(),
            breakers: vec![Breaker::default(); units],
            probe_saved_us: PROBE_SAVED_US_MAX,
            looked_us: now_us,
        }
    }

    /// What to do at `now_us`.
    pub fn next(&mut self, now_us: u64) -> Next {
        let passed = now_us.saturating_sub(self.looked_us);
        self.looked_us = now_us;
        let earned =
            i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(PROBE_SHARE_PERCENT) / 100;
        self.probe_saved_us = self.probe_saved_us.saturating_add(earned).min(PROBE_SAVED_US_MAX);
        let mut best: Option<(u64, usize)> = None;
        let mut until = u64::MAX;
        for (i, timed) in self.jobs.iter().enumerate() {
            let ready = self.ready_at(timed, now_us);
            if ready > now_us {
                until = until.min(ready);
                continue;
            }
            // A unit that was set aside stands in line like the others: its pauses and its share of the time hold it back, and on
            // a bus that is never idle it would else not be found again.
            let deadline = timed.due + timed.job.every_us;
            if best.is_none_or(|(earliest, _)| deadline < earliest) {
                best = Some((deadline, i));
            }
        }
        match best {
            Some((_, i)) => Next::Poll(i),
            None if self.jobs.is_empty() => Next::Never,
            None => Next::Until(until),
        }
    }

    fn ready_at(&self, timed: &Timed, now_us: u64) -> u64 {
        let breaker = &self.breakers[timed.job.unit];
        if !breaker.is_open() {
            return timed.due;
        }
        let affordable = if self.probe_saved_us > 0 {
            now_us
        } else {
            now_us
                + self.probe_saved_us.unsigned_abs() * 100 / PROBE_SHARE_PERCENT.unsigned_abs()
                + 1
        };
        timed.due.max(breaker.probe_at).max(affordable)
    }

    /// A poll ended at `now_us` after `took_us`. `answered` = it brought what was asked for. `jitter` makes a
    /// pause of another, so that many buses do not retry in step. True when the unit was set aside or came back by this.
    pub fn done(
        &mut self,
        job: usize,
        answered: bool,
        took_us: u64,
        now_us: u64,
        jitter: impl Fn(u64) -> u64,
    ) -> bool {
        let Some(timed) = self.jobs.get_mut(job) else { return false };
        // Periods that have passed are skipped.
        let missed = now_us.saturating_sub(timed.due) / timed.job.every_us.max(1);
        timed.due += timed.job.every_us * (missed + 1);
        self.note(self.jobs[job].job.unit, answered, took_us, now_us, jitter)
    }

    /// A unit answered or did not, in a poll or otherwise. True when it was set aside or came back by this.
    pub fn note(
        &mut self,
        unit: usize,
        answered: bool,
        took_us: u64,
        now_us: u64,
        jitter: impl Fn(u64) -> u64,
    ) -> bool {
        let Some(breaker) = self.breakers.get_mut(unit) else { return false };
        let was_open = breaker.is_open();
        if answered {
            *breaker = Breaker::default();
            return was_open;
        }
        if was_open {
            self.probe_saved_us -= i64::try_from(took_us).unwrap_or(i64::MAX);
        }
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.is_open() {
            breaker.pause_ms = (breaker.pause_ms * 2).clamp(PROBE_PAUSE_MS_MIN, PROBE_PAUSE_MS_MAX);
            breaker.probe_at = now_us + jitter(breaker.pause_ms) * 1_000;
        }
        !was_open && breaker.is_open()
    }

    /// The whole bus was away: its units are not to blame, and everything is due.
    pub fn link_restored(&mut self, now_us: u64) {
        for breaker in &mut self.breakers {
            *breaker = Breaker::default();
        }
        let n = self.jobs.len().max(1) as u64;
        for (i, timed) in self.jobs.iter_mut().enumerate() {
            timed.due = now_us + timed.job.every_us * i as u64 / n;
        }
    }

    /// Whether a unit is set aside.
    pub fn is_aside(&self, unit: usize) -> bool {
        self.breakers.get(unit).is_some_and(Breaker::is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a bus of units for a time: `cost` says how long a poll of a unit takes and whether it answers. Counts polls.
    fn run(periods_ms: &[u64], seconds: u64, cost: impl Fn(usize, u64) -> (u64, bool)) -> Vec<u64> {
        let jobs: Vec<Job> = periods_ms
            .iter()
            .enumerate()
            .map(|(unit, ms)| Job { unit, every_us: ms * 1_000 })
            .collect();
        let mut schedule = Schedule::new(jobs, periods_ms.len(), 0);
        let (mut now, mut polls) = (0, vec![0; periods_ms.len()]);
        while now < seconds * 1_000_000 {
            match schedule.next(now) {
                Next::Poll(i) => {
                    polls[i] += 1;
                    let (took, answered) = cost(i, now);
                    now += took;
                    schedule.done(i, answered, took, now, |ms| ms);
                }
                Next::Until(at) => {
                    assert!(at > now, "time must move");
                    now = at;
                }
                Next::Never => break,
            }
        }
        polls
    }

    #[test]
    fn a_bus_with_time_to_spare_keeps_every_period() {
        let polls = run(&[100, 100, 1_000, 250], 60, |_, _| (5_000, true));
        assert!(polls[0].abs_diff(600) <= 1 && polls[1].abs_diff(600) <= 1, "{polls:?}");
        assert!(polls[2].abs_diff(60) <= 1 && polls[3].abs_diff(240) <= 1, "{polls:?}");
    }

    #[test]
    fn an_overloaded_bus_serves_all_alike() {
        // 32 units at 10 Hz need 320 polls a second, and only 36 fit.
        let polls = run(&[100; 32], 60, |_, _| (28_000, true));
        let (least, most) = (polls.iter().min().unwrap(), polls.iter().max().unwrap());
        assert!(most - least <= 1, "{polls:?}");
        assert!(polls.iter().sum::<u64>() >= 60_000 / 28, "{polls:?}");
    }

    #[test]
    fn dead_units_cost_the_others_a_tenth_at_most() {
        let healthy: u64 = run(&[100; 31], 60, |_, _| (28_000, true)).iter().sum();
        for dead in [1, 4, 16] {
            let polls =
                run(
                    &[100; 32],
                    60,
                    |unit, _| if unit < dead { (300_000, false) } else { (28_000, true) },
                );
            let alive: u64 = polls[dead..].iter().sum();
            // The bus has no idle moment, and still each is tried again, as often as its share allows.
            let tries: u64 = polls[..dead].iter().sum();
            let learned = dead as u64 * u64::from(FAILURES_MAX);
            assert!(tries >= learned + 8, "{dead} dead, tried {tries} times: {polls:?}");
            assert!(polls[..dead].iter().all(|n| *n >= 3), "{polls:?}");
            // The first failures of each are not yet known to be its death.
            let learning = (dead as u64) * u64::from(FAILURES_MAX) * 300_000 / 28_000;
            assert!(alive + learning >= healthy * 88 / 100, "{dead} dead: {alive} of {healthy}");
        }
    }

    #[test]
    fn a_unit_that_comes_back_is_found_within_five_seconds() {
        let back_at = 30_000_000;
        let mut found = None;
        let jobs = vec![Job { unit: 0, every_us: 100_000 }, Job { unit: 1, every_us: 100_000 }];
        let mut schedule = Schedule::new(jobs, 2, 0);
        let mut now = 0;
        while found.is_none() {
            match schedule.next(now) {
                Next::Poll(i) => {
                    let answered = i == 1 || now >= back_at;
                    let took = if answered { 10_000 } else { 300_000 };
                    now += took;
                    schedule.done(i, answered, took, now, |ms| ms);
                    if i == 0 && answered {
                        found = Some(now);
                    }
                }
                Next::Until(at) => now = at,
                Next::Never => unreachable!(),
            }
        }
        assert!(found.unwrap() - back_at <= 5_000_000, "{found:?}");
    }
}
