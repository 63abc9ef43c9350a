//! Finds the account, the archive or the conversation that the user means. All commands use these modules.
//!
//! - an account: [`account_choice`]
//! - an archive: [`archive_choice`]; a snapshot and its vault: [`snapshot_choice`], [`vault_connection`]
//! - a conversation: [`conversation_choice`]; on the terminal: [`conversation_picker`]; its account:
//!   [`conversation_accounts`]
//! - the conversations of other machines: [`machines`]; the search index: [`index_access`]
//! - conversations by folder, account and time: [`selection_args`], from [`listed`]; a project: [`project_choice`]
//! - the rules of `prune`: [`retention_args`]; the configuration of sync: [`sync_config`]
//! - candidates of a shell's completion: [`candidates`], printed by [`shell_completers`]

pub(crate) mod account_choice;
pub(crate) mod archive_choice;
pub(crate) mod candidates;
pub(crate) mod conversation_accounts;
pub(crate) mod conversation_choice;
pub(crate) mod conversation_picker;
pub(crate) mod index_access;
pub(crate) mod listed;
pub(crate) mod machines;
pub(crate) mod project_choice;
pub(crate) mod retention_args;
pub(crate) mod selection_args;
pub(crate) mod shell_completers;
pub(crate) mod snapshot_choice;
pub(crate) mod sync_config;
pub(crate) mod vault_connection;
