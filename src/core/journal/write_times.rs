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
    let meta = folder.symlink_metadata();
    std::thread::sleep(match meta {
        // The time of the last change of the folder shows the unit of the clock.
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
    first_clock: i64,
    last_clock: i64,
    /// The largest measured difference between the file system's clock and the monotonic clock. A busy machine delays
    /// a probe, which makes the measured difference too small.
    offset_ns: i64,
    /// The shortest time between two values.
    tick_ns: Option<i64>,
}

impl ClockProbes {
    /// Starts with a value of the file system's clock, and the monotonic time after it was read.
    fn start(clock_ns: i64, monotonic_ns: i64) -> Self {
        Self {
            first_clock: clock_ns,
            last_clock: clock_ns,
            offset_ns: clock_ns - monotonic_ns,
            tick_ns: None,
        }
    }

    fn add_probe(&mut self, clock_ns: i64, monotonic_ns: i64) {
        self.offset_ns = self.offset_ns.max(clock_ns - monotonic_ns);
        if clock_ns > self.last_clock {
            let step_ns = clock_ns - self.last_clock;
            self.tick_ns = Some(
                self.tick_ns
                    .map_or(step_ns, |shortest| shortest.min(step_ns)),
            );
        }
        self.last_clock = clock_ns;
    }

    /// Returns true if the tick is known. A measured tick that is too long for the file system may only show that the
    /// machine was busy; then another probe is needed.
    fn is_tick_known(&self) -> bool {
        let longest_ns = to_nanoseconds(LINUX_TICK);
        let is_short = |tick_ns| tick_ns <= longest_ns || has_whole_seconds(self.first_clock);
        self.tick_ns.is_some_and(is_short)
    }

    /// Returns the value of the file system's clock at the monotonic time 0, or up to a tick less.
    fn clock_ns_at_start(&self) -> i64 {
        let longest_ns = to_nanoseconds(LONGEST_TICK);
        // A clock of whole seconds may tick every two seconds, whatever was measured.
        let tick_ns = self
            .tick_ns
            .filter(|_| !has_whole_seconds(self.first_clock));
        let tick_ns = tick_ns.map_or(longest_ns, |ns| ns.max(to_nanoseconds(LINUX_TICK)));
        self.offset_ns - tick_ns
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

        let (first_clock_ns, monotonic_ns) = probe()?;
        let mut probes = ClockProbes::start(first_clock_ns, monotonic_ns);

        // A busy machine sees a tick of milliseconds late. Without a known tick, a write up to the longest tick before
        // the begin would count as a later write.
        while !probes.is_tick_known() && begun.elapsed() < LONGEST_TICK {
            std::thread::sleep(Duration::from_millis(1));
            let (clock_ns, monotonic_ns) = probe()?;
            probes.add_probe(clock_ns, monotonic_ns);
        }

        Ok(Self {
            // A write in the same tick as the begin must count as later if the end of the tick was not seen.
            clock_ns: first_clock_ns - i64::from(probes.tick_ns.is_none()),
            begun,
            probes,
        })
    }

    /// Moves the begin back to `earlier`, or up to a tick before it.
    pub(super) fn move_back(&mut self, earlier: Instant) {
        let moved_by = self.begun.saturating_duration_since(earlier);
        // The monotonic times of the probes count from `begun`, which moves too.
        self.probes.offset_ns -= to_nanoseconds(moved_by);
        self.begun = earlier;
        self.clock_ns = self.probes.clock_ns_at_start();
    }

    /// Returns the begin in nanoseconds since 1970, by the clock of the file system of `folder`. The result may be too
    /// early, never too late. `journal` is the folder of the journal.
    pub(super) fn read_begin_ns_on(&self, folder: &Path, journal: &Path) -> Result<i64, IoError> {
        if space::is_same_file_system(folder, journal) {
            return Ok(self.clock_ns);
        }
        let mut begin = Self::read_after_tick(folder)?;
        begin.move_back(self.begun);
        Ok(begin.clock_ns)
    }

    /// Fails if the clock of the file system was set back since the begin, because the times of writes then prove
    /// nothing.
    pub(super) fn refuse_clock_set_back(&self, folder: &Path) -> Result<(), IoError> {
        let elapsed = self.begun.elapsed();
        // A tick may take 2 s, and the system may slow the clock down to correct it.
        let tolerance = Duration::from_secs(3) + elapsed / 1000;
        let expected_ns = to_nanoseconds(elapsed.saturating_sub(tolerance));
        if read_filesystem_clock_ns(folder)? < self.clock_ns.saturating_add(expected_ns) {
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
            let mut probes = ClockProbes::start(clock(0), now_ms * MILLISECOND);
            for delay in &delays[1..] {
                let read = clock(now_ms + 5);
                now_ms += 5 + delay;
                probes.add_probe(read, now_ms * MILLISECOND);
            }
            let least = clock(0) - 17 * MILLISECOND;
            let first = probes.clock_ns_at_start();
            assert!((least..=clock(0)).contains(&first), "{delays:?} {first}");
        }
    }
}
