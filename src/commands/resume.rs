//! `resume`: continues a conversation under the account to which it belongs.

use crate::choices::account_choice::{find_identity, pick_account};
use crate::choices::conversation_choice::{ChosenConversation, list_rows};
use crate::choices::conversation_picker::{ConversationPicker, ScreenEnd, empty_home_error};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::start_codex::StartArgs;
use crate::views::account::printable;
use clap::Args;
use codex_manager_core::accounts::Profile;
use codex_manager_core::codex::folder_key::is_same_folder;
use codex_manager_core::codex::{ARCHIVED_SESSIONS, Arguments, Identity, ThreadRow, read_login};
use codex_manager_core::history::rollout;
use codex_manager_core::io::shell;
use codex_manager_core::launch::binding;
use codex_manager_core::launch::registry::LaunchRegistry;
use std::ffi::OsString;

/// Continue a conversation under the account to which it belongs
///
/// Codex's own picker shows only conversations of the live account; this command finds all of them. The
/// account is that of the launch, else the one named in the conversation.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager resume --last
  codex-manager resume 01a1fd26
  codex-manager resume \"Fix the parser\" --isolated
  codex-manager resume 01a1fd26 -- exec \"continue\"
  codex-manager resume 01a1fd26 --wait --then \"continue\"
  codex-manager resume 01a1fd26 --profile work --rebind")]
pub(crate) struct ResumeArgs {
    /// An id, a title, the beginning of either, or the path of a rollout [default: a picker]
    #[arg(value_name = "SESSION")]
    session: Option<String>,
    /// The most recently changed conversation of this folder
    #[arg(long, conflicts_with = "session")]
    last: bool,
    /// The account, if the conversation names none
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// With --profile: use it even if the conversation belongs to another account
    #[arg(long, requires = "profile")]
    rebind: bool,
    /// Resume under the live account, without a record
    #[arg(long, conflicts_with_all = ["profile", "isolated", "wait"])]
    untracked: bool,
    #[command(flatten)]
    start: StartArgs,
    /// Arguments to pass to Codex; if the first is `exec`, Codex runs without its terminal interface
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// The account of a conversation, from its newest launch. Without a launch, from its rollout.
enum RecordedAccount {
    /// The account of a launch, one with a profile, or the live one.
    Known(Identity),
    /// An account without a profile: its account id, or its user id if the rollout has no account id.
    WithoutProfile(String),
    /// Neither a launch nor the rollout names an account.
    NotRecorded,
}

impl ResumeArgs {
    /// # Errors
    /// No conversation or several match, its account has no profile, or `--profile` names another
    /// account; see [`StartArgs::start`].
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        self.start.check_json(context)?;
        if self.session.is_none() && !self.last {
            return self.pick_and_resume(context);
        }

        let rows = list_rows(context)?;
        let conversation = match &self.session {
            Some(session) => ChosenConversation::find(&rows, session, context)?,
            None => find_last_in_current_folder(&rows, context)?,
        };

        check_rollout(&conversation, context)?;
        if !self.untracked {
            check_not_subagent(&conversation)?;
        }

        let resume_args = build_resume_args(&conversation.id, &self.args);
        let codex_args = match &self.start.then {
            // `codex exec` sends the prompt of --then without the screen of Codex.
            Some(prompt) if !Arguments::parse(&resume_args).is_continuable_exec() => {
                let exec_args = [&["exec".into()], self.args.as_slice()].concat();
                Arguments::parse(&exec_args).to_exec_resume(&conversation.id, prompt)
            }
            _ => resume_args,
        };

        if self.untracked {
            return self.start.run_directly(&codex_args, context);
        }

        let account = self.choose_account(&conversation, context)?;
        self.start
            .start(&account, &codex_args, Some(&conversation.id), context)
    }

