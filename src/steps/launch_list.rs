//! The list of launches, for `launches` and `sessions --launched`.

use crate::accounts::profile::Profiles;
use crate::choices::account_choice::named;
use crate::codex::config::read_login;
use crate::codex::identity::Identity;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::history::thread_titles::titles_of;
use crate::launch::record::{LaunchRecord, LaunchState};
use crate::launch::settle;
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::views::account::{first_login, local, printable, relative, short_id, warn_all};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// A launch in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct LaunchView {
    launch_id: String,
    profile: String,
    email: String,
    account_id: Option<String>,
    started_at: String,
    ended_at: Option<String>,
    cwd: String,
    args: Vec<String>,
    pid: Option<u32>,
    state: LaunchState,
    /// The last conversation of the launch.
    session_id: Option<String>,
    rollout_path: Option<String>,
    first_token_count_at: Option<String>,
    last_token_count_at: Option<String>,
    warning: Option<String>,
    exit_code: Option<i32>,
    isolated: bool,
    title: Option<String>,
    /// The ids of earlier conversations of the same launch.
    earlier_session_ids: Vec<String>,
}

/// Lists launches. `command` is the name in the JSON document.
///
/// # Errors
/// The registry cannot be read or completed.
pub(crate) fn show_launches(
    command: &str,
    profile: Option<&str>,
    all: bool,
    context: &Context,
) -> Result<Outcome, CommandError> {
    let settings = &context.settings;
    let (launches, warnings) = settle::settle_ended(
        &settings.manager_home,
        &context.env,
        context.local_now(),
        settings.zone,
    )?;
    warn_all(&context.ui, &warnings);
    let account = profile.map(|text| named(text, context)).transpose()?;
    let matches_account = |record: &LaunchRecord| {
        account
            .as_ref()
            .is_none_or(|account| record.identity.is_same(account))
    };
    let limit = if all { usize::MAX } else { DEFAULT_LAUNCHES };
    let mut shown: Vec<_> = launches
        .newest()
        .filter(matches_account)
        .take(limit)
        .collect();
    // Running launches are shown even if they are older than the limit.
    let is_shown = |id: &str| shown.iter().any(|record| record.launch_id == id);
    let running: Vec<_> = launches
        .unsettled()
        .filter(|record| matches_account(record) && !is_shown(&record.launch_id))
        .collect();
    shown.extend(running);
    let live = read_login(&settings.codex_home).ok();
    let live = live
        .as_ref()
        .and_then(|live| live.login())
        .map(|l| &l.identity);
    let ids = shown
        .iter()
        .filter_map(|record| Some(record.conversation()?.session_id.to_lowercase()));
    let titles = titles_of(&settings.codex_home, &context.env, ids.collect());
    let view = |record: LaunchRecord| view(record, live, &titles, context);
    let sessions: Vec<_> = shown.into_iter().map(view).collect();
    context.ui.list_document(command, "sessions", &sessions);
    show(&sessions, launches.len(), context);
    if launches.damaged_lines() > 0 {
        context.ui.warn(format_args!(
            "{} of launches.jsonl cannot be read and were skipped",
            crate::io::quantity::pluralize(launches.damaged_lines(), "line")
        ));
    }
    Ok(Outcome::partial_if(launches.damaged_lines() > 0))
}

const COLUMNS: [Column; 6] = [
    Column::new("STATE"),
    Column::new("PROFILE").shorten(8),
    Column::new("STARTED").rank(1),
    Column::new("FOLDER").rank(3).shorten(8),
    Column::new("CONVERSATION"),
    Column::new("TITLE").rank(2).shorten(8),
];

/// The number of launches shown without `--all`.
const DEFAULT_LAUNCHES: usize = 20;

