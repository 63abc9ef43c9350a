//! The times of writes, by the clock of the file system that they were made on.

use crate::io::disk_clock::read_filesystem_clock_ns;
use crate::io::{IoContext, IoError, changed_ns, modified_ns, space};
use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, Instant};

/// Waits for the next tick of the clock of `folder`'s file system, then returns the time for
/// [`Transaction::include_writes_since`]. All earlier writes, such as those of a recovery, have an earlier time.
///
/// [`Transaction::include_writes_since`]: super::transaction::Transaction::include_writes_since
pub(crate) fn wait_for_next_tick(folder: &Path) -> Instant {
    let meta = folder.symlink_metadata();
    std::thread::sleep(match meta {
        Ok(meta) if has_whole_seconds(changed_ns(&meta)) => LONGEST_TICK,
        _ => LINUX_TICK,
    });
    Instant::now()
}

/// Returns true for a time of a file system without fractions of seconds, such as FAT and exFAT.
fn has_whole_seconds(time_ns: i64) -> bool {
    time_ns % 1_000_000_000 == 0
}

/// Longer than a tick of Linux, 1 to 10 ms.
const LINUX_TICK: Duration = Duration::from_millis(12);

/// Longer than a tick of any known file system (FAT: 2 s).
const LONGEST_TICK: Duration = Duration::from_millis(2_050);

/// The results of reading a file system's clock several times. All times are in nanoseconds.
#[derive(Debug)]
struct ClockProbes {
    first: i64,
    last: i64,
    /// The largest measured difference between the file system's clock and the monotonic clock. A busy machine delays
    /// a probe, which makes the measured difference too small.
    offset: i64,
    /// The shortest time between two values.
    tick: Option<i64>,
}

impl ClockProbes {
    /// Starts with a value of the file system's clock, and the monotonic time after it was read.
    fn new(clock_ns: i64, read_ns: i64) -> Self {
        Self {
            first: clock_ns,
            last: clock_ns,
            offset: clock_ns - read_ns,
            tick: None,
        }
    }

    fn add(&mut self, clock_ns: i64, read_ns: i64) {
        self.offset = self.offset.max(clock_ns - read_ns);
        if clock_ns > self.last {
            let between = clock_ns - self.last;
            self.tick = Some(self.tick.map_or(between, |least| least.min(between)));
        }
        self.last = clock_ns;
    }

    /// Returns true if the tick is known. A measured tick that is too long for the file system may only show that the
    /// machine was busy; then another probe is needed.
    fn are_enough(&self) -> bool {
        let longest = to_nanoseconds(LINUX_TICK);
        let is_short = |tick_ns| tick_ns <= longest || has_whole_seconds(self.first);
        self.tick.is_some_and(is_short)
    }

    /// Returns the value of the file system's clock at the monotonic time 0, or up to a tick less.
    fn first_value(&self) -> i64 {
        let longest = to_nanoseconds(LONGEST_TICK);
        let tick_ns = self.tick.filter(|_| !has_whole_seconds(self.first));
        let tick_ns = tick_ns.map_or(longest, |ns| ns.max(to_nanoseconds(LINUX_TICK)));
        self.offset - tick_ns
    }
}

/// The time at which a transaction began.
#[derive(Debug)]
pub(super) struct BeginTime {
    /// The begin by the clock of the file system with the journal, in nanoseconds since 1970. Writes after the begin
    /// have later times, writes before it do not.
    pub(super) clock_ns: i64,
    begun: Instant,
    /// The monotonic times in it count from `begun`.
    probes: ClockProbes,
}

impl BeginTime {
    /// Reads the clock of the file system of `folder`, and waits for its next tick, because a write in the same tick
    /// has the same time. The wait is a few milliseconds; on FAT and exFAT up to two seconds.
    pub(super) fn read_after_tick(folder: &Path) -> Result<Self, IoError> {
        let begun = Instant::now();
        let probe = || {
            let clock_ns = read_filesystem_clock_ns(folder)?;
            Ok::<_, IoError>((clock_ns, to_nanoseconds(begun.elapsed())))
        };
        let (first_ns, read_ns) = probe()?;
        let mut probes = ClockProbes::new(first_ns, read_ns);
        // A busy machine sees a tick of milliseconds late. Without a known tick, a write up to the longest tick before
        // the begin would count as a later write.
        while !probes.are_enough() && begun.elapsed() < LONGEST_TICK {
            std::thread::sleep(Duration::from_millis(1));
            let (clock_ns, read_ns) = probe()?;
            probes.add(clock_ns, read_ns);
        }
        Ok(Self {
            clock_ns: first_ns - i64::from(probes.tick.is_none()),
            begun,
            probes,
        })
    }

    /// Moves the begin back to `earlier`, or up to a tick before it.
    pub(super) fn move_back(&mut self, earlier: Instant) {
        let before = self.begun.saturating_duration_since(earlier);
        self.probes.offset -= to_nanoseconds(before);
        self.begun = earlier;
        self.clock_ns = self.probes.first_value();
    }

    /// Returns the begin by the clock of the file system of `folder`, or an earlier time. `own` is the folder of the
    /// journal.
    pub(super) fn read_clock_ns_on(&self, folder: &Path, own: &Path) -> Result<i64, IoError> {
        if space::is_same_file_system(folder, own) {
            return Ok(self.clock_ns);
        }
        let mut begin = Self::read_after_tick(folder)?;
        begin.move_back(self.begun);
        Ok(begin.clock_ns)
    }

    /// Fails if the clock of the file system was set back since the begin, because the times of writes then prove
    /// nothing.
    pub(super) fn check_clock(&self, folder: &Path) -> Result<(), IoError> {
        let passed = self.begun.elapsed();
        // A tick may take 2 s, and the system may slow the clock down to correct it.
        let tolerated = Duration::from_secs(3) + passed / 1000;
        let expected = to_nanoseconds(passed.saturating_sub(tolerated));
        if read_filesystem_clock_ns(folder)? < self.clock_ns.saturating_add(expected) {
            let why = "the clock was set back during the command";
            return Err(std::io::Error::other(why)).at("compare times in", folder);
        }
        Ok(())
    }
}

fn to_nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Returns true if the file was written after `since_ns`. Both its mtime and its ctime must be later, because a
/// program can set an mtime in the future.
pub(super) fn is_written_since(meta: &Metadata, since_ns: i64) -> bool {
    modified_ns(meta) > since_ns && changed_ns(meta) > since_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    #[test]
    fn delayed_probes_move_the_begin_time_by_at_most_a_tick() {
        // A clock with ticks of 4 ms that is 1,000 ms ahead. The machine delays three of the probes.
        let clock = |at_ms: i64| (1_001 + at_ms / 4 * 4) * MILLISECOND;
        for delays in [[0, 0, 0, 0], [80, 0, 90, 300], [0, 200, 500, 1]] {
            let mut now_ms = delays[0];
            let mut probes = ClockProbes::new(clock(0), now_ms * MILLISECOND);
            for delay in &delays[1..] {
                let read = clock(now_ms + 5);
                now_ms += 5 + delay;
                probes.add(read, now_ms * MILLISECOND);
            }
            let least = clock(0) - 17 * MILLISECOND;
            let first = probes.first_value();
            assert!((least..=clock(0)).contains(&first), "{delays:?} {first}");
        }
    }
}
