//! `status --history`: shows the recorded windows of an account over time, and resets that moved.

use crate::choices::account_choice::find_account_or_live;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::chart::draw_sparkline;
use crate::ui::text_width::columns;
use crate::ui::{Cell, Column, Style, Table, object, windows};
use crate::views::account::{absolute_time, entry_label, local_rfc3339, printable};
use codex_manager_core::inventory::observations;
use codex_manager_core::inventory::status::StatusReport;
use codex_manager_core::io::Timestamp;
use codex_manager_core::io::shell::quote_if_needed;
use codex_manager_core::quota::WindowHistory;
use codex_manager_core::quota::reset_history::{ResetShift, WindowChange, WindowSample};
use serde::Serialize;

/// The number of points shown per window; `--json` contains all.
const MAX_POINTS_SHOWN: usize = 20;

const COLUMNS: [Column; 5] = [
    Column::new("WINDOW").only_tsv(),
    Column::new("SEEN"),
    Column::new("LEFT"),
    Column::new("RESETS").rank(1),
    Column::new("CHANGE").rank(2),
];

/// Shows the history of the account `name`. Without a name, shows the live account.
///
/// # Errors
/// No account or several match, there is no live account, or a document was written by a newer version.
pub(super) fn print_history(name: Option<&str>, context: &Context) -> Result<Outcome> {
    let example = "codex-manager status ACCOUNT --history";
    let account_entry = find_account_or_live(name, example, context)?.entry;
    let recorded =
        observations::load_observations(context.manager_home(), &account_entry.identity)?;

    let histories = recorded.build_window_histories();
    let shifts: Vec<_> = histories
        .iter()
        .flat_map(WindowHistory::reset_shifts)
        .collect();
    let windows = histories
        .iter()
        .filter_map(|history| history_json(history, context));
    let shifts_json = shifts.iter().map(|shift| shift_json(shift, context));

    let email = account_entry.identity.email.as_str();
    let json = object()
        .with("email", email)
        .with("account_id", &account_entry.identity.account_id)
        .with("profile", &account_entry.profile)
        .with("looks", recorded.spans.len())
        .with("windows", windows.collect::<Vec<_>>())
        .with("moved", shifts_json.collect::<Vec<_>>());
    context.ui.document("status --history", &json);

    let ui = &context.ui;
    let title = ui.paint(Style::Strong, entry_label(&account_entry));
    ui.prose(match &account_entry.profile {
        Some(_) => format!("{title} ({})", printable(email)),
        None => title,
    });

    if histories.is_empty() {
        let account = name.map_or(String::new(), |name| format!(" {}", quote_if_needed(name)));
        ui.note(format_args!(
            "there are no recorded figures yet; add one with: codex-manager status{account}"
        ));
    } else {
        let mut table = Table::new(ui, COLUMNS);
        for history in &histories {
            add_history_rows(&mut table, history, context);
        }
        table.print(ui);
    }

    if !shifts.is_empty() {
        ui.line("");
    }
    for shift in &shifts {
        ui.line(describe_moved_reset(shift, context));
    }
    Ok(Outcome::Done)
}

/// Returns a window in JSON with its name; `None` if it has no observations.
fn history_json(history: &WindowHistory, context: &Context) -> Option<impl Serialize + use<>> {
    let time = |at: &Timestamp| local_rfc3339(at, context);
    let point_json = |sample: &WindowSample| {
        object()
            .with("observed_at", time(&sample.observed_at))
            .with("until", time(&sample.until))
            .with("used_percent", sample.window.used_percent)
            .with("resets_at", sample.window.resets_at.as_ref().map(time))
            .with("change", sample.change)
    };
    let points: Vec<_> = history.samples.iter().map(point_json).collect();
    Some(windows::window_name_json(&history.samples.last()?.window).with("points", points))
}

fn shift_json(shift: &ResetShift<'_>, context: &Context) -> impl Serialize + use<> {
    let time = |at: &Timestamp| local_rfc3339(at, context);
    windows::window_name_json(&shift.after.window)
        .with("from", shift.before.window.resets_at.as_ref().map(time))
        .with("to", shift.after.window.resets_at.as_ref().map(time))
        .with("seen_before", time(&shift.before.until))
        .with("seen_after", time(&shift.after.observed_at))
}

