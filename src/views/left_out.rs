//! The files that are missing or damaged in an archive or a snapshot, and the items that a transfer left out.

use crate::context::Context;
use crate::ui::{Style, Ui, bytes};
use crate::views::account::{owner_name, printable};
use codex_manager_core::archive::{IN_DATABASE_SNAPSHOT, Metadata, PathNote};
use codex_manager_core::io::pluralize;
use codex_manager_core::transfer::export::NotTransferred;

/// Prints the excluded paths, the paths that the backup skipped, and the damaged files that it contains.
pub(crate) fn show_left_out(
    context: &Context,
    excluded: &[PathNote],
    skipped: &[PathNote],
    damaged: &[PathNote],
) {
    let ui = &context.ui;
    // SQLite's files beside a database are not reported: their content is in the database's
    // snapshot.
    let reported_items = excluded.iter().filter(|e| e.reason != IN_DATABASE_SNAPSHOT);
    // A folder with a measured size has a line of its own below.
    let plain_items = reported_items.filter(|e| e.size.is_none());
    let paths: Vec<_> = plain_items.map(|e| e.path.display().to_string()).collect();
    if !paths.is_empty() {
        ui.report(ui.paint(Style::Dim, format_args!("excluded: {}", paths.join(", "))));
    }

    for (item, size) in excluded.iter().filter_map(|e| Some((e, e.size?))) {
        ui.report(format_args!(
            "excluded: {}/ ({}, {}): {}",
            item.path.display(),
            pluralize(size.files, "file"),
            bytes(size.bytes),
            item.reason
        ));
    }

    // Both kinds change the exit code, so --quiet does not hide them.
    let warnings = [
        ("not archived", skipped),
        ("archived unchanged, but damaged", damaged),
    ];
    for (state, items) in warnings {
        for item in items {
            let path = item.path.display();
            ui.warn(format_args!("{state}: {path} ({})", item.reason));
        }
    }
}

/// Warns of the items that a transfer left out. `participle` is what was not done to them, such as "imported".
pub(crate) fn warn_not_transferred(ui: &Ui, participle: &str, items: &[NotTransferred]) {
    for item in items {
        let (name, reason) = (printable(&item.name), printable(&item.reason));
        ui.warn(format_args!("not {participle}: {name}: {reason}"));
    }
}

/// Returns ` of ACCOUNT` or `, no account`, to append to the kind of a backup.
pub(crate) fn format_owner_suffix(metadata: &Metadata, context: &Context) -> String {
    let owner = owner_name(metadata, context);
    owner.map_or(", no account".to_owned(), |owner| format!(" of {owner}"))
}
