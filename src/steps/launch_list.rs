//! Prints the list of launches, for `launches` and `sessions --launched`.

use crate::choices::account_choice::find_identity;
use crate::context::Context;
use crate::doctor::way_back::suggest_login;
use crate::error::{Outcome, Result};
use crate::ui::{Cell, Column, Style, Table, object};
use crate::views::account::{local_rfc3339, printable, relative_time, short_id, time_json};
use crate::views::conversation_usage::settle_launches;
use codex_manager_core::accounts::Profile;
use codex_manager_core::codex::folder_key::folder_name;
use codex_manager_core::codex::{Identity, read_login};
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::io::pluralize;
use codex_manager_core::io::shell::quote_if_needed;
use codex_manager_core::launch::record::{LaunchRecord, LaunchState};
use codex_manager_core::launch::registry::Launches;
use serde::Serialize;
use std::collections::HashMap;

const COLUMNS: [Column; 6] = [
    Column::new("STATE"),
    Column::new("PROFILE").shorten(8),
    Column::new("STARTED").rank(1),
    Column::new("FOLDER").rank(3).shorten(8),
    Column::new("CONVERSATION"),
    Column::new("TITLE").rank(2).shorten(8),
];

/// The number of newest launches that are shown without `--all`; older ones are shown while they run.
const DEFAULT_LAUNCHES: usize = 20;

/// Prints the newest [`DEFAULT_LAUNCHES`] launches and older ones that are running, or with `shows_all` all launches.
/// `profile` limits the list to one account. `command` is the name of the command in the JSON document.
///
/// # Errors
/// No account or several match `profile`, or the registry cannot be read or completed.
pub(crate) fn show_launches(
    command: &str,
    profile: Option<&str>,
    shows_all: bool,
    context: &Context,
) -> Result<Outcome> {
    let launches = settle_launches(context)?;
    let account = profile
        .map(|text| find_identity(text, context))
        .transpose()?;
    let (shown_records, total) = select_launches(&launches, account.as_ref(), shows_all);

    let live_auth = read_login(context.codex_home()).ok();
    let live_login = live_auth.as_ref().and_then(|auth| auth.login());
    let live_account = live_login.map(|login| &login.identity);

    let thread_ids = shown_records
        .iter()
        .filter_map(|record| Some(record.last_conversation()?.session_id.to_lowercase()));
    let titles = read_titles(context.codex_home(), &context.env, thread_ids.collect());
    // Without readable profiles, the list shows the recorded names.
    let profiles = context.profiles().list().unwrap_or_default();
    let to_listed = |record| ListedLaunch::new(record, &profiles, live_account, &titles);
    let listed_launches: Vec<_> = shown_records.into_iter().map(to_listed).collect();

    let rows = listed_launches.iter();
    let json: Vec<_> = rows.map(|launch| launch.to_json(context)).collect();
    context.ui.list_document(command, "sessions", &json);
    print_list(&listed_launches, total, profile, context);

    let unreadable_count = launches.count_unreadable_lines();
    if unreadable_count > 0 {
        context.warn(format_args!(
            "{} of launches.jsonl cannot be read and were skipped",
            pluralize(unreadable_count, "line")
        ));
    }
    Ok(Outcome::partial_if(unreadable_count > 0))
}

/// Returns the launches to show, and the number of all launches of the account.
fn select_launches(
    launches: &Launches,
    account: Option<&Identity>,
    shows_all: bool,
) -> (Vec<LaunchRecord>, usize) {
    let matches_account =
        |record: &LaunchRecord| account.is_none_or(|account| record.identity.is_same(account));
    let limit = if shows_all {
        usize::MAX
    } else {
        DEFAULT_LAUNCHES
    };
    let mut newest_launches = launches.newest_first().filter(matches_account);
    let mut shown_records: Vec<_> = newest_launches.by_ref().take(limit).collect();

    // `len` counts launches without parsing them, but of all accounts.
    let total = match account {
        None => launches.len(),
        Some(_) => shown_records.len() + newest_launches.count(),
    };

    // Running launches are shown even if they are older than the limit.
    let is_shown = |id: &str| shown_records.iter().any(|record| record.launch_id == id);
    let older_running: Vec<_> = launches
        .iter_unsettled()
        .filter(|record| matches_account(record) && !is_shown(&record.launch_id))
        .collect();
    shown_records.extend(older_running);
    (shown_records, total)
}

struct ListedLaunch {
    record: LaunchRecord,
    /// See [`LaunchRecord::current_profile`].
    profile: Option<String>,
    state: LaunchState,
    warning: Option<String>,
    title: Option<String>,
}

