//! Tests of the test support: the mock backend, the sign-ins, the real Codex with both, the fake Codex.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes are the program's"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake_codex::{Behaviour, FakeCodex};
use crate::support::mock_backend::{
    ACCOUNTS_CHECK, ExtraLimit, MockBackend, RESPONSES, USAGE, Window,
};
use crate::support::pauses::{EVENT_LIMIT, wait_until};
use crate::support::processes::{self, alive};
use crate::support::real_codex::{Output, RealCodex};
use crate::support::sign_in::{
    self, AUTH_CLAIM, SignIn, auth_json, jwt_claims, read_auth, read_refresh_token, rfc3339,
    signed_in_home, unix_now, write_auth,
};

const SOON: Duration = EVENT_LIMIT;

struct Lab {
    codex: &'static RealCodex,
    backend: MockBackend,
    dir: TempDir,
}

impl Lab {
    fn new() -> Option<Self> {
        let codex = RealCodex::get()?;
        let dir = tempfile::tempdir().expect("make a temporary folder");
        Some(Self {
            codex,
            backend: MockBackend::start(),
            dir,
        })
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn signed_in(&self, sign_in: &SignIn) -> PathBuf {
        signed_in_home(&self.home(), &self.backend, sign_in);
        self.home()
    }

    fn exec(&self, prompt: &str) -> Output {
        self.codex.exec(&self.home(), &self.backend, &[prompt])
    }

    fn ask(&self, method: &str) -> Result<Value, Value> {
        self.codex
            .app_server_request(&self.home(), &self.backend, method, Value::Null)
    }

    fn account(&self) -> Result<Value, Value> {
        let params = json!({"refreshToken": false});
        self.codex
            .app_server_request(&self.home(), &self.backend, "account/read", params)
    }

    fn rollouts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.home().join("sessions")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn lines_of(rollout: &Path) -> Vec<Value> {
    let text = fs::read_to_string(rollout).expect("read the rollout");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn rpc_error(answer: Result<Value, Value>) -> (i64, String) {
    let error = answer.expect_err("an error");
    (
        error["code"].as_i64().expect("a code"),
        error["message"].as_str().expect("words").to_owned(),
    )
}

fn http(backend: &MockBackend, request: &str) -> String {
    let address = backend.base_url().replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(request.as_bytes()).expect("send");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("end the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read the answer");
    answer
}

fn get(backend: &MockBackend, path: &str, sign_in: &SignIn) -> String {
    let (_, access) = sign_in.tokens();
    http(
        backend,
        &format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {access}\r\n\r\n"),
    )
}

// Tests without Codex.

#[test]
fn auth_json_is_deterministic_and_has_the_claims_of_codex() {
    let sign_in = SignIn::bob()
        .issued_at(1_763_618_400)
        .ttl_seconds(-60)
        .family("x")
        .generation(7);
    let text = auth_json(&sign_in);
    assert_eq!(text, auth_json(&sign_in.clone()));
    let auth: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(auth["last_refresh"], "2025-11-20T06:00:00.000000000Z");
    assert_eq!(auth["tokens"]["refresh_token"], "rt.acct-bob.x.7");
    let id = jwt_claims(auth["tokens"]["id_token"].as_str().expect("a token"));
    assert_eq!(id["email"], "bob@example.com");
    assert_eq!(id[AUTH_CLAIM]["chatgpt_plan_type"], "pro");
    let access = jwt_claims(auth["tokens"]["access_token"].as_str().expect("a token"));
    assert_eq!(access["exp"], 1_763_618_340);
}

#[test]
fn rfc3339_writes_nine_digits_after_the_seconds_as_codex_does() {
    assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00.000000000Z");
}

#[test]
fn auth_json_is_written_with_mode_0600() {
    let dir = tempfile::tempdir().expect("make a temporary folder");
    let home = dir.path().join("home");
    write_auth(&home, &SignIn::alice());
    write_auth(&home, &SignIn::bob());
    let mode = fs::metadata(home.join("auth.json"))
        .expect("auth.json is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&home).expect("read the home").count(), 1);
}

#[test]
fn a_refresh_token_works_once_and_its_reuse_is_recorded() {
    let backend = MockBackend::start();
    let refresh = |token: &str| {
        // In chunks, like a streaming client.
        let body = json!({"refresh_token": token}).to_string();
        let (a, b) = body.split_at(5);
        let (x, y) = (a.len(), b.len());
        let chunks = format!("{x:x}\r\n{a}\r\n{y:x};note\r\n{b}\r\n0\r\n\r\n");
        let head = "POST /oauth/token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        http(&backend, &format!("{head}{chunks}"))
    };
    assert!(refresh("rt.acct-alice.f1.1").contains("rt.acct-alice.f1.2"));
    assert!(refresh("rt.acct-alice.f1.1").contains("refresh_token_reused"));
    assert!(refresh("rt.acct-alice.f1.2").contains("rt.acct-alice.f1.3"));
    backend.revoke_family_on_reuse(true);
    assert!(refresh("rt.acct-alice.f1.2").contains("refresh_token_reused"));
    assert!(refresh("rt.acct-alice.f1.3").contains("refresh_token_invalidated"));
    assert!(refresh("nonsense").contains("refresh_token_invalidated"));
    backend
        .account("acct-bob")
        .set(|bob| bob.refresh_expired = true);
    assert!(refresh("rt.acct-bob.f1.1").contains("refresh_token_expired"));
    assert_eq!(
        backend.reused_tokens(),
        ["rt.acct-alice.f1.1", "rt.acct-alice.f1.2"]
    );
    let statuses: Vec<u16> = backend
        .refreshes()
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    assert_eq!(statuses, [200, 401, 200, 401, 401, 401, 401]);
}

#[test]
fn the_backend_keeps_a_connection_for_several_requests() {
    let backend = MockBackend::start();
    let (_, access) = SignIn::alice().tokens();
    let one = format!("GET {USAGE} HTTP/1.1\r\nauthorization: Bearer {access}\r\n\r\n");
    let answers = http(&backend, &one.repeat(3));
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
}

#[test]
fn the_backend_stops_despite_pending_turns_delays_and_blackholes() {
    // At an address of its own, another test cannot get the port after the end of this backend.
    let backend = MockBackend::start_at("127.0.0.2");
    let alice = backend.account("acct-alice");
    alice.set(|alice| {
        alice.hold_turns = true;
        alice.blackhole = vec![USAGE];
    });
    backend
        .account("acct-bob")
        .set(|bob| bob.delay_ms = 3_600_000);
    let address = backend.base_url().replace("http://", "");
    let ask = |line: &str, sign_in: &SignIn| {
        let (_, access) = sign_in.tokens();
        let mut stream = TcpStream::connect(&address).expect("connect");
        let head = format!("{line} HTTP/1.1\r\nauthorization: Bearer {access}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("send");
        stream
    };
    let open = [
        ask(&format!("GET {USAGE}"), &SignIn::alice()),
        ask("POST /backend-api/codex/responses", &SignIn::alice()),
        ask(&format!("GET {USAGE}"), &SignIn::bob()),
    ];
    assert!(backend.wait_for(SOON, |seen| seen.len() >= 2));
    assert!(alice.wait_for_held_turn(SOON));
    let start = Instant::now();
    drop(backend);
    assert!(start.elapsed() < Duration::from_secs(60));
    for mut stream in open {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(
        TcpStream::connect(&address).is_err(),
        "the port is still open"
    );
}

#[test]
fn clearing_a_blackhole_closes_the_held_request() {
    let backend = MockBackend::start();
    let alice = backend.account("acct-alice");
    alice.set(|alice| alice.blackhole = vec![USAGE]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| get(&backend, USAGE, &SignIn::alice()));
        assert!(backend.wait_for(SOON, |seen| seen.iter().any(|one| one.status == 0)));
        alice.set(|alice| alice.blackhole.clear());
        assert_eq!(waiting.join().expect("no panic"), "");
    });
    assert!(get(&backend, USAGE, &SignIn::alice()).starts_with("HTTP/1.1 200 "));
}

// Tests with the real Codex.

#[test]
fn real_codex_runs_and_resumes_a_session() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    let first = lab.exec("one").expect_success();
    assert!(first.stdout.contains("Hello from the mock."), "{first}");
    let id = first.session_id().expect("a session id").to_owned();

    let rollouts = lab.rollouts();
    assert_eq!(rollouts.len(), 1, "{rollouts:?}");
    assert!(
        rollouts[0]
            .to_string_lossy()
            .ends_with(&format!("-{id}.jsonl"))
    );
    let lines = lines_of(&rollouts[0]);
    assert_eq!(lines[0]["payload"]["creator_account_id"], "acct-alice");
    assert_eq!(lines[0]["payload"]["creator_user_id"], "user-alice");
    let mut counts = lines
        .iter()
        .filter(|line| line["payload"]["type"] == "token_count");
    let limits = &counts.next_back().expect("a token count")["payload"]["rate_limits"];
    assert_eq!(limits["primary"]["used_percent"], 12.0);
    assert_eq!(limits["secondary"]["window_minutes"], 10_080);

    lab.backend
        .account("acct-alice")
        .set(|alice| "Again.".clone_into(&mut alice.reply));
    let again = lab
        .codex
        .exec_resume(&home, &lab.backend, &id, "two")
        .expect_success();
    assert!(again.stdout.contains("Again."), "{again}");
    assert_eq!(again.session_id(), Some(&*id));
    assert_eq!(lab.rollouts(), rollouts);
    assert!(lines_of(&rollouts[0]).len() > lines.len());
    assert_eq!(lab.backend.requests_to(RESPONSES).len(), 2);

    let list = lab.ask("thread/list").expect_err("params are required");
    assert_eq!(list["code"], -32600);
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let list = server
        .request("thread/list", json!({"sourceKinds": ["exec"]}))
        .expect("a list");
    assert_eq!(list["data"][0]["id"], json!(id), "{list}");
    let params = json!({"threadId": id, "includeTurns": true});
    let thread = server.request("thread/read", params).expect("a thread");
    assert_eq!(
        thread["thread"]["turns"].as_array().expect("turns").len(),
        2,
        "{thread}"
    );
    assert_eq!(server.close(SOON).and_then(|status| status.code()), Some(0));
    assert_eq!(
        lab.backend.outside(),
        Vec::<String>::new(),
        "Codex stays on loopback"
    );
}

#[test]
fn real_codex_reports_the_rate_limits_of_the_backend() {
    let Some(lab) = Lab::new() else { return };
    let at = unix_now() + 5_000;
    lab.backend.account("acct-bob").set(|bob| {
        bob.primary = Some(Window::five_hours(34.0).reset_at(at));
        bob.secondary = None;
        bob.extra_limits.push(ExtraLimit {
            limit_id: "codex_other".to_owned(),
            limit_name: "GPT-X-Other".to_owned(),
            primary: Some(Window::weekly(56.0).reset_at(at)),
            secondary: None,
        });
    });
    lab.signed_in(&SignIn::bob());
    let account = lab.account().expect("an account");
    assert_eq!(account["account"]["email"], "bob@example.com");
    assert_eq!(account["account"]["planType"], "pro");
    assert_eq!(account["workspaceRouting"]["chatgptAccountId"], "acct-bob");

    let answer = lab.ask("account/rateLimits/read").expect("rate limits");
    assert_eq!(answer["accountId"], "acct-bob");
    let five_hours = json!({"usedPercent": 34, "windowDurationMins": 300, "resetsAt": at});
    assert_eq!(answer["rateLimits"]["primary"], five_hours);
    assert_eq!(answer["rateLimits"]["secondary"], Value::Null);
    let by_id = answer["rateLimitsByLimitId"]
        .as_object()
        .expect("limits by id");
    assert_eq!(by_id.len(), 2, "{by_id:?}");
    assert_eq!(by_id["codex"], answer["rateLimits"]);
    assert_eq!(by_id["codex_other"]["limitName"], "GPT-X-Other");
    let week = json!({"usedPercent": 56, "windowDurationMins": 10080, "resetsAt": at});
    assert_eq!(by_id["codex_other"]["primary"], week);
    assert_eq!(lab.backend.refreshes(), []);
}

#[test]
fn real_codex_renews_an_expired_login_and_its_copy_becomes_invalid() {
    let Some(lab) = Lab::new() else { return };
    let stale = SignIn::alice().family("demo").ttl_seconds(-60);
    let home = lab.signed_in(&stale);
    let copy = lab.dir.path().join("copy");
    signed_in_home(&copy, &lab.backend, &stale);

    lab.exec("hi").expect_success();
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.demo.2");
    assert_eq!(
        lab.backend.refreshes(),
        [("rt.acct-alice.demo.1".to_owned(), 200)]
    );
    let auth = read_auth(&home);
    let id = jwt_claims(auth["tokens"]["id_token"].as_str().expect("a token"));
    assert_eq!(id["email"], "alice@example.com");
    assert_ne!(auth["last_refresh"], read_auth(&copy)["last_refresh"]);

    let lost = lab
        .codex
        .exec(&copy, &lab.backend, &["hi"])
        .expect_failure();
    assert!(
        lost.stderr.contains("refresh token was already used"),
        "{lost}"
    );
    assert_eq!(read_refresh_token(&copy), "rt.acct-alice.demo.1");
    assert_eq!(lab.backend.reused_tokens()[0], "rt.acct-alice.demo.1");
}

#[test]
fn real_codex_treats_a_revoked_login_as_signed_out() {
    let Some(lab) = Lab::new() else { return };
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.revoked = true);
    let home = lab.signed_in(&SignIn::alice().ttl_seconds(-60));
    assert_eq!(lab.account().expect("an answer")["account"], Value::Null);
    let (code, message) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32603);
    assert!(message.contains("401"), "{message}");
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.1");
}

#[test]
fn real_codex_reports_a_failing_usage_endpoint() {
    let Some(lab) = Lab::new() else { return };
    lab.signed_in(&SignIn::alice());
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_status = Some(503));
    let (code, message) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32603);
    assert!(message.contains("503"), "{message}");
    let requests = lab.backend.requests_to(USAGE);
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.status == 503));
}

