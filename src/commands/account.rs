//! An account as commands show it: the same facts in JSON and in words.

use crate::accounts::profile::{Profile, Profiles};
use crate::codex::auth::AuthFile;
use crate::codex::config::read_login;
use crate::codex::window::{SpendCap, Window};
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::accounts::{self, Account};
use crate::inventory::cooldown::{self, CooldownFile, LoginState};
use crate::io::clock::Timestamp;
use crate::quota::state::{self, Cause, State, Verdict};
use crate::quota::window::Source;
use crate::ui::time;
use crate::ui::windows::{SpendCapJson, WindowJson};
use crate::ui::{Style, Ui};
use serde::Serialize;

/// One account in JSON. Its keys are a contract.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AccountView {
    /// The label.
    pub(crate) email: String,
    /// The workspace account id.
    pub(crate) account_id: Option<String>,
    /// The profile that holds its login.
    pub(crate) profile: Option<String>,
    /// Ready, unknown or cooldown.
    pub(crate) state: State,
    /// Whether its login is at hand.
    pub(crate) login: LoginState,
    /// In cooldown: until when.
    pub(crate) next_available_at: Option<String>,
    /// When its weekly window began.
    pub(crate) session_start_at: Option<String>,
    /// When that window was first seen exhausted.
    pub(crate) quota_end_detected_at: Option<String>,
    /// When it was last used.
    pub(crate) last_used_at: Option<String>,
    /// When the figures were seen, or when the user held the account back.
    pub(crate) observed_at: Option<String>,
    /// Who said so.
    pub(crate) source: Option<Source>,
    /// The windows as they were seen.
    pub(crate) windows: Vec<WindowJson>,
    /// The limit on spending that was used up.
    pub(crate) spend_cap: Option<SpendCapJson>,
}

impl AccountView {
    /// An account in the state that was with_verdict.
    pub(crate) fn of(account: &Account, verdict: &Verdict, context: &Context) -> Self {
        let entry = &account.entry;
        let look = entry.observation.as_ref();
        let held = verdict.cause == Some(Cause::Held);
        let (source, observed_at) = if held {
            (Some(Source::Manual), entry.held_since)
        } else {
            (look.map(|l| l.source), look.map(|l| l.observed_at))
        };
        let time = |at: Option<Timestamp>| at.map(|at| local(&at, context));
        Self {
            email: entry.identity.email.to_string(),
            account_id: entry.identity.account_id.clone(),
            profile: entry.profile.clone(),
            state: verdict.state,
            login: account.login,
            next_available_at: time(verdict.next_available_at),
            session_start_at: time(verdict.session_start_at),
            quota_end_detected_at: time(verdict.quota_end_detected_at),
            last_used_at: time(entry.last_used_at),
            observed_at: time(observed_at),
            source,
            windows: look
                .map(|look| look.windows.as_slice())
                .unwrap_or_default()
                .iter()
                .map(|window| {
                    // In the local zone of now, whichever it was when the figure was seen.
                    WindowJson::from(&Window {
                        resets_at: window.resets_at.map(|at| context.settings.zone.at(&at)),
                        ..window.clone()
                    })
                })
                .collect(),
            spend_cap: look.and_then(|look| look.spend_cap).map(|cap| {
                SpendCapJson::from(SpendCap {
                    resets_at: cap.resets_at.map(|at| context.settings.zone.at(&at)),
                    ..cap
                })
            }),
        }
    }
}

/// RFC 3339 with the local offset.
pub(crate) fn local(at: &Timestamp, context: &Context) -> String {
    time::rfc3339(&at.to_utc(), context.settings.zone)
}

/// "Tue 24 Nov 15:55, in 3 d 4 h".
pub(crate) fn full(at: &Timestamp, context: &Context) -> String {
    time::full(&at.to_utc(), context.settings.zone, &context.now())
}

/// "Tue 24 Nov 15:55".
pub(crate) fn absolute(at: &Timestamp, context: &Context) -> String {
    time::absolute(&at.to_utc(), context.settings.zone, &context.now())
}

