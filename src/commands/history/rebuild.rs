//! `history rebuild`: rebuilds `session_index.jsonl` and `history.jsonl`.

use crate::choices::index_access::warn_of_skipped_files;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::views::account::printable;
use clap::Args;
use codex_manager_core::codex::CodexConfig;
use codex_manager_core::history::rebuild::{
    self, ConversationCounts, PromptCounts, RebuildOptions, RebuildPlan, RebuildSource,
    RebuildTarget, RebuiltFile, TableRow, UnusedCounts,
};
use codex_manager_core::history::{SkippedFile, prompts};
use codex_manager_core::io::pluralize;
use serde::Serialize;

/// Rebuild `session_index.jsonl` and `history.jsonl`
///
/// The sources are the conversations on disk and Codex's database. Names that you gave are kept, even those of
/// conversations beyond the limit. Asks before it removes prompts from `history.jsonl`; without a terminal that needs
/// --yes. A copy of each previous file is kept beside it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history rebuild --dry-run
  codex-manager history rebuild --max-threads 0           # every conversation
  codex-manager history rebuild --only session-index")]
pub(super) struct RebuildArgs {
    /// The files to rebuild
    #[arg(long, value_name = "FILE", default_value = "both")]
    only: RebuildTarget,
    /// The number of conversations, most recent first; 0 for all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true
    )]
    max_threads: i64,
    /// Include conversations that Codex's database does not list
    #[arg(long)]
    include_orphans: bool,
    /// Keep every prompt, ignoring `history.max_bytes` of Codex's config.toml
    #[arg(long)]
    ignore_history_max_bytes: bool,
    /// Keep no copies of the previous files
    #[arg(long)]
    no_backup: bool,
    /// Show what would be written; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The JSON output. Its keys are a stable interface.
#[derive(Serialize)]
struct RebuildJson<'a> {
    source: RebuildSource,
    #[serde(flatten)]
    conversations: ConversationCounts,
    #[serde(flatten)]
    prompts: PromptCounts,
    #[serde(flatten)]
    unused: UnusedCounts,
    max_threads: Option<usize>,
    max_bytes: Option<u64>,
    files: &'a [RebuiltFile],
    skipped: &'a [SkippedFile],
    dry_run: bool,
}

impl RebuildArgs {
    /// Plans, shows and, unless `--dry-run` is given, writes the files.
    ///
    /// # Errors
    /// The limit is negative, the home cannot be read, the removal of prompts is not confirmed, or
    /// Codex holds the lock of a file for more than 10 seconds.
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let max_threads = usize::try_from(self.max_threads).map_err(|_| {
            CommandError::usage(format!("--max-threads is negative: {}", self.max_threads))
                .hint("0 means all conversations; nothing was changed")
        })?;
        require_codex_home(context)?;

        let home = context.codex_home();
        let options = RebuildOptions {
            only: self.only,
            max_threads: Some(max_threads).filter(|n| *n > 0),
            include_orphans: self.include_orphans,
            max_bytes: self.resolve_max_bytes(context),
        };

        let listed_rows = read_table_or_warn(context);
        let bar = context.ui.growing_bar("reading conversations");
        let mut plan = rebuild::plan(home, listed_rows, options, &bar)?;
        // Erases the bar before the counts are printed.
        drop(bar);
        self.show_counts(context, &plan, options.max_threads);

        // `require_consent` needs the files that would change, because it asks only if prompts would be removed.
        let mut files = rebuild::preview(home, &mut plan)?;
        if !self.dry_run {
            require_consent(context, &plan, &files)?;
            let keeps_copies = !self.no_backup;
            files = rebuild::apply(home, &mut plan, keeps_copies, context.now())?;
        }

