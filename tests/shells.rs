//! Prompts and completion in real shells.

use crate::cooldown::{entry, write_cooldown};
use crate::support::env::TestEnv;
use crate::support::sample::{FIRST, SECOND, backup, sample_home};
use crate::support::skips::skip;
use crate::support::{create_pipe, write_program};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns true if `shell` is installed. A test without its shell is skipped.
pub(crate) fn has(shell: &str) -> bool {
    let found = ["/usr/bin", "/bin"]
        .iter()
        .any(|d| Path::new(d).join(shell).exists());
    if !found {
        skip(shell, "it is not installed");
    }
    found
}

/// Creates Alice's home with an archive, and puts the program on PATH.
fn world() -> TestEnv {
    let env = TestEnv::new();
    sample_home(&env);
    backup(&env, &[]);
    let later = "2026-11-24T15:55:00Z";
    write_cooldown(&env, &[entry("alice@example.com", 40.0, later)]);
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_codex-manager"),
        env.path("bin/codex-manager"),
    )
    .unwrap();
    env
}

/// Replaces the program by a script that writes the arguments of each `command` to a pipe, and then
/// runs the program.
fn report_to(env: &TestEnv, command: &str) {
    std::fs::remove_file(env.path("bin/codex-manager")).unwrap();
    create_pipe(&env.path("context")).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in {command}) echo \"$*\" > '{}';; esac\nexec '{}' \"$@\"\n",
        env.path("context").display(),
        env!("CARGO_BIN_EXE_codex-manager")
    );
    write_program(&env.path("bin/codex-manager"), &script);
}

/// Starts a process that waits for the next message of the script, with a time limit.
fn wait_for_message(env: &TestEnv) -> std::process::Child {
    let mut listener = shell(env, "timeout");
    listener.args(["60", "cat"]).arg(env.path("context"));
    listener.stdout(Stdio::piped()).spawn().expect("listen")
}

fn text(listener: std::process::Child) -> String {
    let printed = listener.wait_with_output().expect("wait");
    String::from_utf8(printed.stdout).expect("text")
}

/// Returns a program in the test environment.
fn shell(env: &TestEnv, name: &str) -> Command {
    let mut command = env.other_program(name);
    command.current_dir(env.path("home"));
    command
}

#[track_caller]
fn printed(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.is_empty(),
        "{}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).expect("text")
}

const BASH: &str = r#"
PS1='$ '; PROMPT_COMMAND='code=$?'
. ./hook; . ./hook
draw() { for command in "${PROMPT_COMMAND[@]}"; do eval "$command"; done; printf '%s|' "${PS1@P}"; }
false; draw; first=$_codex_manager_next
printf '%s|' "$code"
draw
test "$first" -gt 1000 && test "$first" = "$_codex_manager_next" || echo "asked again"
CODEX_MANAGER_HOME=/nonexistent CODEX_HOME=/nonexistent
export CODEX_MANAGER_HOME CODEX_HOME
draw
"#;

/// Writes the output of `hook SHELL` to the file `hook` in the home folder. Its code names the program, whatever `PATH`
/// leads to later.
fn write_hook(env: &TestEnv, shell: &str, format: &str) {
    let code = env.run(["hook", shell, "--format", format]).code(0).stdout;
    env.write("home/hook", code);
}

#[test]
fn bash_shows_the_account_and_refreshes_in_the_background() {
    let env = world();
    write_hook(&env, "bash", "{label}%");
    report_to(&env, "status");
    let listener = wait_for_message(&env);
    let mut bash = shell(&env, "bash");
    bash.args(["--noprofile", "--norc", "-c", BASH]);
    let shown = printed(bash.output().expect("bash"));
    // Loading twice has no effect. The exit code is preserved. Without an account there are no brackets.
    assert_eq!(
        shown,
        "[alice@example.com%] $ |1|[alice@example.com%] $ |$ |"
    );
    assert_eq!(text(listener), "status --quiet --if-older 1800s\n");
}

