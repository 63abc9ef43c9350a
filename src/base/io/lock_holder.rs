//! The process that holds a lock, for messages.

use super::clock::Clock;
use super::processes::{self, Process};
use std::fmt;
use std::path::Path;

/// The process that holds a lock, as far as the system shows it. Linux shows the processes of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The id and the description.
    process: Option<(u32, String)>,
    pub(super) is_stopped: bool,
}

impl LockHolder {
    /// Finds the process that holds the lock on the file at `path`, of which only the existence may be known.
    pub fn find(path: &Path) -> Self {
        let process = processes::find_lock_holder(path);
        let pid = process.as_ref().map(Process::pid);
        Self {
            is_stopped: pid.is_some_and(processes::is_stopped),
            process: process.map(|process| (process.pid(), describe(&process))),
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process")?;
        match &self.process {
            Some((pid, process)) if self.is_stopped => {
                write!(
                    f,
                    " ({process}, stopped; continue it with: kill -CONT {pid})"
                )
            }
            Some((_, process)) => write!(f, " ({process})"),
            None => Ok(()),
        }
    }
}

/// Describes a process by its id, its command and its age: "PID 4711, codex-manager storage trash, for 5 min".
fn describe(process: &Process) -> String {
    let pid = process.pid();
    let command = format_command(process);
    let started_at = processes::started_at(pid);
    let age = started_at.map(|at| (Clock::System.now() - at).num_seconds().max(0));
    let age = age.map_or_else(String::new, |age| format!(", for {}", format_age(age)));
    format!("PID {pid}, {command}{age}")
}

/// Returns the name of the program with its verb and subcommand. Other arguments may be texts or names of the user.
fn format_command(process: &Process) -> String {
    let arguments = process.arguments();
    let mut words = arguments.iter().map(|word| word.to_string_lossy());
    let program = words.next().unwrap_or_default();
    let name = Path::new(&*program).file_name().unwrap_or_default();
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '-';
    let is_verb = |word: &str| !word.starts_with('-') && word.chars().all(is_letter);
    let verbs = words.take_while(|word| is_verb(word)).take(2);
    verbs.fold(name.to_string_lossy().into_owned(), |text, verb| {
        format!("{text} {verb}")
    })
}

fn format_age(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let ages = [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(format_age);
        assert_eq!(
            ages,
            ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d"]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_holder_of_a_lock_is_named_through_a_link_and_that_of_a_free_file_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("lock"), folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let lock = super::super::FileLock::acquire(&path).unwrap();
        let named = format!("another process (PID {}, ", std::process::id());
        for path in [&path, &link] {
            let text = LockHolder::find(path).to_string();
            assert!(text.starts_with(&named), "{text}");
            assert!(!text.contains("stopped"), "{text}");
        }
        let free = folder.path().join("free");
        std::fs::write(&free, "").unwrap();
        assert_eq!(LockHolder::find(&free).to_string(), "another process");
        drop(lock);
    }
}
