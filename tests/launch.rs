//! Tests of `launch`, `resume` and `launches` with a script in place of Codex: arguments, environment,
//! exit code and records.

use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::{PROGRAM, Run, TestEnv, assert_same_tree};
use crate::support::pauses::{EVENT_LIMIT, poll, wait_until};
use crate::support::profiles::{alice_and_bob, live_login, owner, profile_login};
use crate::support::sample::{RENEWED, alice, bob};
use crate::support::sign_in::{auth_json, write_auth};
use crate::support::{processes, write_program};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Writes a program `codex` that runs this script and lists `--no-daemon` in its help.
pub(crate) fn codex(env: &TestEnv, script: &str) {
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = --help ]; then echo '  --no-daemon  alone'; exit 0; fi\n{script}\n"
    );
    write_program(&env.path("bin/codex"), &text);
}

/// A script that records its arguments, and the variables and the login that select the account.
const RECORD: &str = r#"for a in "$@"; do printf '<%s>' "$a"; done > "$HOME/args"
printf '%s\n' "$CODEX_HOME" "${CODEX_SQLITE_HOME-none}" "${CODEX_API_KEY-none}${OPENAI_SPIFFE_ID-}" > "$HOME/env"
cat "$CODEX_HOME/auth.json" > "$HOME/login""#;

/// Creates a test environment with the real clock, because rollouts are bound by their creation time.
fn world() -> TestEnv {
    let mut env = alice_and_bob();
    env.unset("CODEX_MANAGER_NOW");
    env
}

fn launches(env: &TestEnv) -> Vec<Value> {
    let run = env.run(["launches", "--all", "--json"]).code(0);
    run.json()["sessions"].as_array().expect("a list").clone()
}

fn text(env: &TestEnv, name: &str) -> String {
    fs::read_to_string(env.path("home").join(name)).expect("written by codex")
}

#[test]
fn launch_switches_to_the_profile_and_passes_arguments_and_exit_code() {
    let mut env = world();
    codex(&env, &format!("{RECORD}\nexit 42"));
    env.set("CODEX_API_KEY", "sk-other")
        .set("OPENAI_SPIFFE_ID", "other");
    let given = ["-m", "a b", "it's \"q\"\n", ""];
    let mut args = vec!["launch", "home", "--"];
    args.extend(given);
    let run = env.run(args).code(42);
    assert!(run.stdout.is_empty(), "{run}");
    assert!(run.stderr.contains("CODEX_API_KEY"), "{run}");
    assert!(run.stderr.contains("OPENAI_SPIFFE_ID"), "{run}");
    let expected = given.map(|a| format!("<{a}>")).concat();
    assert_eq!(text(&env, "args"), format!("<--no-daemon>{expected}"));
    let home = env.codex_home().display().to_string();
    assert_eq!(text(&env, "env"), format!("{home}\nnone\nnone\n"));
    assert_eq!(text(&env, "login"), profile_login(&env, "home"));
    assert_eq!(owner(&env, "home"), "live");
    assert_eq!(owner(&env, "work"), "profile");
    let launches = launches(&env);
    assert_eq!(launches.len(), 1);
    let launch = &launches[0];
    assert_eq!(launch["profile"], "home");
    assert_eq!(launch["account_id"], "acct-bob");
    assert_eq!(launch["state"], "ended", "no conversation was created");
    assert_eq!(launch["exit_code"], 42);
    assert_eq!(
        launch["args"],
        json!(given.map(|a| a.replace('\n', "").trim().to_owned()))
    );
}

#[test]
fn the_no_daemon_flag_follows_the_subcommand_and_is_not_passed_to_exec() {
    let env = world();
    codex(&env, RECORD);
    for (args, expected) in [
        (vec!["resume", "--last"], "<resume><--no-daemon><--last>"),
        (
            vec!["-C", "/", "fork", "x"],
            "<-C></><fork><--no-daemon><x>",
        ),
        (vec!["exec", "hi"], "<exec><hi>"),
        (vec!["--no-daemon"], "<--no-daemon>"),
        (vec!["--remote", "ws://x"], "<--remote><ws://x>"),
    ] {
        let _ = env
            .run([vec!["launch", "work", "--"], args].concat())
            .code(0);
        assert_eq!(text(&env, "args"), expected);
    }
}

#[test]
fn a_codex_that_cannot_print_its_help_is_asked_again() {
    let env = world();
    codex(&env, RECORD);
    let works = fs::read_to_string(env.path("bin/codex")).expect("read");
    write_program(
        &env.path("bin/codex"),
        &works.replace(
            "= --help ]; then",
            "= --help ]; then [ -e \"$HOME/works\" ] || exit 1;",
        ),
    );
    let _ = env.run(["launch", "work", "--", "hi"]).code(0);
    assert_eq!(text(&env, "args"), "<hi>");
    fs::write(env.path("home/works"), "").expect("write");
    let _ = env.run(["launch", "work", "--", "hi"]).code(0);
    assert_eq!(text(&env, "args"), "<--no-daemon><hi>");
}

#[test]
fn an_isolated_launch_of_an_account_with_a_removed_profile_suggests_an_undo() {
    let env = world();
    codex(&env, RECORD);
    let _ = env.run(["profile", "remove", "home", "--yes"]).code(0);
    let run = env.run(["launch", "bob@example.com", "--isolated", "--", "hi"]);
    let run = run.code(5);
    assert!(
        run.stderr
            .contains("no profile has a login of bob@example.com"),
        "{run}"
    );
    assert!(
        run.stderr.contains("codex-manager profile undo home"),
        "{run}"
    );
}

