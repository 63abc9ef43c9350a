//! The plan of `prune` and `vault forget` as a table.

use crate::context::Context;
use crate::ui::{Cell, Column, Style, Table, bytes, object};
use crate::views::account::{self, absolute_time, printable, time_json};
use crate::views::account_table::AccountNames;
use codex_manager_core::archive::names::ARCHIVE_SUFFIX;
use codex_manager_core::inventory::retention::{RetentionDecision, RetentionPlan};
use codex_manager_core::inventory::{archive_names, resolve};
use codex_manager_core::vault::snapshot_id::short_id;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetentionSubject {
    /// Archives, which are moved to the trash.
    Archives,
    /// Snapshots of the vault, which are deleted permanently.
    Snapshots,
}

fn build_columns(subject: RetentionSubject) -> [Column; 8] {
    let name = match subject {
        // The end of a name distinguishes the archives of a window.
        RetentionSubject::Archives => Column::new("ARCHIVE").shorten_middle(20).widen(46, 2),
        RetentionSubject::Snapshots => Column::new("SNAPSHOT"),
    };

    [
        Column::new("ACCOUNT").only_tsv(),
        Column::new("DO").rank(1),
        Column::new("CREATED").rank(4),
        // The rules count each kind separately.
        Column::new("KIND").rank(3),
        Column::new("CONV").rank(1).number(),
        Column::new("SIZE").rank(5).number(),
        name,
        Column::new("WHY").rank(2).wrap(20),
    ]
}

/// Prints the plan, grouped by account: the kept and the dropped objects, with reasons.
pub(crate) fn show_decisions(context: &Context, plan: &RetentionPlan, subject: RetentionSubject) {
    let ui = &context.ui;
    if ui.wants_json() || (plan.keep.is_empty() && plan.drop.is_empty()) {
        return;
    }

    // If the known accounts cannot be read, the owners are shown by email, without their profiles.
    let accounts = account::read_known_accounts(context).unwrap_or_default();
    // Archives can be of accounts that are not known any more.
    let decisions = plan.keep.iter().chain(&plan.drop);
    let identities = decisions.filter_map(|decision| decision.candidate.identity.clone());
    let entries = resolve::merge_entries(&accounts, identities);
    let names = AccountNames::from_entries(&entries);

    let kept = plan.keep.iter().map(|decision| (decision, true));
    let dropped = plan.drop.iter().map(|decision| (decision, false));
    let rows = kept.chain(dropped).map(|(decision, is_kept)| {
        let candidate = &decision.candidate;
        // The time of the backup is unknown if the metadata cannot be read.
        let is_readable = candidate.made_at.is_some();
        let owner = names.format_owner(candidate.identity.as_ref(), is_readable);
        (owner, decision, is_kept)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_cached_key(|(owner, d, _)| {
        let newest_first = std::cmp::Reverse(d.candidate.made_at);
        (owner.to_lowercase(), d.candidate.class, newest_first)
    });

    let mut table = Table::new(ui, build_columns(subject));
    for group in rows.chunk_by(|(owner, ..), (next_owner, ..)| owner == next_owner) {
        let (owner, ..) = &group[0];
        let remark = None;
        table.add_group(owner.as_str(), remark);
        for (_, decision, is_kept) in group {
            table.add_row(build_row(context, decision, *is_kept, subject));
        }
    }
    table.report(ui);

    let verb = match subject {
        RetentionSubject::Archives => "to the trash",
        RetentionSubject::Snapshots => "drop",
    };
    for decision in &plan.drop {
        let name = printable(&decision.candidate.archive);
        ui.detail(format_args!("{verb}: {name}"));
    }
}

fn build_row(
    context: &Context,
    decision: &RetentionDecision,
    is_kept: bool,
    subject: RetentionSubject,
) -> [Cell; 8] {
    let candidate = &decision.candidate;
    let made_at = candidate.made_at;
    let kind = match candidate.class.name() {
        class if candidate.is_partial => archive_names::format_partial_kind(class),
        class => class.to_owned(),
    };
    let (style, verdict) = if is_kept {
        (Style::Good, "keep")
    } else {
        (Style::Warn, "drop")
    };

    let email = candidate.identity.as_ref().map(|i| i.email.to_string());
    let name = &candidate.archive;
    let name = match subject {
        RetentionSubject::Archives => {
            Cell::plain(name.strip_suffix(ARCHIVE_SUFFIX).unwrap_or(name))
        }
        RetentionSubject::Snapshots => Cell::plain(short_id(name)).value(name),
    };

    [
        Cell::plain(email.unwrap_or_default()),
        Cell::new(style, verdict),
        Cell::plain(made_at.map_or("unknown".into(), |at| absolute_time(&at, context)))
            .value(time_json(made_at, context).unwrap_or_default()),
        Cell::plain(kind),
        Cell::count(candidate.conversations),
        Cell::plain(bytes(candidate.bytes)).value(candidate.bytes),
        name,
        Cell::new(Style::Dim, &decision.reason),
    ]
}

/// Returns archives or snapshots of a plan in JSON. The keys are an interface.
pub(crate) fn decisions_json(
    decisions: Vec<RetentionDecision>,
    context: &Context,
) -> Vec<impl Serialize> {
    let row = |RetentionDecision { candidate, reason }| {
        let made_at = candidate.made_at;
        object()
            .with("archive", candidate.archive)
            .with("reason", reason)
            .with("email", candidate.identity.map(|i| i.email.to_string()))
            .with("kind", candidate.class.name())
            .with("conversations", candidate.conversations)
            .with("created_at", time_json(made_at, context))
            .with("archive_bytes", candidate.bytes)
    };
    decisions.into_iter().map(row).collect()
}
