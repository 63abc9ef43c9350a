//! Names of accounts that tell accounts with the same email apart.

use crate::codex::identity::Identity;
use crate::quota::account::AccountEntry;
use crate::views::account::printable;

/// The number of characters of a workspace id that are shown.
const ID_CHARS: usize = 8;

/// The emails of accounts; one that several share is followed by the profile, else the workspace.
#[derive(Debug)]
pub(crate) struct AccountNames(Vec<AccountEntry>);

impl AccountNames {
    /// Collects the accounts that are listed together.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a AccountEntry>) -> Self {
        Self(entries.into_iter().cloned().collect())
    }

    /// Returns the name of an account in a list that has its profile in a column of its own.
    pub(crate) fn of_account(&self, entry: &AccountEntry) -> String {
        let email = printable(entry.identity.email.as_str());
        match &entry.profile {
            Some(_) => email,
            None => self.name(&entry.identity),
        }
    }

    /// Returns the name of an account in a list that has nothing else of it.
    pub(crate) fn name(&self, identity: &Identity) -> String {
        let email = printable(identity.email.as_str());
        let is_shared = |known: &&AccountEntry| {
            known.identity.email.key() == identity.email.key() && !known.identity.is_same(identity)
        };
        if self.0.iter().find(is_shared).is_none() {
            return email;
        }
        let known = self.0.iter().find(|e| e.identity.is_same(identity));
        let profile = known.and_then(|known| known.profile.as_deref());
        let id = identity.account_id.as_deref().unwrap_or("no workspace");
        let short = || id.chars().take(ID_CHARS).collect::<String>();
        let suffix = profile.map_or_else(short, str::to_owned);
        format!("{email} ({})", printable(&suffix))
    }
}
