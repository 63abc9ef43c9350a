//! `notify`: shows news about accounts, backups and conversations on the desktop, each once.

use crate::context::Context;
use crate::doctor::find_newest_full_time;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::run_program::run_program;
use crate::ui::{object, time};
use crate::views::account::{full_time, label, read_accounts_and_profiles, with_verdict};
use chrono::TimeDelta;
use clap::Args;
use codex_manager_core::inventory::notices::{
    DesktopNotice, FILE_NAME, LOCK_NAME, NoticeKind, NoticeState,
};
use codex_manager_core::inventory::{losses, observations};
use codex_manager_core::io::{atomic, document, pluralize};
use codex_manager_core::quota::Account;
use codex_manager_core::quota::state::{AccountState, Verdict};
use codex_manager_core::vault::state;

/// The use of a window, in percent, that causes a notice.
const HIGH_USE_PERCENT: f64 = 80.0;

/// The environment variable with the text of a notice.
const NOTICE_VARIABLE: &str = "CODEX_MANAGER_NOTICE";

/// A toast of Windows. The text is passed in a variable, because PowerShell would expand it.
const TOAST: &str = r"
$manager = [Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = WindowsRuntime]
$toast = $manager::GetTemplateContent([Windows.UI.Notifications.ToastTemplateType]::ToastText02)
$texts = $toast.GetElementsByTagName('text')
$null = $texts.Item(0).AppendChild($toast.CreateTextNode('codex-manager'))
$null = $texts.Item(1).AppendChild($toast.CreateTextNode($env:CODEX_MANAGER_NOTICE))
$app = '{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\WindowsPowerShell\v1.0\powershell.exe'
$manager::CreateToastNotifier($app).Show([Windows.UI.Notifications.ToastNotification]::new($toast))";

/// Show news about accounts and backups on the desktop
///
/// Notifies of an account that is ready again, a quota window that is 80 % used, a banked reset that expires within
/// three days, a backup older than `notify.backup_days`, and conversations that lost messages. Shows each notice once.
/// Uses the last recorded figures and makes no query. The program is notify-send, osascript on macOS, PowerShell on
/// Windows, or the command of the setting `notify.command`, which gets the title and the text as its last two
/// arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager notify --dry-run
  codex-manager schedule install notify --every 10min --enable
  codex-manager config set notify.command /home/me/bin/tell-my-phone")]
pub(crate) struct NotifyArgs {
    /// Print the notices; show nothing, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl NotifyArgs {
    /// # Errors
    /// The accounts, the archives or the record of notices cannot be read, or a notification cannot be shown. A later
    /// run shows that notification.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let (accounts, _) = read_accounts_and_profiles(context)?;
        let accounts = accounts.into_iter().map(|a| with_verdict(a, context));
        let accounts: Vec<_> = accounts.collect();

        let mut current_notices = list_window_notices(&accounts, context);
        current_notices.extend(list_reset_notices(&accounts, context));
        current_notices.extend(make_backup_notice(context)?);
        current_notices.extend(make_loss_notice(context)?);
        current_notices.extend(make_gone_notice(context));

        let (notices, failure) = if self.dry_run {
            let state = document::read(&context.manager_path(FILE_NAME))?.good();
            let mut state = state.unwrap_or_default();
            update_state(&mut state, &accounts, &current_notices, context);
            (select_unseen(&state, &accounts, current_notices), None)
        } else {
            show_unseen(&accounts, current_notices, context)?
        };

        let json = object()
            .with("notices", &notices)
            .with("dry_run", self.dry_run);
        context.ui.document("notify", &json);
        for notice in &notices {
            context.ui.prose(&notice.message);
        }

        let Some(problem) = failure else {
            return Ok(Outcome::Done);
        };
        let message = format!("cannot show a notification: {problem}");
        Err(CommandError::failed(message)
            .hint("choose another program: codex-manager config set notify.command COMMAND"))
    }
}