#[test]
fn real_codex_reports_a_refused_token() {
    let Some(lab) = Lab::new() else { return };
    lab.signed_in(&SignIn::alice());
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.force_401 = true);
    let (code, message) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32603);
    assert!(message.contains("401"), "{message}");
    lab.exec("hi").expect_failure();
}

#[test]
fn real_codex_reports_a_reached_usage_limit() {
    let Some(lab) = Lab::new() else { return };
    lab.signed_in(&SignIn::alice());
    lab.backend.account("acct-alice").set(|alice| {
        alice.usage_limit = true;
        alice.secondary = Some(Window::weekly(100.0));
    });
    let output = lab.exec("hi").expect_failure();
    assert!(output.stderr.contains("hit your usage limit"), "{output}");
    let limits = lab.ask("account/rateLimits/read").expect("rate limits");
    assert_eq!(limits["ordinaryUsageAllowed"], false);
}

#[test]
fn real_codex_fails_if_the_workspace_check_fails() {
    let Some(lab) = Lab::new() else { return };
    lab.signed_in(&SignIn::alice());
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.check_status = Some(404));
    let (code, message) = rpc_error(lab.account());
    assert_eq!(code, -32603);
    assert!(
        message.contains("workspace routing discovery failed"),
        "{message}"
    );
    assert!(!lab.backend.requests_to(ACCOUNTS_CHECK).is_empty());
}

