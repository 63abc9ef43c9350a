//! The accounts of conversations, for display.

use crate::accounts::profile::{Profile, Profiles};
use crate::codex::config::read_login;
use crate::codex::identity::Identity;
use crate::codex::thread_query::ListedThread;
use crate::context::Context;
use crate::error::CommandError;
use crate::launch::registry::{LaunchRegistry, Launches};

/// The account of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct ConversationAccount {
    /// The name of its profile.
    pub profile: Option<String>,
    /// The email of the account.
    pub email: Option<String>,
}

/// Finds the accounts of conversations: that of the newest launch, else the creator.
pub(in crate::commands) struct ConversationAccounts {
    launches: Launches,
    /// The known accounts with the names of their profiles.
    known: Vec<(Identity, Option<String>)>,
}

impl ConversationAccounts {
    /// # Errors
    /// The launch registry or the profiles cannot be read.
    pub(in crate::commands) fn read(context: &Context) -> Result<Self, CommandError> {
        let settings = &context.settings;
        let launches = LaunchRegistry::of(&settings.manager_home).read()?;
        let profiles = Profiles::of(&settings.manager_home).list()?;
        let of_profile = |profile: &Profile| {
            let identity = profile.identity()?.clone();
            Some((identity, Some(profile.name.clone())))
        };
        let mut known: Vec<_> = profiles.iter().filter_map(of_profile).collect();
        // An unreadable login only hides the email of its account.
        if let Ok(live) = read_login(&settings.codex_home)
            && let Some(login) = live.login()
        {
            known.push((login.identity.clone(), None));
        }
        Ok(Self { launches, known })
    }

    /// Returns the account of a conversation; empty if it is unknown.
    pub(in crate::commands) fn of(&self, thread: &ListedThread) -> ConversationAccount {
        if !self.launches.is_empty()
            && let Some(record) = self.launches.of_session(&thread.id)
        {
            return ConversationAccount {
                profile: Some(record.profile),
                email: Some(record.identity.email.to_string()),
            };
        }
        if thread.account_id.is_empty() {
            return ConversationAccount::default();
        }
        let is_creator = |identity: &Identity| {
            let user = identity.user_id.as_deref();
            identity.account_id.as_deref() == Some(&*thread.account_id)
                && (thread.user_id.is_empty() || user.is_none_or(|user| user == thread.user_id))
        };
        let known = self.known.iter().find(|(identity, _)| is_creator(identity));
        let Some((identity, profile)) = known else {
            return ConversationAccount::default();
        };
        ConversationAccount {
            profile: profile.clone(),
            email: Some(identity.email.to_string()),
        }
    }
}