#[test]
fn a_shell_startup_file_that_is_sourced_twice_shows_the_account_once() {
    let env = world();
    let once = |shell: &str, setting: &str| {
        format!("{setting}; eval \"$(codex-manager hook {shell} --format '{{label}}%')\"\n")
    };
    let settings = once("bash", "PS1='$ '").repeat(2);
    let show = "for c in \"${PROMPT_COMMAND[@]}\"; do eval \"$c\"; done; \
                printf '%s|%s' \"${PS1@P}\" \"${PROMPT_COMMAND[*]}\"";
    let mut bash = shell(&env, "bash");
    bash.args(["--noprofile", "--norc", "-uc", &(settings + show)]);
    assert_eq!(
        printed(bash.output().expect("bash")),
        "[alice@example.com%] $ | _codex_manager_prompt"
    );
    // A script that reads the file has no prompt, and stays so.
    let mut bash = shell(&env, "bash");
    let settings = once("bash", "unset PS1") + "echo \"${PS1-none}\"";
    bash.args(["--noprofile", "--norc", "-uc", &settings]);
    assert_eq!(printed(bash.output().expect("bash")), "none\n");
    if !has("zsh") {
        return;
    }
    let settings = once("zsh", "PROMPT='$ '").repeat(2);
    let show =
        "for f in $precmd_functions; do $f; done; print -nP -- \"$PROMPT|$#precmd_functions\"";
    let mut zsh = shell(&env, "zsh");
    zsh.args(["-fuc", &(settings + show)]);
    assert_eq!(
        printed(zsh.output().expect("zsh")),
        "[alice@example.com%] $ |1"
    );
}

const ZSH: &str = r#"
PROMPT='$ '
. ./hook; . ./hook
for f in $precmd_functions; do $f; done
print -nP -- "$PROMPT|"
export CODEX_MANAGER_HOME=/nonexistent CODEX_HOME=/nonexistent
for f in $precmd_functions; do $f; done
print -nP -- "$PROMPT|"
"#;

#[test]
fn zsh_shows_the_account_and_refreshes_in_the_background() {
    if !has("zsh") {
        return;
    }
    let env = world();
    write_hook(&env, "zsh", "{label}%");
    report_to(&env, "status");
    let listener = wait_for_message(&env);
    let mut zsh = shell(&env, "zsh");
    let shown = printed(zsh.args(["-f", "-c", ZSH]).output().expect("zsh"));
    assert_eq!(shown, "[alice@example.com%] $ |$ |");
    assert_eq!(text(listener), "status --quiet --if-older 1800s\n");
}

/// Runs an interactive bash with `settings` as its startup file, and returns what it prints for two commands.
fn bash_session(env: &TestEnv, settings: &str) -> (String, String) {
    let settings = env.write("home/settings", settings);
    let input = env.write("home/input", "false | true | false\n(exit 3)\n");
    let mut bash = shell(env, "bash");
    bash.args(["--noprofile", "--rcfile"]).arg(settings);
    let input = std::fs::File::open(input).expect("open");
    let output = bash.arg("-i").stdin(input).output().expect("bash");
    let [out, messages] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (out, messages)
}

// Where other programs stand in PROMPT_COMMAND, before and after the hook.
const OTHER_PROMPT_COMMANDS: [(&str, &str); 6] = [
    ("PROMPT_COMMAND=p", ""),
    ("PROMPT_COMMAND='p; '", ""),
    ("PROMPT_COMMAND=(p p)", ""),
    (
        "",
        "PROMPT_COMMAND=\"${PROMPT_COMMAND:+$PROMPT_COMMAND;}p\"",
    ),
    (
        "",
        "PROMPT_COMMAND=\"p${PROMPT_COMMAND:+;$PROMPT_COMMAND}\"",
    ),
    ("readonly status=x", "PROMPT_COMMAND+=(p)"),
];

#[test]
fn bash_gives_other_prompt_commands_the_exit_codes_of_the_whole_pipe() {
    let env = world();
    write_hook(&env, "bash", "{label}");
    let print = "p() { echo \"$? ${PIPESTATUS[*]}\"; }\nPS1='$ '\n";
    for (before, after) in OTHER_PROMPT_COMMANDS {
        let (plain, _) = bash_session(&env, &format!("{print}{before}\n{after}\n"));
        assert!(
            plain.contains("1 1 0 1\n") && plain.contains("3 3\n"),
            "{plain}"
        );
        let (shown, messages) =
            bash_session(&env, &format!("{print}{before}\n. ~/hook\n{after}\n"));
        assert_eq!(shown, plain, "{before} {after}");
        assert!(!messages.contains("readonly"), "{messages}");
        assert!(messages.contains("[alice@example.com] $ "), "{messages}");
    }
}