#[test]
fn real_codex_distinguishes_signed_out_and_api_key_homes() {
    let Some(lab) = Lab::new() else { return };
    sign_in::signed_out_home(&lab.home(), &lab.backend);
    assert_eq!(lab.account().expect("an answer")["account"], Value::Null);
    let (code, message) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32600);
    assert!(
        message.contains("account authentication required"),
        "{message}"
    );

    sign_in::api_key_home(&lab.home(), &lab.backend);
    assert_eq!(
        lab.account().expect("an answer")["account"]["type"],
        "apiKey"
    );
    let (code, message) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32600);
    assert!(
        message.contains("chatgpt authentication required"),
        "{message}"
    );
    lab.exec("hi").expect_success();
    let lines = lines_of(&lab.rollouts()[0]);
    let mut counts = lines
        .iter()
        .filter(|line| line["payload"]["type"] == "token_count");
    let limits = &counts.next_back().expect("a token count")["payload"]["rate_limits"];
    assert_eq!(limits["primary"], Value::Null);
}

#[test]
fn real_codex_waits_for_a_silent_usage_endpoint_until_its_server_is_dropped() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.blackhole = vec![USAGE]);
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let limit = Duration::from_secs(2);
    assert_eq!(
        server.request_within("account/rateLimits/read", Value::Null, limit),
        None
    );
    assert_eq!(lab.backend.requests_to(USAGE)[0].status, 0);
    let pid = server.pid();
    drop(server);
    assert!(!alive(pid));
}

