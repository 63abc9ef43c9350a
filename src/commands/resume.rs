//! `resume`: a conversation goes on under the account that it belongs to.

use super::account::{printable, shortened};
use super::launch::{named, pick, run_directly};
use super::launches::short_id;
use super::start_codex::StartArgs;
use crate::accounts::profile::{Profile, Profiles};
use crate::codex::identity::Identity;
use crate::codex::threads::{self, ThreadRow};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::launch::binding;
use crate::launch::registry::Registry;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How many conversations the picker offers.
const MAX_PICKER_ENTRIES: usize = 20;

/// How much of a title the picker shows, in characters.
const TITLE_CHARS: usize = 54;

/// Go on with a conversation under the account that it belongs to
///
/// Codex's own picker shows only conversations of the account that is signed in; this finds all of
/// them. The account is that of the launch, else the one that the conversation itself names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager resume --last
  codex-manager resume 01a1fd26
  codex-manager resume \"Fix the parser\" --isolated
  codex-manager resume 01a1fd26 -- exec \"go on\"
  codex-manager resume 01a1fd26 --profile work --rebind")]
pub(crate) struct ResumeArgs {
    /// An id, the beginning of one, or a name [default: a picker]
    #[arg(value_name = "SESSION")]
    session: Option<String>,
    /// The conversation of this folder that changed last
    #[arg(long, conflicts_with = "session")]
    last: bool,
    /// The account, where the conversation names none
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// With --profile: also where the conversation belongs to another account
    #[arg(long, requires = "profile")]
    rebind: bool,
    /// Resume under the account that is signed in, without a record
    #[arg(long, conflicts_with_all = ["profile", "isolated"])]
    untracked: bool,
    #[command(flatten)]
    start: StartArgs,
    /// Arguments of Codex; `exec` first runs it without the terminal interface
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// A conversation that can go on.
#[derive(Debug)]
struct ResumeTarget {
    id: String,
    rollout: Option<PathBuf>,
}

/// Whose conversation it is.
#[derive(Debug)]
enum ConversationOwner {
    /// An account that is known here.
    Known(Identity),
    /// An account without a profile, by its workspace id.
    Unknown(String),
    /// Nothing says.
    Unnamed,
}

impl ResumeArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// No conversation or several fit; its account is not known, or another one was named; see
    /// `StartArgs::start`.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let conversation = self.conversation(context)?;
        let args = resume_args(&conversation.id, &self.args);
        if self.untracked {
            return Err(run_directly(&args, context));
        }
        let owner = owner(&conversation, context)?;
        let account = match (&self.profile, owner) {
            (Some(text), owner) => {
                let wanted = named(text, context)?;
                if !self.rebind {
                    check_same(&wanted, &owner)?;
                }
                wanted
            }
            (None, ConversationOwner::Known(account)) => account,
            (None, ConversationOwner::Unknown(account_id)) => {
                return Err(CommandError::refused(format!(
                    "the conversation belongs to the account {account_id}, which has no profile here"
                ))
                .hint("sign in to it: codex-manager profile login NAME")
                .hint("or go on under another account: --profile NAME --rebind"));
            }
            (None, ConversationOwner::Unnamed) => {
                let question = "nothing says whose conversation this is; which account?";
                pick(question, context).map_err(|e| {
                    e.hint("name the account with --profile NAME, or go on without a record: --untracked")
                })?
            }
        };
        self.start
            .start(&account, &args, Some(&conversation.id), context)
    }

    fn conversation(&self, context: &Context) -> Result<ResumeTarget, CommandError> {
        let rows = rows(context)?;
        let home = &context.settings.codex_home;
        let Some(text) = &self.session else {
            let row = if self.last {
                last_of_folder(&rows, context)?
            } else {
                pick_conversation(&rows, context)?
            };
            return Ok(of_row(row, home));
        };
        match find(&rows, text)? {
            Some(row) => Ok(of_row(row, home)),
            // One that Codex does not list.
            None => match binding::find_rollout(home, text) {
                Some(rollout) => Ok(ResumeTarget {
                    id: text.clone(),
                    rollout: Some(rollout),
                }),
                None => Err(CommandError::failed(format!(
                    "no conversation has this id or name: {}",
                    printable(text)
                ))
                .hint("choose one on a terminal: codex-manager resume")
                .hint("see what Codex does not list: codex-manager history check")),
            },
        }
    }
}

