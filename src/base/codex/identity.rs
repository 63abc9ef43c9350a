//! The identity of an account: ids, email, kind of login.

use crate::io::hash;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An email in its original spelling. Comparison ignores letter case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Stores the text without checking it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the lower-case form for comparing and sorting.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        // Emails in the same spelling need no copies in lower case.
        self.0 == other.0 || self.key() == other.key()
    }
}

impl Eq for Email {}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of login of an account. These are the kinds of Codex 0.169.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginKind {
    /// A ChatGPT login whose id token names the account: has quota windows.
    #[default]
    Chatgpt,
    /// An API key: billed by use, has no windows.
    ApiKey,
    /// A personal access token (`codex login --with-access-token`).
    AccessToken,
    /// The key of an agent (`agent_identity`).
    Agent,
    /// An API key of Amazon Bedrock: billed by use, has no windows.
    BedrockKey,
    /// A ChatGPT login whose id token names no account or cannot be decoded.
    UndecodedToken,
}

impl LoginKind {
    /// All kinds without an email, each with the beginning of its labels.
    const LABELS: [(Self, &'static str); 5] = [
        (Self::ApiKey, "api-key-"),
        (Self::AccessToken, "access-token-"),
        (Self::Agent, "agent-"),
        (Self::BedrockKey, "bedrock-key-"),
        (Self::UndecodedToken, "undecoded-token-"),
    ];

    /// Returns the kind of the account with this label: an email, or a label made by [`Identity::from_secret`].
    pub(crate) fn from_label(label: &str) -> Self {
        let has_prefix = |(_, label_prefix): &&(Self, &str)| {
            // An email may begin with the same words.
            let digest = label.strip_prefix(label_prefix);
            digest.is_some_and(|digest| !digest.contains('@'))
        };
        let labelled_kind = Self::LABELS.iter().find(has_prefix);
        labelled_kind.map_or(Self::Chatgpt, |(kind, _)| *kind)
    }

    /// Returns true if the login is paid by use: it has no windows.
    pub fn is_billed_by_use(self) -> bool {
        matches!(self, Self::ApiKey | Self::BedrockKey)
    }

    /// Returns true if Codex renews the login, so that only its newest copy works. Other secrets work in
    /// any number of copies, and have no age.
    pub fn is_renewable(self) -> bool {
        matches!(self, Self::Chatgpt | Self::UndecodedToken)
    }

    /// Returns true if the login belongs to a ChatGPT account that auth.json does not name.
    pub fn hides_account(self) -> bool {
        matches!(self, Self::AccessToken | Self::Agent | Self::UndecodedToken)
    }
}

/// One account. Its identity is the pair (user id, workspace account id); the email is its label.
///
/// The ids are absent if only a file name names the account, and for all kinds but ChatGPT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The label: an email, or the kind and six hex digits, as in `api-key-0f3a99`.
    pub email: Email,
    /// The workspace account id (`chatgpt_account_id`). Shared by the members of a team.
    pub account_id: Option<String>,
    /// The user id (`chatgpt_user_id`).
    pub user_id: Option<String>,
    #[serde(default)]
    pub kind: LoginKind,
}

impl Identity {
    /// Creates the identity of an account of which only the email is known.
    pub fn from_email(email: impl Into<String>) -> Self {
        Self {
            email: Email::new(email),
            ..Self::default()
        }
    }

    /// Creates the identity of a login that only its secret distinguishes: the label has the kind and the first six hex
    /// digits of the SHA-256 of `secret`.
    pub(crate) fn from_secret(kind: LoginKind, secret: &[u8]) -> Self {
        let label = LoginKind::LABELS.iter().find(|(known, _)| *known == kind);
        let label_prefix = label.map_or("", |(_, prefix)| prefix);
        Self {
            kind,
            ..Self::from_email(format!("{label_prefix}{}", &hash::sha256(secret)[..6]))
        }
    }

    /// Returns true if an id is known, or the kind needs no id (all kinds except ChatGPT).
    pub fn is_known(&self) -> bool {
        self.kind != LoginKind::Chatgpt || self.account_id.is_some() || self.user_id.is_some()
    }

    /// Returns true if both are the same account, or if both are missing because the homes are signed out.
    pub fn is_same_or_none(a: Option<&Self>, b: Option<&Self>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        }
    }

    /// Returns true if both are the same account. ChatGPT accounts are compared by both ids. If an id is missing on one
    /// side, the emails have to be equal, and the other id must not differ. Other accounts are compared by kind and
    /// label.
    pub fn is_same(&self, other: &Self) -> bool {
        /// Returns `None` if a value is missing, so that this pair decides nothing.
        fn equal_if_known(a: Option<&String>, b: Option<&String>) -> Option<bool> {
            Some(a? == b?)
        }

        if self.kind != other.kind {
            return false;
        }
        if self.kind != LoginKind::Chatgpt {
            return self.email == other.email;
        }

        let equalities = [
            equal_if_known(self.account_id.as_ref(), other.account_id.as_ref()),
            equal_if_known(self.user_id.as_ref(), other.user_id.as_ref()),
        ];
        match equalities {
            // A user can have several workspaces, and a workspace several users.
            [Some(same_account), Some(same_user)] => same_account && same_user,
            [Some(false), _] | [_, Some(false)] => false,
            _ => self.email == other.email,
        }
    }

    /// Returns the workspace account id and the user id in one line each; an unknown id is an empty line.
    pub fn join_ids(&self) -> String {
        let [account_id, user_id] =
            [&self.account_id, &self.user_id].map(|id| id.as_deref().unwrap_or_default());
        format!("{account_id}\n{user_id}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.email.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(email: &str, account: Option<&str>, user: Option<&str>) -> Identity {
        Identity {
            account_id: account.map(Into::into),
            user_id: user.map(Into::into),
            ..Identity::from_email(email)
        }
    }

    #[test]
    fn ids_decide_even_if_the_emails_differ() {
        let a = account("a@x.com", Some("team"), Some("u1"));
        assert!(a.is_same(&account("other@x.com", Some("team"), Some("u1"))));
        assert!(
            !a.is_same(&account("a@x.com", Some("team"), Some("u2"))),
            "team members differ"
        );
        assert!(
            !a.is_same(&account("a@x.com", Some("personal"), Some("u1"))),
            "workspaces differ"
        );
    }

    #[test]
    fn a_label_has_the_kind_of_its_login() {
        for (kind, _) in LoginKind::LABELS {
            let identity = Identity::from_secret(kind, b"secret");
            assert_eq!(LoginKind::from_label(identity.email.as_str()), kind);
            assert!(identity.is_same(&Identity::from_secret(kind, b"secret")));
            assert!(!identity.is_same(&Identity::from_secret(kind, b"other")));
        }
        for email in ["a@x.com", "agent-smith@x.com", "agent"] {
            assert_eq!(LoginKind::from_label(email), LoginKind::Chatgpt, "{email}");
        }
    }

    #[test]
    fn emails_are_compared_without_case_if_ids_are_missing() {
        let a = account("User@X.com", None, None);
        assert!(a.is_same(&account("user@x.COM", Some("acct"), Some("u"))));
        assert!(!a.is_same(&account("other@x.com", Some("acct"), Some("u"))));
    }
}