#[test]
fn real_codex_keeps_running_while_its_turn_is_pending() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    let alice = lab.backend.account("acct-alice");
    alice.hold_turns();
    let running = lab.codex.spawn_exec(&home, &lab.backend, &["hi"]);
    assert!(alice.wait_for_held_turn(SOON));
    assert!(running.is_running());
    let native = running.native_pid().expect("the native process");
    let exe = fs::read_link(format!("/proc/{native}/exe")).expect("read the link");
    assert_eq!(
        exe,
        lab.codex
            .native()
            .canonicalize()
            .expect("the native binary")
    );
    alice.release_turns();
    running.finish(SOON).expect_success();
    assert!(!alive(native));

    alice.hold_turns();
    let codex = lab.codex.through_npm();
    let running = codex.spawn_exec(&home, &lab.backend, &["hi"]);
    assert!(alice.wait_for_held_turn(SOON));
    let (launcher, native) = (
        running.pid(),
        running.native_pid().expect("the native process"),
    );
    running.kill();
    assert!(!alive(launcher));
    assert_eq!(processes::wait_for_end(&[native], SOON), Vec::<u32>::new());
}

#[test]
fn real_codex_daemon_starts_and_stops_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    let daemon = lab.codex.start_daemon(&home, &lab.backend);
    assert_eq!(daemon.started()["status"], "started");
    let pid = daemon.pid().expect("a daemon");
    let updater = daemon.updater_pid().expect("an updater");
    assert!(alive(pid) && alive(updater));
    assert_eq!(
        daemon.control("version").expect("a version")["status"],
        "running"
    );

    assert_eq!(daemon.control("stop").expect("stop")["status"], "stopped");
    assert!(!alive(pid));
    assert_eq!(daemon.processes(), [updater], "the updater survives a stop");
    assert_eq!(daemon.control("start").expect("start")["status"], "started");
    let pids = daemon.processes();
    assert_eq!(pids.len(), 2);
    let links = [
        "app-server-control/app-server-control.sock",
        "app-server-daemon/daemon-updater.sock",
    ];
    let sockets: Vec<_> = links
        .iter()
        .filter_map(|link| fs::read_link(home.join(link)).ok())
        .collect();
    drop(daemon);
    assert!(pids.into_iter().all(|pid| !alive(pid)));
    assert!(sockets.iter().all(|socket| !socket.exists()));
    assert_eq!(
        lab.backend.outside(),
        Vec::<String>::new(),
        "the updater stays on loopback"
    );
}