#[test]
fn bash_before_5_1_runs_the_hook_after_the_other_prompt_commands() {
    let env = world();
    write_hook(&env, "bash", "{label}");
    let hook = std::fs::read_to_string(env.path("home/hook")).expect("read");
    // bash 5.0 uses the first element only.
    let hook = hook.replace("-ge 501", "-ge 9900");
    for before in ["PROMPT_COMMAND=p", "PROMPT_COMMAND='p; '"] {
        let settings =
            format!("p() {{ echo \"$? ${{PIPESTATUS[*]}}\"; }}\nPS1='$ '\n{before}\n{hook}\n");
        let (shown, messages) = bash_session(&env, &settings);
        assert!(shown.contains("1 1 0 1\n3 3\n"), "{shown}");
        assert!(messages.contains("[alice@example.com] $ "), "{messages}");
    }
}

/// Texts that shells evaluate in some prompts.
const EVALUATED: &str = "$(>ran) `>ran` $((1+1)) $HOME %n %# {label}";
const SHOWN: &str = "[$(>ran) `>ran` $((1+1)) $HOME %n %# alice@example.com]";

#[test]
fn a_prompt_shows_the_text_of_the_hook_and_runs_nothing_in_it() {
    let env = world();
    write_hook(&env, "bash", EVALUATED);
    let (_, messages) = bash_session(&env, "PS1='$ '\n. ~/hook\n");
    assert!(messages.contains(&format!("{SHOWN} $ ")), "{messages}");
    if has("zsh") {
        write_hook(&env, "zsh", EVALUATED);
        // With the option, the user's own prompt is evaluated; without it, it is not.
        for (option, user) in [("prompt_subst", "2"), ("no_prompt_subst", "$((1+1))")] {
            let script = format!(
                "setopt {option}; PROMPT='$((1+1)) '; . ./hook; $precmd_functions; print -rP -- $PROMPT"
            );
            let mut zsh = shell(&env, "zsh");
            let shown = printed(zsh.args(["-fc", &script]).output().expect("zsh"));
            assert_eq!(shown, format!("{SHOWN} {user} \n"), "{option}");
        }
    }
    if has("fish") {
        write_hook(&env, "fish", EVALUATED);
        let script = "source ./hook; emit fish_prompt; fish_prompt";
        let mut fish = shell(&env, "fish");
        let shown = printed(
            fish.args(["--no-config", "-c", script])
                .output()
                .expect("fish"),
        );
        assert!(shown.starts_with(SHOWN), "{shown}");
    }
    assert!(!env.path("home/ran").exists());
}

#[test]
fn zsh_changes_no_option_and_is_silent_under_strict_ones() {
    if !has("zsh") {
        return;
    }
    let env = world();
    write_hook(&env, "zsh", "{label}");
    let script = "setopt warn_create_global no_unset ksh_arrays; before=$(setopt); \
                  theme() { PROMPT='$ '; }; precmd_functions=(theme); . ./hook; . ./hook; \
                  draw() { local f; for f in ${precmd_functions[@]}; do $f; done; print -rP -- \"$PROMPT\"; }; draw; draw; \
                  [[ $before = $(setopt) ]] || echo changed";
    let mut zsh = shell(&env, "zsh");
    let shown = printed(zsh.args(["-fc", script]).output().expect("zsh"));
    assert_eq!(shown, "[alice@example.com] $ \n".repeat(2));
}

