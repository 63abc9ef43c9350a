//! The identity of an account: ids, email, kind of login.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An email in its original spelling. Comparison ignores letter case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Stores the text without checking it.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the original spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the lower-case form for comparing and sorting.
    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Email {}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of login of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginKind {
    /// A ChatGPT login: has quota windows.
    #[default]
    Chatgpt,
    /// An API key: billed by use, has no windows.
    ApiKey,
}

/// One account. Its identity is the pair (user id, workspace account id); the email is its label.
///
/// The ids are absent if only a file name names the account. The label of an API key is `api-key-` and
/// the first six hex digits of the SHA-256 of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The label: an email, or `api-key-…`.
    pub email: Email,
    /// The workspace account id (`chatgpt_account_id`). Shared by the members of a team.
    #[serde(default)]
    pub account_id: Option<String>,
    /// The user id (`chatgpt_user_id`).
    #[serde(default)]
    pub user_id: Option<String>,
    /// The kind of its login.
    #[serde(default)]
    pub kind: LoginKind,
}

impl Identity {
    /// Creates the identity of an account of which only the email is known.
    pub fn of_email(email: impl Into<String>) -> Self {
        Self {
            email: Email::new(email),
            account_id: None,
            user_id: None,
            kind: LoginKind::Chatgpt,
        }
    }

    /// Returns true if an id is known, or none is needed (API key).
    pub(crate) fn is_known(&self) -> bool {
        self.kind == LoginKind::ApiKey || self.account_id.is_some() || self.user_id.is_some()
    }

    /// Returns true if both are certainly the same account: both ids are equal. If an id is missing on
    /// one side, the other id and the email have to be equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn agree(a: Option<&String>, b: Option<&String>) -> Option<bool> {
            Some(a? == b?)
        }
        if self.kind != other.kind {
            return false;
        }
        if self.kind == LoginKind::ApiKey {
            return self.email == other.email;
        }
        let ids = [
            agree(self.account_id.as_ref(), other.account_id.as_ref()),
            agree(self.user_id.as_ref(), other.user_id.as_ref()),
        ];
        match ids {
            [Some(account), Some(user)] => account && user,
            [Some(false), _] | [_, Some(false)] => false,
            _ => self.email == other.email,
        }
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
            ..Identity::of_email(email)
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
    fn emails_are_compared_without_case_if_ids_are_missing() {
        let a = account("User@X.com", None, None);
        assert!(a.is_same(&account("user@x.COM", Some("acct"), Some("u"))));
        assert!(!a.is_same(&account("other@x.com", Some("acct"), Some("u"))));
    }
}