#[test]
fn real_codex_that_connects_outside_loopback_is_detected() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    let config = fs::read_to_string(home.join("config.toml")).expect("read config.toml");
    let away = config.replace(
        &format!("chatgpt_base_url = \"{}", lab.backend.base_url()),
        "chatgpt_base_url = \"https://away.invalid",
    );
    assert_ne!(config, away);
    fs::write(home.join("config.toml"), away).expect("write config.toml");
    let (code, _) = rpc_error(lab.ask("account/rateLimits/read"));
    assert_eq!(code, -32603);
    assert!(
        lab.backend
            .outside()
            .contains(&"away.invalid:443".to_owned())
    );
}

#[test]
fn real_codex_runs_in_the_given_folder_and_environment() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    let work = lab
        .dir
        .path()
        .canonicalize()
        .expect("the folder")
        .join("work");
    let databases = lab.dir.path().join("databases");
    fs::create_dir(&work)
        .and_then(|()| fs::create_dir(&databases))
        .expect("make folders");
    let args = ["exec", "--skip-git-repo-check", "hi"];
    let running = lab.codex.start_with(&home, &lab.backend, &args, |command| {
        command
            .current_dir(&work)
            .env("CODEX_SQLITE_HOME", &databases);
    });
    running.finish(SOON).expect_success();
    let first = lines_of(&lab.rollouts()[0]).swap_remove(0);
    assert_eq!(first["payload"]["cwd"], json!(work));
    assert!(databases.join("state_5.sqlite").exists() && !home.join("state_5.sqlite").exists());
}

