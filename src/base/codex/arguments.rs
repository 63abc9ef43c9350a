//! Parses the command line of Codex 0.169: the selected mode, and the position for flags.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Options of any mode that take their value as the next argument.
const VALUE_OPTIONS: &str = "-C -a -c -i -m -o -p -s --add-dir --ask-for-approval --base --cd --color --commit --config \
    --cyber-access-program --disable --enable --image --local-provider --model --output-last-message --output-schema \
    --profile --remote --remote-auth-token-env --sandbox --thread-source --title";
/// Subcommands that open the terminal interface. Without a subcommand Codex opens it as well.
const INTERACTIVE_SUBCOMMANDS: &str = "resume fork agents";
/// Subcommands that run conversations in their own process, without the background daemon.
const BATCH_SUBCOMMANDS: &str = "exec e review";
/// Subcommands that run no conversation.
const ADMINISTRATIVE_SUBCOMMANDS: &str = "a app-server apply archive cloud completion debug delete doctor exec-server features \
    help login logout mcp mcp-server migrate-nfs-db migrate-rollouts plugin proto queue remote-control sandbox unarchive \
    update upgrade";

/// Subcommands that do not renew the login. Others do so, even `mcp list` and `features list` of Codex 0.171.
const SUBCOMMANDS_WITHOUT_RENEWAL: &str = "completion help login logout";

/// Returns true if `word` is one of `words`, which are separated by blanks.
fn is_among(words: &str, word: &str) -> bool {
    words.split(' ').any(|listed_word| listed_word == word)
}

/// The flag of the terminal interface that keeps the conversation out of the background daemon.
pub const NO_DAEMON: &str = "--no-daemon";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationMode {
    /// The terminal interface, which may hand the conversation to the background daemon.
    Interactive,
    /// `exec` or `review`: a conversation in the process itself, without the daemon.
    Batch,
    /// A subcommand without a conversation, such as `login`; also `--help` and `--version`.
    Administrative,
}

/// Returns true if the arguments ask for the help or the version, so that Codex does nothing else.
pub fn asks_for_help_or_version(arguments: &[OsString]) -> bool {
    iter_options(arguments)
        .any(|option| matches!(option.to_str(), Some("-h" | "--help" | "-V" | "--version")))
}

/// The arguments of one invocation, without the program name.
#[derive(Debug, Clone)]
pub struct Arguments<'a> {
    words: &'a [OsString],
    /// The indices in `words` of the positional arguments.
    positional_indices: Vec<usize>,
    pub mode: InvocationMode,
    /// The number of positional arguments that are subcommands: 2 for `exec resume`.
    subcommand_count: usize,
}

impl<'a> Arguments<'a> {
    /// Parses the arguments as clap does in Codex: the first positional argument selects the mode if it
    /// is a subcommand, and is a prompt otherwise.
    pub fn parse(words: &'a [OsString]) -> Self {
        let positional_indices = find_positional_indices(words);
        let options_end = words.iter().position(|argument| argument == "--");
        let subcommand_text = |depth: usize| {
            let index = *positional_indices.get(depth)?;
            // After `--`, a word is a prompt, even the name of a subcommand.
            if options_end.is_some_and(|end| index >= end) {
                return None;
            }
            words[index].to_str()
        };

        let (mode, subcommand_count) = match subcommand_text(0) {
            _ if asks_for_help_or_version(words) => (InvocationMode::Administrative, 0),
            Some(first) if is_among(INTERACTIVE_SUBCOMMANDS, first) => {
                (InvocationMode::Interactive, 1)
            }
            Some(first) if is_among(BATCH_SUBCOMMANDS, first) => {
                // `exec resume`, `exec fork` and `exec review` have a subcommand of their own.
                let is_nested = matches!(subcommand_text(1), Some("resume" | "fork" | "review"));
                (InvocationMode::Batch, if is_nested { 2 } else { 1 })
            }
            Some(first) if is_among(ADMINISTRATIVE_SUBCOMMANDS, first) => {
                (InvocationMode::Administrative, 1)
            }
            _ => (InvocationMode::Interactive, 0),
        };

        Self {
            words,
            positional_indices,
            mode,
            subcommand_count,
        }
    }

