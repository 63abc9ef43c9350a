//! Finds the account that a text denotes: a profile name, an email, or an unambiguous prefix of
//! one.

use crate::archive::metadata::Metadata;
use crate::codex::identity::Identity;
use crate::inventory::records::ArchiveRecord;
use crate::quota::account::{Account, AccountEntry};
use std::collections::HashSet;

/// The text does not denote exactly one account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountResolveError {
    #[error("no account or profile named {text:?}")]
    Unknown {
        text: String,
        /// All known accounts, sorted.
        choices: Vec<String>,
    },
    #[error("{text:?} matches {} accounts", choices.len())]
    Ambiguous { text: String, choices: Vec<String> },
}

/// Returns the index in `accounts` of the account that `text` denotes, without regard to case: a
/// whole profile name first, then a whole email, then a prefix of either.
pub fn find_account_position<'a>(
    accounts: impl IntoIterator<Item = &'a AccountEntry>,
    text: &str,
) -> Result<usize, AccountResolveError> {
    let accounts: Vec<_> = accounts.into_iter().collect();
    let lower_text = text.trim().to_lowercase();
    let lower_profile = |e: &AccountEntry| e.profile.as_ref().map(|name| name.to_lowercase());

    // A later condition counts only if no account fulfils an earlier one.
    let matchers: [&dyn Fn(&AccountEntry) -> bool; 3] = [
        &|e| lower_profile(e).is_some_and(|name| name == lower_text),
        &|e| e.identity.email.key() == lower_text,
        &|e| {
            e.identity.email.key().starts_with(&lower_text)
                || lower_profile(e).is_some_and(|name| name.starts_with(&lower_text))
        },
    ];

    let mut matching: Vec<usize> = Vec::new();
    for matches in matchers {
        // An empty text denotes no account, although every name begins with it.
        if matching.is_empty() && !lower_text.is_empty() {
            matching.extend((0..accounts.len()).filter(|i| matches(accounts[*i])));
        }
    }

    let format_choices = |entries: &[&AccountEntry]| {
        let names = entries.iter().map(|e| format_choice(e, &accounts));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let text = text.to_owned();
    match matching.as_slice() {
        [index] => Ok(*index),
        [] => {
            let choices = format_choices(&accounts);
            Err(AccountResolveError::Unknown { text, choices })
        }
        indexes => {
            let entries: Vec<_> = indexes.iter().map(|i| accounts[*i]).collect();
            let choices = format_choices(&entries);
            Err(AccountResolveError::Ambiguous { text, choices })
        }
    }
}

/// Formats an account for a list of choices: `PROFILE (EMAIL)`. Without a profile: `EMAIL`, or `EMAIL (workspace ID)`
/// if other accounts have the same email.
fn format_choice(entry: &AccountEntry, accounts: &[&AccountEntry]) -> String {
    let email = &entry.identity.email;
    let same_email = accounts
        .iter()
        .filter(|other| other.identity.email.key() == email.key());
    match (&entry.profile, &entry.identity.account_id) {
        (Some(profile), _) => format!("{profile} ({email})"),
        (None, Some(account)) if same_email.count() > 1 => format!("{email} (workspace {account})"),
        (None, _) => email.to_string(),
    }
}

/// Returns the known accounts, followed by the `others` that are not among them.
pub fn merge_entries<'a>(
    accounts: impl IntoIterator<Item = &'a Account>,
    others: impl IntoIterator<Item = Identity>,
) -> Vec<AccountEntry> {
    let known_entries = accounts.into_iter().map(|account| account.entry.clone());
    let mut entries: Vec<_> = known_entries.collect();
    for identity in others {
        if !entries.iter().any(|e| e.identity.is_same(&identity)) {
            entries.push(AccountEntry::new(identity));
        }
    }
    entries
}

/// Returns the known accounts, followed by the accounts that only archives have.
pub fn merge_archived_accounts<'r>(
    accounts: impl IntoIterator<Item = &'r Account>,
    records: impl IntoIterator<Item = &'r ArchiveRecord>,
) -> Vec<AccountEntry> {
    let mut known_fields = HashSet::new();
    let metadata = records.into_iter().map(|record| &record.metadata);
    let distinct = metadata.filter(|metadata| known_fields.insert(identity_fields(metadata)));
    merge_entries(accounts, distinct.filter_map(Metadata::identity))
}

/// Returns the fields from which [`Metadata::identity`] is made, to compare many records without copies.
fn identity_fields(metadata: &Metadata) -> [Option<&str>; 3] {
    [&metadata.email, &metadata.account_id, &metadata.user_id].map(|field| field.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::identity::Identity;

    fn accounts() -> Vec<AccountEntry> {
        let entry = |email: &str, profile: Option<&str>| AccountEntry {
            profile: profile.map(Into::into),
            ..AccountEntry::new(Identity::from_email(email))
        };
        vec![
            entry("Alice@example.com", Some("work")),
            entry("alice.b@example.com", None),
            entry("bob@example.com", Some("workshop")),
            entry("bob@example.com", Some("home")),
        ]
    }

    fn resolved(text: &str) -> Result<usize, Vec<String>> {
        find_account_position(&accounts(), text).map_err(|e| match e {
            AccountResolveError::Unknown { choices, .. }
            | AccountResolveError::Ambiguous { choices, .. } => choices,
        })
    }

    #[test]
    fn whole_names_take_precedence_over_prefixes_and_case_is_ignored() {
        assert_eq!(resolved("WORK"), Ok(0));
        assert_eq!(resolved("alice@EXAMPLE.com"), Ok(0));
        assert_eq!(resolved("alice."), Ok(1));
        assert_eq!(resolved("works"), Ok(2));
        assert_eq!(resolved("h"), Ok(3));
    }

    #[test]
    fn an_ambiguous_name_lists_the_matches_and_an_unknown_one_all_accounts() {
        assert_eq!(
            resolved("bob@example.com"),
            Err(vec![
                "home (bob@example.com)".into(),
                "workshop (bob@example.com)".into()
            ])
        );
        assert_eq!(resolved("unknown").unwrap_err().len(), 4);
        assert_eq!(resolved("").unwrap_err().len(), 4);
    }
}
