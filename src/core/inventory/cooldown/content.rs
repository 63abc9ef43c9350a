//! The content of `cooldown.json`.

use crate::accounts::{LoginOwner, Profile};
use crate::archive::Metadata;
use crate::codex::Identity;
use crate::inventory::records::{ArchiveRecord, InventoryFile, implies_quota_end};
use crate::io::{Document, Timestamp};
use crate::quota::{AccountEntry, LoginState, Observation, QuotaSource, legacy};
use serde::{Deserialize, Serialize};

/// The content of `cooldown.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CooldownFile {
    /// The entries, in no particular order.
    pub accounts: Vec<AccountEntry>,
}

impl Document for CooldownFile {}

impl CooldownFile {
    /// Returns the entry of `identity`, creating it if needed. An entry that lacks ids adopts the ids
    /// of `identity` if it is the only match.
    pub fn entry(&mut self, identity: &Identity) -> &mut AccountEntry {
        let position = self.find_position(identity).unwrap_or_else(|| {
            self.accounts.push(AccountEntry::new(identity.clone()));
            self.accounts.len() - 1
        });

        let entry = &mut self.accounts[position];
        if identity.is_known() && !entry.identity.is_known() {
            entry.identity = identity.clone();
        }

        let entry_identity = &mut entry.identity;
        for (stored_id, given_id) in [
            (&mut entry_identity.account_id, &identity.account_id),
            (&mut entry_identity.user_id, &identity.user_id),
        ] {
            if stored_id.is_none() {
                stored_id.clone_from(given_id);
            }
        }
        entry
    }

    /// Returns the entry of `identity`: one with ids if `identity` has ids, or one with only an email if it has none.
    /// Without such an entry, returns the only other entry of the account; `None` if there are several.
    pub fn find(&self, identity: &Identity) -> Option<&AccountEntry> {
        self.find_position(identity).map(|i| &self.accounts[i])
    }

