//! `prune`: old archives go to the trash, by rules.

use super::account::{printable, warn_not_recorded};
use super::verify::{finding, verify_archive};
use crate::archive::ArchiveError;
use crate::archive::reader::ArchiveReader;
use crate::archive::sidecar::SidecarProblem;
use crate::archive::verify::VerifyReport;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::candidate::{RetentionCandidate, Soundness};
use crate::inventory::catalog;
use crate::inventory::cooldown::LOCK_NAME;
use crate::inventory::records::{ArchiveProblem, FileStamp};
use crate::inventory::retention::{self, KeepRules, RetentionDecision, RetentionPlan};
use crate::inventory::store::{self, VerifyFinding};
use crate::inventory::trash::{self, RestoredArchive};
use crate::io::lock::FileLock;
use crate::io::quantity::pluralize;
use crate::io::{progress, time_format};
use crate::ui::Style;
use crate::ui::table::Table;
use crate::ui::time::{absolute, bytes, rfc3339};
use chrono::Duration;
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Move old archives to the trash
///
/// An archive stays when any rule keeps it. Rules count for each account and each of its homes, and
/// for full, auth, sessions and safety archives apart, and for those that were made with --exclude or
/// lack what could not be read; days, weeks and months are those of the local
/// zone. The newest full archive of each that `verify` found good always stays, and so does the newest
/// good one of every kind; a damaged one fills no place. Rules not given here are taken from
/// `prune.keep_*` of config.toml.
///
/// Before anything is moved, every archive that is to stay is opened, and where none of an account and
/// kind was found good by `verify`, the newest is read through as `verify` does: what is damaged fills
/// no place, and the rules are applied again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager prune --keep-last 3 --keep-weekly 4 --dry-run
  codex-manager prune --keep-within 14d --keep-monthly 6
  codex-manager prune --undo
  codex-manager prune --empty-trash --yes")]
pub struct PruneArgs {
    /// The newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// All that are at most this much older than the newest: 14d, 12h
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<String>,
    /// The newest of each of the last N days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// The newest of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// The newest of each of the last N months that have one
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Put back what was moved to the trash last
    #[arg(long, group = "instead", conflicts_with_all = RULES)]
    undo: bool,
    /// Remove what is in the trash for good
    #[arg(long, group = "instead", conflicts_with_all = RULES)]
    empty_trash: bool,
    /// Only say what would be done, and why
    #[arg(long)]
    dry_run: bool,
}

const RULES: [&str; 5] = [
    "keep_last",
    "keep_within",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
];

