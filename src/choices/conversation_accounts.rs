//! The accounts of conversations, for display.

use crate::choices::listed::list_threads_as;
use crate::context::Context;
use crate::error::Result;
use codex_manager_core::accounts::Profile;
use codex_manager_core::codex::{AuthFile, Identity, ListedThread, ThreadFilter, read_login};
use codex_manager_core::launch::record::LaunchRecord;
use codex_manager_core::launch::registry::{LaunchRegistry, Launches};
use std::collections::HashMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConversationAccount {
    pub profile: Option<String>,
    pub email: Option<String>,
}

/// Finds the accounts of conversations: the account of the newest launch, else the account that created the
/// conversation.
pub(crate) struct ConversationAccounts {
    launches: Launches,
    /// The accounts of all launched conversations by id. `None` if each conversation is looked up in `launches`.
    accounts_by_id: Option<HashMap<String, ConversationAccount>>,
    profiles: Vec<Profile>,
    live_identity: Option<Identity>,
}

impl ConversationAccounts {
    /// Reads the launch registry, the profiles and the live login.
    ///
    /// # Errors
    /// The launch registry or the profiles cannot be read.
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let launches = LaunchRegistry::of(context.manager_home()).read()?;
        let profiles = context.profiles().list()?;

        // An unreadable login only hides the email of its account.
        let live_auth = read_login(context.codex_home()).ok();
        let live_login = live_auth.as_ref().and_then(AuthFile::login);

        Ok(Self {
            launches,
            accounts_by_id: None,
            profiles,
            live_identity: live_login.map(|login| login.identity.clone()),
        })
    }

    /// Reads all launches at once, for a list of all conversations.
    ///
    /// # Errors
    /// The launch registry or the profiles cannot be read.
    pub(crate) fn read_all(context: &Context) -> Result<Self> {
        let mut accounts = Self::read(context)?;
        let mut accounts_by_id = HashMap::new();
        for record in accounts.launches.newest_first() {
            let account = accounts.account_of_launch(&record);
            for conversation in record.binding.conversations {
                // The newest launch of a conversation decides.
                let entry = accounts_by_id.entry(conversation.session_id);
                entry.or_insert_with(|| account.clone());
            }
        }

        accounts.accounts_by_id = Some(accounts_by_id);
        Ok(accounts)
    }

    /// Returns the account of a conversation; empty if it is unknown.
    pub(crate) fn find(&self, thread: &ListedThread) -> ConversationAccount {
        let launched_account = match &self.accounts_by_id {
            Some(accounts_by_id) => accounts_by_id.get(&thread.id).cloned(),
            None if self.launches.is_empty() => None,
            None => {
                let record = self.launches.find_by_session(&thread.id);
                record.map(|record| self.account_of_launch(&record))
            }
        };
        if let Some(account) = launched_account {
            return account;
        }

        // Codex up to 0.150 does not record the account of a conversation.
        if thread.account_id.is_empty() {
            return ConversationAccount::default();
        }

        // If the profile or the conversation has no user id, the account id alone decides.
        let is_creator = |identity: &Identity| {
            let user_id = identity.user_id.as_deref();
            identity.account_id.as_deref() == Some(&*thread.account_id)
                && (thread.user_id.is_empty() || user_id.is_none_or(|id| id == thread.user_id))
        };
        let is_of_creator = |profile: &&Profile| profile.identity().is_some_and(is_creator);
        let profile = self.profiles.iter().find(is_of_creator);
        let profile_identity = profile.and_then(Profile::identity);
        let live_identity = self.live_identity.as_ref().filter(|live| is_creator(live));
        let identity = profile_identity.or(live_identity);

        ConversationAccount {
            profile: profile.map(|profile| profile.name.clone()),
            email: identity.map(|identity| identity.email.to_string()),
        }
    }

    /// Returns the accounts of the conversations in Codex's list that pass `filter`, by their ids in lower case.
    ///
    /// # Errors
    /// Codex's list of conversations cannot be read.
    pub(crate) fn find_all<M: Default + FromIterator<(String, ConversationAccount)>>(
        &self,
        filter: &ThreadFilter,
        context: &Context,
    ) -> Result<M> {
        list_threads_as(filter, context, |thread| {
            (thread.id.to_lowercase(), self.find(&thread))
        })
    }

    fn account_of_launch(&self, record: &LaunchRecord) -> ConversationAccount {
        let profile = record.current_profile(&self.profiles);
        ConversationAccount {
            profile: profile.map(str::to_owned),
            email: Some(record.identity.email.to_string()),
        }
    }
}