/// `codex exec --remote` is new in Codex 0.171.
#[test]
fn launch_warns_that_a_server_has_an_account_of_its_own() {
    let env = world();
    codex(&env, RECORD);
    for args in [
        vec!["--remote", "ws://x"],
        vec!["resume", "--remote=ws://x", "--last"],
        vec!["exec", "--remote", "unix://", "hi"],
    ] {
        let run = env.run([vec!["launch", "work", "--"], args].concat());
        let text = "--remote: the conversation runs on the server, under the server's account";
        assert!(run.code(0).stderr.contains(text));
    }
    let run = env.run(["launch", "work", "--", "exec", "--", "--remote"]);
    assert!(!run.code(0).stderr.contains("the server's account"));
}

#[test]
fn subcommands_without_a_conversation_are_refused() {
    let env = world();
    codex(&env, RECORD);
    let before = env.tree("home/.codex");
    for subcommand in ["logout", "login", "mcp"] {
        let run = env.run(["launch", "home", "--", subcommand]).code(5);
        assert!(run.stderr.contains("hint:"), "{run}");
    }
    assert!(!env.path("home/args").exists(), "nothing was started");
    assert_same_tree(&before, &env.tree("home/.codex"));
    assert!(launches(&env).is_empty());
}

#[test]
fn a_launch_with_version_or_help_prints_it_and_switches_and_records_nothing() {
    let env = world();
    codex(&env, "echo \"codex got $1\"");
    let before = env.tree("home/.codex");
    for (option, printed) in [
        ("--version", "codex got --version"),
        ("--help", "--no-daemon"),
    ] {
        let run = env.run(["launch", "home", "--", option]).code(0);
        assert!(run.stdout.contains(printed), "{run}");
    }
    assert_same_tree(&before, &env.tree("home/.codex"));
    assert!(launches(&env).is_empty());
}

#[test]
fn a_login_that_codex_renews_is_saved_back() {
    for isolated in [false, true] {
        let env = world();
        let renewed = auth_json(&bob().generation(2));
        env.write("home/renewed", &renewed);
        codex(&env, "cat \"$HOME/renewed\" > \"$CODEX_HOME/auth.json\"");
        let mut args = vec!["launch", "home"];
        args.extend(isolated.then_some("--isolated"));
        let _ = env.run(args).code(0);
        assert_eq!(profile_login(&env, "home"), renewed, "isolated: {isolated}");
        if isolated {
            assert_eq!(owner(&env, "home"), "profile");
            assert_eq!(
                live_login(&env),
                profile_login(&env, "work"),
                "the live login is unchanged"
            );
        }
    }
}

#[test]
fn an_isolated_launch_shares_everything_but_the_login() {
    let env = world();
    env.write("home/.codex/config.toml", "model = \"m\"\n");
    env.write("home/.codex/AGENTS.md", "be brief\n");
    codex(
        &env,
        &format!(
            "{RECORD}\ncat \"$CODEX_HOME/AGENTS.md\" > \"$HOME/agents\"\necho printed >> \"$CODEX_HOME/history.jsonl\""
        ),
    );
    let _ = env.run(["launch", "home", "--isolated"]).code(0);
    let homes = env.manager_home().join("profiles/.isolated");
    let context = text(&env, "env");
    let mut lines = context.lines();
    let isolated = PathBuf::from(lines.next().expect("CODEX_HOME"));
    assert!(isolated.starts_with(&homes), "{context}");
    assert_eq!(lines.next(), Some(&*env.codex_home().display().to_string()));
    assert_eq!(text(&env, "login"), profile_login(&env, "home"));
    assert_eq!(text(&env, "agents"), "be brief\n");
    let history = env.codex_home().join("history.jsonl");
    assert_eq!(fs::read_to_string(history).unwrap(), "printed\n");
    assert!(
        !isolated.join("auth.json").exists(),
        "the login is still in the isolated home"
    );
    assert_eq!(launches(&env)[0]["isolated"], true);
}

#[test]
fn the_live_account_runs_in_the_live_home_even_with_isolated() {
    let env = world();
    codex(&env, RECORD);
    let run = env.run(["launch", "work", "--isolated"]).code(0);
    assert!(
        run.stderr
            .contains("is the live account, so --isolated has no effect"),
        "{run}"
    );
    assert!(text(&env, "env").starts_with(&env.codex_home().display().to_string()));
    assert_eq!(owner(&env, "work"), "live");
}

#[test]
fn a_sign_in_to_an_account_that_runs_isolated_suggests_use_which_later_makes_it_live() {
    let env = world();
    let renewed = auth_json(&bob().generation(2).issued_at(RENEWED + 1));
    let script = format!(
        "umask 077\nif [ \"$1\" = login ]; then cat > \"$CODEX_HOME/auth.json\" <<'END'\n{renewed}\nEND\nexit 0; fi\n\
         CODEX_HOME=\"$HOME/.codex\" '{PROGRAM}' profile login home 2> \"$HOME/printed\""
    );
    codex(&env, &script);
    let _ = env
        .run(["launch", "home", "--isolated", "--", "exec"])
        .code(0);
    let printed = text(&env, "printed");
    assert!(printed.contains("codex-manager use home"), "{printed}");
    assert!(!printed.contains("--codex-home"), "{printed}");
    let _ = env.run(["use", "home"]).code(0);
    assert_eq!(live_login(&env).trim(), renewed.trim());
}