/// Every conversation that Codex lists and that is not archived, by the last change.
fn rows(context: &Context) -> Result<Vec<ThreadRow>, CommandError> {
    let home = &context.settings.codex_home;
    let Some(database) = threads::find_state_database(home, &context.env) else {
        return Ok(Vec::new());
    };
    let rows = threads::fold(&database, Vec::new, Vec::push)
        .map_err(|e| CommandError::failed("cannot read the conversations of Codex").because(e))?;
    let mut rows = rows.unwrap_or_default();
    rows.sort_by_key(|row| (row.archived, std::cmp::Reverse(row.updated_ms)));
    Ok(rows)
}

fn of_row(row: &ThreadRow, home: &Path) -> ResumeTarget {
    let path = PathBuf::from(&row.rollout_path);
    ResumeTarget {
        id: row.id.clone(),
        rollout: Some(path)
            .filter(|path| path.exists())
            .or_else(|| binding::find_rollout(home, &row.id)),
    }
}

/// The conversation that `text` names: a whole id, the beginning of one, or a name.
fn find<'a>(rows: &'a [ThreadRow], text: &str) -> Result<Option<&'a ThreadRow>, CommandError> {
    let id = text.to_lowercase();
    let called = |row: &ThreadRow| row.given_name().is_some_and(|name| name == text);
    let tests: [&dyn Fn(&ThreadRow) -> bool; 3] =
        [&|row| row.id == id, &|row| row.id.starts_with(&id), &called];
    for test in tests.into_iter().filter(|_| !text.trim().is_empty()) {
        let mut fitting = rows.iter().filter(|row| test(row));
        match (fitting.next(), fitting.count()) {
            (None, _) => {}
            (Some(row), 0) => return Ok(Some(row)),
            (Some(_), more) => {
                return Err(CommandError::failed(format!(
                    "{} may be one of {} conversations",
                    printable(text),
                    more + 1
                ))
                .hint("type more of the id"));
            }
        }
    }
    Ok(None)
}

fn last_of_folder<'a>(
    rows: &'a [ThreadRow],
    context: &Context,
) -> Result<&'a ThreadRow, CommandError> {
    let here = &context.env.current_dir;
    let mut all = rows.iter().filter(|row| !row.archived);
    all.find(|row| Path::new(&row.cwd) == here).ok_or_else(|| {
        CommandError::failed(format!(
            "no conversation in this folder: {}",
            here.display()
        ))
        .hint("choose one on a terminal: codex-manager resume")
    })
}

/// Lets the user choose: those of this folder, else all.
fn pick_conversation<'a>(
    rows: &'a [ThreadRow],
    context: &Context,
) -> Result<&'a ThreadRow, CommandError> {
    let here = &context.env.current_dir;
    let listed = || rows.iter().filter(|row| !row.archived);
    let mut offered: Vec<_> = listed()
        .filter(|row| Path::new(&row.cwd) == here)
        .take(MAX_PICKER_ENTRIES)
        .collect();
    if offered.is_empty() {
        offered = listed().take(MAX_PICKER_ENTRIES).collect();
    }
    let choices: Vec<_> = offered
        .iter()
        .map(|row| {
            let title = row.given_name().unwrap_or(&row.title);
            let title = title.lines().next().unwrap_or_default();
            let short = short_id(&row.id);
            format!("{short}  {}", printable(&shortened(title, TITLE_CHARS)))
        })
        .collect();
    let chosen = context.ui.pick("which conversation?", &choices);
    chosen.map(|i| offered[i]).ok_or_else(|| {
        CommandError::usage("which conversation?")
            .hint("codex-manager resume SESSION, or --last for the last one of this folder")
    })
}