impl ListedLaunch {
    fn new(
        record: LaunchRecord,
        profiles: &[Profile],
        live: Option<&Identity>,
        titles: &HashMap<String, String>,
    ) -> Self {
        let state = record.state(record.is_running());
        let was_account_replaced = record.run.isolated_home.is_none()
            && live.is_none_or(|live| !live.is_same(&record.identity));

        // A Codex keeps the login that it started with, and may still renew it (Codex 0.169).
        let live_note = match live {
            Some(live) => format!("the live account is now {live}"),
            None => "no account is signed in any more".to_owned(),
        };
        let warning = if state == LaunchState::Running && was_account_replaced {
            Some(format!(
                "{live_note}; this Codex still uses {}",
                record.identity
            ))
        } else {
            record.binding.unbound_because.clone()
        };

        let conversation = record.last_conversation();
        let title = conversation.and_then(|c| titles.get(&c.session_id.to_lowercase()));
        Self {
            state,
            warning,
            title: title.cloned(),
            profile: record.current_profile(profiles).map(str::to_owned),
            record,
        }
    }

    /// Returns the JSON object of the launch. Its keys are an interface.
    fn to_json(&self, context: &Context) -> impl Serialize {
        let LaunchRecord { run, identity, .. } = &self.record;
        let conversation = self.record.last_conversation();
        let time = |at| time_json(at, context);
        // The last one is the conversation above.
        let earlier_conversations = self.record.binding.conversations.iter().rev().skip(1);
        let earlier_ids: Vec<_> = earlier_conversations.map(|c| &c.session_id).collect();

        object()
            .with("launch_id", &self.record.launch_id)
            .with("profile", &self.profile)
            .with("email", identity.email.as_str())
            .with("account_id", &identity.account_id)
            .with("started_at", local_rfc3339(&run.started_at, context))
            .with("ended_at", time(run.ended_at))
            .with("cwd", &run.cwd)
            .with("args", &run.args)
            .with("pid", self.pid())
            .with("state", self.state)
            .with("session_id", conversation.map(|c| &c.session_id))
            .with("rollout_path", conversation.map(|c| &c.rollout_path))
            .with(
                "first_token_count_at",
                time(conversation.and_then(|c| c.first_token_count_at)),
            )
            .with(
                "last_token_count_at",
                time(conversation.and_then(|c| c.last_token_count_at)),
            )
            .with("warning", &self.warning)
            .with("exit_code", run.exit_code)
            .with("isolated", run.isolated_home.is_some())
            .with("title", &self.title)
            .with("earlier_session_ids", earlier_ids)
    }

    fn pid(&self) -> Option<u32> {
        self.record.run.child.as_ref().map(|child| child.pid)
    }

    fn to_cells(&self, context: &Context) -> [Cell; 6] {
        let LaunchRecord { run, identity, .. } = &self.record;
        let email = identity.email.as_str();
        let style = match self.state {
            LaunchState::Running => Style::Good,
            LaunchState::Unbound => Style::Warn,
            LaunchState::Bound | LaunchState::Ended => Style::Plain,
        };

        let isolated_suffix = run.isolated_home.as_ref().map_or("", |_home| ", isolated");
        let folder = folder_name(&run.cwd).unwrap_or(&run.cwd);
        let conversation = self.record.last_conversation();
        let session_id = conversation.map_or("", |c| &c.session_id);

        [
            Cell::new(style, format!("{}{isolated_suffix}", self.state.name())),
            Cell::plain(self.profile.as_deref().unwrap_or(email)),
            Cell::new(Style::Dim, relative_time(&run.started_at, context))
                .value(local_rfc3339(&run.started_at, context)),
            Cell::plain(folder).value(printable(&run.cwd)),
            Cell::plain(short_id(session_id)).value(session_id),
            Cell::plain(self.title.clone().unwrap_or_default()),
        ]
    }
}

/// Prints the table, the warnings of the launches, and the number of older launches that are not shown.
fn print_list(launches: &[ListedLaunch], total: usize, profile: Option<&str>, context: &Context) {
    let ui = &context.ui;
    let rows = launches.iter().map(|launch| launch.to_cells(context));
    Table::with_rows(ui, COLUMNS, rows).print(ui);

    if launches.is_empty() {
        let profiles = context.profiles().list();
        let next_step = if profiles.is_ok_and(|profiles| profiles.is_empty()) {
            suggest_login(context).join("; ")
        } else {
            "start one: codex-manager launch PROFILE".into()
        };
        let of_profile = profile.map_or(String::new(), |profile| {
            format!(" of {}", printable(profile))
        });
        ui.note(format_args!(
            "there are no recorded launches{of_profile} yet; {next_step}"
        ));
        return;
    }

    for launch in launches {
        if let Some(warning) = &launch.warning {
            let pid = launch.pid();
            let pid_label = pid.map_or(String::new(), |pid| format!("PID {pid}: "));
            ui.warn(format_args!("{pid_label}{}", printable(warning)));
        }
    }

    if total > launches.len() {
        let argument = profile.map(|profile| format!(" {}", quote_if_needed(&printable(profile))));
        ui.note(format_args!(
            "{} older: codex-manager launches{} --all",
            total - launches.len(),
            argument.unwrap_or_default()
        ));
    }
}