#[test]
fn an_isolated_launch_of_an_account_live_in_another_home_is_refused_with_a_hint_for_that_home() {
    let env = world();
    codex(&env, RECORD);
    write_auth(&env.path("other"), &bob());
    let save = ["--codex-home", "other", "profile", "save", "home"];
    let _ = env.run(save).code(0);
    let refused = env.run(["launch", "home", "--isolated"]).code(5);
    let command = "codex-manager --codex-home [ROOT]/other launch home";
    assert!(refused.stderr.contains(command), "{refused}");
}

#[test]
fn a_missing_account_is_an_error_and_a_dry_run_writes_nothing() {
    let env = world();
    codex(&env, RECORD);
    let run = env.run(["launch"]).code(4);
    assert!(run.stderr.contains("codex-manager accounts"), "{run}");
    let before = env.tree("home");
    for isolated in [&[][..], &["--isolated"]] {
        let args = [&["launch", "home", "--dry-run", "--json"], isolated].concat();
        let plan = env.run(args).code(0).json();
        assert_eq!(plan["profile"], "home");
        assert_eq!(plan["isolated_home"].is_null(), isolated.is_empty());
    }
    assert_same_tree(&before, &env.tree("home"));
    let run = env.run(["launch", "home", "--json"]).code(4);
    assert!(run.stderr.contains("Codex itself uses stdout"), "{run}");
    let _ = env.run(["launch", "nobody"]).code(1);
}

#[test]
fn a_failed_start_of_codex_ends_the_record_and_returns_the_login() {
    let env = world();
    // An executable file that cannot run: its interpreter is missing.
    write_program(&env.path("bin/codex"), "#!/nonexistent/interpreter\n");
    let run = env.run(["launch", "home", "--isolated"]).code(1);
    assert!(run.stderr.contains("bin/codex"), "{run}");
    assert_eq!(launches(&env)[0]["state"], "ended");
    assert_eq!(owner(&env, "home"), "profile");
    fs::remove_file(env.path("bin/codex")).unwrap();
    let run = env.run(["launch", "home"]).code(1);
    assert!(run.stderr.contains("--codex-bin"), "{run}");
}

#[test]
fn launch_recommended_uses_the_account_that_recommend_names() {
    let env = world();
    codex(&env, RECORD);
    let named = env.run(["recommend", "--json"]).code(0).json();
    let profile = named["recommended"]["profile"].as_str().unwrap().to_owned();
    let _ = env.run(["launch", "--recommended"]).code(0);
    assert_eq!(launches(&env)[0]["profile"], *profile);
}

/// Waits until the script has created this file.
#[track_caller]
fn wait_for(path: &Path) {
    wait_until(&path.display().to_string(), || path.exists());
}

