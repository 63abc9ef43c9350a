//! Parses the answer to `accountSession/list`: the workspaces of a login.

use crate::codex::auth::text_field;
use serde::Serialize;
use serde_json::Value;

/// A workspace of a login, in JSON. Its keys are an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginWorkspace {
    pub account_id: String,
    pub name: Option<String>,
    /// "personal", "workspace", or a kind that is unknown to this program.
    pub kind: Option<String>,
    /// True for the workspace that the login uses.
    pub active: bool,
}

/// Returns the workspaces of the active login; empty if no login is active. Codex Desktop can have several logins.
pub fn parse_workspaces(result: &Value) -> Vec<LoginWorkspace> {
    let mut sessions = result["sessions"].as_array().into_iter().flatten();
    let Some(session) = sessions.find(|session| session["isActive"] == true) else {
        return Vec::new();
    };

    let selected_id = text_field(session, "selectedWorkspaceAccountId");
    let rows = session["workspaces"].as_array().into_iter().flatten();
    let rows = rows.filter_map(|row| {
        let account_id = text_field(row, "accountId")?;
        Some(LoginWorkspace {
            active: selected_id.as_ref() == Some(&account_id),
            account_id,
            name: text_field(row, "name"),
            kind: text_field(row, "kind"),
        })
    });
    rows.collect()
}