#[test]
fn a_hook_names_the_binary_if_the_path_leads_to_a_launcher() {
    let env = world();
    std::fs::remove_file(env.path("bin/codex-manager")).unwrap();
    let launcher = "#!/bin/sh\necho launcher\n";
    write_program(&env.path("bin/codex-manager"), launcher);
    // The path has what each shell and each file treats in its own way.
    let binary = env.path("it's a \"$x\" `y` #z/codex-manager");
    std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
    // In a process of its own: a file that this one has open for writing cannot be run by its other threads' children.
    let mut copy = env.other_program("cp");
    let copy = copy.arg(env!("CARGO_BIN_EXE_codex-manager")).arg(&binary);
    printed(copy.output().expect("cp"));
    let hook = |arguments: &[&str]| {
        let mut command = env.other_program(&binary);
        let output = command.arg("hook").args(arguments).output().expect("hook");
        printed(output)
    };
    for (name, arguments, draw) in [
        (
            "bash",
            "--noprofile --norc -c",
            "_codex_manager_prompt; echo \"${PS1@P}\"",
        ),
        ("zsh", "-fc", "$precmd_functions; print -rP -- $PROMPT"),
        (
            "fish",
            "--no-config -c",
            "emit fish_prompt; fish_prompt; echo",
        ),
    ] {
        if !has(name) {
            continue;
        }
        env.write("home/hook", hook(&[name, "--format", "{label}"]));
        let script = format!("PS1='$ '; . ./hook; {draw}");
        let script = if name == "fish" {
            format!("source ./hook; {draw}")
        } else {
            script
        };
        let mut command = shell(&env, name);
        let shown = printed(
            command
                .args(arguments.split(' '))
                .arg(script)
                .output()
                .unwrap(),
        );
        assert!(shown.starts_with("[alice@example.com] "), "{name}: {shown}");
        // --wrap: the path leads to a program.
        env.write("home/hook", hook(&[name, "--wrap"]) + "\ncodex --version\n");
        let mut command = shell(&env, name);
        let shown = command.arg("./hook").output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(!shown.contains("launcher"), "{name}: {shown}");
    }
    let server: toml_edit::DocumentMut = hook(&["mcp"]).parse().expect("TOML");
    let command = server["mcp_servers"]["codex-manager"]["command"].as_str();
    assert_eq!(command, binary.to_str());
    let module: toml_edit::DocumentMut = hook(&["starship", "--format", "{label}"])
        .parse()
        .expect("TOML");
    let command = module["custom"]["codex"]["command"]
        .as_str()
        .expect("a command");
    let mut sh = shell(&env, "sh");
    assert_eq!(
        printed(sh.args(["-c", command]).output().unwrap()),
        "alice@example.com\n"
    );
    let tmux = hook(&["tmux"]);
    assert!(tmux.contains("it'\\\\''s a "), "{tmux}");
}

const FISH: &str = r#"
function fish_prompt; printf '%s:%s\n$ ' $status "$pipestatus"; end
source ./hook; source ./hook
emit fish_prompt; false | true | false; fish_prompt; printf '|'
set -gx CODEX_MANAGER_HOME /nonexistent
set -gx CODEX_HOME /nonexistent
emit fish_prompt; true; fish_prompt; printf '|'
"#;

#[test]
fn fish_shows_the_account_and_refreshes_in_the_background() {
    if !has("fish") {
        return;
    }
    let env = world();
    write_hook(&env, "fish", "{label}%");
    report_to(&env, "status");
    let listener = wait_for_message(&env);
    let mut fish = shell(&env, "fish");
    let shown = printed(
        fish.args(["--no-config", "-c", FISH])
            .output()
            .expect("fish"),
    );
    // The user's own prompt still gets the exit code of the last command, on each of its lines.
    assert_eq!(shown, "[alice@example.com%] 1:1 0 1\n$ |0:0\n$ |");
    assert_eq!(text(listener), "status --quiet --if-older 1800s\n");
}