    /// Returns the subcommand, if there is one: `resume`, `exec`, `login`.
    pub fn subcommand(&self) -> Option<&'a str> {
        if self.subcommand_count == 0 {
            return None;
        }
        self.words[*self.positional_indices.first()?].to_str()
    }

    /// Returns true if Codex may renew the login of its home.
    pub(super) fn may_renew_login(&self) -> bool {
        let renews_none = |subcommand| is_among(SUBCOMMANDS_WITHOUT_RENEWAL, subcommand);
        !asks_for_help_or_version(self.words) && !self.subcommand().is_some_and(renews_none)
    }

    /// Returns the id or name of the conversation that `resume` or `exec resume` names. `None` for
    /// `--last` and the picker, where Codex itself chooses one.
    pub fn resumed_conversation(&self) -> Option<&'a str> {
        let is_chosen_by_codex = iter_options(self.words).any(|option| option == "--last");
        if !self.is_resume() || is_chosen_by_codex {
            return None;
        }
        let argument_index = *self.positional_indices.get(self.subcommand_count)?;
        self.words[argument_index].to_str()
    }

    /// Returns true if the invocation resumes an existing conversation, also one that Codex chooses.
    pub fn is_resume(&self) -> bool {
        let mut indices = self.positional_indices[..self.subcommand_count].iter();
        indices.any(|i| self.words[*i] == *"resume")
    }

    /// Returns true for `exec` with a prompt or with `resume`: a conversation that `exec resume` can continue.
    pub fn is_continuable_exec(&self) -> bool {
        matches!(self.subcommand(), Some("exec" | "e"))
            && (self.subcommand_count == 1 || self.is_resume())
    }

    /// Returns the arguments of an `exec` that continues the conversation `id` with `prompt`. Keeps all options except
    /// `--last` and `--all`, which choose a conversation.
    pub fn to_exec_resume(&self, id: &str, prompt: &str) -> Vec<OsString> {
        // Of the positional arguments, only the first one stays, which is `exec` or `e`.
        let stays = |i: &usize| match self.positional_indices.iter().position(|p| p == i) {
            Some(position) => position == 0,
            None => !["--", "--last", "--all"]
                .iter()
                .any(|word| self.words[*i] == *word),
        };
        let indices = (0..self.words.len()).filter(stays);
        let mut arguments: Vec<OsString> = indices.map(|i| self.words[i].clone()).collect();
        arguments.extend(["resume", id, "--", prompt].map(OsString::from));
        arguments
    }

    /// Returns the folder of the last `-C` or `--cd`, as it was typed.
    pub fn working_root(&self) -> Option<PathBuf> {
        self.option_values("-C", "--cd").pop().map(PathBuf::from)
    }

    /// Returns the value of a key of `config.toml` in the last `-c` or `--config` that sets it. Codex accepts strings
    /// without quotes.
    pub(super) fn config_override(&self, key: &str) -> Option<String> {
        let values = self.option_values("-c", "--config").into_iter().rev();
        let mut settings = values.map(|value| value.to_string_lossy().into_owned());
        settings.find_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (name.trim() == key).then(|| value.to_owned())
        })
    }

    /// Returns the values of an option that takes one, in their order.
    fn option_values(&self, short: &str, long: &str) -> Vec<OsString> {
        // Such as `--cd=FOLDER`, `-C=FOLDER` and `-CFOLDER`.
        let prefixes = [format!("{long}="), format!("{short}="), short.to_owned()];
        let mut values = Vec::new();
        let mut arguments = self.words.iter().take_while(|argument| *argument != "--");
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy();
            if [short, long].contains(&&*text) {
                // The next argument is the value.
                values.extend(arguments.next().cloned());
            } else if let Some(value) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))
            {
                values.push(value.into());
            }
        }
        values
    }

    /// Returns true if the arguments contain this option, with or without `=value`.
    pub fn has_option(&self, option: &str) -> bool {
        iter_options(self.words).any(|argument| {
            let text = argument.to_string_lossy();
            text.split_once('=').map_or(&*text, |(name, _)| name) == option
        })
    }

    /// Returns the arguments with `flag` inserted after the subcommand, where Codex accepts the flags of
    /// a mode.
    pub fn with_flag(&self, flag: &str) -> Vec<OsString> {
        let insert_at = match self.subcommand_count {
            0 => 0,
            count => self.positional_indices[count - 1] + 1,
        };
        let mut arguments = self.words.to_vec();
        arguments.insert(insert_at, flag.into());
        arguments
    }
}

/// Returns the options before a `--`.
fn iter_options(arguments: &[OsString]) -> impl Iterator<Item = &OsStr> {
    arguments
        .iter()
        .map(OsString::as_os_str)
        .take_while(|argument| *argument != "--")
        .filter(|argument| argument.as_encoded_bytes().starts_with(b"-"))
}