/// "in 3 d 4 h", "5 min ago", "now".
pub(crate) fn relative(at: &Timestamp, context: &Context) -> String {
    time::relative(&at.to_utc(), &context.now())
}

/// The profile's name, else the email: what a person calls the account.
pub(crate) fn label(account: &Account) -> String {
    let entry = &account.entry;
    let name = entry.profile.as_deref();
    printable(name.unwrap_or(entry.identity.email.as_str()))
}

/// Text from a file name or a document without anything that could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The beginning of `text`, at most `longest` characters with what says that there is more.
pub(crate) fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(longest - 1).collect();
    format!("{}…", beginning.trim_end())
}

/// The colour of a state.
pub(crate) fn style_of(state: State) -> Style {
    match state {
        State::Ready => Style::Good,
        State::Unknown => Style::Plain,
        State::Cooldown => Style::Warn,
    }
}

/// A bar of what is left of a window, eight characters wide.
pub(crate) fn bar(left_percent: f64) -> String {
    const WIDTH: usize = 8;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clamped to 0..=8"
    )]
    let mut full = (left_percent / 100.0 * WIDTH as f64)
        .round()
        .clamp(0.0, 8.0) as usize;
    // Something left is never drawn as nothing, nor something used as all of it.
    if full == 0 && left_percent >= 0.5 {
        full = 1;
    }
    if full == WIDTH && left_percent < 99.5 {
        full = WIDTH - 1;
    }
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full))
}

/// All accounts that are known: `cooldown.json` and the login of the live home. Warnings are said.
///
/// # Errors
/// `cooldown.json` was written by a newer version, or the file system refuses.
pub(crate) fn known_accounts(context: &Context) -> Result<Vec<Account>, CommandError> {
    let home = &context.settings.manager_home;
    let loaded = cooldown::load(home, &context.now(), context.settings.zone)?;
    warn_all(&context.ui, &loaded.warnings);
    Ok(accounts_with_live(context, loaded.file))
}

/// All accounts, and all profiles as they are on disk, whatever `cooldown.json` says of them.
///
/// # Errors
/// A document was written by a newer version, or the file system refuses.
pub(crate) fn accounts_and_profiles(
    context: &Context,
) -> Result<(Vec<Account>, Vec<Profile>), CommandError> {
    let home = &context.settings.manager_home;
    let mut loaded = cooldown::load(home, &context.now(), context.settings.zone)?;
    warn_all(&context.ui, &loaded.warnings);
    let profiles = Profiles::of(home).list()?;
    loaded.file.set_profiles(&profiles);
    let accounts = accounts_with_live(context, loaded.file);
    Ok((accounts, profiles))
}

/// The same for a document that is at hand.
pub(crate) fn accounts_with_live(context: &Context, file: CooldownFile) -> Vec<Account> {
    let live = read_login(&context.settings.codex_home).unwrap_or_else(|e| {
        context.ui.warn(format_args!("{e}: {}", e.source));
        AuthFile::Missing
    });
    accounts::known(&context.settings.manager_home, live.login(), file)
}

/// Says each warning.
pub(crate) fn warn_all(ui: &Ui, warnings: &[String]) {
    for warning in warnings {
        ui.warn(warning);
    }
}

/// Says what of something that is done could not be noted: no reason to say that it failed. Whether all
/// of it is noted.
pub(crate) fn warn_not_recorded(
    ui: &Ui,
    failures: impl IntoIterator<Item: Into<CommandError>>,
) -> bool {
    let told = failures.into_iter().map(|e| e.into().in_one_line());
    let mut told: Vec<String> = told.collect();
    // One file may stand in the way twice.
    told.dedup();
    for failure in &told {
        ui.warn(format_args!("done, but not noted: {failure}"));
    }
    told.is_empty()
}

/// An account with its state at the current time.
pub(crate) fn with_verdict(account: Account, context: &Context) -> (Account, Verdict) {
    let verdict = state::judge(&account.entry, &context.now());
    (account, verdict)
}