#[test]
fn real_codex_logout_revokes_the_sign_in() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.signed_in(&SignIn::alice());
    lab.codex
        .run(&home, &lab.backend, &["logout"])
        .expect_success();
    assert_eq!(lab.backend.revocations(), ["rt.acct-alice.f1.1"]);
    assert!(!home.join("auth.json").exists());
}

// Tests of the fake Codex.

struct Talk {
    child: Child,
    lines: Box<dyn Iterator<Item = Vec<u8>>>,
}

impl Talk {
    fn with(fake: &FakeCodex) -> Self {
        let mut child = spawn(fake);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            lines: Box::new(stdout.split(b'\n').map_while(Result::ok)),
        }
    }

    fn send(&mut self, id: u64, method: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{}", json!({"id": id, "method": method})).expect("send");
    }

    fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.lines.next().expect("a line")).into_owned()
    }

    fn id(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str::<Value>(&line).expect("a line of JSON")["id"].take()
    }

    fn end(mut self) -> (Vec<Vec<u8>>, Option<i32>) {
        drop(self.child.stdin.take());
        let rest = self.lines.by_ref().collect();
        (rest, self.child.wait().expect("wait").code())
    }
}

fn spawn(fake: &FakeCodex) -> Child {
    Command::new(fake.path())
        .arg("app-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the fake")
}

fn fake(behaviour: Behaviour) -> (TempDir, FakeCodex) {
    let dir = tempfile::tempdir().expect("make a temporary folder");
    let fake = FakeCodex::new(dir.path()).behaviour(behaviour);
    (dir, fake)
}