        self.show_files(context, &files);
        let json = RebuildJson {
            source: plan.source,
            conversations: plan.conversations,
            prompts: plan.prompts,
            unused: plan.unused,
            max_threads: options.max_threads,
            max_bytes: plan.max_bytes,
            files: &files,
            skipped: &plan.skipped,
            dry_run: self.dry_run,
        };
        context.ui.document("history rebuild", &json);
        Ok(Outcome::partial_if(!plan.skipped.is_empty()))
    }

    /// Returns the size limit of `history.jsonl` in Codex's configuration, if it has one and the options do not ignore
    /// it. An invalid limit counts as none, after a warning.
    fn resolve_max_bytes(&self, context: &Context) -> Option<u64> {
        if self.ignore_history_max_bytes || self.only == RebuildTarget::SessionIndex {
            return None;
        }

        let config = CodexConfig::read(context.codex_home());
        let problem = match (&config.problem, config.history_max_bytes) {
            (None, Ok(limit)) => return limit,
            (Some(problem), _) => format!("cannot parse Codex's config.toml ({})", problem.trim()),
            (None, Err(problem)) => problem,
        };

        context.warn(format_args!(
            "{}; rebuilding the history without a size limit",
            printable(&problem)
        ));
        None
    }

    fn show_counts(&self, context: &Context, plan: &RebuildPlan, max_threads: Option<usize>) {
        let ui = &context.ui;
        let source = match plan.source {
            RebuildSource::Database => "Codex's database and the conversations on disk",
            RebuildSource::Rollouts => "the conversations on disk",
        };
        ui.prose(format_args!(
            "{}, from {source}",
            pluralize(plan.conversations.refreshed, "conversation")
        ));

        if self.only != RebuildTarget::SessionIndex {
            ui.line(pluralize(plan.prompts.entries, "prompt"));
        }

        show_left_out(context, plan, max_threads);
        warn_of_skipped_files(&plan.skipped, context);
    }

    fn show_files(&self, context: &Context, files: &[RebuiltFile]) {
        let ui = &context.ui;
        for file in files {
            let path = file.path.display();
            if !file.written {
                ui.prose(format_args!("unchanged: {path}"));
            } else if self.dry_run {
                ui.prose(format_args!("would be written: {path}"));
            } else {
                let copy_note = file.backup.as_ref().map_or(String::new(), |copy| {
                    format!("\n  copy of the previous file: {}", copy.display())
                });
                ui.prose(format_args!("written: {path}{copy_note}"));
            }
        }

        if !self.dry_run && files.iter().any(|file| file.written) {
            ui.note("restart Codex to see the new list");
        }
    }
}

/// Prints the numbers of conversations, prompts and lines that are left out of the files, by reason.
fn show_left_out(context: &Context, plan: &RebuildPlan, max_threads: Option<usize>) {
    // The default 0 is never printed: without a limit, nothing is beyond it.
    let max_threads = max_threads.unwrap_or_default();
    let bytes = plan.max_bytes.unwrap_or_default();
    let print_count = |count: usize, text: &str| {
        if count > 0 {
            context.ui.prose(format_args!("{text}: {count}"));
        }
    };

    print_count(
        plan.conversations.without_file,
        "of them only in Codex's database, without a file in sessions/",
    );
    print_count(
        plan.conversations.beyond_limit,
        &format!("older conversations left out by --max-threads {max_threads} (0 for all)"),
    );

    print_count(
        plan.unused.orphans_skipped,
        "conversations skipped because Codex's database does not list them (--include-orphans includes them)",
    );
    print_count(
        plan.unused.without_id + plan.unused.without_time,
        "files skipped because they have no id or no time",
    );
    print_count(
        usize::try_from(plan.unused.bad_lines).unwrap_or(usize::MAX),
        "damaged lines skipped",
    );

    print_count(
        plan.prompts.trimmed,
        &format!("oldest prompts left out by history.max_bytes = {bytes}"),
    );
    // `dropped` includes `unrecorded`, which has a line of its own below.
    print_count(
        plan.prompts.dropped - plan.prompts.unrecorded,
        "prompts to remove from history.jsonl, because their conversation is not on disk",
    );
    print_count(
        plan.prompts.unrecorded,
        "prompts to remove from history.jsonl, because their conversation is on disk but does not record them, or is left out",
    );
    print_count(
        plan.prompts.beyond_limit,
        "prompts to remove from history.jsonl, because --max-threads leaves out their conversation",
    );
}

/// Asks before lines of `history.jsonl` are removed.
///
/// # Errors
/// The user does not consent, or cannot be asked.
fn require_consent(context: &Context, plan: &RebuildPlan, files: &[RebuiltFile]) -> Result<()> {
    let replaces_prompts = |file: &RebuiltFile| {
        file.written && file.path.ends_with(prompts::FILE_NAME) && file.path.exists()
    };
    let removed_prompts = plan.prompts.max_removed();
    if removed_prompts == 0 || !files.iter().any(replaces_prompts) {
        return Ok(());
    }

    let prompts_text = pluralize(removed_prompts, "prompt");
    if context.confirm(format_args!("remove {prompts_text} from history.jsonl?")) {
        return Ok(());
    }

    Err(CommandError::refused(format!(
        "removing {prompts_text} from history.jsonl needs confirmation"
    ))
    .hint("confirm with --yes, or rebuild only the names with --only session-index; nothing was changed"))
}

/// Reads the rows of Codex's database, if there is one. A database that cannot be read counts as none, after a warning.
fn read_table_or_warn(context: &Context) -> Option<Vec<TableRow>> {
    let database = context.state_database()?;
    match rebuild::read_table(&database) {
        Ok(table) => table,
        Err(e) => {
            context.warn(format_args!(
                "{}; using only the conversations on disk",
                printable(&CommandError::wrap(ErrorKind::Failed, &e).to_one_line())
            ));
            None
        }
    }
}
