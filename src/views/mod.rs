//! Output of several commands: rows of lists with their table and JSON, and the words for accounts, archives and plans.
//! Views show data; they decide nothing.
//!
//! - accounts: [`account`], [`account_table`], [`account_list`], [`account_report`], [`folder_account`],
//!   [`conversation_usage`]
//! - archives: [`archive_json`], [`retention_table`], [`left_out`]
//! - a restore: [`restore_report`], [`conversation_changes`]; a sync: [`sync_plan`]; findings: [`check_output`]
//! - a conversation to read: [`transcript_text`], [`export_formatter`], [`conversation_parts`]
//! - drawings of HTML pages: [`page_charts`]
//! - tables and times: [`table_format`], [`timeline`], [`week_pace`], [`age`]; a dry run: [`dry_run`]

pub(crate) mod account;
pub(crate) mod account_list;
pub(crate) mod account_report;
pub(crate) mod account_table;
pub(crate) mod age;
pub(crate) mod archive_json;
pub(crate) mod check_output;
pub(crate) mod conversation_changes;
pub(crate) mod conversation_parts;
pub(crate) mod conversation_usage;
pub(crate) mod dry_run;
pub(crate) mod export_formatter;
pub(crate) mod folder_account;
pub(crate) mod left_out;
pub(crate) mod page_charts;
pub(crate) mod restore_report;
pub(crate) mod retention_table;
pub(crate) mod sync_plan;
pub(crate) mod table_format;
pub(crate) mod timeline;
pub(crate) mod transcript_text;
pub(crate) mod week_pace;
