//! `prune`: moves old archives to the trash, by retention rules.

use crate::choices::retention_args::RetentionArgs;
use crate::context::Context;
use crate::copies::losses::archived::{NeededArchives, refuse_last_copy_in_trash};
use crate::error::{CommandError, Outcome, Result, check_interrupt};
use crate::steps::archive_check::{to_verify_finding, verify_archive};
use crate::ui::{bytes, object};
use crate::views::account::{absolute_time, printable, time_json, warn_unless_recorded};
use crate::views::dry_run::would_be;
use crate::views::retention_table::{self, RetentionSubject, decisions_json};
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::archive::verify::VerifyReport;
use codex_manager_core::archive::{ArchiveError, ArchiveReader, SidecarProblem};
use codex_manager_core::inventory::cooldown::LOCK_NAME;
use codex_manager_core::inventory::good_texts;
use codex_manager_core::inventory::records::FileStamp;
use codex_manager_core::inventory::retention::{self, RetentionDecision, RetentionPlan};
use codex_manager_core::inventory::store::{self, VerifyFinding};
use codex_manager_core::inventory::trash::{self, RestoredArchive};
use codex_manager_core::inventory::{
    ArchiveProblem, ArchiveRecord, RetentionCandidate, Soundness, catalog,
};
use codex_manager_core::io::{DocumentError, FileLock, RetentionPolicy, parallel, pluralize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Move old archives to the trash
///
/// An archive is kept if any rule keeps it. Rules apply separately to each account and each of its
/// homes, to full, auth, sessions and safety archives, and to archives made with --exclude or
/// lacking unreadable files. Days, weeks and months are those of the local time zone. The newest
/// full archive that `verify` found good is always kept for each account, one with conversations if one has some, and
/// so is the newest good one of every kind; if newer ones have no conversations, the newest one that has some too. The
/// last archive with messages that a conversation lacks now is kept until `history losses --accept`, and so is the last
/// one with turns that a migration hid, and for 90 days (setting `prune.keep_gone`) the last one with a conversation
/// that the home lacks; --empty-trash refuses to delete them. If a text such as history.jsonl is damaged in an archive,
/// the newest archive with a good copy is kept. A damaged archive does not use up a rule.
/// Rules that are not given are taken from `prune.keep_*` of config.toml.
///
/// Before `prune` moves anything, it opens every archive that it keeps. One of a newer codex-manager that this version
/// cannot read is kept. If `verify` has found no
/// archive of an account and kind good, `prune` reads the newest one completely. If that one is
/// damaged, `prune` plans again without it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager prune --keep-last 3 --keep-weekly 4 --dry-run
  codex-manager prune --keep-within 14d --keep-monthly 6
  codex-manager prune --undo
  codex-manager prune --empty-trash --yes")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    rules: RetentionArgs,
    /// Move the archives of the last prune back from the trash
    #[arg(long, group = "instead", conflicts_with = "RetentionArgs")]
    undo: bool,
    /// Delete everything in the trash permanently
    #[arg(long, group = "instead", conflicts_with = "RetentionArgs")]
    empty_trash: bool,
    /// Show what would be done, and why
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl PruneArgs {
    /// Moves archives to the trash, moves them back, or empties the trash.
    ///
    /// # Errors
    /// No rule is given, the trash has nothing to move back, a deletion is refused or not confirmed, a file cannot be
    /// moved, or the user interrupts. Nothing is moved or deleted then. Or the size of the trash cannot be read after
    /// the move, or not all of the trash can be deleted.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        if self.undo {
            self.undo_last(context)
        } else if self.empty_trash {
            self.delete_trash(context)
        } else {
            self.prune(context)
        }
    }

    /// Moves the archives that no rule keeps to the trash. A dry run only prints the plan.
    fn prune(&self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let (plan, lock) = self.plan_and_lock(context)?;
        let moved_bytes = plan.drop.iter().map(|d| d.candidate.bytes).sum();
        let mut is_inventory_updated = true;
        retention_table::show_decisions(context, &plan, RetentionSubject::Archives);

        if let Some(lock) = lock
            && !plan.drop.is_empty()
        {
            let archives = plan.drop.iter().map(|d| d.candidate.archive.clone());
            let archives: Vec<_> = archives.collect();
            trash::move_to_trash(manager_home, &archives, &context.now(), &lock)?;
            drop(lock);
            let none_restored = &[];
            is_inventory_updated = refresh_inventory(context, none_restored);
        }

        self.show_outcome(plan.drop.len(), moved_bytes, context)?;
        let result = PruneResult {
            plan,
            bytes: moved_bytes,
            ..PruneResult::default()
        };
        self.show_json(result, context)?;
        Ok(Outcome::partial_if(!is_inventory_updated))
    }

    /// Returns the plan, and the lock to hold until the last move. There is no lock in a dry run or without a folder of
    /// archives.
    ///
    /// # Errors
    /// An archive or a lock cannot be used, or other commands kept changing the archives.
    fn plan_and_lock(&self, context: &Context) -> Result<(RetentionPlan, Option<FileLock>)> {
        let rules = self.rules.to_policy(context, "prune")?;
        let manager_home = context.manager_home();
        let mut checks = ArchiveChecks::default();

        for _ in 0..MAX_PLANS {
            // The slow checks run without the lock, so that no other command has to wait for them.
            let records = context.archives()?;
            let mut plan = make_checked_plan(context, &records, &rules, &mut checks, self.dry_run)?;
            if !plan.drop.is_empty() {
                let dropped = plan.drop.iter();
                let homes = dropped.map(|decision| PathBuf::from(&decision.candidate.home));
                let needed_archives = NeededArchives::find(homes.collect(), &records, context)?;
                needed_archives.keep_last_copies(&mut plan);
                keep_newer_archives(&mut plan, &records);
                good_texts::keep_good_copies(&mut plan, &records, &context.backups())?;
            }

            if self.dry_run || !context.backups().is_dir() {
                return Ok((plan, None));
            }

            // With the lock, no other process adds or removes an archive.
            let lock = FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME))?;
            // Completes or undoes the moves of a killed prune before the archives are compared.
            trash::recover(manager_home)?;
            // If another process changed the archives during the checks, the plan is made again.
            if context.archives()? == records {
                let findings = checks.values().filter_map(|check| check.finding.clone());
                store::note_verified_locked(manager_home, &findings.collect::<Vec<_>>(), &lock)?;
                return Ok((plan, Some(lock)));
            }
        }

        let message = "other commands kept changing the archives while prune made its plan";
        Err(CommandError::failed(message)
            .hint("run the same command again later; nothing was changed"))
    }

    /// Prints the JSON document. Its keys are a contract.
    fn show_json(&self, result: PruneResult, context: &Context) -> Result<()> {
        let put_back = result.put_back.iter().map(|restored| {
            object()
                .with("archive", &restored.archive)
                .with("name", &restored.name)
                .with("created_at", time_json(restored.created_at, context))
        });

        let json = object()
            .with("keep", decisions_json(result.plan.keep, context))
            .with("drop", decisions_json(result.plan.drop, context))
            .with("put_back", put_back.collect::<Vec<_>>())
            .with("bytes", result.bytes)
            .with("trash_bytes", trash_bytes(context)?)
            .with("dry_run", self.dry_run);
        context.ui.document("prune", &json);
        Ok(())
    }

    fn show_outcome(&self, moved_count: usize, moved_bytes: u64, context: &Context) -> Result<()> {
        let ui = &context.ui;
        if moved_count == 0 {
            ui.line("nothing to prune");
            return Ok(());
        }

        let would_be_text = would_be(self.dry_run);
        let archives = pluralize(moved_count, "archive");
        ui.prose(format_args!(
            "{archives} {would_be_text}moved to the trash, {}",
            bytes(moved_bytes)
        ));

        if !self.dry_run {
            ui.note(format_args!(
                "the trash has {}; empty it with: codex-manager prune --empty-trash\nundo with: codex-manager prune --undo",
                bytes(trash_bytes(context)?)
            ));
        }
        Ok(())
    }

    /// Moves the archives of the last prune back from the trash. A dry run only shows them.
    fn undo_last(&self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let mut is_inventory_updated = true;
        // Without a trash nothing is moved, so no lock is needed.
        let restored = if self.dry_run || !trash::trash_folder(manager_home).is_dir() {
            trash::plan_undo(manager_home)?
        } else {
            let lock = FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME))?;
            let restored = trash::undo_last_prune(manager_home, &lock)?;
            drop(lock);
            is_inventory_updated = refresh_inventory(context, &restored);
            restored
        };

        if restored.is_empty() {
            return Err(CommandError::failed("the trash is empty")
                .hint("list the archives with: codex-manager list-backups"));
        }

        let would_be_text = would_be(self.dry_run);
        for restored_archive in &restored {
            let (old_name, new_name) = (&restored_archive.archive, &restored_archive.name);
            let new_name_note = if old_name == new_name {
                String::new()
            } else {
                format!(" as {}", printable(new_name))
            };

            let created_note = restored_archive
                .created_at
                .map(|at| format!(", made {}", absolute_time(&at, context)));
            context.ui.prose(format_args!(
                "{would_be_text}moved back: {}{new_name_note}{}",
                printable(old_name),
                created_note.unwrap_or_default()
            ));
        }

        let result = PruneResult {
            put_back: restored,
            ..PruneResult::default()
        };
        self.show_json(result, context)?;
        Ok(Outcome::partial_if(!is_inventory_updated))
    }

    /// Deletes the trash permanently, after a question; with `--dry-run`, only prints its size. Refuses if it has the
    /// last copy of lost messages or of turns that a migration hid.
    fn delete_trash(&self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let ui = &context.ui;
        let trashed = trash::read_trash(manager_home)?;
        let archives = pluralize(trashed.archives, "archive");
        let description = format!("{archives}, {}", bytes(trashed.bytes));

        if trashed.bytes == 0 {
            ui.line("the trash is empty");
        } else {
            refuse_last_copy_in_trash(context)?;
            if self.dry_run {
                ui.prose(format_args!("would be deleted permanently: {description}"));
            } else {
                context.confirm_deletion(&description)?;
                let lock = FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME))?;
                // Archives that another process moved to the trash after the question are not in `trashed`, so they
                // stay.
                trash::delete_batches(manager_home, &trashed, &lock)?;
                ui.prose(format_args!("deleted permanently: {description}"));
            }
        }

        let result = PruneResult {
            bytes: trashed.bytes,
            ..PruneResult::default()
        };
        self.show_json(result, context)?;
        Ok(Outcome::Done)
    }
}

