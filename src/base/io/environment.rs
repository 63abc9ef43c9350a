//! The process's environment as a value that is passed around: variables, programs and folders.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// In any order. Of two variables with one name the last one counts. A map takes longer to build than the few
    /// searches in this list.
    variables: Vec<(OsString, OsString)>,
    pub current_dir: PathBuf,
    pub home_dir: Option<PathBuf>,
}

impl Environment {
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            current_dir: std::env::current_dir().unwrap_or_default(),
            home_dir: dirs::home_dir(),
        }
    }

    /// Returns the value of a variable. An empty variable counts as unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let mut variables = self.variables.iter().rev();
        variables
            .find(|(stored, _)| is_same_name(stored, name))
            .map(|(_, value)| value.as_os_str())
            .filter(|v| !v.is_empty())
    }

    /// Returns the value of a variable if it is valid UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// Returns all variables, as a child process gets them.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables
            .retain(|(stored, _)| !is_same_name(stored, name));
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Returns `path` as an absolute path, with a leading `~` replaced by the home folder.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home_dir) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.current_dir.join(path),
        }
    }

    /// Returns the text of `path` for people, with `~` for the home folder.
    pub fn shorten_home(&self, path: &Path) -> String {
        let below_home = |home: &PathBuf| path.strip_prefix(home).ok();
        match self.home_dir.as_ref().and_then(below_home) {
            Some(rest) => Path::new("~").join(rest).display().to_string(),
            None => path.display().to_string(),
        }
    }

    /// Returns the path of a program as an absolute path. A name without a folder, which is searched on `PATH`, stays a
    /// name.
    pub fn absolute_program(&self, program: &Path) -> PathBuf {
        if program.components().count() > 1 {
            self.absolute(program)
        } else {
            program.to_path_buf()
        }
    }

    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut env = self.clone();
        env.variables
            .retain(|(stored, _)| !is_same_name(stored, name));
        env
    }

    /// Returns the folder for temporary files: `TMPDIR`, else `/tmp`. On Windows, the system names the folder.
    pub fn temp_dir(&self) -> PathBuf {
        if cfg!(windows) {
            return std::env::temp_dir();
        }
        self.get("TMPDIR")
            .map_or_else(|| "/tmp".into(), |dir| self.absolute(Path::new(dir)))
    }

    /// Finds an executable file: `program` if it is a path, else the first with this name in the folders
    /// of `PATH`.
    ///
    /// Relative and empty entries of `PATH` are ignored. They name a folder below the current one, which
    /// may be an untrusted repository, and the program may receive a login.
    pub fn find_program(&self, program: &Path) -> Option<PathBuf> {
        let is_path = program.components().count() > 1 || program.is_absolute();
        let candidates: Vec<_> = if is_path {
            vec![self.absolute(program)]
        } else {
            let folders = self.program_folders();
            folders.iter().map(|folder| folder.join(program)).collect()
        };

        let mut files = candidates
            .into_iter()
            .flat_map(|candidate| self.candidate_files(candidate));
        files.find(|path| is_executable(path))
    }

    pub fn program_folders(&self) -> Vec<PathBuf> {
        let folders = self.get("PATH").map(std::env::split_paths);
        let absolute = |folder: &PathBuf| folder.is_absolute();
        folders.into_iter().flatten().filter(absolute).collect()
    }

    #[cfg(not(windows))]
    #[allow(clippy::unused_self, reason = "Windows reads a variable")]
    fn candidate_files(&self, path: PathBuf) -> Vec<PathBuf> {
        vec![path]
    }

    /// Returns the files that a program's path without an extension may stand for, in the order of `PATHEXT`.
    #[cfg(windows)]
    fn candidate_files(&self, path: PathBuf) -> Vec<PathBuf> {
        // `PATHEXT` also lists scripts, which only a shell can start. A file without an extension cannot be started:
        // npm installs a script for Unix as `codex`, beside `codex.cmd`.
        const STARTABLE: [&str; 4] = ["com", "exe", "bat", "cmd"];
        let is_startable = |extension: &OsStr| {
            let mut startable = STARTABLE.iter();
            startable.any(|known_extension| extension.eq_ignore_ascii_case(known_extension))
        };

        if path.extension().is_some_and(is_startable) {
            return vec![path];
        }

        let listed = self.text("PATHEXT").unwrap_or(".COM;.EXE;.BAT;.CMD");
        let extensions = listed.split(';').map(|text| text.trim_start_matches('.'));
        extensions
            .filter(|extension| is_startable(OsStr::new(extension)))
            .map(|extension| {
                let mut name = path.clone().into_os_string();
                name.push(format!(".{extension}"));
                name.into()
            })
            .collect()
    }

    /// Returns a command with this environment, but only the absolute folders of `PATH`: the program may be a script
    /// whose interpreter is searched there.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The child gets only these variables. In tests, they differ from the environment of the process.
        command.env_clear().envs(self.variables());
        match std::env::join_paths(self.program_folders()) {
            Ok(folders) if !folders.is_empty() => command.env("PATH", folders),
            // An empty variable would mean the current folder.
            _ => command.env_remove("PATH"),
        };
        command
    }

    /// Parses the value of a variable such as `PAGER`: a program, with arguments or without. Words with blanks are in
    /// double quotes. `None` if the program is not found.
    pub fn parse_command(&self, value: &str) -> Option<Command> {
        // Windows' installers write paths with blanks and without quotes.
        if let Some(program) = self.find_program(Path::new(value)) {
            return Some(self.command(&program));
        }
        let mut words = split_quoted_words(value).into_iter();
        let program = self.find_program(Path::new(&words.next()?))?;
        let mut command = self.command(&program);
        command.args(words);
        Some(command)
    }
}