/// The JSON document. Its keys are a contract.
#[derive(Debug, Default, Serialize)]
struct PruneJson {
    keep: Vec<DecisionJson>,
    drop: Vec<DecisionJson>,
    /// What `--undo` put back.
    put_back: Vec<RestoredArchive>,
    /// The bytes of what was moved, or with `--empty-trash` removed.
    bytes: u64,
    /// The bytes in the trash afterwards.
    trash_bytes: u64,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct DecisionJson {
    archive: String,
    reason: String,
    email: Option<String>,
    kind: &'static str,
    created_at: Option<String>,
    archive_bytes: u64,
}

impl PruneArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// No rule is given, a rule means nothing, or something cannot be moved; nothing is then.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        if self.undo {
            self.put_back(context)
        } else if self.empty_trash {
            self.empty(context)
        } else {
            self.prune(context)
        }
    }

    fn rules(&self, context: &Context) -> Result<KeepRules, CommandError> {
        let configured = context.settings.preferences.keep;
        let within = match &self.keep_within {
            None => configured.within,
            Some(text) => {
                let span = time_format::parse_span(text).filter(|span| *span > Duration::zero());
                Some(span.ok_or_else(|| {
                    CommandError::usage(format!("--keep-within is no duration: {text:?}"))
                        .hint("write 12h, 14d or \"1d 12h\"")
                })?)
            }
        };
        let rules = KeepRules {
            last: self.keep_last.unwrap_or(configured.last),
            within,
            daily: self.keep_daily.unwrap_or(configured.daily),
            weekly: self.keep_weekly.unwrap_or(configured.weekly),
            monthly: self.keep_monthly.unwrap_or(configured.monthly),
        };
        if rules.is_empty() {
            return Err(CommandError::usage("no rule says what to keep").hint(
                "codex-manager prune --keep-last 3 --keep-weekly 4 --dry-run shows what that would do",
            ));
        }
        Ok(rules)
    }

    fn prune(&self, context: &Context) -> Result<Outcome, CommandError> {
        let rules = self.rules(context)?;
        let manager = &context.settings.manager_home;
        let mut checks = ArchiveChecks::default();
        // What takes long, before anybody has to wait for us.
        let mut plan = plan(context, &rules, &mut checks, self.dry_run)?;
        // From the plan that counts to the last move nobody else adds or removes an archive.
        let held = if self.dry_run || !store::backups(manager).is_dir() {
            None
        } else {
            let held = FileLock::exclusive_unless_interrupted(&manager.join(LOCK_NAME))?;
            trash::finish_moves_locked(manager, &held)?;
            plan = self::plan(context, &rules, &mut checks, self.dry_run)?;
            store::note_verified_locked(manager, &checks.findings(), &held)?;
            Some(held)
        };
        let moved = sum(&plan.drop);
        let mut is_noted = true;
        show_plan(context, &plan);
        if let Some(held) = held.filter(|_| !plan.drop.is_empty()) {
            let names: Vec<_> = plan
                .drop
                .iter()
                .map(|d| d.candidate.archive.clone())
                .collect();
            trash::discard(manager, &names, &context.now(), &held)?;
            drop(held);
            is_noted = refresh(context);
        }
        let trash_bytes = trash::content(manager)?.bytes;
        let ui = &context.ui;
        match (plan.drop.len(), self.dry_run) {
            (0, _) => ui.line("nothing is to go"),
            (n, true) => {
                ui.prose(format_args!("{n} would go, {}", bytes(moved)));
                ui.note("nothing was moved: --dry-run");
            }
            (n, false) => {
                ui.prose(format_args!("{n} moved to the trash, {}", bytes(moved)));
                ui.note(format_args!(
                    "the trash takes {}; free it with: codex-manager prune --empty-trash\nput them back with: codex-manager prune --undo",
                    bytes(trash_bytes)
                ));
            }
        }
        let json = |decisions: Vec<RetentionDecision>| {
            let rows = decisions.into_iter();
            rows.map(|d| row(d, context)).collect()
        };
        ui.document(
            "prune",
            &PruneJson {
                keep: json(plan.keep),
                drop: json(plan.drop),
                bytes: moved,
                trash_bytes,
                dry_run: self.dry_run,
                ..PruneJson::default()
            },
        );
        Ok(Outcome::partial_if(!is_noted))
    }

    fn put_back(&self, context: &Context) -> Result<Outcome, CommandError> {
        let manager = &context.settings.manager_home;
        let mut is_noted = true;
        let back = if self.dry_run || !trash::folder(manager).is_dir() {
            trash::plan_undo(manager)?
        } else {
            let held = FileLock::exclusive_unless_interrupted(&manager.join(LOCK_NAME))?;
            let back = trash::undo(manager, &held)?;
            drop(held);
            is_noted = refresh(context);
            back
        };
        if back.is_empty() {
            return Err(CommandError::failed("the trash is empty")
                .hint("list what is there with: codex-manager list-backups"));
        }
        let done = if self.dry_run {
            "would be put back"
        } else {
            "put back"
        };
        for RestoredArchive { archive, name } in &back {
            let renamed = if archive == name {
                String::new()
            } else {
                format!(" as {}", printable(name))
            };
            context
                .ui
                .line(format_args!("{done}: {}{renamed}", printable(archive)));
        }
        context.ui.document(
            "prune",
            &PruneJson {
                put_back: back,
                trash_bytes: trash::content(manager)?.bytes,
                dry_run: self.dry_run,
                ..PruneJson::default()
            },
        );
        Ok(Outcome::partial_if(!is_noted))
    }

    fn empty(&self, context: &Context) -> Result<Outcome, CommandError> {
        let manager = &context.settings.manager_home;
        let ui = &context.ui;
        let seen = trash::content(manager)?;
        let size = seen.bytes;
        let what = format!("{}, {}", pluralize(seen.archives, "archive"), bytes(size));
        if self.dry_run {
            ui.prose(format_args!("would be removed for good: {what}"));
        } else if size > 0 {
            let agreed = context.settings.assume_yes
                || ui
                    .confirm(format_args!("remove {what} for good?"))
                    .unwrap_or_default();
            if !agreed {
                return Err(
                    CommandError::refused(format!("not removed without consent: {what}"))
                        .hint("--yes removes them for good; nothing was changed"),
                );
            }
            let held = FileLock::exclusive_unless_interrupted(&manager.join(LOCK_NAME))?;
            trash::remove(manager, &seen, &held)?;
            ui.prose(format_args!("removed for good: {what}"));
        } else {
            ui.line("the trash is empty");
        }
        let left = trash::content(manager)?.bytes;
        ui.document(
            "prune",
            &PruneJson {
                bytes: size,
                trash_bytes: left,
                dry_run: self.dry_run,
                ..PruneJson::default()
            },
        );
        Ok(Outcome::Done)
    }
}

