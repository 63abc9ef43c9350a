//! Completion candidates: accounts, profiles, archives, conversations, settings. Reads files only, so that the shell
//! gets them within milliseconds; neither runs Codex nor writes anything.

use crate::config::KEYS;
use crate::context::{Flags, Settings, read_clock};
use crate::ui::time::format_absolute;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::codex::threads::{self, ChildThreads};
use codex_manager_core::inventory::archive_names::{LATEST, list_numbered, shortest_name};
use codex_manager_core::inventory::{cooldown, store};
use codex_manager_core::io::{Clock, Environment, ansi};
use std::ffi::OsStr;
use std::fs;

/// Attaches completers to all arguments whose value name (`ACCOUNT`, `ARCHIVE`, `KEY`, …) has candidates.
/// Because the value name decides, new commands need no code here.
pub(crate) fn attach_completers(command: Command) -> Command {
    let is_of_profile = false;
    attach_to_tree(command, is_of_profile)
}

/// The tag of the candidates that are ids of conversations.
pub(crate) const CONVERSATION_TAG: &str = "conversation";

/// The largest number of conversations that a shell offers.
const MAX_CONVERSATIONS: usize = 100;

const MAX_TITLE_CHARS: usize = 60;

/// Attaches completers to the arguments of `command` and its subcommands. `is_of_profile` is true for `profile` and its
/// subcommands, whose arguments `NAME` and `OLD` are profiles.
fn attach_to_tree(command: Command, is_of_profile: bool) -> Command {
    // `undelete` takes conversations in the trash, which are no candidates.
    let takes_trashed = command.get_name() == "undelete";

    command
        .mut_args(|arg| {
            let value_name = first_value_name(&arg);
            let completer: fn(&OsStr) -> Vec<CompletionCandidate> = match &*value_name {
                value_name if value_name.contains("ARCHIVE") && value_name.contains("ACCOUNT") => {
                    complete_archives_and_accounts
                }
                value_name if value_name.contains("ARCHIVE") => complete_archives,
                value_name if value_name.contains("ACCOUNT") => complete_accounts,
                "SESSION" if !takes_trashed => complete_conversations,
                "NAME" | "OLD" if is_of_profile => complete_profiles,
                "PROFILE" => complete_profiles,
                "KEY" => complete_settings,
                _ => return arg,
            };
            arg.add(ArgValueCompleter::new(completer))
        })
        .mut_subcommands(|subcommand| {
            let is_of_profile = is_of_profile || subcommand.get_name() == "profile";
            attach_to_tree(subcommand, is_of_profile)
        })
}

fn first_value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map(ToString::to_string).unwrap_or_default()
}

/// Returns the settings of the environment and of `config.toml`; `None` if they are invalid. Global flags on the
/// command line being completed are not considered.
fn resolve_settings() -> Option<Settings> {
    // The shell calls the program without its flags.
    let env = Environment::from_process();
    Settings::resolve(Flags::default(), &env).ok()
}

fn begins_with(name: &str, typed: &OsStr) -> bool {
    let typed = typed.to_string_lossy().to_lowercase();
    name.to_lowercase().starts_with(&typed)
}

/// Returns the candidates that start with the typed text, ignoring case.
fn select_matching(
    typed: &OsStr,
    all: impl IntoIterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    all.into_iter()
        .filter(|(name, _)| begins_with(name, typed))
        // A control character could end the shell's line or control the terminal.
        .filter(|(name, _)| !name.chars().any(char::is_control))
        .map(|(name, help)| CompletionCandidate::new(name).help(help.map(Into::into)))
        .collect()
}

fn complete_accounts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let load = |settings: Settings| {
        let now = Clock::System.now();
        cooldown::load(&settings.manager_home, &now, settings.zone).ok()
    };
    let Some(loaded) = resolve_settings().and_then(load) else {
        return Vec::new();
    };

    let mut candidates = Vec::new();
    for entry in loaded.file.accounts {
        let email = entry.identity.email.to_string();
        let profile = entry.profile.map(|name| (name, Some(email.clone())));
        // One candidate for each account: the profile, or the email if only the email begins with the typed text.
        let mut choices = profile.into_iter().chain([(email, None)]);
        candidates.extend(choices.find(|(name, _)| begins_with(name, typed)));
    }

    candidates.sort();
    candidates.dedup_by(|a, b| a.0 == b.0);
    select_matching(typed, candidates)
}

/// Returns the newest conversations, with their titles.
fn complete_conversations(typed: &OsStr) -> Vec<CompletionCandidate> {
    let env = Environment::from_process();
    let database = resolve_settings()
        .and_then(|settings| threads::find_state_database(&settings.codex_home, &env));
    let filter = ThreadFilter {
        children: ChildThreads::Omitted,
        ..ThreadFilter::default()
    };

    let threads = database.and_then(|database| threads::list(&database, &filter).ok());
    let threads = threads.unwrap_or_default().into_iter();
    let matching_threads = threads
        .filter(|thread| begins_with(&thread.id, typed))
        .take(MAX_CONVERSATIONS);
    let titled_ids = matching_threads.map(|thread| {
        let title = hide_secrets(&thread.title);
        let title = ansi::to_printable_line(&title);
        let short_title = title.chars().take(MAX_TITLE_CHARS).collect();
        (thread.id, Some(short_title))
    });

    let candidates = select_matching(typed, titled_ids).into_iter();
    candidates
        .map(|candidate| candidate.tag(Some(CONVERSATION_TAG.into())))
        .collect()
}

fn complete_profiles(typed: &OsStr) -> Vec<CompletionCandidate> {
    let folder = resolve_settings().map(|settings| settings.manager_home.join("profiles"));
    let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten();
    let profiles = entries.filter(|entry| entry.path().join("profile.json").is_file());
    let names = profiles.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.map(|name| (name, None)).collect();
    names.sort();
    select_matching(typed, names)
}

/// Returns the names of archives without the suffix, newest first. The help of each is the time of the backup.
fn complete_archives(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(settings) = resolve_settings() else {
        return Vec::new();
    };
    let clock = read_clock(&Environment::from_process()).unwrap_or(Clock::System);
    let now = clock.now();
    let records = store::list_archives(&settings.manager_home).unwrap_or_default();
    let archives = list_numbered(&records).into_iter().map(|record| {
        let made_at = record.metadata.made_at();
        let made_at = made_at.map(|at| format_absolute(&at.to_utc(), settings.zone, &now));
        (shortest_name(record), made_at)
    });
    select_matching(typed, archives)
}

fn complete_archives_and_accounts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let latest = (LATEST.to_owned(), Some("the newest archive".to_owned()));
    let mut candidates = select_matching(typed, [latest]);
    candidates.extend(complete_accounts(typed));
    candidates.extend(complete_archives(typed));
    candidates
}

fn complete_settings(typed: &OsStr) -> Vec<CompletionCandidate> {
    let keys = KEYS.map(|key| (key.name.to_owned(), Some(key.about.to_owned())));
    select_matching(typed, keys)
}
