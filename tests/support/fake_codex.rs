//! An executable `codex` with faults that the real Codex cannot be made to show: garbage on stdout,
//! silence, huge lines, answers out of order, a process that ignores signals with a grandchild.
//!
//! It does not imitate the behaviour of Codex; the real Codex does that. The script uses `sh` and
//! its builtins. It answers each app-server method from a file (`answers/<method>`), with the
//! numeric id of the request, and records its calls and its input. Dropping [`FakeCodex`] kills
//! every recorded process.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for the environment are the program's, not its tests'"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::processes;
use super::sign_in::unix_now;
use super::write_program;

/// The behaviour of `codex app-server`. Answers come from the prepared files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers every request, and exits at the end of its input.
    Answers,
    /// Prints lines that are neither JSON nor UTF-8 before each answer.
    GarbageBetweenAnswers,
    /// Prints only such lines, until the end of its input.
    GarbageOnly,
    /// Reads requests and never answers; does not exit at the end of its input.
    NeverAnswers,
    /// Answers only `initialize`; does not exit at the end of its input.
    AnswersInitializeOnly,
    /// Prints a line of this many bytes before the first answer.
    HugeLine(u64),
    /// Prints this many bytes without a line end, then nothing.
    HugeUnendedLine(u64),
    /// Prints a word on stderr and exits with this code without reading its input.
    ExitsAtOnce(u8),
    /// Answers `initialize`, reads the next request, and exits with this code.
    ExitsAfterInitialize(u8),
    /// Answers `initialize`, then waits for two requests and answers the second one first. A client
    /// that waits for each answer hangs.
    OutOfOrder,
    /// Prints before each answer one with an unknown id, one with a null id, and one without an id.
    AnswersToOthers,
    /// Prints before each answer notifications, and a request with the id of the client's request.
    Notifications,
    /// Like `Answers`, but prints the last prepared answer without a line end, and exits.
    NoFinalNewline,
    /// Ignores SIGTERM, SIGINT, SIGHUP and the end of its input, and answers only `initialize`. Has a
    /// grandchild that ignores the same and holds stdout and stderr open.
    Stubborn,
    /// Like `Answers`, but leaves a grandchild that holds stdout open.
    LeavesGrandchild,
}

/// The executable and its records.
pub(crate) struct FakeCodex {
    dir: PathBuf,
}

