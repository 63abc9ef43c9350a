//! Steps that several commands share: the checks before a change, starting and ending Codex, making and restoring
//! archives and snapshots.
//!
//! - before the home changes: [`home_checks`], [`shutdown`], [`before_new_codex`]
//! - a backup: [`capture_args`], [`backup_plan`]; a snapshot: [`new_snapshot`]
//! - a restore: [`restore_options`]; the check of one archive: [`archive_check`]; conversations of a snapshot:
//!   [`snapshot_source`]
//! - after a restore: [`replaced_messages`]; after a restore or a sync: [`earlier_turns`]
//! - switching and starting: [`best_login`], [`switch_account`], [`wait`], [`start_codex`], [`launch_list`]
//! - sync: [`sync_context`], [`sync_checks`], [`sync_shutdown`]; through the vault: [`vault_sync`]
//! - accounts: [`account_screen`], [`recommend_template`]; figures: [`refresh`], [`price_file`]
//! - files: [`new_file`], [`run_log`]; programs: [`run_program`], [`this_program`]

pub(crate) mod account_screen;
pub(crate) mod archive_check;
pub(crate) mod backup_plan;
pub(crate) mod before_new_codex;
pub(crate) mod best_login;
pub(crate) mod capture_args;
pub(crate) mod earlier_turns;
pub(crate) mod home_checks;
pub(crate) mod launch_list;
pub(crate) mod new_file;
pub(crate) mod new_snapshot;
pub(crate) mod price_file;
pub(crate) mod recommend_template;
pub(crate) mod refresh;
pub(crate) mod replaced_messages;
pub(crate) mod restore_options;
pub(crate) mod run_log;
pub(crate) mod run_program;
pub(crate) mod shutdown;
pub(crate) mod snapshot_source;
pub(crate) mod start_codex;
pub(crate) mod switch_account;
pub(crate) mod sync_checks;
pub(crate) mod sync_context;
pub(crate) mod sync_shutdown;
pub(crate) mod this_program;
pub(crate) mod vault_sync;
pub(crate) mod wait;
