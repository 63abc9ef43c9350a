//! Waits until an account is available, for `launch --wait` and `resume --wait`.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::refresh;
use crate::views::account::{full_time, label, read_accounts_and_profiles};
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::codex::Identity;
use codex_manager_core::io::{Timestamp, progress};
use codex_manager_core::quota::account::find_by_identity;
use codex_manager_core::quota::state::{self, AccountState};
use std::time::Duration;

/// The interval at which the clock is read. A single long sleep would end too late, because its timer stops while the
/// machine is suspended.
const CLOCK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The extra time to wait after a reset, because the server may reset a little after the second that it names.
const RESET_MARGIN: TimeDelta = TimeDelta::seconds(3);

/// Asks Codex for the figures of an account, and waits until the account is available. Asks again after each wait,
/// because the reset may have moved. Ctrl-C ends the process.
///
/// # Errors
/// The end of the account's cooldown is unknown, or the figures cannot be read or recorded.
pub(crate) fn wait_for_account(account: &Identity, context: &Context) -> Result<()> {
    loop {
        refresh::refresh_accounts(Some(account), context)?;
        let Some(until) = find_available_time(account, context)? else {
            return Ok(());
        };
        wait_until(until, context);
    }
}

/// Returns the time at which an account is available again, by the recorded figures and holds; `None` if the account is
/// not known or available.
///
/// # Errors
/// The end is unknown, or the figures cannot be read.
pub(crate) fn find_available_time(
    account: &Identity,
    context: &Context,
) -> Result<Option<Timestamp>> {
    let (accounts, _) = read_accounts_and_profiles(context)?;
    let Some(known) = find_by_identity(&accounts, account) else {
        return Ok(None);
    };

    let verdict = state::compute_verdict(&known.entry, &context.now());
    match (verdict.state, verdict.next_available_at) {
        (AccountState::Cooldown, None) => {
            let message = format!("{} is in cooldown, and its end is unknown", label(known));
            Err(CommandError::refused(message)
                .hint("look at its windows: codex-manager status; nothing was changed"))
        }
        (_, until) => Ok(until),
    }
}

/// Waits until the clock shows `until` and [`RESET_MARGIN`] more, with a countdown on a terminal.
pub(crate) fn wait_until(until: Timestamp, context: &Context) {
    // An earlier Codex of this command handled the signals of the terminal. Now Ctrl-C has to end the wait.
    progress::take_back_signals();

    let countdown = context.ui.countdown();
    if countdown.is_hidden() {
        let at = full_time(&until, context);
        context.note(format_args!("waiting until the account is available: {at}"));
    }

    let pause = |duration| {
        let at = full_time(&until, context);
        countdown.set_message(format!("waiting until the account is available: {at}"));
        countdown.tick();
        std::thread::sleep(duration);
    };
    poll_clock(until + RESET_MARGIN, &|| context.now(), pause);
}

/// Calls `pause`, for at most [`CLOCK_POLL_INTERVAL`] each time, until the clock shows `until`.
fn poll_clock(
    until: Timestamp,
    clock: &dyn Fn() -> DateTime<Utc>,
    mut pause: impl FnMut(Duration),
) {
    while let Ok(remaining) = until.signed_duration_since(clock()).to_std()
        && !remaining.is_zero()
    {
        pause(remaining.min(CLOCK_POLL_INTERVAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Waits from 12:00 to 17:00 with a clock that advances during each pause. Returns the pauses.
    fn pauses(advance: impl Fn(usize, Duration) -> Duration) -> (DateTime<Utc>, Vec<Duration>) {
        let now = Cell::new(at("2026-11-20T12:00:00Z"));
        let until = at("2026-11-20T17:00:00Z").fixed_offset();
        let mut pauses = Vec::new();
        poll_clock(until, &|| now.get(), |pause| {
            pauses.push(pause);
            now.set(now.get() + advance(pauses.len(), pause));
        });
        (now.get(), pauses)
    }

    #[test]
    fn the_wait_ends_at_the_reset() {
        let (end, pauses) = pauses(|_, pause| pause);
        assert_eq!(end, at("2026-11-20T17:00:00Z"));
        assert_eq!(pauses.len(), 5 * 60 * 60);
    }

    #[test]
    fn a_suspended_machine_starts_at_once_when_it_wakes_up_after_the_reset() {
        let hours = Duration::from_secs(9 * 60 * 60);
        let (end, pauses) = pauses(|n, pause| if n == 3 { hours } else { pause });
        assert_eq!(pauses.len(), 3);
        assert_eq!(end, at("2026-11-20T21:00:02Z"));
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_the_wait() {
        let (_, pauses) = pauses(|n, pause| if n == 1 { Duration::ZERO } else { pause });
        assert_eq!(pauses.len(), 5 * 60 * 60 + 1);
    }

    #[test]
    fn a_reset_that_has_passed_needs_no_pause() {
        let now = at("2026-11-20T12:00:00Z");
        poll_clock(now.fixed_offset(), &|| now, |_| panic!("paused"));
    }
}
