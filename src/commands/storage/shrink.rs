//! `storage shrink` and `storage expand`: compress unused conversations, and the reverse.

use crate::choices::project_choice::find_all_project_folders;
use crate::commands::storage::report::{
    SizeSums, check_names_resolved, show_json, warn_of_unreadable,
};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::{refuse_during_restore, require_codex_home};
use crate::ui::{Cell, Column, Table, bytes};
use crate::views::dry_run::wording;
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::codex::rollout;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::io::{pluralize, shell};
use codex_manager_core::storage::Form;
use codex_manager_core::storage::shrink::{
    self, ShrinkAction, ShrinkFilter, ShrinkItem, ShrinkPlan,
};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time limit for `codex --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest number of projects, and of skipped conversations, that are shown without --verbose.
const MAX_SHOWN: usize = 8;

// `storage` reports as reclaimable what `shrink` frees without options. So the defaults below must be the same.
const _: () = assert!(shrink::DEFAULT_DAYS == 14 && shrink::DEFAULT_MIN_BYTES == 16_000);

/// Compress unused conversations
///
/// A conversation becomes a `.jsonl.zst` file, which Codex lists, reads and resumes like a plain
/// one. A resumed conversation becomes plain again. The compressed file is compared with the plain
/// one before the plain one is removed. Conversations that Codex has open are skipped.
/// `codex-manager storage expand` is the exact reverse.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage shrink --dry-run
  codex-manager storage shrink
  codex-manager storage shrink --older-than 3d --min-size 1MB
  codex-manager storage shrink --project ~/code/site --max-time 10m")]
pub(super) struct ShrinkArgs {
    /// Only conversations that are unchanged for this long: 14d, 12h
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = parse_duration)]
    older_than: TimeDelta,
    /// Only files of at least this size: 64kB, 1MB
    #[arg(long, value_name = "SIZE", default_value = "16kB", value_parser = parse_size)]
    min_size: u64,
    #[command(flatten)]
    scope: ScopeArgs,
}

/// Make compressed conversations plain again
///
/// Codex does this by itself when it resumes a conversation.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage expand --dry-run
  codex-manager storage expand
  codex-manager storage expand --session 01a1f78b")]
pub(super) struct ExpandArgs {
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// Only conversations that work in this folder or below it, or in the project with this name; repeatable
    #[arg(long, value_name = "DIR|NAME")]
    project: Vec<PathBuf>,
    /// Only this conversation, whatever its age and size: id, title, or the beginning of either; repeatable
    #[arg(long, value_name = "SESSION")]
    session: Vec<String>,
    /// Begin no further conversation after this time: 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_time: Option<TimeDelta>,
    /// Show what would be done, and estimate the sizes from a sample
    #[arg(short = 'n', long)]
    dry_run: bool,
}

const COLUMNS: [Column; 4] = [
    Column::new("PROJECT").shorten_middle(12),
    Column::new("CONVERSATIONS").number().rank(1),
    Column::new("BEFORE").number(),
    Column::new("AFTER").number(),
];

impl ShrinkArgs {
    /// Compresses the conversations.
    ///
    /// # Errors
    /// An option is invalid, or the installed Codex does not read compressed conversations; nothing is changed then. Or
    /// the user interrupts: conversations that were compressed stay compressed.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let filter = ShrinkFilter {
            older_than: self.older_than,
            min_bytes: self.min_size,
            ..self.scope.base_filter(Form::Compressed, context)?
        };
        require_codex_home(context)?;
        check_codex_reads_compressed(context)?;
        self.scope.convert(context, &filter, "storage shrink")
    }
}

impl ExpandArgs {
    /// Makes the conversations plain.
    ///
    /// # Errors
    /// An option is invalid; nothing is changed then. Or the user interrupts: conversations that were expanded stay so.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let filter = self.scope.base_filter(Form::Plain, context)?;
        require_codex_home(context)?;
        self.scope.convert(context, &filter, "storage expand")
    }
}

impl ScopeArgs {
    /// Returns a filter of conversations of any age and size.
    fn base_filter(&self, to: Form, context: &Context) -> Result<ShrinkFilter> {
        Ok(ShrinkFilter {
            to,
            older_than: TimeDelta::zero(),
            min_bytes: 0,
            projects: find_all_project_folders(&self.project, context)?,
            sessions: self.session.clone(),
        })
    }

    /// Converts the conversations that `filter` selects, or in a dry run estimates their sizes.
    fn convert(&self, context: &Context, filter: &ShrinkFilter, command: &str) -> Result<Outcome> {
        let home = context.codex_home();
        // The parser accepts no negative duration, so the conversion succeeds.
        let deadline = self
            .max_time
            .map(|limit| Instant::now() + limit.to_std().unwrap_or_default());

        let state_database = context.state_database();
        let mut plan = ShrinkPlan::read(home, state_database.as_deref(), filter, context.now());
        warn_of_unreadable(context, &plan.unreadable);
        check_names_resolved(&plan.names)?;

        let is_complete = if self.dry_run {
            plan.estimate_sizes();
            true
        } else {
            refuse_during_restore(context)?;

            let action = match filter.to {
                Form::Compressed => "compressing",
                Form::Plain => "expanding",
            };
            let bar = context.ui.bar(action, plan.bytes_to_convert());
            // Skips a conversation that Codex has open: Codex 0.169 would write the next turn to the removed file.
            plan.apply(home, deadline, &bar)
        };

        self.print_summary(context, filter.to, &plan.items);
        let sums = sum_converted_sizes(&plan.items);
        show_json(command, &plan.items, sums, self.dry_run, context);

        if !is_complete {
            return Err(CommandError::interrupted());
        }
        // A skipped conversation, such as one in use, counts as a failure only if the user named it.
        let is_named = !filter.sessions.is_empty();
        let has_failed = |item: &ShrinkItem| match item.action {
            ShrinkAction::Fail => true,
            ShrinkAction::Skip => is_named,
            ShrinkAction::Compress | ShrinkAction::Expand => false,
        };
        let is_partial = !plan.unreadable.is_empty() || plan.items.iter().any(has_failed);
        Ok(Outcome::partial_if(is_partial))
    }

    fn print_summary(&self, context: &Context, to: Form, items: &[ShrinkItem]) {
        let ui = &context.ui;
        let (infinitive, participle) = match to {
            Form::Compressed => ("compress", "compressed"),
            Form::Plain => ("expand", "expanded"),
        };
        show_projects(context, items);
        show_skipped(context, items);

        let converted_items = items.iter().filter(|item| item.action.converts());
        let converted: HashSet<_> = converted_items.map(|item| &item.session_id).collect();
        if converted.is_empty() {
            ui.line(format_args!("no conversations to {infinitive}"));
            return;
        }

        let sums = sum_converted_sizes(items);
        let (would_be, about) = wording(self.dry_run, ("would be ", "about "), ("", ""));
        ui.prose(format_args!(
            "{} {would_be}{participle}: {} → {about}{}",
            pluralize(converted.len(), "conversation"),
            bytes(sums.before_bytes),
            bytes(sums.after_bytes),
        ));

        if !self.dry_run && to == Form::Compressed {
            ui.note(format_args!(
                "undo with: codex-manager storage expand{}",
                self.format_selection()
            ));
        }
    }

    /// Returns the options that select the same conversations, each with a space before it.
    fn format_selection(&self) -> String {
        let projects = self.project.iter();
        let projects = projects.map(|p| ("project", p.to_string_lossy()));
        let sessions = self.session.iter().map(|s| ("session", Cow::from(s)));
        let options = projects
            .chain(sessions)
            .map(|(name, value)| format!(" --{name} {}", shell::quote_if_needed(&value)));
        options.collect::<Vec<_>>().concat()
    }
}

/// Returns the sizes of the converted rollouts before and after.
fn sum_converted_sizes(items: &[ShrinkItem]) -> SizeSums {
    let converted_items = items.iter().filter(|item| item.action.converts());
    SizeSums {
        before_bytes: converted_items.clone().map(|item| item.before_bytes).sum(),
        after_bytes: converted_items.map(|item| item.after_bytes).sum(),
    }
}

fn show_projects(context: &Context, items: &[ShrinkItem]) {
    let ui = &context.ui;
    let projects = shrink::sum_by_project(items);
    if projects.is_empty() {
        return;
    }

    let shown_count = ui.limit_items(projects.len(), MAX_SHOWN);
    let rows = projects.iter().take(shown_count).map(|(name, sum)| {
        [
            Cell::plain(name),
            Cell::plain(sum.conversations.to_string()),
            Cell::bytes(sum.before_bytes),
            Cell::bytes(sum.after_bytes),
        ]
    });

    Table::with_rows(ui, COLUMNS, rows).print(ui);
    ui.print_hidden_count(projects.len() - shown_count);
}

fn show_skipped(context: &Context, items: &[ShrinkItem]) {
    let ui = &context.ui;
    // A rewound conversation has several rollouts, so only its first reason is printed.
    let mut seen_ids = HashSet::new();
    let skipped: Vec<_> = items
        .iter()
        .filter_map(|item| Some((&item.session_id, item.reason.as_deref()?)))
        .filter(|(session_id, _)| seen_ids.insert(*session_id))
        .collect();

    let shown_count = ui.limit_items(skipped.len(), MAX_SHOWN);
    for (session_id, reason) in skipped.iter().take(shown_count) {
        ui.warn(format_args!("skipped {session_id}: {reason}"));
    }
    let hidden_count = skipped.len() - shown_count;
    if hidden_count > 0 {
        ui.warn(format_args!("… {hidden_count} more: --verbose"));
    }
}

/// Fails if the installed Codex does not read compressed conversations.
fn check_codex_reads_compressed(context: &Context) -> Result<()> {
    let (major, minor) = rollout::FIRST_VERSION_WITH_ZST;
    let advice = format!("install Codex {major}.{minor} or newer: npm install -g @openai/codex");
    let program = context.find_codex().map_err(|e| {
        CommandError::refused("no Codex is installed that reads compressed conversations")
            .because(e)
            .hint(&advice)
    })?;

    let version = program.version(&context.env, VERSION_TIMEOUT);
    match version.as_deref() {
        Some(version) if rollout::supports_zst(version) => Ok(()),
        version => Err(CommandError::refused(format!(
            "Codex {} does not read compressed conversations",
            version.unwrap_or("of unknown version")
        ))
        .hint(advice)),
    }
}

/// Parses a size such as `64kB`, `1.5 MB` or `2GiB`.
fn parse_size(text: &str) -> Result<u64, &'static str> {
    let trimmed = text.trim();
    let unit_start = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = trimmed.split_at(unit_start.unwrap_or(trimmed.len()));

    let factor = match unit.trim().to_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "kb" => Some(1e3),
        "m" | "mb" => Some(1e6),
        "g" | "gb" => Some(1e9),
        "kib" => Some(1024.0),
        "mib" => Some(1024.0 * 1024.0),
        "gib" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };

    let number_and_factor = number.parse::<f64>().ok().zip(factor);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number has no sign, and the cast saturates"
    )]
    number_and_factor
        .map(|(number, factor)| (number * factor) as u64)
        .ok_or("not a size; use a form like 500kB, 1MB or 2GiB")
}