/// The largest number of plans. `prune` plans again if the archives changed before it got the lock.
const MAX_PLANS: u32 = 5;

#[derive(Default)]
struct PruneResult {
    /// Empty for `--undo` and `--empty-trash`, which apply no rules.
    plan: RetentionPlan,
    /// The archives that `--undo` moved back.
    put_back: Vec<RestoredArchive>,
    /// The size of the archives that are moved to the trash, or deleted by `--empty-trash`; in a dry run, would be.
    bytes: u64,
}

fn trash_bytes(context: &Context) -> Result<u64> {
    Ok(trash::read_trash(context.manager_home())?.bytes)
}

/// Updates `inventory.json` after archives were moved. `restored` are archives that were moved back from the trash,
/// perhaps with new names. Returns false after a warning if the update failed.
fn refresh_inventory(context: &Context, restored: &[RestoredArchive]) -> bool {
    let manager_home = context.manager_home();
    let names = restored.iter().map(|r| (r.archive.clone(), r.name.clone()));
    let renamed = names.filter(|(name_in_trash, new_name)| name_in_trash != new_name);
    let renamed: Vec<_> = renamed.collect();
    let refreshed = trash::list_archive_names(manager_home)
        .map_err(DocumentError::from)
        .and_then(|in_trash| store::refresh_with_trash(manager_home, &in_trash, &renamed));
    warn_unless_recorded(&context.ui, refreshed.err())
}