impl FakeCodex {
    /// Creates `dir/codex`, which answers as a signed-in Alice (plus, 12 % and 91 % used).
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("fake")).expect("create the folder of the fake");
        let dir = fs::canonicalize(dir).expect("the folder of the fake");
        let fake = Self { dir };
        fake.write("version", "codex-cli 0.169.0\n");
        fake.write("exit-code", "0\n");
        write_program(&fake.path(), SCRIPT);
        fake.behaviour(Behaviour::Answers)
            .answer(
                "initialize",
                &json!({"userAgent": "fake", "codexHome": "/nowhere"}),
            )
            .answer(
                "account/read",
                &account_read("alice@example.com", "acct-alice", "plus"),
            )
            .answer(
                "account/rateLimits/read",
                &rate_limits_read("acct-alice", 12, 91),
            )
    }

    /// Selects the behaviour of `codex app-server` for later calls.
    #[must_use]
    pub(crate) fn behaviour(self, behaviour: Behaviour) -> Self {
        let (word, number) = match behaviour {
            Behaviour::Answers => ("answers", 0),
            Behaviour::GarbageBetweenAnswers => ("garbage-between", 0),
            Behaviour::GarbageOnly => ("garbage-only", 0),
            Behaviour::NeverAnswers => ("never", 0),
            Behaviour::AnswersInitializeOnly => ("initialize-only", 0),
            Behaviour::HugeLine(bytes) => ("huge-line", bytes),
            Behaviour::HugeUnendedLine(bytes) => ("huge-unended", bytes),
            Behaviour::ExitsAtOnce(code) => ("exit-at-once", code.into()),
            Behaviour::ExitsAfterInitialize(code) => ("exit-after-initialize", code.into()),
            Behaviour::OutOfOrder => ("out-of-order", 0),
            Behaviour::AnswersToOthers => ("others", 0),
            Behaviour::Notifications => ("notifications", 0),
            Behaviour::NoFinalNewline => ("no-newline", 0),
            Behaviour::Stubborn => ("stubborn", 0),
            Behaviour::LeavesGrandchild => ("grandchild", 0),
        };
        self.write("behaviour", &format!("{word} {number}\n"));
        self
    }

    /// Prepares the result of a method.
    #[must_use]
    pub(crate) fn answer(self, method: &str, result: &Value) -> Self {
        self.raw_answer(method, &format!(r#"{{"id":@ID@,"result":{result}}}"#))
    }

    /// Prepares an error as the answer to a method.
    #[must_use]
    pub(crate) fn error(self, method: &str, code: i64, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        self.raw_answer(method, &format!(r#"{{"id":@ID@,"error":{error}}}"#))
    }

    /// Prepares any single line as the answer to a method. The first `@ID@` becomes the request's
    /// id.
    #[must_use]
    pub(crate) fn raw_answer(self, method: &str, line: &str) -> Self {
        assert!(!line.contains('\n'), "one line");
        self.write(&format!("answers/{method}"), &format!("{line}\n"));
        self
    }

    /// Leaves a method without an answer.
    #[must_use]
    pub(crate) fn silent_on(self, method: &str) -> Self {
        let _ = fs::remove_file(self.file(&format!("answers/{method}")));
        self
    }

    /// Sets the output of `codex --version`.
    #[must_use]
    pub(crate) fn version(self, line: &str) -> Self {
        self.write("version", &format!("{line}\n"));
        self
    }

    /// Sets the output of `codex app-server daemon WORD`, which fails otherwise.
    #[must_use]
    pub(crate) fn daemon(self, word: &str, answer: &Value) -> Self {
        self.write(&format!("daemon/{word}"), &format!("{answer}\n"));
        self
    }

    /// Sets the exit code of every other call (`codex`, `codex exec`, `codex resume`…).
    #[must_use]
    pub(crate) fn exit_code(self, code: u8) -> Self {
        self.write("exit-code", &format!("{code}\n"));
        self
    }

    /// Returns the path of the executable.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("codex")
    }

    /// Returns the folder of the executable, for `PATH`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns one line per call: its `CODEX_HOME`, a tab, and its arguments separated by blanks.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lines("calls")
    }

    /// Returns every line that app-servers have read from their input.
    pub(crate) fn received(&self) -> Vec<String> {
        self.lines("received")
    }

    /// Returns the id of every started process, of all calls, running or ended.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.lines("pids")
            .iter()
            .filter_map(|line| line.parse().ok())
            .collect()
    }

    /// Returns the ids of the started processes that still run.
    pub(crate) fn live_pids(&self) -> Vec<u32> {
        let mut pids = self.pids();
        pids.retain(|pid| self.owns(*pid));
        pids
    }

    /// Returns true if the process with this id runs the script; false if the id was reused.
    fn owns(&self, pid: u32) -> bool {
        processes::command_line(pid).contains(&*self.path().to_string_lossy())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("fake").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a parent folder")).expect("create the folder");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .map(ToOwned::to_owned)
            .collect()
    }
}

impl Drop for FakeCodex {
    fn drop(&mut self) {
        for pid in self.live_pids() {
            processes::signal("KILL", pid);
        }
    }
}

/// Returns the result of `account/read` for a `ChatGPT` sign-in, as in Codex 0.169.
pub(crate) fn account_read(email: &str, account_id: &str, plan: &str) -> Value {
    json!({
        "account": {
            "type": "chatgpt",
            "email": email,
            "planType": plan,
            "workspaceName": email,
        },
        "userId": account_id.replace("acct-", "user-"),
        "requiresOpenaiAuth": true,
        "workspaceRouting": {
            "chatgptAccountId": account_id,
            "backendOrigin": "https://chatgpt.com",
            "accountRoutingOverride": "NO_CONSTRAINT",
        },
    })
}

/// Returns the result of `account/rateLimits/read` with a five-hour and a weekly window, as in Codex 0.169.
pub(crate) fn rate_limits_read(account_id: &str, five_hours_used: u8, weekly_used: u8) -> Value {
    let window = |used: u8, minutes: i64, seconds: i64| {
        json!({
            "usedPercent": used,
            "windowDurationMins": minutes,
            "resetsAt": unix_now() + seconds,
        })
    };
    let limits = json!({
        "limitId": "codex",
        "limitName": null,
        "normalModelSlug": null,
        "primary": window(five_hours_used, 300, 7_200),
        "secondary": window(weekly_used, 10_080, 259_200),
        "credits": {"hasCredits": false, "unlimited": false, "balance": "0"},
        "individualLimit": null,
        "spendControlReached": null,
        "planType": "plus",
        "rateLimitReachedType": null,
    });
    json!({
        "ordinaryUsageAllowed": five_hours_used < 100 && weekly_used < 100,
        "rateLimits": limits,
        "rateLimitsByLimitId": {"codex": limits},
        "rateLimitResetCredits": null,
        "accountId": account_id,
        "rateLimitUpsell": null,
    })
}

