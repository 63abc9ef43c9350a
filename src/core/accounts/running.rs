//! The account of a running Codex: the one that was live when the process started.
//!
//! Codex 0.169 reads auth.json once, at its start. The start time of the process is
//! therefore compared with the last replacement of auth.json and with the recorded switches.
//! Sign-ins before the first recorded switch are unknown.

use super::profile::ProfileError;
use super::switch::{self, SwitchRecord};
use crate::codex::{AUTH_JSON, AuthFile, Identity};
use crate::io::changed_ns;
use chrono::{DateTime, TimeDelta, Utc};
use std::path::Path;

/// Times closer than this count as simultaneous: process start times have a resolution of one
/// second.
const START_TIME_TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// The known history of live accounts in one Codex home.
#[derive(Debug, Clone, Default)]
pub struct AccountHistory {
    /// The account that is signed in now.
    live: Option<Identity>,
    /// The time when the current auth.json was put in place.
    replaced_at: Option<DateTime<Utc>>,
    last_switch: Option<SwitchRecord>,
}

impl AccountHistory {
    /// Reads the history of `codex_home`, with `live` as the content of its auth.json.
    ///
    /// # Errors
    /// The record of the last switch is unreadable or was written by a newer version.
    pub fn read(
        manager_home: &Path,
        codex_home: &Path,
        live: &AuthFile,
    ) -> Result<Self, ProfileError> {
        // Follows a link, as Codex does.
        let auth_meta = codex_home.join(AUTH_JSON).metadata().ok();
        Ok(Self {
            live: live.login().map(|login| login.identity.clone()),
            // The ctime, because a program can set the mtime of a file to an old time.
            replaced_at: auth_meta.map(|meta| DateTime::from_timestamp_nanos(changed_ns(&meta))),
            last_switch: switch::read_last_switch(manager_home, codex_home)?,
        })
    }

    /// Returns the account of a Codex that started at `start`; `None` if unknown. Reads no files.
    pub fn account_at(&self, start: &DateTime<Utc>) -> Option<&Identity> {
        let live = self.live.as_ref()?;
        let started_after = |time: DateTime<Utc>| *start > time + START_TIME_TOLERANCE;
        let started_before = |time: DateTime<Utc>| *start < time - START_TIME_TOLERANCE;

        // auth.json has not changed since Codex started.
        if self.replaced_at.is_some_and(started_after) {
            return Some(live);
        }

        let switch = self.last_switch.as_ref()?;
        // If the live account is not the one of the last switch, the user has signed in with `codex login` after it.
        if !switch.current.as_ref()?.is_same(live) {
            return None;
        }

        let switched_at = switch.at?.to_utc();
        if started_after(switched_at) {
            // auth.json was replaced after this start, but only by renewals of the same account.
            return Some(live);
        }

        // Before the last switch only the previous account is known, back to the switch before it.
        let earlier_switch = switch.before.map(|time| time.to_utc());
        if started_before(switched_at) && earlier_switch.is_none_or(started_after) {
            return switch.previous.as_ref();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    fn who(start: i64, replaced: i64, switched: Option<(i64, Option<i64>)>) -> Option<String> {
        let accounts = AccountHistory {
            live: Some(Identity::from_email("new@x.com")),
            replaced_at: Some(at(replaced)),
            last_switch: switched.map(|(minute, before)| SwitchRecord {
                previous: Some(Identity::from_email("old@x.com")),
                current: Some(Identity::from_email("new@x.com")),
                at: Some(at(minute).fixed_offset()),
                before: before.map(|minute| at(minute).fixed_offset()),
            }),
        };
        accounts.account_at(&at(start)).map(ToString::to_string)
    }

    #[test]
    fn a_codex_keeps_the_account_that_was_live_when_it_was_started() {
        let (new, old) = (Some("new@x.com".to_owned()), Some("old@x.com".to_owned()));
        assert_eq!(who(10, 5, None), new, "the file is the same since");
        assert_eq!(who(3, 5, None), None, "signed in, or renewed, in between");
        assert_eq!(who(3, 5, Some((5, None))), old, "switched in between");
        assert_eq!(who(3, 5, Some((2, None))), new, "only renewed in between");
        assert_eq!(who(3, 5, Some((5, Some(1)))), old);
        assert_eq!(who(3, 5, Some((5, Some(4)))), None, "before two switches");
        assert_eq!(who(5, 5, Some((5, None))), None, "in the very moment");
        let mut other = AccountHistory {
            live: Some(Identity::from_email("third@x.com")),
            replaced_at: Some(at(9)),
            last_switch: None,
        };
        assert_eq!(other.account_at(&at(3)), None);
        other.live = None;
        assert_eq!(other.account_at(&at(99)), None);
    }
}