/// Brings `inventory.json` up to what was moved; whether it did.
fn refresh(context: &Context) -> bool {
    let refreshed = store::refresh(&context.settings.manager_home);
    warn_not_recorded(&context.ui, refreshed.err())
}

/// What was seen of archives, by name; of the file that had this stamp.
#[derive(Default)]
struct ArchiveChecks(BTreeMap<String, ArchiveCheck>);

struct ArchiveCheck {
    stamp: Option<FileStamp>,
    soundness: Soundness,
    /// What reading all of it came to.
    found: Option<VerifyFinding>,
}

impl ArchiveChecks {
    /// What `inventory.json` is to note.
    fn findings(&self) -> Vec<VerifyFinding> {
        let all = self.0.values();
        all.filter_map(|check| check.found.clone()).collect()
    }
}

/// Applies the rules until every archive that they keep was opened, and one of each account and kind
/// of which something goes was read through.
fn plan(
    context: &Context,
    rules: &KeepRules,
    checks: &mut ArchiveChecks,
    dry_run: bool,
) -> Result<RetentionPlan, CommandError> {
    let manager = &context.settings.manager_home;
    let backups = store::backups(manager);
    let records = store::archives(manager)?;
    let stamps = records.iter().map(|r| (r.path.as_str(), &r.archive));
    let stamps: HashMap<&str, &Option<FileStamp>> = stamps.collect();
    // Whoever changed a file meanwhile has it looked at again.
    let is_same =
        |name: &str, check: &ArchiveCheck| stamps.get(name).is_some_and(|s| **s == check.stamp);
    checks.0.retain(|name, check| is_same(name, check));
    let stamp = |name: &str| stamps.get(name).and_then(|s| (*s).clone());
    let mut candidates: Vec<_> = records.iter().filter_map(RetentionCandidate::of).collect();
    loop {
        for candidate in &mut candidates {
            if let Some(check) = checks.0.get(&candidate.archive) {
                candidate.soundness = check.soundness.clone();
            }
        }
        let plan = retention::plan(&candidates, rules, &context.now(), context.settings.zone);
        let unchecked: Vec<_> = plan
            .keep
            .iter()
            .filter(|d| d.candidate.soundness == Soundness::Unchecked)
            .map(|d| d.candidate.archive.clone())
            .collect();
        let opened_all = unchecked.is_empty();
        let names = if opened_all {
            retention::needs_full_read(&plan, &context.now())
        } else {
            unchecked
        };
        if names.is_empty() {
            return Ok(plan);
        }
        for name in names {
            if progress::is_interrupted() {
                return Err(CommandError::interrupted());
            }
            let path = backups.join(&name);
            let stamp = stamp(&name);
            let (soundness, found) = if opened_all {
                let report = verify_archive(context, &path, dry_run)?;
                let found = finding(&report, stamp.clone(), context.local_now());
                (soundness_of(report), found)
            } else {
                (open(&path)?, None)
            };
            let check = ArchiveCheck {
                stamp,
                soundness,
                found,
            };
            checks.0.insert(name, check);
        }
    }
}