fn find_positional_indices(arguments: &[OsString]) -> Vec<usize> {
    let mut indices = Vec::new();
    let mut index = 0;
    while index < arguments.len() {
        let argument = arguments[index].to_string_lossy();
        if argument == "--" {
            // Everything after `--` is a prompt, even with a dash.
            indices.extend(index + 1..arguments.len());
            break;
        }

        if is_among(VALUE_OPTIONS, &argument) {
            // The value of the option is no positional argument.
            index += 1;
        } else if argument == "-" || !argument.starts_with('-') {
            indices.push(index);
        }

        index += 1;
    }

    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn mode_and_resumed_conversation_follow_from_the_subcommands_and_help_flags() {
        for (line, mode, resumed) in [
            ("", InvocationMode::Interactive, None),
            ("-m gpt-6 fix", InvocationMode::Interactive, None),
            ("-m exec", InvocationMode::Interactive, None),
            (
                "--model=x resume abc",
                InvocationMode::Interactive,
                Some("abc"),
            ),
            ("resume --last", InvocationMode::Interactive, None),
            ("resume --last prompt", InvocationMode::Interactive, None),
            ("-C resume fork abc", InvocationMode::Interactive, None),
            ("exec hello", InvocationMode::Batch, None),
            (
                "e -c a=b resume --json id-1 go",
                InvocationMode::Batch,
                Some("id-1"),
            ),
            ("exec review", InvocationMode::Batch, None),
            ("review", InvocationMode::Batch, None),
            ("login status", InvocationMode::Administrative, None),
            ("-c a=b logout", InvocationMode::Administrative, None),
            ("exec --help", InvocationMode::Administrative, None),
            ("--version", InvocationMode::Administrative, None),
            ("-- --version", InvocationMode::Interactive, None),
            ("-- login", InvocationMode::Interactive, None),
            ("exec -- resume abc", InvocationMode::Batch, None),
            ("resume -- abc", InvocationMode::Interactive, Some("abc")),
        ] {
            let words = words(line);
            let parsed = Arguments::parse(&words);
            assert_eq!(parsed.mode, mode, "{line}");
            assert_eq!(parsed.resumed_conversation(), resumed, "{line}");
        }
    }

    #[test]
    fn a_flag_is_inserted_between_subcommand_and_prompt() {
        for (line, with_flag) in [
            ("", "--no-daemon"),
            ("fix it", "--no-daemon fix it"),
            ("-m x resume abc", "-m x resume --no-daemon abc"),
            ("fork --last", "fork --no-daemon --last"),
        ] {
            let words = words(line);
            let flagged = Arguments::parse(&words).with_flag(NO_DAEMON);
            let flagged: Vec<_> = flagged.iter().map(|w| w.to_string_lossy()).collect();
            assert_eq!(flagged.join(" "), with_flag);
        }
    }

    #[test]
    fn a_continuation_keeps_the_options_and_replaces_the_prompt() {
        for (line, continued) in [
            ("exec fix", "exec resume id -- go"),
            ("-a never e -m x fix", "-a never e -m x resume id -- go"),
            ("exec --json -- -fix it", "exec --json resume id -- go"),
            ("exec resume --last -m x fix", "exec -m x resume id -- go"),
        ] {
            let words = words(line);
            let parsed = Arguments::parse(&words);
            assert!(parsed.is_continuable_exec(), "{line}");
            let continued_words = parsed.to_exec_resume("id", "go");
            assert_eq!(continued_words.join(OsStr::new(" ")), continued);
            assert_eq!(
                Arguments::parse(&continued_words).resumed_conversation(),
                Some("id")
            );
        }
    }

    #[test]
    fn help_and_the_subcommands_that_sign_in_renew_no_login() {
        for (line, renews) in [
            ("--version", false),
            ("exec --help", false),
            ("login", false),
            ("-c a=b logout", false),
            ("", true),
            ("-- login", true),
            ("exec fix", true),
            ("app-server", true),
            ("mcp list", true),
        ] {
            let words = words(line);
            assert_eq!(Arguments::parse(&words).may_renew_login(), renews, "{line}");
        }
    }

    #[test]
    fn an_interactive_run_a_review_and_a_fork_are_no_continuable_exec() {
        for line in [
            "",
            "fix",
            "exec review",
            "exec fork x",
            "review",
            "resume x",
        ] {
            assert!(
                !Arguments::parse(&words(line)).is_continuable_exec(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        for (line, root) in [
            ("--cd=/a exec -C b", Some("b")),
            ("-C b --cd=/a", Some("/a")),
            ("--cd /a -C/b", Some("/b")),
            ("exec -C=/b go", Some("/b")),
            ("exec -C a -- -C b", Some("a")),
            ("exec -- --cd=/a", None),
            ("-c C=1", None),
        ] {
            let words = words(line);
            let found = Arguments::parse(&words).working_root();
            assert_eq!(found, root.map(PathBuf::from), "{line}");
        }
        for (line, store) in [
            ("-c x=1 --config s='keyring'", Some("keyring")),
            ("-cs=auto exec --config=s=file go", Some("file")),
            ("-c sx=auto -- -c s=auto", None),
        ] {
            let words = words(line);
            let found = Arguments::parse(&words).config_override("s");
            assert_eq!(found.as_deref(), store, "{line}");
        }
        let words = words("--cd=/a");
        let parsed = Arguments::parse(&words);
        assert!(parsed.has_option("--cd") && !parsed.has_option("--worktree"));
    }
}