#[test]
fn a_running_launch_is_listed_and_warned_about_after_a_switch() {
    let env = world();
    // The script waits for the end of its input.
    codex(&env, "touch \"$HOME/started\"\ncat > /dev/null");
    let mut child = env
        .command(["launch", "home"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&env.path("home/started"));
    let running = launches(&env);
    assert_eq!(running[0]["state"], "running");
    assert_eq!(running[0]["warning"], Value::Null);
    let pid = u32::try_from(running[0]["pid"].as_u64().unwrap()).unwrap();
    assert!(processes::alive(pid));
    let _ = env.run(["use", "work"]).code(0);
    let warning = launches(&env)[0]["warning"].as_str().unwrap().to_owned();
    assert!(
        warning.contains("the live account is now alice@example.com"),
        "{warning}"
    );
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(launches(&env)[0]["state"], "ended");
    // The switch saved the login. The end of the launch does not change the live login.
    assert_eq!(live_login(&env), profile_login(&env, "work"));
}

#[test]
fn sigterm_reaches_codex_and_launch_ends_by_the_signal_that_ends_codex() {
    let env = world();
    codex(
        &env,
        "trap 'echo term > \"$HOME/got\"; exit 9' TERM\ntouch \"$HOME/started\"\nwhile :; do sleep 0.01; done",
    );
    let mut child = env
        .command(["launch", "home"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&env.path("home/started"));
    processes::signal("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(text(&env, "got"), "term\n");
    // If a signal ends Codex, the manager ends by the same signal, as shells expect.
    codex(&env, "kill -KILL $$");
    use std::os::unix::process::ExitStatusExt;
    let mut command = env.command(["launch", "home"]);
    let status = command.stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(9));
    assert_eq!(launches(&env)[0]["exit_code"], 137);
}

/// A private tmux server, with bash in a window of 100 × 30. Ended on drop.
struct Tmux<'a> {
    env: &'a TestEnv,
}

impl Tmux<'_> {
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.env.path("socket")).args(args);
        let output = command.output().expect("tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "0"], keys].concat());
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p", "-t", "0"])
    }

    #[track_caller]
    fn wait_until(&self, is_so: impl Fn() -> bool) {
        let shown = poll(EVENT_LIMIT, || is_so().then_some(()));
        assert!(shown.is_some(), "not shown\n{}", self.screen());
    }

    #[track_caller]
    fn wait_for(&self, wanted: &str) {
        self.wait_until(|| self.screen().contains(wanted));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn ctrl_c_goes_to_codex_and_ctrl_z_stops_both() {
    let env = world();
    codex(
        &env,
        "trap 'echo CODEX-INT' INT\necho CODEX-READY $(stty size)\nwhile :; do\n\
         read -r line || continue\n[ \"$line\" = finish ] && exit 7\n\
         echo \"CODEX-READ $line\"\ndone",
    );
    let tmux = Tmux { env: &env };
    let path = format!("PATH={}:/usr/bin:/bin", env.path("bin").display());
    let home = format!("HOME={}", env.path("home").display());
    tmux.run(&[
        "-f",
        "/dev/null",
        "new-session",
        "-d",
        "-x",
        "100",
        "-y",
        "30",
        "-e",
        &path,
        "-e",
        &home,
        "env",
        "-i",
        &path,
        &home,
        "TERM=screen",
        "bash",
        "--norc",
        "--noprofile",
        "-i",
    ]);
    tmux.keys(&[env!("CARGO_BIN_EXE_codex-manager"), " launch home", "Enter"]);
    tmux.wait_for("CODEX-READY 30 100");
    tmux.keys(&["C-c"]);
    tmux.wait_for("CODEX-INT");
    tmux.keys(&["one", "Enter"]);
    tmux.wait_for("CODEX-READ one");
    tmux.keys(&["C-z"]);
    tmux.wait_for("Stopped");
    tmux.keys(&["echo SHELL-$((6*7))", "Enter"]);
    tmux.wait_for("SHELL-42");
    tmux.keys(&["fg", "Enter"]);
    // Keys that are typed before the shell has handed over the terminal go to the shell.
    tmux.wait_until(|| {
        tmux.run(&["display", "-p", "#{pane_current_command}"])
            .contains("codex")
    });
    tmux.keys(&["two", "Enter"]);
    tmux.wait_for("CODEX-READ two");
    tmux.keys(&["finish", "Enter"]);
    tmux.wait_until(|| {
        tmux.run(&["display", "-p", "#{pane_current_command}"])
            .contains("bash")
    });
    tmux.keys(&["echo CODE-$?", "Enter"]);
    tmux.wait_for("CODE-7");
    assert_eq!(launches(&env)[0]["exit_code"], 7);
}

/// Returns a script that writes rollouts as Codex does, in `$CODEX_HOME`.
fn write_rollout(cwd: &Path, account: &str, count: usize) -> String {
    let meta = json!({"timestamp": "2026-11-21T08:00:00Z", "type": "session_meta", "payload": {
        "id": "ID", "timestamp": "2026-11-21T08:00:00Z", "cwd": cwd, "source": "exec",
        "creator_account_id": account, "creator_user_id": account.replace("acct", "user")}});
    let count_line = json!({"timestamp": "NOW", "type": "event_msg", "payload": {
        "type": "token_count", "rate_limits": {"limit_id": "codex",
        "secondary": {"used_percent": 44.0, "window_minutes": 10080, "resets_at": 1_900_000_000}}}});
    format!(
        "now() {{ date -u +%Y-%m-%dT%H:%M:%S.%3NZ; }}\n\
         for n in $(seq {count}); do\n\
         ms=$(date +%s%3N); id=$(printf '%08x-%04x-7000-8000-%012d' $((ms >> 16)) $((ms & 65535)) $n$$)\n\
         day=\"$CODEX_HOME/sessions/$(date +%Y/%m/%d)\"; mkdir -p \"$day\"\n\
         file=\"$day/rollout-$(date +%Y-%m-%dT%H-%M-%S)-$id.jsonl\"\n\
         echo '{meta}' | sed \"s/\\\"ID\\\"/\\\"$id\\\"/\" > \"$file\"\n\
         echo '{count_line}' | sed \"s/NOW/$(now)/\" >> \"$file\"\n\
         echo $id >> \"$HOME/ids\"\ndone"
    )
}

#[test]
fn a_conversation_is_bound_by_folder_and_account_and_its_usage_is_listed_with_the_profile() {
    let env = world();
    codex(&env, &write_rollout(&env.path("."), "acct-bob", 1));
    let run = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    let launch = launches(&env).remove(0);
    assert_eq!(launch["state"], "bound", "{run}");
    assert_eq!(launch["session_id"], text(&env, "ids").trim());
    assert!(launch["last_token_count_at"].is_string());
    let profiles = env.run(["list", "--json"]).code(0).json()["profiles"].clone();
    assert_eq!(profiles[0]["name"], "home");
    let session = &profiles[0]["session"];
    assert_eq!(session["source"], "launch-wrapper");
    assert_eq!(session["session_id"], launch["session_id"]);
    assert_eq!(session["windows"][0]["used_percent"], 44.0);
    assert_eq!(
        profiles[0]["windows"],
        json!([]),
        "no observation of the server"
    );
    assert_eq!(profiles[1]["session"], Value::Null);
    let current = env.run(["current", "--json"]).code(0).json();
    assert_eq!(current["session"]["session_id"], launch["session_id"]);
    // The usage does not affect the state of the account.
    let known = env.run(["cooldown", "--json"]).code(0).json();
    let known = known["accounts"].as_array().unwrap();
    assert!(!known.is_empty());
    assert!(known.iter().all(|a| a["state"] == "unknown"), "{known:?}");
    assert!(
        env.run(["list"])
            .code(0)
            .stdout
            .contains("weekly 56 % left")
    );
}

#[test]
fn a_rollout_that_codex_only_reads_is_not_bound() {
    let env = world();
    let id = "01a1fd26-1481-7d60-a846-d943381f26dc";
    let path = format!("home/.codex/sessions/2026/11/21/rollout-2026-11-21T08-08-13-{id}.jsonl");
    let meta = json!({"timestamp": "2026-11-21T08:00:00Z", "type": "session_meta",
        "payload": {"id": id, "cwd": "/", "source": "cli"}});
    env.write(&path, format!("{meta}\n"));
    // The open files of a process count only if its program has this name.
    let copy = env.path("bin/codex");
    fs::copy("/bin/sh", &copy).unwrap();
    let file = env.path(&path).display().to_string();
    // Nothing shows that a file is never bound.
    for (redirection, state, seconds) in [("<", "ended", 2), (">>", "bound", 60)] {
        let script = format!(
            "exec 3{redirection}\"{file}\"; touch $HOME/{state}; while [ ! -e $HOME/{state}-done ]; do sleep 0.05; done"
        );
        // With `exec -c` before the script, `exec` would be a subcommand of Codex.
        let mut child = env
            .command(["launch", "home", "--", "-c", &script, "--no-daemon"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&env.path(&format!("home/{state}")));
        let limit = Duration::from_secs(seconds);
        let _ = poll(limit, || {
            (!launches(&env)[0]["session_id"].is_null()).then_some(())
        });
        fs::write(env.path(&format!("home/{state}-done")), "").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(launches(&env)[0]["state"], state, "{redirection}");
    }
}

/// Writes a rollout with a version 7 id of this moment. `creator` is empty up to Codex 0.150.
fn write_rollout_now(env: &TestEnv, creator: &Value) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = now.unwrap().as_millis();
    let id = format!(
        "{:08x}-{:04x}-7000-8000-000000000001",
        millis >> 16,
        millis & 0xffff
    );
    let day = chrono::Utc::now().format("%Y/%m/%d");
    let path = format!("home/.codex/sessions/{day}/rollout-2026-11-21T08-00-00-{id}.jsonl");
    let mut payload = json!({"id": id, "cwd": env.path("."), "source": "exec"});
    let fields = payload.as_object_mut().unwrap();
    fields.extend(creator.as_object().unwrap().clone());
    let meta =
        json!({"timestamp": "2026-11-21T08:00:00Z", "type": "session_meta", "payload": payload});
    env.write(&path, format!("{meta}\n"));
}

#[test]
fn a_rollout_that_the_launched_codex_did_not_open_is_not_bound() {
    let own = json!({"creator_account_id": "acct-bob", "creator_user_id": "user-bob"});
    for creator in [json!({}), own] {
        let env = world();
        fs::copy("/bin/sh", env.path("bin/codex")).unwrap();
        let script = "touch $HOME/ready; while [ ! -e $HOME/end ]; do sleep 0.2; done";
        let args = ["launch", "home", "--", "-c", script, "--no-daemon"];
        let mut child = env.command(args).spawn().unwrap();
        wait_for(&env.path("home/ready"));
        // Its open files are watched from the moment at which its process is recorded.
        let registry = env.manager_home().join("launches.jsonl");
        wait_until("the process is recorded", || {
            let text = fs::read_to_string(&registry).unwrap();
            text.contains("\"child\":{")
        });
        write_rollout_now(&env, &creator);
        assert_eq!(launches(&env)[0]["state"], "running");
        env.write("home/end", "");
        assert!(child.wait().unwrap().success());
        let launch = launches(&env).remove(0);
        assert_eq!(launch["state"], "ended", "{launch}");
        assert_eq!(launch["session_id"], Value::Null);
    }
}

#[test]
fn a_new_rollout_without_an_account_leaves_the_launch_unbound() {
    let env = world();
    let script = write_rollout(&env.path("."), "acct-bob", 1).replace("creator_", "no_");
    codex(&env, &script);
    let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    let launch = launches(&env).remove(0);
    assert_eq!(launch["state"], "unbound", "{launch}");
    let warning = launch["warning"].as_str().unwrap();
    assert!(warning.contains("names no account"), "{warning}");
}

#[test]
fn a_conversation_from_before_the_launch_is_not_bound() {
    let env = world();
    codex(&env, "true");
    let own = json!({"creator_account_id": "acct-bob", "creator_user_id": "user-bob"});
    write_rollout_now(&env, &own);
    let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    assert_eq!(launches(&env)[0]["state"], "ended");
}

#[test]
fn rollouts_of_other_folders_or_accounts_and_ambiguous_ones_are_not_bound() {
    for (cwd, account, count, state) in [
        ("elsewhere", "acct-bob", 1, "ended"),
        (".", "acct-alice", 1, "ended"),
        (".", "acct-bob", 2, "unbound"),
    ] {
        let env = world();
        fs::create_dir_all(env.path("elsewhere")).unwrap();
        codex(&env, &write_rollout(&env.path(cwd), account, count));
        let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
        let launch = launches(&env).remove(0);
        assert_eq!(launch["state"], state, "{cwd} {account}");
        assert_eq!(launch["session_id"], Value::Null);
        assert_eq!(launch["warning"].is_string(), state == "unbound");
        let profiles = env.run(["list", "--json"]).code(0).json();
        assert_eq!(profiles["profiles"][0]["session"], Value::Null);
    }
}

#[test]
fn a_killed_launch_is_not_bound_to_the_conversation_of_a_running_one() {
    let env = world();
    let rollout = write_rollout(&env.path("."), "acct-bob", 1);
    let wait = "touch $HOME/ready; while [ ! -e $HOME/end ]; do sleep 0.02; done";
    codex(&env, &format!("{rollout}\n{wait}"));
    let args = ["launch", "home", "--", "exec", "x"];
    let mut running = env.command(args).spawn().unwrap();
    wait_for(&env.path("home/ready"));
    // A launch in the same folder was killed before its Codex had a conversation.
    let path = env.manager_home().join("launches.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut killed: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    killed["launch_id"] = "20260101T000000000Z-00000000".into();
    killed["wrapper"] = json!({"pid": u32::MAX, "started": 1});
    fs::write(&path, format!("{text}{killed}\n")).unwrap();
    let states = |listed: Vec<Value>| -> Vec<_> {
        let state = |row: &Value| (row["state"].clone(), row["session_id"].is_string());
        listed.iter().map(state).collect()
    };
    let listed = states(launches(&env));
    fs::write(env.path("home/end"), "").unwrap();
    assert!(running.wait().unwrap().success());
    assert_eq!(
        listed,
        [("running".into(), false), ("unbound".into(), false)]
    );
    let listed = states(launches(&env));
    assert_eq!(listed, [("bound".into(), true), ("unbound".into(), false)]);
}

#[test]
fn conversations_of_a_directly_started_codex_are_not_bound() {
    let env = world();
    let script = write_rollout(&env.path("."), "acct-alice", 1);
    codex(&env, &script);
    let mut direct = Command::new(env.path("bin/codex"));
    direct.env_clear().env("HOME", env.path("home"));
    direct
        .env("CODEX_HOME", env.codex_home())
        .env("PATH", "/usr/bin:/bin");
    assert!(direct.status().unwrap().success());
    assert!(launches(&env).is_empty());
    let profiles = env.run(["list", "--json"]).code(0).json();
    for profile in profiles["profiles"].as_array().unwrap() {
        assert_eq!(profile["session"], Value::Null);
    }
}

#[test]
fn resume_uses_the_account_of_the_launch_and_another_one_only_with_rebind() {
    let env = world();
    codex(&env, &write_rollout(&env.path("."), "acct-bob", 1));
    let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    let id = text(&env, "ids").trim().to_owned();
    let _ = env.run(["use", "work"]).code(0);
    codex(&env, RECORD);
    let _ = env.run(["resume", &id]).code(0);
    assert_eq!(text(&env, "args"), format!("<resume><--no-daemon><{id}>"));
    assert_eq!(text(&env, "login"), profile_login(&env, "home"));
    let run = env.run(["resume", &id, "--profile", "work"]).code(5);
    assert!(run.stderr.contains("belongs to bob@example.com"), "{run}");
    let args = [
        "resume",
        &id,
        "--profile",
        "work",
        "--rebind",
        "--",
        "exec",
        "go",
    ];
    let _ = env.run(args).code(0);
    assert_eq!(text(&env, "args"), format!("<exec><resume><{id}><go>"));
    assert_eq!(text(&env, "login"), profile_login(&env, "work"));
    let _ = env.run(["resume", &id, "--untracked"]).code(0);
    assert_eq!(text(&env, "args"), format!("<resume><{id}>"));
    assert_eq!(
        launches(&env).len(),
        3,
        "the untracked launch is not recorded"
    );
    let run = env.run(["resume", "no such thing"]).code(1);
    assert!(run.stderr.contains("no such thing"), "{run}");
    let _ = env.run(["resume"]).code(4);
}

#[test]
fn resume_uses_the_account_that_the_rollout_names_if_no_launch_ran_the_conversation() {
    let env = world();
    codex(&env, RECORD);
    let put = |id: &str, creator: Value| {
        let mut meta = json!({"timestamp": "2026-11-21T08:00:00Z", "type": "session_meta",
            "payload": {"id": id, "cwd": "/", "source": "cli"}});
        if let (Some(payload), Value::Object(creator)) = (meta["payload"].as_object_mut(), creator)
        {
            payload.extend(creator);
        }
        let path =
            format!("home/.codex/sessions/2026/11/21/rollout-2026-11-21T08-08-13-{id}.jsonl");
        env.write(&path, format!("{meta}\n"));
    };
    let own = "01a1fd26-1481-7d60-a846-d943381f26dc";
    let strange = "01a1fd26-1482-7d60-a846-d943381f26dc";
    let old = "01a1fd26-1483-7d60-a846-d943381f26dc";
    put(
        own,
        json!({"creator_account_id": "acct-bob", "creator_user_id": "user-bob"}),
    );
    put(strange, json!({"creator_account_id": "acct-carol"}));
    put(old, json!({}));
    let _ = env.run(["resume", own]).code(0);
    assert_eq!(text(&env, "login"), profile_login(&env, "home"));
    let run = env.run(["resume", strange]).code(5);
    assert!(run.stderr.contains("acct-carol"), "{run}");
    let run = env.run(["resume", old]).code(4);
    assert!(run.stderr.contains("--untracked"), "{run}");
    let _ = env.run(["resume", old, "--profile", "work"]).code(0);
    assert_eq!(text(&env, "login"), profile_login(&env, "work"));
}

#[test]
fn resume_does_not_switch_to_the_account_of_a_conversation_that_codex_cannot_resume() {
    let env = world();
    codex(&env, RECORD);
    let conversation = Conversation {
        account: "acct-bob".into(),
        ..Conversation::new(1, 60, "Fix it", "Done.")
    };
    let rollout = write(&env, &conversation);
    let login = live_login(&env);
    let refuse = |code: i32, message: &str, hint: &str| {
        let run = env.run(["resume", &id(1), "--profile", "home"]).code(code);
        assert!(run.stderr.contains(message), "{run}");
        assert!(run.stderr.contains(hint), "{run}");
        assert_eq!(live_login(&env), login);
    };
    let record = |path: &Path| {
        let sql = "UPDATE threads SET rollout_path=?1";
        assert_eq!(state(&env).execute(sql, [path.to_str()]), Ok(1));
    };

    // Codex decides by the folder of the rollout whether a conversation is archived.
    let mark_archived = |is_archived: bool| {
        let sql = "UPDATE threads SET archived=?1";
        assert_eq!(state(&env).execute(sql, [is_archived]), Ok(1));
    };
    mark_archived(true);
    let plan = env.run(["resume", &id(1), "--profile", "home", "--dry-run"]);
    let _ = plan.code(0);

    let [empty, missing] = ["empty", "missing"].map(|name| env.path(name));
    fs::write(&empty, "").unwrap();
    let of_another = PathBuf::from(rollout.to_string_lossy().replace(&id(1), &id(2)));
    fs::write(&of_another, conversation.text().replace(&id(1), &id(2))).unwrap();
    let sessions = env.codex_home().join("sessions");
    for path in [sessions, empty, missing, of_another] {
        record(&path);
        let message = "Codex's list does not name the rollout of the conversation: ";
        refuse(1, message, "codex-manager history repair");
    }

    record(&rollout);
    let cut_first_line = conversation.text().as_bytes()[..100].to_vec();
    let cut_before_metadata = [&*cut_first_line, b"\n", conversation.text().as_bytes()].concat();
    let refuse_damaged = |bytes: &[u8]| {
        fs::write(&rollout, bytes).unwrap();
        let message = "the rollout is empty, damaged or of another conversation: ";
        refuse(1, message, "codex-manager restore --session ");
    };
    refuse_damaged(&[0; 9000]);
    refuse_damaged(&cut_first_line);
    refuse_damaged(&cut_before_metadata);

    fs::remove_file(&rollout).unwrap();
    let archived = Conversation {
        archived: true,
        ..conversation
    };
    let archived_rollout = write(&env, &archived);
    let hint = format!("codex unarchive {}", id(1));
    let message = "Codex does not resume an archived conversation: ";
    for is_archived in [true, false] {
        mark_archived(is_archived);
        refuse(5, message, &hint);
    }
    // Without a row, Codex finds the rollout in `archived_sessions`.
    assert_eq!(state(&env).execute("DELETE FROM threads", []), Ok(1));
    refuse(5, message, &hint);

    fs::remove_file(archived_rollout).unwrap();
    refuse_damaged(&cut_first_line);
}

#[test]
fn an_export_contains_the_launch_registry() {
    let env = world();
    codex(&env, &write_rollout(&env.path("."), "acct-bob", 1));
    let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    let file = env.path("out.tar").display().to_string();
    let _ = env.run(["profile", "export", &file]).code(0);
    let other = TestEnv::new();
    let _ = other.run(["profile", "import", &file]).code(0);
    let there = launches(&other);
    assert_eq!(there.len(), 1);
    assert_eq!(there[0]["state"], "bound");
    let _ = other.run(["profile", "import", &file]).code(0);
    assert_eq!(launches(&other).len(), 1);
}

/// Returns the files below `sessions/` that a command opens, by strace.
pub(crate) fn opened(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let log = env.path("trace");
    let mut command = env.other_program("strace");
    command
        .args(["-f", "-e", "trace=openat,openat2,open", "-o"])
        .arg(&log);
    command.arg(PROGRAM).args(args);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("strace").success());
    let log = fs::read_to_string(log).unwrap();
    let opened = log.lines().filter(|line| line.contains("/sessions"));
    opened.map(str::to_owned).collect()
}

#[test]
fn listing_commands_open_no_rollouts_except_once_to_bind_a_killed_launch() {
    let env = world();
    let folder = env.path("home/.codex/sessions/2026/01/02");
    fs::create_dir_all(&folder).unwrap();
    for n in 0..200 {
        let name = format!("rollout-2026-01-02T00-00-00-019b7c00-0000-7000-8000-{n:012}.jsonl");
        fs::write(folder.join(name), "{}\n").unwrap();
    }
    codex(&env, &write_rollout(&env.path("."), "acct-bob", 1));
    let _ = env.run(["launch", "home", "--", "exec", "x"]).code(0);
    for command in [
        &["launches"][..],
        &["list"],
        &["current"],
        &["launches", "--all"],
    ] {
        assert_eq!(opened(&env, command), Vec::<String>::new(), "{command:?}");
    }
    // After the wrapper was killed, the next list reads only the day folder of the launch, and only once.
    let registry = env.manager_home().join("launches.jsonl");
    let lines = fs::read_to_string(&registry).unwrap();
    let last = lines.lines().last().unwrap();
    let mut record: Value = serde_json::from_str(last).unwrap();
    record["settled"] = false.into();
    record["conversations"] = json!([]);
    record["wrapper"] = json!({"pid": 1, "started": 0});
    record["child"] = json!({"pid": 1, "started": 0});
    let mut file = fs::OpenOptions::new().append(true).open(&registry).unwrap();
    writeln!(file, "{record}").unwrap();
    let looked = opened(&env, &["list"]);
    assert!(!looked.is_empty(), "the day folder of the launch is read");
    assert!(
        looked.iter().all(|line| !line.contains("2026/01/02")),
        "{looked:?}"
    );
    assert_eq!(
        opened(&env, &["list"]),
        Vec::<String>::new(),
        "a second list reads nothing"
    );
    assert_eq!(launches(&env)[0]["state"], "bound");
}

#[test]
fn launches_of_one_account_are_counted_without_the_others() {
    let env = world();
    codex(&env, RECORD);
    let _ = env.run(["launch", "home"]).code(0);
    for all in [&[][..], &["--all"]] {
        let own = env.run([&["launches", "home"], all].concat()).code(0);
        assert!(!own.stderr.contains("older"), "{own}");
        let none = env.run([&["launches", "work"], all].concat()).code(0);
        assert!(
            none.stderr
                .contains("there are no recorded launches of work yet"),
            "{none}"
        );
    }
    for _ in 0..20 {
        let _ = env.run(["launch", "home"]).code(0);
    }
    let _ = env.run(["launch", "work"]).code(0);
    let own = env.run(["launches", "home"]).code(0);
    assert!(
        own.stderr
            .contains("1 older:\n    codex-manager launches home --all"),
        "{own}"
    );
}

#[test]
fn damaged_registry_lines_are_skipped() {
    let env = world();
    codex(&env, RECORD);
    let _ = env.run(["launch", "home"]).code(0);
    let registry = env.manager_home().join("launches.jsonl");
    let mut bytes = fs::read(&registry).unwrap();
    bytes.extend_from_slice(b"{\"launch_id\":\"2026\",\"settled\":tru");
    fs::write(&registry, bytes).unwrap();
    let run = env.run(["launches", "--json"]).code(6);
    assert_eq!(run.json()["sessions"].as_array().unwrap().len(), 1);
    let _ = env.run(["launch", "home"]).code(0);
    let run = env.run(["launches", "--json"]).code(6);
    assert_eq!(run.json()["sessions"].as_array().unwrap().len(), 2, "{run}");
    assert!(env.run(["doctor"]).stdout.contains("launches.jsonl"));
}

#[test]
fn signing_in_to_another_account_in_an_isolated_home_loses_neither_login() {
    let env = world();
    env.write("home/other", auth_json(&alice(3).user_id("user-carol")));
    codex(&env, "cat \"$HOME/other\" > \"$CODEX_HOME/auth.json\"");
    let before = profile_login(&env, "home");
    let _ = env.run(["launch", "home", "--isolated"]).code(0);
    assert_eq!(profile_login(&env, "home"), before);
    assert_eq!(owner(&env, "home"), "profile");
    let profiles = env.run(["profile", "list", "--json"]).code(0).json();
    assert_eq!(
        profiles["profiles"].as_array().unwrap().len(),
        3,
        "the new login has a record"
    );
    write_auth(&env.codex_home(), &bob());
}

/// Returns the setting of the account of the folder `clients`.
fn folder_key(env: &TestEnv) -> String {
    format!("folders.{}", env.path("clients").display())
}

/// Sets Bob as the account of `clients`, with a recording Codex, and returns a folder below it.
fn folder_of_bob(env: &TestEnv) -> PathBuf {
    codex(env, RECORD);
    let folder = env.path("clients/acme/web");
    fs::create_dir_all(&folder).unwrap();
    let key = folder_key(env);
    let _ = env.run(["config", "set", &key, "home"]).code(0);
    folder
}

fn run_in(env: &TestEnv, folder: &Path, args: &[&str]) -> Run {
    let mut command = env.command(args);
    let output = command.current_dir(folder).output().unwrap();
    Run::of_output(output)
}

#[test]
fn launch_if_folder_isolates_the_account_of_the_folder_and_elsewhere_runs_without_a_record() {
    let env = world();
    let folder = folder_of_bob(&env);
    let _ = run_in(&env, &folder, &["launch", "--if-folder", "--", "hi"]).code(0);
    assert_eq!(text(&env, "login"), profile_login(&env, "home"));
    assert_eq!(
        live_login(&env),
        profile_login(&env, "work"),
        "nothing was switched"
    );
    assert_eq!(launches(&env)[0]["isolated"], true);
    // In other folders, and for subcommands without a conversation, Codex runs without a record.
    let _ = run_in(&env, &env.path("."), &["launch", "--if-folder", "--", "hi"]).code(0);
    assert_eq!(text(&env, "args"), "<hi>");
    let _ = run_in(
        &env,
        &folder,
        &["launch", "--if-folder", "--", "login", "status"],
    )
    .code(0);
    assert_eq!(text(&env, "args"), "<login><status>");
    assert_eq!(launches(&env).len(), 1);
    fs::remove_file(env.path("home/args")).expect("the arguments");
    for args in [
        &["launch", "--if-folder", "--dry-run", "--", "hi"][..],
        &["resume", "--untracked", "--dry-run", "x"],
    ] {
        let _ = run_in(&env, &env.path("."), args);
        assert!(!env.path("home/args").exists(), "{args:?} started Codex");
    }
}

#[test]
fn launch_without_a_profile_switches_to_the_account_of_the_folder() {
    let env = world();
    let folder = folder_of_bob(&env);
    let _ = run_in(&env, &folder, &["launch"]).code(0);
    assert_eq!(live_login(&env), profile_login(&env, "home"));
    let key = folder_key(&env);
    let _ = env.run(["config", "set", &key, "nobody"]).code(0);
    let run = run_in(&env, &folder, &["launch"]).code(1);
    assert!(run.stderr.contains("names this account"), "{run}");
}