/// Whose conversation it is: that of the launch that ran it, else the creator that its rollout names.
fn owner(
    conversation: &ResumeTarget,
    context: &Context,
) -> Result<ConversationOwner, CommandError> {
    let manager_home = &context.settings.manager_home;
    let launches = Registry::of(manager_home).read()?;
    if let Some(record) = launches.of_session(&conversation.id) {
        return Ok(ConversationOwner::Known(record.identity));
    }
    let Some((user, account)) = conversation.rollout.as_deref().and_then(binding::creator) else {
        return Ok(ConversationOwner::Unnamed);
    };
    let agrees = |known: &Option<String>, written: &Option<String>| {
        known.is_none() || written.is_none() || known == written
    };
    let profiles = Profiles::of(manager_home).list()?;
    let live = crate::codex::config::read_login(&context.settings.codex_home)?;
    let known = profiles
        .iter()
        .filter_map(Profile::identity)
        .chain(live.login().map(|login| &login.identity))
        .find(|identity| {
            identity.is_known()
                && agrees(&identity.account_id, &account)
                && agrees(&identity.user_id, &user)
        });
    Ok(match known {
        Some(identity) => ConversationOwner::Known(identity.clone()),
        None => ConversationOwner::Unknown(account.or(user).unwrap_or_default()),
    })
}

fn check_same(wanted: &Identity, owner: &ConversationOwner) -> Result<(), CommandError> {
    let of = match owner {
        ConversationOwner::Unnamed => return Ok(()),
        ConversationOwner::Known(owner) if owner.is_same(wanted) => return Ok(()),
        ConversationOwner::Known(owner) => owner.to_string(),
        ConversationOwner::Unknown(account_id) => account_id.clone(),
    };
    Err(
        CommandError::refused(format!("the conversation belongs to {of}, not to {wanted}"))
            .hint("leave --profile out to go on under its own account")
            .hint("--rebind goes on under the named one; Codex may refuse to show it there"),
    )
}

/// The arguments that make Codex resume a conversation; `exec` in front of `args` stays in front.
fn resume_args(id: &str, args: &[OsString]) -> Vec<OsString> {
    let is_exec = args
        .first()
        .is_some_and(|first| first == "exec" || first == "e");
    let (mode, rest) = args.split_at(usize::from(is_exec));
    let mut all = mode.to_vec();
    all.extend(["resume".into(), id.into()]);
    all.extend_from_slice(rest);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str) -> ThreadRow {
        ThreadRow {
            id: id.into(),
            name: name.into(),
            is_paginated: true,
            ..ThreadRow::default()
        }
    }

    #[test]
    fn a_session_is_an_id_its_beginning_or_a_name() {
        let rows = [row("01ab", ""), row("01ac", "Fix it"), row("02", "01ab")];
        let found = |text: &str| {
            let found = find(&rows, text).map_err(|e| e.to_string());
            found.map(|row| row.map(|row| row.id.clone()))
        };
        assert_eq!(
            found("01AB"),
            Ok(Some("01ab".into())),
            "an id wins over a name"
        );
        assert_eq!(found("0"), Err("0 may be one of 3 conversations".into()));
        assert_eq!(
            found("01a"),
            Err("01a may be one of 2 conversations".into())
        );
        assert_eq!(found("Fix it"), Ok(Some("01ac".into())));
        assert_eq!(found("nothing"), Ok(None));
        assert_eq!(found(" "), Ok(None));
    }

    #[test]
    fn exec_stays_in_front() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(Into::into).collect() };
        assert_eq!(
            resume_args("id", &words("exec --json go")),
            words("exec resume id --json go")
        );
        assert_eq!(resume_args("id", &words("-m x")), words("resume id -m x"));
    }
}