const SCRIPT: &str = r#"#!/bin/sh
# A fake `codex` with its state in fake/. Only builtins where it may be killed, because a child would survive.
self=$(cd "$(dirname "$0")" && pwd)/codex
fake=${self%/codex}/fake
tab=$(printf '\t')

if [ "$1" = --fake-grandchild ]; then
    trap '' TERM INT HUP
    [ -p "$fake/ready.$2" ] && echo up >"$fake/ready.$2"
    mkfifo "$fake/forever.$$"
    exec 8<>"$fake/forever.$$"
    read -r never <&8
    exit
fi

printf '%s\n' "$$" >>"$fake/pids"
printf '%s%s%s\n' "${CODEX_HOME-}" "$tab" "$*" >>"$fake/calls"

case "$1 $2" in
    "--version "* | "-V "*) cat "$fake/version"; exit 0 ;;
    "app-server daemon")
        [ -f "$fake/daemon/$3" ] || { echo "no daemon answer for $3" >&2; exit 1; }
        cat "$fake/daemon/$3"
        exit 0 ;;
    "app-server "*) ;;
    *) read -r code <"$fake/exit-code"; exit "$code" ;;
esac

read -r behaviour number <"$fake/behaviour"

# Blocks forever without a child process.
forever() {
    mkfifo "$fake/forever.$$"
    exec 8<>"$fake/forever.$$"
    while :; do read -r never <&8; done
}

# Starts a background process that keeps stdout and stderr open, and records its id before returning.
grandchild() {
    mkfifo "$fake/ready.$$"
    ( "$self" --fake-grandchild "$$" </dev/null & printf '%s\n' "$!" >>"$fake/pids" )
    read -r up <"$fake/ready.$$"
}

huge() { head -c "$number" /dev/zero | tr '\000' x; }

garbage() {
    printf 'thread main panicked at nothing\n\n{"id":\n[]\n"id"\n\377\376\001\n'
}

# Reads a request into $line, its id into $id, its method into $method; false at the end.
request() {
    IFS= read -r line || return 1
    printf '%s\n' "$line" >>"$fake/received"
    id= method=
    case "$line" in *'"id":'*) id=${line#*'"id":'} id=${id%%[!0-9]*} ;; esac
    case "$line" in *'"method":'*) method=${line#*'"method":"'} method=${method%%'"'*} ;; esac
    return 0
}

# Prints the prepared answer to method $1 for id $2, without an end of line; false when none is.
reply() {
    [ -n "$2" ] && [ -f "$fake/answers/$1" ] || return 1
    IFS= read -r text <"$fake/answers/$1"
    case "$text" in
        *@ID@*) printf '%s%s%s' "${text%%@ID@*}" "$2" "${text#*@ID@}" ;;
        *) printf '%s' "$text" ;;
    esac
}

answer() { reply "$1" "$2" && printf '\n'; }

case "$behaviour" in
    exit-at-once) echo 'fake codex: cannot start' >&2; exit "$number" ;;
    never) forever ;;
    garbage-only) garbage; while request; do garbage; done; exit 0 ;;
    huge-unended) huge; forever ;;
    stubborn) trap '' TERM INT HUP; grandchild ;;
    grandchild) grandchild ;;
esac

held_id= held_method=
while request; do
    [ -n "$id" ] || continue
    case "$behaviour" in
        garbage-between) garbage ;;
        huge-line) [ "$method" = initialize ] && { huge; printf '\n'; } ;;
        others)
            printf '{"id":990099,"result":{"account":null}}\n'
            printf '{"id":null,"error":{"code":-32700,"message":"parse error"}}\n'
            printf '{"result":{"account":null}}\n' ;;
        notifications)
            printf '{"method":"configWarning","params":{"summary":"fake"}}\n'
            printf '{"method":"account/updated","params":{"authMode":"chatgpt","planType":"free"}}\n'
            printf '{"id":%s,"method":"item/tool/requestUserInput","params":{}}\n' "$id" ;;
        initialize-only | stubborn) [ "$method" = initialize ] || forever ;;
        exit-after-initialize)
            [ "$method" = initialize ] || { echo 'fake codex: gone' >&2; exit "$number"; } ;;
        out-of-order)
            if [ "$method" != initialize ]; then
                if [ -z "$held_id" ]; then
                    held_id=$id held_method=$method
                    continue
                fi
                answer "$method" "$id"
                id=$held_id method=$held_method held_id=
            fi ;;
        no-newline)
            if [ "$method" = account/rateLimits/read ]; then
                reply "$method" "$id"
                exit 0
            fi ;;
    esac
    answer "$method" "$id"
done
case "$behaviour" in initialize-only | stubborn) forever ;; esac
exit 0
"#;