#[test]
fn fake_codex_answers_and_records_requests() {
    let (_dir, fake) = fake(Behaviour::Answers);
    let fake = fake
        .error("thread/list", -32600, "no")
        .silent_on("account/read");
    let mut talk = Talk::with(&fake);
    for (id, method) in [
        (0, "initialize"),
        (1, "account/read"),
        (2, "account/rateLimits/read"),
    ] {
        talk.send(id, method);
    }
    talk.send(31, "thread/list");
    assert_eq!(
        [talk.id(), talk.id(), talk.id()],
        [json!(0), json!(2), json!(31)]
    );
    assert_eq!(talk.end(), (vec![], Some(0)));
    assert_eq!(fake.calls(), ["\tapp-server"]);
    assert_eq!(fake.received().len(), 4);

    let fake = fake
        .exit_code(7)
        .daemon("version", &json!({"status": "running"}));
    let run = |args: &[&str]| {
        let output = Command::new(fake.path())
            .args(args)
            .output()
            .expect("start the fake");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert_eq!(
        run(&["--version"]),
        (Some(0), "codex-cli 0.169.0\n".to_owned())
    );
    let running = (Some(0), "{\"status\":\"running\"}\n".to_owned());
    assert_eq!(run(&["app-server", "daemon", "version"]), running);
    assert_eq!(run(&["app-server", "daemon", "stop"]).0, Some(1));
    assert_eq!(run(&["resume", "--last"]).0, Some(7));
    assert_eq!(
        fake.calls().last().map(String::as_str),
        Some("\tresume --last")
    );
}

#[test]
fn fake_codex_sends_garbage_answers_to_others_and_notifications_between_answers() {
    let (_dir, garbage) = fake(Behaviour::GarbageBetweenAnswers);
    let mut talk = Talk::with(&garbage);
    talk.send(0, "initialize");
    let lines: Vec<String> = (0..7).map(|_| talk.line()).collect();
    assert!(lines[5].contains('\u{fffd}') && lines[6].starts_with(r#"{"id":0,"result""#));

    let (_dir, others) = fake(Behaviour::AnswersToOthers);
    let mut talk = Talk::with(&others);
    talk.send(0, "initialize");
    let ids: Vec<Value> = (0..4).map(|_| talk.id()).collect();
    assert_eq!(ids, [json!(990_099), Value::Null, Value::Null, json!(0)]);

    let (_dir, notifying) = fake(Behaviour::Notifications);
    let mut talk = Talk::with(&notifying);
    talk.send(4, "account/read");
    let lines: Vec<String> = (0..4).map(|_| talk.line()).collect();
    assert!(lines[2].contains(r#""id":4,"method""#) && lines[3].contains("alice@example.com"));
}

#[test]
fn fake_codex_answers_out_of_order() {
    let (_dir, fake) = fake(Behaviour::OutOfOrder);
    let mut talk = Talk::with(&fake);
    talk.send(0, "initialize");
    talk.send(1, "account/read");
    talk.send(2, "account/rateLimits/read");
    assert_eq!(
        [talk.id(), talk.id(), talk.id()],
        [json!(0), json!(2), json!(1)]
    );
}

#[test]
fn fake_codex_prints_huge_and_unterminated_lines() {
    let (_dir, huge) = fake(Behaviour::HugeLine(3_000_000));
    let mut talk = Talk::with(&huge);
    talk.send(0, "initialize");
    assert_eq!(talk.line().len(), 3_000_000);
    assert_eq!(talk.id(), 0);

    let (_dir, unended) = fake(Behaviour::HugeUnendedLine(100_000));
    let mut child = spawn(&unended);
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut vec![0; 100_000]).expect("read");
    drop(child.stdin.take());
    assert_eq!(
        unended.live_pids(),
        [child.id()],
        "the fake ended with its input"
    );
    drop(unended);
    assert_eq!(stdout.read_to_end(&mut Vec::new()).expect("the end"), 0);
    child.wait().expect("wait");

    let (_dir, no_newline) = fake(Behaviour::NoFinalNewline);
    let mut talk = Talk::with(&no_newline);
    talk.send(0, "initialize");
    assert_eq!(talk.id(), 0);
    talk.send(1, "account/rateLimits/read");
    let mut rest = talk.end();
    assert_eq!((rest.0.len(), rest.1), (1, Some(0)));
    assert!(rest.0.remove(0).ends_with(b"}}"));
}

#[test]
fn fake_codex_exits_early() {
    let (_dir, at_once) = fake(Behaviour::ExitsAtOnce(3));
    assert_eq!(Talk::with(&at_once).end(), (vec![], Some(3)));
    let (_dir, later) = fake(Behaviour::ExitsAfterInitialize(4));
    let mut talk = Talk::with(&later);
    talk.send(0, "initialize");
    assert_eq!(talk.id(), 0);
    talk.send(1, "account/read");
    assert_eq!(talk.end(), (vec![], Some(4)));
}

#[test]
fn fake_codex_is_killed_when_dropped() {
    for behaviour in [
        Behaviour::NeverAnswers,
        Behaviour::AnswersInitializeOnly,
        Behaviour::Stubborn,
        Behaviour::LeavesGrandchild,
    ] {
        let (_dir, fake) = fake(behaviour);
        let mut talk = Talk::with(&fake);
        if behaviour == Behaviour::NeverAnswers {
            wait_until("the fake starts", || !fake.pids().is_empty());
        } else {
            talk.send(0, "initialize");
            assert_eq!(talk.id(), 0);
        }
        let pids = fake.live_pids();
        let with_grandchild =
            matches!(behaviour, Behaviour::Stubborn | Behaviour::LeavesGrandchild);
        assert_eq!(
            pids.len(),
            1 + usize::from(with_grandchild),
            "{behaviour:?}"
        );
        if behaviour == Behaviour::Stubborn {
            for pid in &pids {
                processes::signal("TERM", *pid);
            }
            assert_eq!(fake.live_pids(), pids, "the fake ended by SIGTERM");
        }
        drop(talk.child.stdin.take());
        drop(fake);
        // The output ends when no process has stdout open.
        assert_eq!(talk.lines.by_ref().count(), 0);
        talk.child.wait().expect("wait");
    }
}