/// Windows ignores the case of names, and calls `PATH` `Path`.
fn is_same_name(stored: &OsStr, name: &str) -> bool {
    stored == name || cfg!(windows) && stored.eq_ignore_ascii_case(name)
}

/// Splits `text` at blanks outside of double quotes, and removes the quotes.
fn split_quoted_words(text: &str) -> Vec<String> {
    let mut is_quoted = false;
    let is_blank = |c: char| {
        // Each quote begins or ends a quoted part.
        if c == '"' {
            is_quoted = !is_quoted;
        }
        c.is_whitespace() && !is_quoted
    };
    let words = text.split(is_blank).filter(|word| !word.is_empty());
    words.map(|word| word.replace('"', "")).collect()
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        folder
    }

    fn with_path(folders: &[&Path]) -> Environment {
        let path = std::env::join_paths(folders).unwrap();
        Environment::default().with("PATH", path)
    }

    #[test]
    fn programs_are_found_in_absolute_folders_of_the_path_only() {
        let file = if cfg!(windows) { "tool.exe" } else { "tool" };
        let below = format!("below/{file}");
        let current = folder(&[file, &below]);
        let installed = folder(&[file]);
        let relative = [Path::new(""), Path::new("."), Path::new("below")];
        let find = |folders: &[&Path], wanted: &str| {
            let mut env = with_path(folders);
            env.current_dir = current.path().to_path_buf();
            let found = env.find_program(Path::new(wanted))?;
            // Windows spells extensions as `PATHEXT` does.
            let extension = found.extension().unwrap_or_default();
            Some(found.with_extension(extension.to_ascii_lowercase()))
        };
        assert_eq!(find(&relative, "tool"), None);
        let all = [&relative[..], &[installed.path()]].concat();
        assert_eq!(find(&all, "tool"), Some(installed.path().join(file)));
        // A path that the user gives is not searched for.
        let given = find(&[], "./tool").unwrap();
        assert_eq!(given, current.path().join("./tool").with_file_name(file));
    }

    #[test]
    fn children_get_the_absolute_folders_of_the_path_only() {
        let folder = folder(&[]);
        let path_of = |folders: &[&Path]| {
            let command = with_path(folders).command(Path::new("tool"));
            let mut variables = command.get_envs();
            let path = variables.find(|(name, _)| name.eq_ignore_ascii_case("PATH"));
            path.and_then(|(_, value)| value.map(OsStr::to_os_string))
        };
        let absolute = folder.path().as_os_str().to_os_string();
        let mixed = path_of(&[Path::new("."), folder.path(), Path::new("")]);
        assert_eq!(mixed, Some(absolute));
        assert_eq!(path_of(&[Path::new(".")]), None, "empty means here");
    }

    #[test]
    fn a_command_in_a_variable_may_have_blanks_and_quotes() {
        let file = if cfg!(windows) {
            "a tool.exe"
        } else {
            "a tool"
        };
        let folder = folder(&[file]);
        let program = folder.path().join(file);
        let text = program.to_str().unwrap();
        let env = with_path(&[folder.path()]);
        let parts = |text: &str| {
            let command = env.parse_command(text)?;
            let args = command.get_args().map(|arg| arg.to_str().unwrap());
            let args: Vec<_> = args.map(str::to_owned).collect();
            Some((PathBuf::from(command.get_program()), args))
        };
        let found = |args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned());
            Some((program.clone(), args.collect::<Vec<_>>()))
        };
        assert_eq!(parts(text), found(&[]));
        assert_eq!(parts(&format!("\"{text}\"")), found(&[]));
        let line = format!("\"{text}\"  -x \"b c\"");
        assert_eq!(parts(&line), found(&["-x", "b c"]));
        assert_eq!(parts("missing -x"), None);
        assert_eq!(parts(""), None);
    }

    #[cfg(windows)]
    #[test]
    fn variable_names_are_case_insensitive() {
        let env = Environment::default().with("Path", r"C:\tools");
        assert_eq!(env.text("PATH"), Some(r"C:\tools"));
        let env = env.with("PATH", r"C:\other");
        assert_eq!(env.text("path"), Some(r"C:\other"));
        assert_eq!(env.variables().count(), 1);
        assert_eq!(env.without("pAtH").variables().count(), 0);
    }

    #[cfg(windows)]
    #[test]
    fn a_program_is_found_by_the_extensions_of_pathext_that_can_be_started() {
        let folder = folder(&["codex", "codex.cmd", "codex.ps1", "tool.1.2.EXE", "x.js"]);
        let env = with_path(&[folder.path()]);
        let find = |env: &Environment, name: &str| {
            let path = env.find_program(Path::new(name))?;
            let name = path.file_name().unwrap().to_str().unwrap();
            Some(name.to_lowercase())
        };
        assert_eq!(find(&env, "codex"), Some("codex.cmd".into()));
        assert_eq!(find(&env, "tool.1.2"), Some("tool.1.2.exe".into()));
        assert_eq!(find(&env, "x"), None);
        let scripts = env.with("PATHEXT", ".JS;.EXE");
        assert_eq!(find(&scripts, "codex"), None);
        assert_eq!(find(&scripts, "codex.cmd"), Some("codex.cmd".into()));
        assert_eq!(find(&scripts, "x"), None);
    }

    #[cfg(windows)]
    #[test]
    fn temporary_files_are_in_an_existing_folder() {
        assert!(Environment::from_process().temp_dir().is_dir());
    }
}