/// What reading an archive through tells of it.
fn soundness_of(report: VerifyReport) -> Soundness {
    if let Some(e) = report.unread {
        return Soundness::Unreadable(e.source.to_string());
    }
    match (report.problems.into_iter().next(), report.sidecar) {
        (Some(damage), _) => Soundness::Damaged(damage),
        // It may be another account's.
        (None, Some(SidecarProblem::OfAnother)) => {
            Soundness::Unreadable("its sidecar describes another archive".into())
        }
        (None, _) => Soundness::Verified,
    }
}

/// Whether the structure of an archive is whole.
fn open(path: &Path) -> Result<Soundness, CommandError> {
    match ArchiveReader::open(path) {
        Ok(_) => Ok(Soundness::Sound),
        Err(ArchiveError::Interrupted) => Err(CommandError::interrupted()),
        Err(e) => Ok(match catalog::problem_of(&e) {
            ArchiveProblem::Damaged(detail) => Soundness::Damaged(detail),
            _ => Soundness::Unreadable(e.to_string()),
        }),
    }
}

fn sum(decisions: &[RetentionDecision]) -> u64 {
    decisions.iter().map(|d| d.candidate.bytes).sum()
}

fn row(decision: RetentionDecision, context: &Context) -> DecisionJson {
    let RetentionDecision { candidate, reason } = decision;
    DecisionJson {
        archive: candidate.archive,
        reason,
        email: candidate.identity.map(|i| i.email.to_string()),
        kind: candidate.class.name(),
        created_at: candidate
            .made_at
            .map(|at| rfc3339(&at, context.settings.zone)),
        archive_bytes: candidate.bytes,
    }
}

fn show_plan(context: &Context, plan: &RetentionPlan) {
    let ui = &context.ui;
    if ui.wants_json() || (plan.keep.is_empty() && plan.drop.is_empty()) {
        return;
    }
    let mut rows: Vec<_> = plan.keep.iter().map(|d| (d, true)).collect();
    rows.extend(plan.drop.iter().map(|d| (d, false)));
    let who = |d: &RetentionDecision| {
        let identity = d.candidate.identity.as_ref();
        identity.map_or("signed out".to_owned(), |i| printable(i.email.as_str()))
    };
    rows.sort_by_cached_key(|(d, _)| {
        let newest_first = std::cmp::Reverse(d.candidate.made_at);
        (who(d).to_lowercase(), d.candidate.class, newest_first)
    });
    let mut table = Table::new(ui, &["", "MADE", "KIND", "SIZE", "WHY"]);
    // A line for each, so that lines can be counted.
    (0..5).for_each(|column| table.keep_whole(column));
    let mut heads = Vec::new();
    for group in rows.chunk_by(|a, b| who(a.0) == who(b.0)) {
        heads.push((who(group[0].0), group.len()));
        for (decision, kept) in group {
            table.row(ui, cells(context, decision, *kept));
        }
    }
    let table = table.render();
    let mut lines = table.lines();
    ui.line(lines.next().unwrap_or_default());
    for (who, count) in heads {
        ui.line(ui.paint(Style::Strong, who));
        for line in lines.by_ref().take(count) {
            ui.line(line);
        }
    }
    for decision in &plan.drop {
        ui.detail(format_args!(
            "goes: {}",
            printable(&decision.candidate.archive)
        ));
    }
}

fn cells(context: &Context, decision: &RetentionDecision, kept: bool) -> [(Style, String); 5] {
    let candidate = &decision.candidate;
    let (zone, now) = (context.settings.zone, context.now());
    let made = candidate
        .made_at
        .map_or("unknown".into(), |at| absolute(&at, zone, &now));
    let (style, word) = if kept {
        (Style::Good, "  keep")
    } else {
        (Style::Warn, "  drop")
    };
    [
        (style, word.to_owned()),
        (Style::Plain, made),
        (Style::Plain, candidate.class.name().to_owned()),
        (Style::Plain, bytes(candidate.bytes)),
        (Style::Plain, printable(&decision.reason)),
    ]
}