#[test]
fn tmux_accepts_the_snippet_and_its_command_prints_the_account() {
    if !has("tmux") {
        return;
    }
    let env = world();
    let snippet = env.run(["hook", "tmux", "--format", "{label} \"it's\" $x"]);
    let conf = env.write("tmux.conf", snippet.code(0).stdout);
    let mut tmux = shell(&env, "tmux");
    tmux.arg("-S").arg(env.path("socket")).arg("-f").arg(&conf);
    tmux.args(["start-server", ";", "source-file"]).arg(&conf);
    for option in ["status-right", "status-right-length", "@codex_manager"] {
        tmux.args([";", "show-options", "-gv", option]);
    }
    let options = printed(tmux.output().expect("tmux"));
    let options: Vec<_> = options.lines().collect();
    let [right, length, shown] = options[..] else {
        panic!("{options:?}");
    };
    // Loading twice has no effect. The status line has space for the account.
    assert_eq!(right.matches("#{E:@codex_manager}").count(), 1, "{right}");
    assert_eq!(length, "120");
    let (_, job) = shown.split_once("#(").expect("a job");
    let job = job.strip_suffix(')').expect("the end of the job");
    let mut sh = shell(&env, "sh");
    let shown = printed(sh.args(["-c", job]).output().expect("sh"));
    assert_eq!(shown, "alice@example.com \"it's\" $x\n");
}

#[test]
fn the_starship_hook_is_valid_toml_and_its_command_works() {
    let env = world();
    let snippet = env
        .run(["hook", "starship", "--format", "{label} \"it's\" \\"])
        .code(0)
        .stdout;
    let module: toml_edit::DocumentMut = snippet.parse().expect("TOML");
    let command = module["custom"]["codex"]["command"]
        .as_str()
        .expect("a command");
    let mut sh = shell(&env, "sh");
    let shown = printed(sh.args(["-c", command]).output().expect("sh"));
    assert_eq!(shown, "alice@example.com \"it's\" \\\n");
}

#[test]
fn instructions_for_agents_ignore_the_options_of_a_prompt() {
    let env = TestEnv::new();
    let plain = env.run(["hook", "agents"]).code(0).stdout;
    let run = env.run(["hook", "agents", "--every", "1s", "--format", "{nope}"]);
    assert_eq!(run.code(0).stdout, plain);
}

#[test]
fn a_hook_with_invalid_arguments_is_refused() {
    let env = TestEnv::new();
    for args in [
        &["hook", "bash", "--every", "5s"][..],
        &["hook", "bash", "--format", "{nope}"],
        &["hook", "bash", "--format", "a\nb"],
        &["hook", "cmd"],
    ] {
        let run = env.run(args).code(4);
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn a_prompt_answers_from_the_profiles_if_reading_the_cooldown_file_would_never_end() {
    let env = world();
    // The cache is a pipe without a writer, so reading it never ends.
    let cache = env.manager_home().join("cooldown.json");
    std::fs::remove_file(&cache).unwrap();
    create_pipe(&cache).unwrap();
    let run = env.run(["recommend", "--format", "{email}"]);
    assert!(run.stderr.contains("not a regular file"), "{run}");
    assert!(run.code(0).stdout.contains('@'));
}

#[test]
fn status_if_older_does_not_query_a_recent_figure_again() {
    let env = world();
    // The figure is an hour old. Codex is not installed, so a query would fail.
    let run = env.run(["status", "--if-older", "2h"]).code(0);
    assert!(run.stdout.contains("60 % left"), "{run}");
    let _ = env.run(["status", "--if-older", "30min"]).code(6);
    let _ = env.run(["status", "--if-older", "soon"]).code(4);
}

const COMPLETE_BASH: &str = r#"
source <(codex-manager completions bash)
try() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
  _clap_complete_codex_manager codex-manager "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  echo "${COMPREPLY[*]}"
}
try codex-manager list-backups --account ali
try codex-manager restore lat
try codex-manager verify 2026
try codex-manager config get prune.keep_w
try codex-manager config un
complete -p codex-manager | grep -c _clap_complete_codex_manager
case "$COMP_WORDBREAKS" in *@*) echo "an email is cut";; esac
"#;