/// Adds the newest samples of a window to the table, and notes how many older ones there are.
fn add_history_rows(table: &mut Table, history: &WindowHistory, context: &Context) {
    let Some(newest_sample) = history.samples.last() else {
        return;
    };

    let ui = &context.ui;
    let (zone, now) = (context.zone(), context.now());
    let label = windows::label(&newest_sample.window);
    let sparkline = draw_remaining(
        &history.samples,
        // Two spaces separate the label and the line.
        ui.width().saturating_sub(columns(&label) + 2),
    );
    table.add_group(&label, Some(Cell::new(Style::Good, sparkline)));

    for sample in history.samples.iter().rev().take(MAX_POINTS_SHOWN) {
        let left_percent = (100.0 - sample.window.used_percent).max(0.0);
        let resets_at = sample.window.resets_at.as_ref();
        let (change_style, change_text) = match sample.change {
            WindowChange::None => (Style::Plain, ""),
            WindowChange::NewWindow => (Style::Dim, "new window"),
            WindowChange::ResetMoved => (Style::Warn, "moved"),
        };

        table.add_row([
            Cell::plain(&label),
            Cell::time(Some(sample.observed_at.to_utc()), zone, &now),
            Cell::new(
                windows::style_of(left_percent),
                format!("{} {left_percent:>3.0} %", windows::draw_bar(left_percent)),
            )
            .value(left_percent),
            Cell::time(resets_at.map(Timestamp::to_utc), zone, &now),
            Cell::new(change_style, change_text),
        ]);
    }

    let older_count = history.samples.len().saturating_sub(MAX_POINTS_SHOWN);
    if older_count > 0 {
        ui.note(format_args!(
            "{label}: {older_count} older figures, shown only with --json"
        ));
    }
}

/// Draws the remaining percentage of a window over time, in equal steps from the first sample to the last one.
fn draw_remaining(samples: &[WindowSample], width: usize) -> String {
    const MAX_STEPS: u8 = 48;
    let [Some(first), Some(last)] = [samples.first(), samples.last()] else {
        return String::new();
    };

    // Two steps or more, because the duration is divided by the number of steps between them.
    let steps = u8::try_from(width).map_or(MAX_STEPS, |width| width.clamp(2, MAX_STEPS));
    let duration = last.until - first.observed_at;
    let left_percent = |step: u8| {
        let at = first.observed_at + duration * i32::from(step) / i32::from(steps - 1);
        let sample = samples
            .iter()
            .rev()
            .find(|sample| sample.observed_at <= at)?;
        Some((100.0 - sample.window.used_percent).max(0.0))
    };

    draw_sparkline((0..steps).map(left_percent), 100.0)
}

/// Formats a moved reset as "weekly reset moved from Tue 24 Nov 15:55 to Fri 27 Nov 15:55 since
/// yesterday".
fn describe_moved_reset(shift: &ResetShift<'_>, context: &Context) -> String {
    let zone = context.zone();
    let time = |at: Option<&Timestamp>| at.map_or("-".into(), |at| absolute_time(at, context));
    let local_day = |at: &Timestamp| zone.at(at).date_naive();
    let today = zone.at(&context.now()).date_naive();

    let since = match (today - local_day(&shift.before.until)).num_days() {
        0 => format!("since {}", zone.at(&shift.before.until).format("%H:%M")),
        1 => "since yesterday".into(),
        _ => format!("since {}", absolute_time(&shift.before.until, context)),
    };

    let seen_note = if local_day(&shift.after.observed_at) == today {
        String::new()
    } else {
        format!(
            ", seen {}",
            absolute_time(&shift.after.observed_at, context)
        )
    };

    format!(
        "{} reset moved from {} to {} {since}{seen_note}",
        printable(&windows::label(&shift.after.window)),
        time(shift.before.window.resets_at.as_ref()),
        time(shift.after.window.resets_at.as_ref())
    )
}

/// Prints the resets that moved between the previous observation and the one of `report`. Prints nothing if `report`
/// has no new observation.
///
/// # Errors
/// The recorded observations cannot be read.
pub(super) fn note_moved_resets(report: &StatusReport, context: &Context) -> Result<()> {
    let (Some(observation), Some(identity)) = (&report.observation, &report.identity) else {
        return Ok(());
    };
    if !report.is_fresh {
        return Ok(());
    }

    let recorded = observations::load_observations(context.manager_home(), identity)?;
    for history in recorded.build_window_histories() {
        for shift in history
            .reset_shifts()
            .filter(|shift| shift.after.observed_at == observation.observed_at)
        {
            context.note(describe_moved_reset(&shift, context));
        }
    }
    Ok(())
}