/// Shows the unseen notices. Records and returns the notices that could be shown. Also returns the first problem.
fn show_unseen(
    accounts: &[(Account, Verdict)],
    current_notices: Vec<DesktopNotice>,
    context: &Context,
) -> Result<(Vec<DesktopNotice>, Option<String>)> {
    atomic::create_private_folder(context.manager_home())?;
    let path = context.manager_path(FILE_NAME);
    let lock = context.manager_path(LOCK_NAME);
    let mut failure = None;

    // The lock is held while the notices are shown, so that no other run shows them too. If a damaged record was moved
    // aside, current notices are shown again.
    let (shown, _moved_aside) = document::update(&path, &lock, |state: &mut NoticeState| {
        update_state(state, accounts, &current_notices, context);
        let mut notices = select_unseen(state, accounts, current_notices);
        notices.retain(|notice| match show_notification(&notice.message, context) {
            Ok(()) => {
                state.note_shown(notice);
                true
            }
            Err(problem) => {
                failure.get_or_insert(problem);
                false
            }
        });
        notices
    })?;
    Ok((shown, failure))
}

/// Records the accounts that wait for their quota, and forgets notices whose condition has ended.
fn update_state(
    state: &mut NoticeState,
    accounts: &[(Account, Verdict)],
    current_notices: &[DesktopNotice],
    context: &Context,
) {
    state.forget_ended(current_notices, &context.now());
    for (account, verdict) in accounts {
        if verdict.state == AccountState::Cooldown {
            state.note_cooldown(&account.entry.identity);
        }
    }
}

/// Returns the notices that the user has not seen: those of accounts that waited and are ready again, and those of
/// `current_notices`.
fn select_unseen(
    state: &NoticeState,
    accounts: &[(Account, Verdict)],
    current_notices: Vec<DesktopNotice>,
) -> Vec<DesktopNotice> {
    let mut unseen = Vec::new();
    for (account, verdict) in accounts {
        let identity = &account.entry.identity;
        if verdict.state == AccountState::Ready && state.is_waiting(identity) {
            let name = label(account);
            let (subject, no_end) = (observations::file_name(identity), None);
            unseen.push(DesktopNotice {
                kind: NoticeKind::AccountReady,
                message: format!("{name} is ready again"),
                account: Some(name),
                subjects: [(subject, no_end)].into(),
            });
        }
    }

    unseen.extend(current_notices.into_iter().filter(|n| state.is_unseen(n)));
    unseen
}

/// Returns a notice for each window that has not ended and is used by [`HIGH_USE_PERCENT`] or more.
fn list_window_notices(accounts: &[(Account, Verdict)], context: &Context) -> Vec<DesktopNotice> {
    let now = context.now();
    let mut notices = Vec::new();
    for (account, _) in accounts {
        let observations = account.entry.observation.iter();
        let windows = observations.flat_map(|observation| &observation.windows);
        for window in windows.filter(|w| w.used_percent >= HIGH_USE_PERCENT && !w.is_over(&now)) {
            let (name, quota) = (label(account), window.label());
            let reset_text = window.resets_at.map(|at| full_time(&at, context));
            let reset_text = reset_text.map_or(String::new(), |at| format!("; it resets {at}"));
            let key = observations::file_name(&account.entry.identity);
            let subject = format!("{key} {} {quota}", window.limit_id);

            // The reset time is a part of the subject, so that the user gets a new notice in the next window.
            notices.push(DesktopNotice {
                kind: NoticeKind::QuotaUsed,
                message: format!(
                    "{name} has used {:.0} % of its {quota} quota{reset_text}",
                    window.used_percent
                ),
                account: Some(name),
                subjects: [(subject, window.resets_at)].into(),
            });
        }
    }
    notices
}

/// Returns a notice for each account with a banked reset that expires soon.
fn list_reset_notices(accounts: &[(Account, Verdict)], context: &Context) -> Vec<DesktopNotice> {
    let expiring = accounts.iter().filter_map(|(account, _)| {
        let resets = account.entry.observation.as_ref()?.reset_credits.as_ref()?;
        let expiry = resets.next_expiry_if_soon(&context.now())?;
        let (name, at) = (label(account), full_time(&expiry, context));
        let key = observations::file_name(&account.entry.identity);

        Some(DesktopNotice {
            kind: NoticeKind::ResetExpires,
            message: format!("a banked reset of {name} expires {at}"),
            account: Some(name),
            subjects: [(format!("{key} banked reset"), Some(expiry))].into(),
        })
    });
    expiring.collect()
}