#[test]
fn bash_completes_accounts_archives_and_settings() {
    let env = world();
    let mut bash = shell(&env, "bash");
    let output = bash
        .args(["--noprofile", "--norc", "-c", COMPLETE_BASH])
        .output();
    insta::assert_snapshot!(printed(output.expect("bash")), @r"
    alice@example.com
    latest
    2026-11-20-120000-alice@example.com
    prune.keep_within prune.keep_weekly
    unset
    1
    ");
}

#[test]
fn fish_completes_accounts_archives_and_settings() {
    if !has("fish") {
        return;
    }
    let env = world();
    let script = "codex-manager completions fish | source
complete -C 'codex-manager list-backups --account ali'
complete -C 'codex-manager verify 2026'";
    let mut fish = shell(&env, "fish");
    let shown = printed(
        fish.args(["--no-config", "-c", script])
            .output()
            .expect("fish"),
    );
    insta::assert_snapshot!(shown, @r"
    alice@example.com
    2026-11-20-120000-alice@example.com	Fri 20 Nov 12:00
    ");
}

#[test]
fn zsh_loads_the_completion_script_and_gets_candidates() {
    if !has("zsh") {
        return;
    }
    let env = world();
    let script = "autoload -Uz compinit; compinit -D -u
source <(codex-manager completions zsh)
print -- ${_comps[codex-manager]}
_CLAP_COMPLETE_INDEX=3 CODEX_MANAGER_COMPLETE=zsh codex-manager -- codex-manager list-backups --account ali";
    let mut zsh = shell(&env, "zsh");
    let shown = printed(zsh.args(["-f", "-c", script]).output().expect("zsh"));
    insta::assert_snapshot!(shown, @r"
    _clap_dynamic_completer_codex_manager
    alice@example.com
    ");
}

/// A function `try` for each shell that prints the candidates of a command line, and the gap before a title.
const OFFERS: [(&str, &[&str], &str, &str); 3] = [
    (
        "bash",
        &["--noprofile", "--norc", "-c"],
        r#"source <(codex-manager completions bash)
try() {
  COMP_WORDS=(codex-manager "$@"); COMP_CWORD=$#; COMP_TYPE=63
  _clap_complete_codex_manager codex-manager "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  printf '%s\n' "${COMPREPLY[@]}" | sort; echo ::
}"#,
        "  ",
    ),
    (
        "zsh",
        &["-f", "-c"],
        r#"try() {
  _CLAP_COMPLETE_INDEX=$# CODEX_MANAGER_COMPLETE=zsh codex-manager -- codex-manager "$@" | sort; echo ::
}"#,
        ":",
    ),
    (
        "fish",
        &["--no-config", "-c"],
        "codex-manager completions fish | source
function try; complete -C \"codex-manager $argv\" | sort; echo ::; end",
        "\t",
    ),
];

#[test]
fn shells_offer_titles_of_conversations_one_name_of_each_account_and_options_after_a_dash() {
    for (name, args, script, gap) in OFFERS.iter().filter(|(name, ..)| has(name)) {
        let env = world();
        let mut alice = entry("alice@example.com", 40.0, "2026-11-24T15:55:00Z");
        alice["profile"] = "work".into();
        write_cooldown(&env, &[alice]);
        let script = format!(
            "{script}\ntry show ''; try show {}; try use ''; try use ali; try show --js; try resume ''; try export ''",
            &SECOND[..9]
        );
        let output = shell(&env, name).args(*args).arg(script).output();
        let shown = printed(output.expect("the shell"));
        let shown: Vec<_> = shown.split("::\n").collect();
        let titled = |id: &str| format!("{id}{gap}a title\n");
        assert_eq!(shown[0], titled(FIRST) + &titled(SECOND), "{name}");
        let second = shown[1].trim_end();
        assert_eq!(
            second
                .strip_suffix("a title")
                .unwrap_or(second)
                .trim_end_matches(gap),
            SECOND
        );
        assert_eq!(
            shown[2].trim_end().split(gap).next(),
            Some("work"),
            "{name}"
        );
        assert_eq!(shown[3].trim_end(), "alice@example.com", "{name}");
        assert!(shown[4].starts_with("--json"), "{name}: {shown:?}");
        assert_eq!(shown[5..7], [shown[0]; 2], "{name}");
    }
}

#[test]
fn bash_completion_has_no_expandable_text_and_shows_titles_only_in_a_list() {
    let env = world();
    let titles = [
        (FIRST, "why does $(touch PWN) `fail`; \\ 'it' \"is\" !!"),
        (SECOND, "explain *.py globs?"),
    ];
    let database = rusqlite::Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    for (id, title) in titles {
        let change = "UPDATE threads SET title=?1 WHERE id=?2";
        assert_eq!(database.execute(change, [title, id]), Ok(1));
    }
    std::fs::write(env.path("home/$(touch PWN).tar.gz"), "").unwrap();
    let script = r#"source <(codex-manager completions bash)
shopt -s nullglob
try() {
  COMP_WORDS=(codex-manager "$@"); COMP_CWORD=$#
  _clap_complete_codex_manager codex-manager "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  printf '%s\n' "${COMPREPLY[@]}" | sort
}
for COMP_TYPE in 9 33 37 42 64 63; do echo "$COMP_TYPE"; try show 0; done
try verify ./"#;
    let mut bash = shell(&env, "bash");
    let output = bash.args(["--noprofile", "--norc", "-c", script]).output();
    let ids = format!("{FIRST}\n{SECOND}\n");
    let bare: String = ["9", "33", "37", "42", "64"]
        .map(|kind| format!("{kind}\n{ids}"))
        .concat();
    let listed =
        format!("63\n{FIRST}  why does touch PWN fail  it is \n{SECOND}  explain .py globs\n");
    let shown = printed(output.expect("bash"));
    let files = shown
        .strip_prefix(&(bare + &listed))
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(!files.contains('$'), "{files}");
}

#[test]
fn completion_with_damaged_files_offers_nothing_and_prints_no_message() {
    let mut env = TestEnv::new();
    env.write("home/.codex-manager/cooldown.json", "]");
    env.write("home/.codex-manager/config.toml", "= broken");
    env.set("CODEX_MANAGER_COMPLETE", "bash")
        .set("_CLAP_COMPLETE_INDEX", "3");
    let before = env.tree("");
    let run = env
        .run(["--", "codex-manager", "list-backups", "--account", ""])
        .code(0);
    assert_eq!((run.stdout, run.stderr), (String::new(), String::new()));
    crate::support::env::assert_same_tree(&before, &env.tree(""));
    // An unknown shell.
    env.set("CODEX_MANAGER_COMPLETE", "csh");
    let run = env.run(["--", "codex-manager", ""]).code(4);
    assert_eq!((run.stdout, run.stderr), (String::new(), String::new()));
}

/// Creates an environment in which `codex-manager` and `codex` record their calls and exit with 7. The file
/// `wrap` in the home folder has the function of `hook SHELL --wrap`.
fn wrapped(shell: &str) -> TestEnv {
    let env = TestEnv::new();
    let function = env.run(["hook", shell, "--wrap"]).code(0).stdout;
    env.write("home/wrap", function);
    for name in ["codex-manager", "codex"] {
        let notes = env.path(name);
        let notes = notes.display();
        let script = format!(
            "#!/bin/sh\nprintf '%s\\0' \"$@\" END >> '{notes}'; cat >> '{notes}.stdin'; exit 7\n"
        );
        write_program(&env.path(&format!("bin/{name}")), &script);
    }
    env
}

/// Returns the arguments of each call of `name`, and clears the record.
fn calls(env: &TestEnv, name: &str) -> Vec<Vec<String>> {
    let notes = std::fs::read_to_string(env.path(name)).unwrap_or_default();
    let _ = std::fs::remove_file(env.path(name));
    let arguments: Vec<_> = notes.split_terminator('\0').map(str::to_owned).collect();
    let calls = arguments.split_inclusive(|argument| argument == "END");
    calls.map(|call| call[..call.len() - 1].to_vec()).collect()
}

const WRAPPED: [(&str, &[&str], &str); 3] = [
    ("bash", &["--noprofile", "--norc", "-c"], SH_CALLS),
    ("zsh", &["-f", "-c"], SH_CALLS),
    ("fish", &["--no-config", "-c"], FISH_CALLS),
];

const SH_CALLS: &str = r#"set -eu; . ./wrap; . ./wrap
codex 'a b' '' "it's \"\$x\"" 'two
lines ' '*' --json -- -x || echo "code $?"
echo prompt | codex exec - || echo "code $?"
codex || echo "code $?"
codex; echo "not reached"
"#;

const FISH_CALLS: &str = r#"source ./wrap; source ./wrap
codex 'a b' '' "it's \"\$x\"" 'two
lines ' '*' --json -- -x; or echo "code $status"
echo prompt | codex exec -; or echo "code $status"
codex; or echo "code $status"
codex
"#;

#[test]
fn the_wrapped_codex_passes_on_arguments_input_and_exit_code() {
    for (name, args, script) in WRAPPED.iter().filter(|(name, ..)| has(name)) {
        let env = wrapped(name);
        let first = [
            "a b",
            "",
            "it's \"$x\"",
            "two\nlines ",
            "*",
            "--json",
            "--",
            "-x",
        ];
        let typed: [&[&str]; 4] = [&first, &["exec", "-"], &[], &[]];
        let run = || {
            let output = shell(&env, name).args(*args).arg(script).output();
            let output = output.expect("the shell");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
            assert_eq!(
                (&*text, output.status.code()),
                ("code 7\ncode 7\ncode 7\n", Some(7))
            );
        };
        run();
        let through = typed.map(|typed| [&["launch", "--if-folder", "--"], typed].concat());
        assert_eq!(calls(&env, "codex-manager"), through, "{name}");
        assert_eq!(calls(&env, "codex"), [[""; 0]; 0], "{name}");
        let input = std::fs::read_to_string(env.path("codex-manager.stdin"));
        assert_eq!(input.unwrap(), "prompt\n", "{name}");
        // Without codex-manager, Codex still starts.
        std::fs::remove_file(env.path("bin/codex-manager")).unwrap();
        run();
        assert_eq!(calls(&env, "codex"), typed, "{name}");
    }
}

#[test]
fn the_wrapped_codex_keeps_completion_and_an_alias_of_its_name() {
    let alias = "alias codex='codex --yolo'; . ./wrap; . ./wrap; eval 'codex 1'; ";
    for (name, args, script, shown) in [
        (
            "bash",
            WRAPPED[0].1,
            &*format!("shopt -s expand_aliases; complete -W exec codex; {alias} complete -p codex"),
            "complete -W 'exec' codex\n",
        ),
        (
            "zsh",
            WRAPPED[1].1,
            &format!(
                "autoload -Uz compinit; compinit -D -u; compdef _codex codex; {alias} print $_comps[codex]"
            ),
            "_codex\n",
        ),
        (
            "fish",
            WRAPPED[2].1,
            "complete -c codex -f -a exec; source ./wrap; codex --yolo 1; complete -C 'codex ex'",
            "exec\n",
        ),
    ] {
        if !has(name) {
            continue;
        }
        let env = wrapped(name);
        let output = shell(&env, name).args(args).arg(script).output();
        assert_eq!(printed(output.expect("the shell")), shown, "{name}");
        let call = ["launch", "--if-folder", "--", "--yolo", "1"];
        assert_eq!(calls(&env, "codex-manager"), [call], "{name}");
    }
}

/// Compares the code block in each section of a page in docs/ that is named after a shell with the output of
/// `hook`.
fn assert_snippets(page: &str, shells: &[&str], args: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    let text = std::fs::read_to_string(path).expect("read");
    let env = TestEnv::new();
    for shell in shells {
        let snippet = env.run(["hook", shell].iter().chain(args)).code(0).stdout;
        let (_, section) = text
            .split_once(&format!("# {shell}\n"))
            .unwrap_or_else(|| panic!("docs/{page} has no section {shell}"));
        let block = section.split("```").nth(1).expect("a block");
        let (_, shown) = block.split_once('\n').expect("a language");
        assert_eq!(shown, snippet, "docs/{page}: {shell}");
    }
}

#[test]
fn the_documented_snippets_match_the_output_of_hook() {
    let help = TestEnv::new().run(["hook", "--help"]).code(0).stdout;
    let (_, after) = help.split_once("[possible values: ").expect("the shells");
    let (list, _) = after.split_once(']').expect("the end of the list");
    let shells: Vec<_> = list.split(',').map(str::trim).collect();
    assert!(shells.len() >= 6, "{shells:?}");
    let shells: Vec<_> = shells
        .into_iter()
        // sessions.md documents them, because they are no prompts.
        .filter(|name| !["agents", "mcp", "plugin"].contains(name))
        .collect();
    assert_snippets("prompt.md", &shells, &[]);
    assert_snippets(
        "launch.md",
        &["bash", "zsh", "fish", "powershell"],
        &["--wrap"],
    );
}
