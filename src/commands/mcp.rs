//! `mcp`: lets agents search and read past conversations.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::mcp;
use clap::Args;

/// Let agents search and read past conversations
///
/// A server of the Model Context Protocol on stdin and stdout, which Codex and other clients start: `codex-manager hook
/// mcp` prints how to add it. It has three tools, which only read: `search_conversations`, `open_conversation` and
/// `list_conversations`; --json describes them and ends. Secrets in their answers are replaced by `[redacted]`, as in
/// exports.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex mcp add codex-manager -- codex-manager mcp")]
pub(crate) struct McpArgs {}

impl McpArgs {
    /// # Errors
    /// The server was started at a terminal instead of by a client.
    #[allow(clippy::unused_self, reason = "each command is run by its arguments")]
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        if context.ui.wants_json() {
            context.ui.document("mcp", &mcp::describe_tools());
            return Ok(Outcome::Done);
        }
        if context.ui.is_interactive() {
            let error = CommandError::usage("mcp is started by a client, which sends requests");
            return Err(error.hint("add it to Codex: codex-manager hook mcp"));
        }
        mcp::serve(context);
        Ok(Outcome::Done)
    }
}