/// Returns a notice if the newest full archive and the newest snapshot are older than `notify.backup_days`, or if there
/// is neither. `None` without a Codex home. 0 days turn the notice off.
fn make_backup_notice(context: &Context) -> Result<Option<DesktopNotice>> {
    let days = context.settings.preferences.notify.backup_days;
    if days == 0 || !context.codex_home().is_dir() {
        return Ok(None);
    }

    let now = context.now();
    let archived_at = find_newest_full_time(&context.archives()?, now);
    let snapshot_at = state::read(context.manager_home())?.backed_up_at;
    let message = match archived_at.max(snapshot_at.map(|at| at.to_utc())) {
        Some(at) if now - at <= TimeDelta::days(days.into()) => return Ok(None),
        Some(at) => {
            let age = time::format_duration(now - at);
            format!("the newest backup is {age} old")
        }
        None => "there is no backup of the Codex home".into(),
    };

    let no_end = None;
    Ok(Some(DesktopNotice {
        kind: NoticeKind::OldBackup,
        account: None,
        message: format!("{message}; create one: codex-manager backup"),
        subjects: [("backup".into(), no_end)].into(),
    }))
}

/// Returns a notice of the conversations that vanished from the home, if they are a loss.
fn make_gone_notice(context: &Context) -> Option<DesktopNotice> {
    let mut gone = context.recorded_gone();
    gone.retain(|_, known| known.is_loss);
    let no_end = None;
    let subjects: std::collections::BTreeMap<_, _> = gone
        .keys()
        .map(|id| (format!("gone {id}"), no_end))
        .collect();
    let count = pluralize(subjects.len(), "conversation");
    let is_or_are = if subjects.len() == 1 { "is" } else { "are" };
    (!subjects.is_empty()).then(|| DesktopNotice {
        kind: NoticeKind::LostConversations,
        account: None,
        message: format!(
            "{count} {is_or_are} only in copies; list them: codex-manager history losses"
        ),
        subjects,
    })
}

/// Returns a notice of the conversations that lacked messages at the last check, if there are any.
fn make_loss_notice(context: &Context) -> Result<Option<DesktopNotice>> {
    let home = losses::home_key(context.codex_home());
    let record = losses::read(context.manager_home())?;
    let losses_of_home = record.losses.iter().filter(|loss| loss.home == home);
    let no_end = None;
    let subjects: std::collections::BTreeMap<_, _> = losses_of_home
        .map(|loss| (format!("losses {}", loss.session_id), no_end))
        .collect();

    let count = pluralize(subjects.len(), "conversation");
    Ok((!subjects.is_empty()).then(|| DesktopNotice {
        kind: NoticeKind::LostMessages,
        account: None,
        message: format!(
            "{count} lost messages that copies still have; list them: codex-manager history losses"
        ),
        subjects,
    }))
}

/// Shows a notification on the desktop.
///
/// # Errors
/// The program for notifications is not found or fails.
fn show_notification(text: &str, context: &Context) -> Result<(), String> {
    const TITLE: &str = "codex-manager";
    let user_command = context.settings.preferences.notify.command.as_deref();
    let (name, arguments) = match user_command {
        Some(user_command) => (user_command, vec![TITLE, text]),
        None if cfg!(windows) => {
            let arguments = ["-NoProfile", "-NonInteractive", "-Command", TOAST];
            ("powershell", arguments.to_vec())
        }
        None if cfg!(target_os = "macos") => {
            let script = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run";
            ("osascript", vec!["-e", script, TITLE, text])
        }
        None => ("notify-send", vec!["--app-name", TITLE, "--", TITLE, text]),
    };

    // Parsed, because the command of the user may contain arguments.
    let command = context.env.parse_command(name);
    let mut command = command.ok_or_else(|| format!("not found: {name}"))?;
    command.args(arguments).env(NOTICE_VARIABLE, text);
    let end = run_program(name, &mut command)?;
    end.problem.map_or(Ok(()), Err)
}