    /// Returns the account of `--profile`, or the account of the conversation. If both are missing, the user picks one.
    fn choose_account(
        &self,
        conversation: &ChosenConversation<'_>,
        context: &Context,
    ) -> Result<Identity> {
        let recorded = find_recorded_account(conversation, context)?;
        if let Some(profile) = &self.profile {
            let named_account = find_identity(profile, context)?;
            if !self.rebind {
                check_same_account(&named_account, &recorded)?;
            }
            return Ok(named_account);
        }

        match recorded {
            RecordedAccount::Known(account) => Ok(account),
            RecordedAccount::WithoutProfile(account_id) => Err(CommandError::refused(format!(
                "the conversation belongs to the account {account_id}, which has no profile"
            ))
            .hint("sign in to it: codex-manager profile login NAME")
            .hint("or continue under another account: --profile NAME --rebind")),
            RecordedAccount::NotRecorded => {
                let notice = "the account of this conversation is unknown";
                // With an API key, Codex records no account, and the API key may be the only login.
                if context.profiles().list()?.is_empty() {
                    return Err(CommandError::failed(notice).hint(
                        "continue it under the live account, without a record: --untracked",
                    ));
                }
                pick_account(notice, context).map_err(|e| {
                    e.hint("name the account with --profile NAME, or continue without a record: --untracked")
                })
            }
        }
    }

    fn pick_and_resume(mut self, context: &Context) -> Result<Outcome> {
        let picker = ConversationPicker {
            usage: &[
                "name it: codex-manager resume SESSION",
                "or take the last one of this folder: codex-manager resume --last",
            ],
            ..ConversationPicker::default()
        };

        match picker.run(context)? {
            ScreenEnd::Chosen(id) => {
                self.session = Some(id);
                self.run(&context.asking_before_switch())
            }
            ScreenEnd::Done(outcome) => Ok(outcome),
        }
    }
}

/// Returns the most recently changed conversation of the current folder, without archived conversations, subagents and
/// side conversations. `rows` are newest first.
fn find_last_in_current_folder<'r>(
    rows: &'r [ThreadRow],
    context: &Context,
) -> Result<ChosenConversation<'r>> {
    if rows.is_empty() {
        return Err(empty_home_error(context));
    }

    // `codex resume --last` of Codex 0.169 skips conversations of other accounts, and silently begins a new one.
    let folder = &context.env.current_dir;
    let mut offered = rows.iter().filter(|row| !row.archived && !row.is_child);
    let Some(last_row) = offered.find(|row| is_same_folder(&row.cwd, folder)) else {
        let message = format!(
            "no conversation was begun in exactly this folder: {}",
            folder.display()
        );
        return Err(CommandError::failed(message)
            .hint("list those of the folders below it: codex-manager sessions --here")
            .hint("choose one on a terminal: codex-manager resume"));
    };
    Ok(ChosenConversation::from_row(last_row, context.codex_home()))
}

/// Refuses a conversation that Codex cannot resume. Codex itself would fail only after the switch to the account.
fn check_rollout(conversation: &ChosenConversation<'_>, context: &Context) -> Result<()> {
    let home = context.codex_home();
    let find_recorded =
        |row: &ThreadRow| rollout::find_resumable_rollout(home, &row.rollout_path, &row.id);
    let recorded_rollout = conversation.row.and_then(find_recorded);

    let rollout = if let Some(path) = &recorded_rollout {
        path.as_path()
    } else {
        let rollout = conversation.require_rollout(context)?;
        if !rollout::is_resumable_rollout_of(rollout, &conversation.id) {
            return Err(conversation.unusable_rollout_error(context));
        }
        // Codex 0.169 searches for the rollout only if its database does not list the conversation.
        if conversation.row.is_some() {
            let path = rollout.display();
            return Err(CommandError::failed(format!(
                "Codex's list does not name the rollout of the conversation: {path}"
            ))
            .hint("correct the list: codex-manager history repair"));
        }
        rollout
    };

    // Codex 0.171 decides by the folder, not by the row in its database.
    if rollout.starts_with(home.join(ARCHIVED_SESSIONS)) {
        let id = printable(&conversation.id);
        return Err(CommandError::refused(format!(
            "Codex does not resume an archived conversation: {id}"
        ))
        .hint(format!("unarchive it first: codex unarchive {id}")));
    }
    Ok(())
}

