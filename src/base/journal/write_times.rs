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
pub fn wait_for_next_tick(folder: &Path) -> Instant {
    // The time of the last change of the folder shows the unit of the clock.
    let meta = folder.symlink_metadata();
    std::thread::sleep(meta.map_or(USUAL_TICK, |meta| longest_tick(changed_ns(&meta))));
    Instant::now()
}

/// Returns a duration that is longer than a tick of the clock that showed `time_ns`.
fn longest_tick(time_ns: i64) -> Duration {
    // FAT and exFAT have no fractions of seconds.
    if time_ns % 1_000_000_000 == 0 {
        LONGEST_TICK
    } else {
        USUAL_TICK
    }
}

/// Longer than a tick of Linux (1 to 10 ms) and of Windows (16 ms).
const USUAL_TICK: Duration = Duration::from_millis(20);

/// Longer than a tick of any known file system (FAT: 2 s).
const LONGEST_TICK: Duration = Duration::from_millis(2_050);

/// The time at which a transaction began.
#[derive(Debug)]
pub(super) struct BeginTime {
    /// The begin by the clock of the file system with the journal, in nanoseconds since 1970. Writes after the begin
    /// have later times, writes before it do not.
    pub(super) clock_ns: i64,
    begun_at: Instant,
    /// The value of the clock at `begun_at`, or less than a tick before. A busy machine delays a probe, which makes
    /// the result of this probe too early, so the latest of several results counts.
    clock_at_begin_ns: i64,
}

impl BeginTime {
    /// Reads the clock of the file system of `folder`, and waits for its next tick, because a write in the same tick
    /// has the same time. The wait is a few milliseconds; on FAT and exFAT up to two seconds.
    pub(super) fn read_after_tick(folder: &Path) -> Result<Self, IoError> {
        let begun_at = Instant::now();
        let clock_ns = read_filesystem_clock_ns(folder)?;
        let mut begin_time = Self::start(begun_at, clock_ns, begun_at.elapsed());

        let mut has_ticked = false;
        while !has_ticked && begun_at.elapsed() < LONGEST_TICK {
            std::thread::sleep(Duration::from_millis(1));
            let later_ns = read_filesystem_clock_ns(folder)?;
            begin_time.add_probe(later_ns, begun_at.elapsed());
            has_ticked = later_ns != clock_ns;
        }

        if !has_ticked {
            // A later write may have the same time as the begin, and must count as late.
            begin_time.clock_ns -= 1;
        }
        Ok(begin_time)
    }

    /// Starts with a value of the file system's clock, and the time from `begun_at` until after it was read.
    fn start(begun_at: Instant, clock_ns: i64, elapsed: Duration) -> Self {
        Self {
            clock_ns,
            begun_at,
            clock_at_begin_ns: clock_ns - to_nanoseconds(elapsed),
        }
    }

    fn add_probe(&mut self, clock_ns: i64, elapsed: Duration) {
        let clock_at_begin_ns = clock_ns - to_nanoseconds(elapsed);
        self.clock_at_begin_ns = self.clock_at_begin_ns.max(clock_at_begin_ns);
    }

    /// Moves the begin back to `earlier`, or up to a tick before it.
    pub(super) fn move_back(&mut self, earlier: Instant) {
        let moved_by = self.begun_at.saturating_duration_since(earlier);
        let tick = longest_tick(self.clock_ns);
        self.clock_at_begin_ns -= to_nanoseconds(moved_by);
        self.clock_ns = self.clock_at_begin_ns - to_nanoseconds(tick);
        self.begun_at = earlier;
    }

    /// Returns the begin in nanoseconds since 1970, by the clock of the file system of `folder`. The result may be too
    /// early, never too late. `journal` is the folder of the journal.
    pub(super) fn read_begin_ns_on(&self, folder: &Path, journal: &Path) -> Result<i64, IoError> {
        if space::is_same_file_system(folder, journal) {
            return Ok(self.clock_ns);
        }
        let mut begin_time = Self::read_after_tick(folder)?;
        begin_time.move_back(self.begun_at);
        Ok(begin_time.clock_ns)
    }

    /// Fails if the clock of the file system was set back since the begin, because the times of writes then prove
    /// nothing.
    pub(super) fn refuse_clock_set_back(&self, folder: &Path) -> Result<(), IoError> {
        let elapsed = self.begun_at.elapsed();
        // A tick may take 2 s, and the system may slow the clock down to correct it.
        let tolerance = Duration::from_secs(3) + elapsed / 1000;
        let expected_ns = to_nanoseconds(elapsed.saturating_sub(tolerance));
        if read_filesystem_clock_ns(folder)? < self.clock_ns.saturating_add(expected_ns) {
            let reason = "the clock was set back during the command";
            return Err(std::io::Error::other(reason)).at("compare times in", folder);
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
        let clock = |at_ms: u64| (1_001 + i64::try_from(at_ms / 4 * 4).unwrap()) * MILLISECOND + 1;
        for delays in [[0, 0, 0, 0], [80, 0, 90, 300], [0, 200, 500, 1]] {
            let begun_at = Instant::now();
            let mut now_ms = delays[0];
            let mut begin_time =
                BeginTime::start(begun_at, clock(0), Duration::from_millis(now_ms));
            for delay in &delays[1..] {
                let read = clock(now_ms + 5);
                now_ms += 5 + delay;
                begin_time.add_probe(read, Duration::from_millis(now_ms));
            }
            begin_time.move_back(begun_at);
            let least = clock(0) - 25 * MILLISECOND;
            let first = begin_time.clock_ns;
            assert!((least..=clock(0)).contains(&first), "{delays:?} {first}");
        }
    }
}