fn view(
    record: LaunchRecord,
    live: Option<&Identity>,
    titles: &HashMap<String, String>,
    context: &Context,
) -> LaunchView {
    let state = record.state(record.is_running());
    let is_other = record.run.isolated_home.is_none()
        && live.is_none_or(|live| !live.is_same(&record.identity));
    let warning = match (state, live) {
        (LaunchState::Running, Some(live)) if is_other => Some(format!(
            "the live account is now {live}; this Codex keeps {}",
            record.identity
        )),
        (LaunchState::Running, None) if is_other => Some(format!(
            "no account is signed in any more; this Codex keeps {}",
            record.identity
        )),
        _ => record.binding.unbound_because.clone(),
    };
    let last = record.conversation().cloned();
    let time = |at: Option<crate::io::clock::Timestamp>| at.map(|at| local(&at, context));
    let earlier = record.binding.conversations.iter().rev().skip(1);
    LaunchView {
        earlier_session_ids: earlier.map(|c| c.session_id.clone()).collect(),
        isolated: record.run.isolated_home.is_some(),
        launch_id: record.launch_id,
        profile: record.profile,
        email: record.identity.email.to_string(),
        account_id: record.identity.account_id,
        started_at: local(&record.run.started_at, context),
        ended_at: time(record.run.ended_at),
        cwd: record.run.cwd,
        args: record.run.args,
        pid: record.run.child.map(|child| child.pid),
        state,
        title: last
            .as_ref()
            .and_then(|c| titles.get(&c.session_id.to_lowercase()).cloned()),
        first_token_count_at: time(last.as_ref().and_then(|c| c.first_token_count_at)),
        last_token_count_at: time(last.as_ref().and_then(|c| c.last_token_count_at)),
        session_id: last.as_ref().map(|c| c.session_id.clone()),
        rollout_path: last.map(|c| c.rollout_path),
        warning,
        exit_code: record.run.exit_code,
    }
}

fn show(launches: &[LaunchView], total: usize, context: &Context) {
    let ui = &context.ui;
    if launches.is_empty() {
        let profiles = Profiles::of(&context.settings.manager_home).list();
        let next = if profiles.is_ok_and(|profiles| profiles.is_empty()) {
            first_login(context)
        } else {
            "start one: codex-manager launch PROFILE".into()
        };
        ui.note(format_args!("there are no recorded launches yet; {next}"));
        return;
    }
    let mut table = Table::new(ui, COLUMNS);
    for launch in launches {
        table.row(cells(launch, context));
    }
    table.print(ui);
    for launch in launches {
        if let Some(warning) = &launch.warning {
            let pid = launch.pid;
            let pid = pid.map_or(String::new(), |pid| format!("PID {pid}: "));
            ui.warn(format_args!("{pid}{}", printable(warning)));
        }
    }
    if total > launches.len() {
        ui.note(format_args!(
            "{} older: codex-manager launches --all",
            total - launches.len()
        ));
    }
}

fn cells(launch: &LaunchView, context: &Context) -> [Cell; 6] {
    let style = match launch.state {
        LaunchState::Running => Style::Good,
        LaunchState::Unbound => Style::Warn,
        LaunchState::Bound | LaunchState::Ended => Style::Plain,
    };
    let state = if launch.isolated {
        format!("{}, isolated", launch.state.name())
    } else {
        launch.state.name().to_owned()
    };
    let started = chrono::DateTime::parse_from_rfc3339(&launch.started_at);
    let started = started.map_or_else(|_| launch.started_at.clone(), |at| relative(&at, context));
    let folder = Path::new(&launch.cwd).file_name();
    let folder = folder.map_or(launch.cwd.as_str().into(), |name| name.to_string_lossy());
    let id = launch.session_id.as_deref().unwrap_or_default();
    [
        Cell::new(style, state),
        Cell::plain(&launch.profile),
        Cell::new(Style::Dim, started).value(&launch.started_at),
        Cell::plain(folder).value(printable(&launch.cwd)),
        Cell::plain(short_id(id)).value(id),
        Cell::plain(launch.title.clone().unwrap_or_default()),
    ]
}