/// Results of checking archives, by name. A result is valid as long as the file has the same stamp.
type ArchiveChecks = BTreeMap<String, ArchiveCheck>;

struct ArchiveCheck {
    stamp: Option<FileStamp>,
    soundness: Soundness,
    /// The record for `inventory.json`, if the archive was read completely.
    finding: Option<VerifyFinding>,
}

/// Returns the plan of the rules. Damaged archives change the plan, so the rules are applied again after each round of
/// checks. At the end every kept archive was opened. Of each account and kind that loses an archive, a kept archive was
/// also read completely, in this run or by `verify` before.
///
/// # Errors
/// The user interrupts, or there is too little disk space to unpack the databases of an archive for the check. Damaged
/// and unreadable archives are no error: no rule counts them.
fn make_checked_plan(
    context: &Context,
    archives: &[ArchiveRecord],
    rules: &RetentionPolicy,
    checks: &mut ArchiveChecks,
    dry_run: bool,
) -> Result<RetentionPlan> {
    let backups = context.backups();
    let stamps = archives.iter().map(|r| (&*r.path, r.archive.as_ref()));
    let stamps: HashMap<&str, Option<&FileStamp>> = stamps.collect();

    // A file that changed since its check is checked again.
    checks.retain(|name, check| stamps.get(name.as_str()) == Some(&check.stamp.as_ref()));
    let stamp = |name: &str| stamps.get(name).copied().flatten().cloned();
    let machine = context.machine();
    let to_candidate = |record| RetentionCandidate::from_record(record, machine.as_deref());
    let mut candidates: Vec<_> = archives.iter().filter_map(to_candidate).collect();
    let of_newer = archives
        .iter()
        .filter(|r| is_newer_version(&r.metadata.manager_version));
    let newer: HashSet<_> = of_newer.map(|record| record.path.as_str()).collect();

    loop {
        set_checked_soundness(&mut candidates, checks);
        let plan = retention::plan_retention(&candidates, rules, &context.now(), context.zone());

        let mut unopened: Vec<_> = list_unopened(&plan.keep).collect();
        // An archive of a newer version may be one that this version cannot read, which is kept.
        unopened.extend(list_unopened(&plan.drop).filter(|name| newer.contains(name.as_str())));
        if !unopened.is_empty() {
            // The rules may keep a dropped archive in place of each damaged one. Opening as many dropped ones now saves
            // rounds.
            let damaged = checks.values().filter(|c| is_damaged(&c.soundness));
            let damaged_count = damaged.count();
            unopened.extend(list_unopened(&plan.drop).take(damaged_count));
            unopened.sort();
            unopened.dedup();

            let open = |name: String| {
                let check = check_by_opening(&backups.join(&name), stamp(&name));
                (name, check)
            };
            let add_check = |(name, check): (String, Result<ArchiveCheck>)| -> Result<()> {
                check_interrupt()?;
                checks.insert(name, check?);
                Ok(())
            };
            let max_in_flight = 2 * parallel::thread_count();
            parallel::run_each_ordered(max_in_flight, unopened, open, add_check)?;
            continue;
        }

        // Complete reads are slow, so they wait until every kept archive was opened.
        let unread = retention::list_archives_to_verify(&plan, &context.now());
        if unread.is_empty() {
            return Ok(plan);
        }
        for name in unread {
            let check = read_fully(context, &backups.join(&name), stamp(&name), dry_run);
            check_interrupt()?;
            checks.insert(name, check?);
        }
    }
}

