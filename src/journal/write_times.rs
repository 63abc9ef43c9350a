//! The times of writes, by the clock of the file system that they were made on.

use crate::io::disk_clock::{changed_ns, filesystem_clock_ns, modified_ns};
use crate::io::{IoContext, IoError, space};
use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, Instant};

/// Waits for the next tick of the clock of `folder`'s file system, then returns the time for
/// [`Transaction::count_writes_since`]. All earlier writes, such as those of a recovery, have an earlier time.
///
/// [`Transaction::count_writes_since`]: super::transaction::Transaction::count_writes_since
pub(crate) fn next_tick(folder: &Path) -> Instant {
    let meta = folder.symlink_metadata();
    std::thread::sleep(match meta {
        Ok(meta) if has_whole_seconds(changed_ns(&meta)) => LONGEST_TICK,
        // Longer than a tick of Linux, 1 to 10 ms.
        _ => Duration::from_millis(12),
    });
    Instant::now()
}

/// Returns true for a time of a file system without fractions of seconds, such as FAT and exFAT.
fn has_whole_seconds(time_ns: i64) -> bool {
    time_ns % 1_000_000_000 == 0
}

/// The time at which a transaction began.
#[derive(Debug)]
pub(super) struct BeginTime {
    /// By the clock of the file system with the journal, in nanoseconds since 1970. Later writes there have later
    /// times, earlier ones have none that is later.
    pub(super) clock_ns: i64,
    begun: Instant,
    /// A moment at which the clock changed, with its new value.
    ticked: (Instant, i64),
    tick_ns: i64,
}

/// Longer than a tick of any known file system (FAT: 2 s).
const LONGEST_TICK: Duration = Duration::from_millis(2_050);

impl BeginTime {
    /// Notes the time in `folder`. Waits for the next tick of the clock, a few milliseconds, because a write in the
    /// same tick has the same time. On FAT and exFAT that takes up to two seconds.
    pub(super) fn note(folder: &Path) -> Result<Self, IoError> {
        let first_ns = filesystem_clock_ns(folder)?;
        let longest_wait = if has_whole_seconds(first_ns) {
            LONGEST_TICK
        } else {
            Duration::from_millis(20)
        };
        let begun = Instant::now();
        let mut ticked = (begun, first_ns);
        while ticked.1 <= first_ns && begun.elapsed() < longest_wait {
            std::thread::sleep(Duration::from_millis(1));
            ticked = (Instant::now(), filesystem_clock_ns(folder)?);
        }
        let is_short = ticked.1 > first_ns;
        Ok(Self {
            clock_ns: first_ns - i64::from(!is_short),
            begun,
            ticked,
            tick_ns: if is_short {
                ticked.1 - first_ns
            } else {
                nanoseconds_of(LONGEST_TICK)
            },
        })
    }

    /// Moves the time back to `earlier`, or by up to a tick more.
    pub(super) fn move_back(&mut self, earlier: Instant) {
        let (at, clock_ns) = self.ticked;
        let passed = at.saturating_duration_since(earlier);
        self.clock_ns = clock_ns - nanoseconds_of(passed) - self.tick_ns;
        self.begun = earlier;
    }

    /// Returns the same time by the clock of the file system of `folder`, or an earlier one. `own` is the folder
    /// of the journal.
    pub(super) fn clock_ns_on(&self, folder: &Path, own: &Path) -> Result<i64, IoError> {
        if space::same_file_system(folder, own) {
            return Ok(self.clock_ns);
        }
        let mut there = Self::note(folder)?;
        there.move_back(self.begun);
        Ok(there.clock_ns)
    }

    /// Fails if the clock of the file system was set back since, because then the times of writes show nothing.
    pub(super) fn check_clock(&self, folder: &Path) -> Result<(), IoError> {
        let passed = self.begun.elapsed();
        // For ticks of seconds, and for clocks that are slowed down.
        let tolerated = Duration::from_secs(3) + passed / 1000;
        let expected = nanoseconds_of(passed.saturating_sub(tolerated));
        if filesystem_clock_ns(folder)? < self.clock_ns.saturating_add(expected) {
            let why = "the clock was set back during the command";
            return Err(std::io::Error::other(why)).at("compare times in", folder);
        }
        Ok(())
    }
}

fn nanoseconds_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Returns true if the file was written after `since_ns`. Needs both times, because a program can
/// set an mtime in the future.
pub(super) fn is_written_since(meta: &Metadata, since_ns: i64) -> bool {
    modified_ns(meta) > since_ns && changed_ns(meta) > since_ns
}
