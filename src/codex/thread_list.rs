//! Counts the conversations that Codex itself lists in a home, by `codex app-server`. Codex 0.169 lists them
//! without a login and without contacting a server.

use super::program::Program;
use super::rpc::{AppServer, AppServerError};
use crate::io::environment::Environment;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// The origins of conversations that a user started.
const SOURCE_KINDS: [&str; 3] = ["cli", "vscode", "exec"];

/// Returns the number of conversations that Codex lists in `home`, archived ones included. Codex is ended if it does not
/// answer a request within `limit`. Without a state database it first indexes all rollouts.
///
/// # Errors
/// Codex gives no list, or the user interrupts.
pub(crate) fn count_conversations(
    program: &Program,
    home: &Path,
    env: &Environment,
    limit: Duration,
) -> Result<usize, AppServerError> {
    let mut server = AppServer::open(program, home, env, limit)?;
    let mut count = 0;
    for archived in [false, true] {
        let mut params = json!({
            "limit": 100,
            "archived": archived,
            "sourceKinds": SOURCE_KINDS,
            // Without the list, Codex omits conversations of other providers than the configured one.
            "modelProviders": [],
        });
        loop {
            let page = server.call("thread/list", &params, limit)?;
            count += page["data"].as_array().map_or(0, Vec::len);
            match page.get("nextCursor").filter(|cursor| cursor.is_string()) {
                Some(cursor) => params["cursor"] = cursor.clone(),
                None => break,
            }
        }
    }
    server.finish();
    Ok(count)
}