    fn find_position(&self, identity: &Identity) -> Option<usize> {
        let has_same_precision = |e: &AccountEntry| {
            e.identity.is_known() == identity.is_known() && e.identity.is_same(identity)
        };
        if let Some(i) = self.accounts.iter().position(has_same_precision) {
            return Some(i);
        }

        let is_same = |i: &usize| self.accounts[*i].identity.is_same(identity);
        let mut same_account = (0..self.accounts.len()).filter(is_same);
        match (same_account.next(), same_account.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    pub fn record_use(&mut self, identity: &Identity, at: Timestamp) {
        let entry = self.entry(identity);
        if entry.last_used_at.is_none_or(|known| at > known) {
            entry.last_used_at = Some(at);
        }
    }

    /// Records the account of an archive or a legacy file. `has_login` is true if that file exists and holds a login of
    /// the account. A more precise state of the login, such as expired, stays.
    pub(crate) fn record_archived_account(&mut self, identity: &Identity, has_login: bool) {
        let entry = self.entry(identity);
        entry.archived |= has_login;
        entry.login = match (entry.login, has_login) {
            (LoginState::None | LoginState::Unknown, true) => LoginState::Archived,
            (LoginState::Unknown, false) => LoginState::None,
            (known, _) => known,
        };
    }

    /// Records a profile, its plan and the state of its login. Ignores a profile whose account is unknown.
    pub(crate) fn record_profile(&mut self, profile: &Profile) {
        let Some(identity) = profile.identity() else {
            return;
        };

        let entry = self.entry(identity);
        entry.profile = Some(profile.name.clone());
        if profile.file.plan.is_some() {
            entry.plan.clone_from(&profile.file.plan);
        }

        let expired_since = entry.refused_or_observed_at();
        let newest = profile.newest();
        // Without a time of renewal, this is false.
        let was_renewed_later = newest.renewed_at() > expired_since.map(|at| at.to_utc());
        let is_valid_again = was_renewed_later || entry.is_newer_than_refused(&newest);
        entry.login = match (profile.file.owner, entry.login) {
            _ if profile.damaged.is_some() => LoginState::Unknown,
            (LoginOwner::Moved, _) => LoginState::Moved,
            // auth.json is missing, holds no login or a login of another account, or a newer version wrote it.
            _ if profile.login().is_none() && entry.archived => LoginState::Archived,
            _ if profile.login().is_none() => LoginState::Unknown,
            // The login stays expired unless it is newer than the refused login, or was renewed after the refusal.
            (_, LoginState::Expired) if !is_valid_again => LoginState::Expired,
            (LoginOwner::Live | LoginOwner::Profile | LoginOwner::Probe, _) => LoginState::Ok,
        };
    }

    /// Records all profiles, and removes the names of profiles that no longer exist.
    pub fn set_profiles(&mut self, profiles: &[Profile]) {
        for entry in &mut self.accounts {
            let is_gone = |name: &String| profiles.iter().all(|p| p.name != *name);
            if entry.profile.as_ref().is_some_and(is_gone) {
                entry.profile = None;
            }
        }
        for profile in profiles {
            self.record_profile(profile);
        }
    }

    /// Records the accounts, logins and quotas that the records of legacy files and archives show.
    pub fn record_inventory(&mut self, inventory: &InventoryFile) {
        for record in &inventory.legacy {
            let metadata = &record.metadata;
            let Some(identity) = metadata.identity() else {
                continue;
            };
            self.record_archived_account(&identity, record.problem.is_none());
            self.record_legacy_quota_end(&identity, metadata);
        }
        for record in &inventory.archives {
            self.record_archive(record);
        }
    }

    /// Records the quota end that a legacy file implies.
    fn record_legacy_quota_end(&mut self, identity: &Identity, metadata: &Metadata) {
        if let (Some(ended_at), Some(available_at)) =
            (metadata.quota_end_detected_at, metadata.next_available_at)
            && implies_quota_end(metadata)
        {
            let observation = legacy::exhausted_observation(ended_at, available_at);
            self.entry(identity).add_observation(observation);
        }
    }

    fn record_archive(&mut self, record: &ArchiveRecord) {
        let metadata = &record.metadata;
        let Some(identity) = metadata.identity() else {
            return;
        };

        let has_archive = record.archive.is_some();
        self.record_archived_account(&identity, has_archive && metadata.captures_login());
        // The record is of a legacy file: not made when the account was in use, and with windows that are inferred from
        // the end of the quota.
        if metadata.legacy_auth_filename.is_some() {
            return self.record_legacy_quota_end(&identity, metadata);
        }

        if !metadata.windows.is_empty() {
            let observed_at = metadata.windows_observed_at.unwrap_or(metadata.created_at);
            let windows = metadata.windows.clone();
            let observation = Observation::new(QuotaSource::Archive, observed_at, windows);
            self.entry(&identity).add_observation(observation);
        }

        if has_archive {
            // The home was signed in to the account when it was backed up.
            self.record_use(&identity, metadata.created_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap()
    }

    #[test]
    fn an_account_known_by_email_adopts_the_ids_of_its_login() {
        let mut file = CooldownFile::default();
        file.record_use(&Identity::from_email("A@x.com"), at("2026-11-20T10:00:00Z"));
        let known = Identity {
            account_id: Some("acct".into()),
            ..Identity::from_email("a@x.com")
        };
        file.record_use(&known, at("2026-11-19T10:00:00Z"));
        assert_eq!(file.accounts.len(), 1);
        assert_eq!(
            file.accounts[0].identity.account_id.as_deref(),
            Some("acct")
        );
        assert_eq!(
            file.accounts[0].last_used_at,
            Some(at("2026-11-20T10:00:00Z"))
        );
    }

    #[test]
    fn a_login_in_an_archive_does_not_replace_a_better_state() {
        let id = Identity::from_email("a@x.com");
        let mut file = CooldownFile::default();
        file.record_archived_account(&id, false);
        assert_eq!(file.entry(&id).login, LoginState::None);
        file.record_archived_account(&id, true);
        file.record_archived_account(&id, false);
        assert_eq!(file.entry(&id).login, LoginState::Archived);
        file.entry(&id).login = LoginState::Moved;
        file.record_archived_account(&id, true);
        assert_eq!(file.entry(&id).login, LoginState::Moved);
    }

    #[test]
    fn a_missing_id_is_filled_in_once_it_is_known() {
        let whole = Identity {
            account_id: Some("acct".into()),
            user_id: Some("user".into()),
            ..Identity::from_email("a@x.com")
        };
        for missing in [
            Identity {
                user_id: None,
                ..whole.clone()
            },
            Identity {
                account_id: None,
                ..whole.clone()
            },
        ] {
            let mut file = CooldownFile::default();
            file.entry(&missing);
            assert_eq!(file.entry(&whole).identity, whole);
            assert_eq!(file.entry(&missing).identity, whole);
            assert_eq!(file.accounts.len(), 1);
        }
    }
}