/// Refuses a subagent that Codex 0.171 continues only through the conversation that started it.
fn check_not_subagent(conversation: &ChosenConversation<'_>) -> Result<()> {
    let head = conversation.rollout.as_deref().map(rollout::read_head);
    // Without a readable head, nothing shows that the conversation is a subagent.
    let Some(Ok(Some(head))) = head else {
        return Ok(());
    };
    match head.spawn_parent_id() {
        Some(parent) if head.text("multi_agent_version") == Some("v2") => {
            let id = printable(&conversation.id);
            let message = format!("Codex does not resume the conversation of a subagent: {id}");
            let parent = shell::quote_if_needed(parent);
            Err(CommandError::refused(message)
                .hint(format!(
                    "resume the conversation that started it: codex-manager resume {parent}"
                ))
                .hint(format!("read it: codex-manager show {id}")))
        }
        _ => Ok(()),
    }
}

/// Returns the account of the newest launch of a conversation. Without a launch, returns the creator that its rollout
/// names.
fn find_recorded_account(
    conversation: &ChosenConversation<'_>,
    context: &Context,
) -> Result<RecordedAccount> {
    let launches = LaunchRegistry::of(context.manager_home()).read()?;
    if let Some(record) = launches.find_by_session(&conversation.id) {
        return Ok(RecordedAccount::Known(record.identity));
    }

    let rollout = conversation.rollout.as_deref();
    let Some(creator) = rollout.and_then(binding::read_creator) else {
        return Ok(RecordedAccount::NotRecorded);
    };

    // Codex may record only the user id or only the account id, so a missing id counts as equal.
    let is_compatible = |known: &Option<String>, recorded: &Option<String>| {
        known.is_none() || recorded.is_none() || known == recorded
    };

    let profiles = context.profiles().list()?;
    let live_auth = read_login(context.codex_home())?;
    let known_account = profiles
        .iter()
        .filter_map(Profile::identity)
        .chain(live_auth.login().map(|login| &login.identity))
        .find(|identity| {
            identity.is_known()
                && is_compatible(&identity.account_id, &creator.account_id)
                && is_compatible(&identity.user_id, &creator.user_id)
        });

    // A rollout that names its creator has at least one of the ids.
    let creator_id = creator.account_id.or(creator.user_id).unwrap_or_default();
    Ok(match known_account {
        Some(identity) => RecordedAccount::Known(identity.clone()),
        None => RecordedAccount::WithoutProfile(creator_id),
    })
}

/// Refuses another account than the recorded one. Any account may continue a conversation without a recorded one.
fn check_same_account(named_account: &Identity, recorded: &RecordedAccount) -> Result<()> {
    let recorded_text = match recorded {
        RecordedAccount::NotRecorded => return Ok(()),
        RecordedAccount::Known(account) if account.is_same(named_account) => return Ok(()),
        RecordedAccount::Known(account) => account.to_string(),
        RecordedAccount::WithoutProfile(account_id) => account_id.clone(),
    };

    Err(CommandError::refused(format!(
        "the conversation belongs to {recorded_text}, not to {named_account}"
    ))
    .hint("to continue under its own account, leave out --profile")
    .hint("to continue under the named one, add --rebind; Codex may not show it there"))
}

/// Returns the arguments with which Codex resumes a conversation. A leading `exec` of `args` stays in
/// front.
fn build_resume_args(id: &str, args: &[OsString]) -> Vec<OsString> {
    let resume_args: &[OsString] = &["resume".into(), id.into()];
    match args {
        // Codex expects `exec`, then `resume ID`, then all other arguments.
        [exec, other_args @ ..] if exec == "exec" || exec == "e" => {
            [std::slice::from_ref(exec), resume_args, other_args].concat()
        }
        _ => [resume_args, args].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_stays_before_the_resume_subcommand() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(Into::into).collect() };
        assert_eq!(
            build_resume_args("id", &words("exec --json go")),
            words("exec resume id --json go")
        );
        assert_eq!(
            build_resume_args("id", &words("-m x")),
            words("resume id -m x")
        );
    }
}
