//! Reads the `cooldown.json` of the Python codex-manager (3.0 to 23.x).
//!
//! It is an object keyed by email, with values `{reset_at, session_start_at, is_expired,
//! quota_percent_left, plan_type, updated_at, …}`, and `{email, updated_at}` under
//! `_active_account`. If the Python tool could not ask Codex, it wrote a reset seven days ahead and no
//! `quota_percent_left`. Such a reset is invented and is ignored.

use super::cooldown::CooldownFile;
use crate::codex::{Identity, Window};
use crate::io::{Timestamp, Zone};
use crate::quota::{LoginState, Observation, QuotaSource};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};
use std::path::Path;

/// The key of the active account, which is no email.
const ACTIVE_ACCOUNT_KEY: &str = "_active_account";

/// Parses the document of the Python tool; returns `None` for any other document. Leaves out entries and figures that
/// cannot be read, each with a warning. Checks which accounts have an archive below `manager_home`, without opening
/// archives.
pub(crate) fn parse_python_cooldown(
    bytes: &[u8],
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Option<(CooldownFile, Vec<String>)> {
    let Ok(Value::Object(entries)) = serde_json::from_slice(bytes) else {
        return None;
    };

    // The document of the Python tool has no `schema`, and its keys are emails.
    let is_python_key = |key: &String| key == ACTIVE_ACCOUNT_KEY || key.contains('@');
    let has_python_keys = entries.is_empty() || entries.keys().any(is_python_key);
    if entries.contains_key("schema") || !has_python_keys {
        return None;
    }

    let mut file = CooldownFile::default();
    let mut warnings = Vec::new();
    for (email, entry_value) in entries.iter().filter(|(key, _)| *key != ACTIVE_ACCOUNT_KEY) {
        match entry_value {
            Value::Object(entry) if !email.is_empty() => {
                warnings.extend(add_account_entry(&mut file, email, entry, now, zone));
                file.record_archived_account(
                    &Identity::from_email(email),
                    has_archive(manager_home, email),
                );
            }
            _ => warnings.push(format!(
                "ignored in cooldown.json: the entry of {email:?} is not an account"
            )),
        }
    }

    if let Some(active) = entries.get(ACTIVE_ACCOUNT_KEY).and_then(Value::as_object) {
        let email = active.get("email").and_then(Value::as_str).unwrap_or("");
        if !email.is_empty()
            && let Some(at) = parse_isoformat(active, "updated_at", zone)
        {
            // A time in the future is from a wrong clock.
            file.record_use(&Identity::from_email(email), at.min(zone.at(now)));
        }
    }

    Some((file, warnings))
}

/// Adds the account of an entry with its plan, login and quota. Returns a warning if the quota cannot be read.
fn add_account_entry(
    cooldown: &mut CooldownFile,
    email: &str,
    fields: &Map<String, Value>,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Option<String> {
    let identity = Identity::from_email(email);
    let entry = cooldown.entry(&identity);
    entry.plan = fields
        .get("plan_type")
        .and_then(Value::as_str)
        .filter(|plan| !plan.is_empty() && *plan != "unknown")
        .map(Into::into);

    if fields.get("is_expired").and_then(Value::as_bool) == Some(true) {
        entry.login = LoginState::Expired;
    }

    // Without a percentage, the reset is invented; see the module documentation.
    let percent_left = fields.get("quota_percent_left").filter(|p| !p.is_null())?;
    let percent_left = percent_left.as_f64().filter(|p| (0.0..=100.0).contains(p));

    match (percent_left, parse_isoformat(fields, "updated_at", zone)) {
        (Some(percent_left), Some(observed_at)) => {
            let weekly = Window::new_weekly(
                100.0 - percent_left,
                parse_isoformat(fields, "reset_at", zone),
            );
            // A time in the future, from a wrong clock, would make later observations look older.
            let observed_at = observed_at.min(zone.at(now));
            let observation = Observation::new(QuotaSource::Python, observed_at, vec![weekly]);
            cooldown.entry(&identity).add_observation(observation);
            None
        }
        _ => Some(format!(
            "ignored in cooldown.json: the quota of {email:?} cannot be read"
        )),
    }
}

/// Parses a time in the format of Python's `isoformat`. Without an offset it is local time.
fn parse_isoformat(fields: &Map<String, Value>, key: &str, zone: Zone) -> Option<Timestamp> {
    let text = fields.get(key)?.as_str()?;
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(zone.at(&at));
    }
    let local: NaiveDateTime = text.parse().ok()?;
    let (first, _second) = zone.resolve_local(local);
    Some(first)
}

fn has_archive(manager_home: &Path, email: &str) -> bool {
    // The email becomes part of a path, which must not lead out of the folder.
    if email.contains(['/', '\\']) || email.starts_with('.') {
        return false;
    }
    let backups = manager_home.join("backups");
    let auth_archive = backups.join("auth").join(email).join("latest.tar.gz");
    let full_archive = backups.join(format!("{email}-latest-codex.tar.gz"));
    auth_archive.is_file() || full_archive.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::state::{AccountState, compute_verdict};

    fn read(text: &str) -> Option<(CooldownFile, Vec<String>)> {
        let now = DateTime::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap();
        parse_python_cooldown(
            text.as_bytes(),
            Path::new("/nonexistent"),
            &now.to_utc(),
            Zone::UTC,
        )
    }

    #[test]
    fn an_imported_quota_is_an_observation_and_the_active_account_was_used() {
        let (file, warnings) = read(
            r#"{"a@x.com":{"reset_at":"2026-11-24T15:55:00+05:30","quota_percent_left":40,
                "updated_at":"2026-11-20T06:04:59.688102+00:00","plan_type":"plus"},
              "_active_account":{"email":"A@x.com","updated_at":"2026-11-20T06:04:59.689845+00:00"}}"#,
        )
        .unwrap();
        assert_eq!((file.accounts.len(), warnings.len()), (1, 0));
        let entry = &file.accounts[0];
        let observation = entry.observation.as_ref().unwrap();
        assert!((observation.windows[0].used_percent - 60.0).abs() < 1e-9);
        assert_eq!(observation.source, QuotaSource::Python);
        assert_eq!(entry.plan.as_deref(), Some("plus"));
        assert!(entry.last_used_at.unwrap() > observation.observed_at);
    }

    #[test]
    fn the_reset_of_a_failed_status_check_is_no_cooldown() {
        let (file, _) = read(
            r#"{"a@x.com":{"reset_at":"2026-11-27T12:00:00+00:00","quota_percent_left":null,
                "quota_text":"Status check failed: RuntimeError","updated_at":"2026-11-20T12:00:00+00:00"}}"#,
        )
        .unwrap();
        let now = DateTime::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap();
        assert_eq!(
            compute_verdict(&file.accounts[0], &now.to_utc()).state,
            AccountState::Unknown
        );
    }

    #[test]
    fn is_expired_is_imported_as_an_expired_login() {
        let (file, _) = read(r#"{"a@x.com":{"is_expired":true}}"#).unwrap();
        assert_eq!(file.accounts[0].login, LoginState::Expired);
    }

    #[test]
    fn damaged_entries_are_ignored_with_a_warning() {
        let (file, warnings) = read(
            r#"{"a@x.com":5,"b@x.com":null,"c@x.com":{},"_active_account":7,
                "d@x.com":{"quota_percent_left":-5,"updated_at":"x"}}"#,
        )
        .unwrap();
        assert_eq!((file.accounts.len(), warnings.len()), (2, 3));
    }

    #[test]
    fn other_documents_are_rejected() {
        for text in [
            "[]",
            "null",
            "5",
            "",
            "{",
            r#"{"accounts":[]}"#,
            r#"{"schema":1,"a@x":{}}"#,
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(read("{}").is_some());
    }
}