/// Makes `plan` keep each archive whose sidecar has a newer schema: it may record what this version does not know.
fn keep_newer_archives(plan: &mut RetentionPlan, records: &[ArchiveRecord]) {
    for record in records {
        if let Some(ArchiveProblem::Sidecar(SidecarProblem::Newer(schema))) = record.listed_problem
        {
            let reason = format!("its sidecar has the newer schema {schema}");
            plan.keep_one_of(std::slice::from_ref(&record.path), &reason);
        }
    }
}

/// Returns true unless this text is the version of this program or an older one.
fn is_newer_version(version: &str) -> bool {
    let parse = |text: &str| -> Option<Vec<u64>> {
        text.split('.').map(|number| number.parse().ok()).collect()
    };
    parse(version).is_none_or(|version| Some(version) > parse(env!("CARGO_PKG_VERSION")))
}

/// Sets the soundness that each check found, except where `verify` has found damage since then.
fn set_checked_soundness(candidates: &mut [RetentionCandidate], checks: &ArchiveChecks) {
    for candidate in candidates.iter_mut().filter(|c| !is_damaged(&c.soundness)) {
        if let Some(check) = checks.get(&candidate.archive) {
            candidate.soundness = check.soundness.clone();
        }
    }
}

fn is_damaged(soundness: &Soundness) -> bool {
    matches!(soundness, Soundness::Damaged(_))
}

/// Returns the archives that were not opened yet.
fn list_unopened(decisions: &[RetentionDecision]) -> impl Iterator<Item = String> {
    let candidates = decisions.iter().map(|decision| &decision.candidate);
    let unopened = candidates.filter(|c| c.soundness == Soundness::Unchecked);
    unopened.map(|c| c.archive.clone())
}

/// Checks an archive by reading it completely.
fn read_fully(
    context: &Context,
    path: &Path,
    stamp: Option<FileStamp>,
    dry_run: bool,
) -> Result<ArchiveCheck> {
    let report = verify_archive(context, path, dry_run)?;
    let finding = to_verify_finding(&report, stamp.clone(), context.local_now());
    Ok(ArchiveCheck {
        stamp,
        soundness: into_soundness(report),
        finding,
    })
}

fn into_soundness(report: VerifyReport) -> Soundness {
    if let Some(e) = report.read_error {
        return Soundness::Unreadable(e.source.to_string());
    }
    match (report.problems.into_iter().next(), report.sidecar_problem) {
        (Some(damage), _) => Soundness::Damaged(damage),
        // The archive is intact, but may belong to another account than its sidecar says.
        (None, Some(SidecarProblem::Mismatch)) => {
            Soundness::Unreadable("its sidecar describes another archive".into())
        }
        (None, _) => Soundness::Verified,
    }
}

/// Checks only the footer, manifest and index of an archive.
fn check_by_opening(path: &Path, stamp: Option<FileStamp>) -> Result<ArchiveCheck> {
    let soundness = match ArchiveReader::open(path) {
        Ok(_) => Soundness::Sound,
        Err(ArchiveError::Interrupted) => return Err(CommandError::interrupted()),
        Err(e) => match catalog::classify_open_error(&e) {
            ArchiveProblem::Damaged(detail) => Soundness::Damaged(detail),
            _ => Soundness::Unreadable(e.to_string()),
        },
    };

    Ok(ArchiveCheck {
        stamp,
        soundness,
        finding: None,
    })
}
