//! Tests of the probe against a fake Codex with the errors that the real Codex cannot be made to show.

use crate::support::fake_codex::{Behaviour, FakeCodex, account_read, rate_limits_read};
use crate::support::mock_backend::MockBackend;
use crate::support::pauses::vary;
use crate::support::processes;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, codex_env, read_refresh_token, signed_in_home, write_auth};
use codex_manager_core::codex::app_server::{
    AccountLimits, ProbeFailure, ProbeOptions, ProbeReport, RENEWAL_TIMEOUT, probe,
};
use codex_manager_core::codex::identity::LoginKind;
use codex_manager_core::codex::process::{find_codex, find_holders};
use codex_manager_core::codex::program::Program;
use codex_manager_core::io::clock::{Clock, Zone};
use codex_manager_core::io::environment::Environment;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Probes `fake` with this time limit. Checks that the limit is kept and no process is left.
fn ask(fake: &FakeCodex, deadline: Duration) -> ProbeReport {
    let home = tempfile::tempdir().expect("a home");
    write_auth(home.path(), &SignIn::alice());
    let env = Environment::from_process();
    let program = Program::find(Some(&fake.path()), &env).expect("find the fake");
    let started = Instant::now();
    let report = probe(&ProbeOptions {
        program: &program,
        home: home.path(),
        env: &env,
        now: Clock::System.now(),
        zone: Zone::UTC,
        timeout: deadline,
        renewal_timeout: RENEWAL_TIMEOUT,
    });
    let took = started.elapsed();
    assert!(
        took < deadline + Duration::from_secs(60),
        "{took:?} of {deadline:?}"
    );
    let left = processes::wait_for_end(&fake.pids(), Duration::from_secs(60));
    assert_eq!(left, [] as [u32; 0], "processes still run");
    report
}

fn fake(folder: &tempfile::TempDir) -> FakeCodex {
    FakeCodex::new(folder.path())
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(1);

/// Returns the limits of one answer to `account/rateLimits/read`.
fn limits_of(answer: &Value) -> AccountLimits {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = fake(&folder).answer("account/rateLimits/read", answer);
    ask(&fake, LONG).limits.expect("limits")
}

/// Formats each window as limit id, label and used percentage.
fn shown(limits: &AccountLimits) -> Vec<String> {
    let windows = limits.windows.iter();
    windows
        .map(|w| format!("{} {} {}", w.limit_id, w.label(), w.used_percent))
        .collect()
}

#[test]
fn the_account_and_its_windows_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = ask(&fake(&folder), LONG);
    let account = report.account.expect("an answer").expect("an account");
    assert_eq!(account.kind, Some(LoginKind::Chatgpt));
    assert_eq!(account.email.as_deref(), Some("alice@example.com"));
    assert_eq!(account.plan.as_deref(), Some("plus"));
    assert_eq!(account.user_id.as_deref(), Some("user-alice"));
    assert_eq!(account.account_id.as_deref(), Some("acct-alice"));
    let limits = report.limits.expect("limits");
    assert_eq!(shown(&limits), ["codex 5h 12", "codex weekly 91"]);
    assert_eq!(limits.usage_allowed, Some(true));
    assert_eq!(limits.account_id.as_deref(), Some("acct-alice"));
}

#[test]
fn unrelated_output_between_answers_is_ignored() {
    for behaviour in [
        Behaviour::GarbageBetweenAnswers,
        Behaviour::AnswersToOthers,
        Behaviour::Notifications,
        Behaviour::OutOfOrder,
        Behaviour::NoFinalNewline,
        Behaviour::HugeLine(40_000_000),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let report = ask(&fake(&folder).behaviour(behaviour), LONG);
        let account = report.account.expect("an answer").expect("an account");
        assert_eq!(account.plan.as_deref(), Some("plus"), "{behaviour:?}");
        let limits = report.limits.expect("limits");
        assert_eq!(limits.windows.len(), 2, "{behaviour:?}");
    }
}

#[test]
fn a_codex_that_never_answers_is_killed_at_the_time_limit() {
    for behaviour in [
        Behaviour::GarbageOnly,
        Behaviour::NeverAnswers,
        Behaviour::AnswersInitializeOnly,
        Behaviour::HugeUnendedLine(10_000_000),
        Behaviour::Stubborn,
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let report = ask(&fake(&folder).behaviour(behaviour), SHORT);
        let timed_out = Err(ProbeFailure::TimedOut(SHORT));
        assert_eq!(report.limits, timed_out, "{behaviour:?}");
    }
}

#[test]
fn answers_before_the_time_limit_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = ask(&fake(&folder).silent_on("account/rateLimits/read"), SHORT);
    assert!(report.account.expect("an answer").is_some());
    assert_eq!(report.limits, Err(ProbeFailure::TimedOut(SHORT)));
}

#[test]
fn a_grandchild_with_the_output_open_causes_no_delay() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = Instant::now();
    let report = ask(&fake(&folder).behaviour(Behaviour::LeavesGrandchild), LONG);
    assert_eq!(report.limits.expect("limits").windows.len(), 2);
    assert!(started.elapsed() < LONG / 2);
}

#[test]
fn a_codex_that_ends_early_is_reported_with_its_reason() {
    for (behaviour, why) in [
        (Behaviour::ExitsAtOnce(1), "fake codex: cannot start"),
        (Behaviour::ExitsAfterInitialize(1), "fake codex: gone"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let report = ask(&fake(&folder).behaviour(behaviour), LONG);
        assert_eq!(report.limits, Err(ProbeFailure::Crashed(why.into())));
    }
}

#[test]
fn a_limit_that_the_answer_repeats_is_listed_once() {
    let mut answer = rate_limits_read("acct-alice", 12, 91);
    answer["rateLimitsByLimitId"]["codex_other"] = json!({
        "limitId": "codex_other",
        "primary": {"usedPercent": 5, "windowDurationMins": 1440, "resetsAt": 1_795_161_405},
        "secondary": null,
    });
    let wanted = ["codex 5h 12", "codex weekly 91", "codex_other 1d 5"];
    assert_eq!(shown(&limits_of(&answer)), wanted);

    answer["rateLimits"] = Value::Null;
    assert_eq!(shown(&limits_of(&answer)), wanted, "only limits by id");

    answer["rateLimits"] = answer["rateLimitsByLimitId"]["codex"].clone();
    answer["rateLimitsByLimitId"] = Value::Null;
    assert_eq!(
        shown(&limits_of(&answer)),
        wanted[..2],
        "only the old field"
    );
}

#[test]
fn any_number_of_windows_is_accepted() {
    let mut answer = rate_limits_read("acct-alice", 12, 91);
    answer["rateLimitsByLimitId"] = Value::Null;
    answer["rateLimits"]["primary"] = Value::Null;
    assert_eq!(shown(&limits_of(&answer)), ["codex weekly 91"]);

    answer["rateLimits"]["secondary"] = Value::Null;
    let none = limits_of(&answer);
    assert_eq!((none.windows.len(), none.unreadable_windows), (0, 0));

    for (name, minutes) in [
        ("primary", 300),
        ("secondary", 10_080),
        ("tertiary", 43_200),
    ] {
        answer["rateLimits"][name] =
            json!({"usedPercent": 1.5, "windowDurationMins": minutes, "resetsAt": null});
    }
    let many = limits_of(&answer);
    assert_eq!(
        shown(&many),
        ["codex 5h 1.5", "codex weekly 1.5", "codex 30d 1.5"]
    );
    assert_eq!(many.windows[0].resets_at, None);
}

#[test]
fn an_invalid_window_is_skipped_and_the_others_are_kept() {
    for (key, nonsense) in [
        ("usedPercent", json!(-1)),
        ("usedPercent", json!(1e300)),
        ("usedPercent", json!("12")),
        ("usedPercent", json!(null)),
        ("windowDurationMins", json!(-300)),
        ("windowDurationMins", json!(1e18)),
        ("windowDurationMins", json!("300")),
        ("windowDurationMins", json!([])),
        ("resetsAt", json!(-1)),
        ("resetsAt", json!(1_795_161_405_000_i64)),
        ("resetsAt", json!("2026-11-20")),
        ("resetsAt", json!({})),
    ] {
        let mut answer = rate_limits_read("acct-alice", 12, 91);
        answer["rateLimitsByLimitId"] = Value::Null;
        answer["rateLimits"]["primary"][key] = nonsense.clone();
        let limits = limits_of(&answer);
        assert_eq!(shown(&limits), ["codex weekly 91"], "{key}: {nonsense}");
        assert_eq!(limits.unreadable_windows, 1, "{key}: {nonsense}");
    }
    let mut over = rate_limits_read("acct-alice", 100, 91);
    over["rateLimits"]["primary"]["usedPercent"] = json!(104.5);
    assert_eq!(shown(&limits_of(&over))[0], "codex 5h 104.5");
}

#[test]
fn an_unexpected_answer_is_a_failure_not_a_panic() {
    for answer in [json!(null), json!([]), json!("no"), json!(7)] {
        let folder = tempfile::tempdir().expect("a folder");
        let fake = fake(&folder)
            .answer("account/rateLimits/read", &answer)
            .answer("account/read", &answer);
        let report = ask(&fake, LONG);
        assert!(matches!(report.limits, Err(ProbeFailure::Protocol(_))));
        assert_eq!(report.account, Ok(None));
    }
    for answer in [
        json!({}),
        json!({"rateLimits": [1], "rateLimitsByLimitId": 3}),
    ] {
        let limits = limits_of(&answer);
        assert_eq!(limits.windows, []);
    }
}

#[test]
fn failures_of_the_rate_limit_request_are_distinguished() {
    let failure = |code, message: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let fake = fake(&folder).error("account/rateLimits/read", code, message);
        ask(&fake, LONG).limits.expect_err("a failure")
    };
    let fetch = |rest: &str| {
        failure(
            -32603,
            &format!("failed to fetch codex rate limits: {rest}"),
        )
    };
    assert_eq!(
        failure(
            -32600,
            "codex account authentication required to read rate limits"
        ),
        ProbeFailure::NotSignedIn
    );
    assert_eq!(
        failure(
            -32600,
            "chatgpt authentication required to read rate limits"
        ),
        ProbeFailure::ApiKey
    );
    assert!(matches!(
        fetch(
            "GET http://x/wham/usage failed: 401 Unauthorized; body={\"code\":\"token_expired\"}"
        ),
        ProbeFailure::Unauthorized(_)
    ));
    assert!(matches!(
        fetch("GET http://x/wham/usage failed: 429 Too Many Requests; body=401"),
        ProbeFailure::RateLimited(_)
    ));
    assert!(matches!(
        fetch("GET http://x/wham/usage failed: 503 Service Unavailable; body={}"),
        ProbeFailure::Server(_)
    ));
    assert!(matches!(
        fetch("error sending request for url (http://127.0.0.1:1/wham/usage)"),
        ProbeFailure::Network(_)
    ));
    assert!(matches!(
        failure(-32603, "workspace routing discovery failed"),
        ProbeFailure::Network(_)
    ));
    assert!(matches!(
        failure(-32601, "unknown method"),
        ProbeFailure::Protocol(_)
    ));
}

#[test]
fn a_token_that_the_server_echoes_is_redacted() {
    let folder = tempfile::tempdir().expect("a folder");
    let sign_in = SignIn::alice();
    let (id_token, access_token) = sign_in.tokens();
    let secrets = [
        id_token,
        access_token,
        sign_in.refresh_token(),
        "sk-proj-1234".into(),
    ];
    let message = format!("GET x failed: 503; body={}", secrets.join(" "));
    let fake = fake(&folder)
        .error("account/rateLimits/read", -32603, &message)
        .error("account/read", -32603, &message);
    let report = ask(&fake, LONG);
    let output = format!(
        "{report:?} {}",
        report.limits.as_ref().expect_err("a failure")
    );
    for secret in &secrets {
        assert!(!output.contains(secret), "{output}");
    }
    assert!(output.contains("failed: 503"), "{output}");
}

#[test]
fn the_child_gets_no_other_login_from_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let env = Environment::default()
        .with("OPENAI_API_KEY", "sk-other")
        .with("CODEX_API_KEY", "sk-other")
        .with("CODEX_ACCESS_TOKEN", "other")
        .with("OPENAI_FEDERATION_RULE_ID", "other")
        .with("OPENAI_IDENTITY_TOKEN_FILE", "/other")
        .with("OPENAI_IDENTITY_TOKEN_SOURCE", "spiffe")
        .with("OPENAI_SPIFFE_AUDIENCE", "other")
        .with("OPENAI_SPIFFE_ID", "other")
        .with("CODEX_HOME", "/elsewhere")
        .with("KEPT", "yes");
    let fake = fake(&folder);
    let program = Program::find(Some(&fake.path()), &env).expect("find the fake");
    let command = program.server_command(folder.path(), &env);
    let command = command.expect("no login is due");
    let given: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
        .collect();
    let home = folder.path().to_str().expect("text");
    assert_eq!(given, [("CODEX_HOME", home), ("KEPT", "yes")]);
}

#[test]
fn a_login_that_is_being_renewed_gets_more_time() {
    // The fake answers `initialize` after the time limit, as Codex does with a slow server.
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("slow");
    let fake = fake(&folder);
    let text = format!(
        "#!/bin/sh\nsleep 1.5\nexec {} \"$@\"\n",
        fake.path().display()
    );
    crate::support::write_program(&script, &text);
    let env = Environment::from_process();
    let program = Program::find(Some(&script), &env).expect("a program");
    let ask = |sign_in: &SignIn| {
        let home = tempfile::tempdir().expect("a home");
        write_auth(home.path(), sign_in);
        probe(&ProbeOptions {
            program: &program,
            home: home.path(),
            env: &env,
            now: Clock::System.now(),
            zone: Zone::UTC,
            timeout: SHORT,
            renewal_timeout: RENEWAL_TIMEOUT,
        })
    };
    assert_eq!(
        ask(&SignIn::alice()).limits,
        Err(ProbeFailure::TimedOut(SHORT))
    );
    let renewed = ask(&SignIn::alice().ttl_seconds(-60));
    assert_eq!(renewed.limits.expect("limits").windows.len(), 2);
}

#[test]
fn an_account_of_an_unknown_kind_is_no_chatgpt_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut answer = account_read("alice@example.com", "acct-alice", "plus");
    answer["account"]["type"] = json!("amazonBedrock");
    let report = ask(&fake(&folder).answer("account/read", &answer), LONG);
    let account = report.account.expect("an answer").expect("an account");
    assert_eq!((account.kind, account.identity()), (None, None));
}

/// Forwards connections to `to`; delays the answers by `delay`. Returns the address of the proxy.
fn delay_answers(to: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&to).expect("the backend");
            let (mut there, mut back) = (
                (
                    client.try_clone().expect("clone"),
                    server.try_clone().expect("clone"),
                ),
                (server, client),
            );
            std::thread::spawn(move || std::io::copy(&mut there.0, &mut there.1));
            std::thread::spawn(move || {
                let mut first = [0; 1];
                if back.0.read_exact(&mut first).is_ok() {
                    vary(delay);
                    let _ = back.1.write_all(&first);
                    let _ = std::io::copy(&mut back.0, &mut back.1);
                }
            });
        }
    });
    address
}

#[test]
fn real_codex_is_not_killed_while_it_renews_the_login() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    signed_in_home(&home, &backend, &SignIn::alice().ttl_seconds(-60));
    let to = backend.base_url().replace("http://", "");
    let slow = delay_answers(to, Duration::from_secs(3));
    let mut env = Environment::default()
        .with(
            "PATH",
            Environment::from_process().get("PATH").expect("PATH"),
        )
        .with("HOME", folder.path());
    for (name, value) in codex_env(&backend) {
        env = env.with(&name, value);
    }
    let env = env.with(
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE",
        format!("http://{slow}/oauth/token"),
    );
    let program = Program::find(Some(codex.program()), &env).expect("find codex");
    let report = probe(&ProbeOptions {
        program: &program,
        home: &home,
        env: &env,
        now: Clock::System.now(),
        zone: Zone::UTC,
        timeout: Duration::from_secs(2),
        renewal_timeout: RENEWAL_TIMEOUT,
    });
    // The backend has spent the first token, so killing Codex would have lost the login.
    assert_eq!(backend.refreshes().len(), 1);
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.2");
    assert_eq!(report.limits.expect("limits").windows.len(), 2);
    assert_eq!(find_holders(&home, &[]), []);
}

#[test]
fn real_codex_that_renews_for_too_long_keeps_running() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let alice = backend.account("acct-alice");
    alice.set(|account| account.refresh_delay_ms = 8_000);
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    signed_in_home(&home, &backend, &SignIn::alice().ttl_seconds(-60));
    let mut env = Environment::default()
        .with(
            "PATH",
            Environment::from_process().get("PATH").expect("PATH"),
        )
        .with("HOME", folder.path());
    for (name, value) in codex_env(&backend) {
        env = env.with(&name, value);
    }
    let program = Program::find(Some(codex.program()), &env).expect("find codex");
    // The server has spent the token before the renewal times out.
    let options = ProbeOptions {
        program: &program,
        home: &home,
        env: &env,
        now: Clock::System.now(),
        zone: Zone::UTC,
        timeout: SHORT,
        // Enough for a start on a busy machine, too short for the delayed server.
        renewal_timeout: Duration::from_secs(5),
    };
    let report = std::thread::scope(|scope| {
        let asked = scope.spawn(|| probe(&options));
        let first = "rt.acct-alice.f1.1";
        assert!(backend.wait_for_refresh(Duration::from_secs(30), first));
        asked.join().expect("a report")
    });
    let timed_out = ProbeFailure::TimedOut(options.renewal_timeout);
    assert_eq!(report.limits, Err(timed_out));
    for holder in find_codex(&home) {
        let pid = holder.pid.expect("a pid");
        let left = processes::wait_for_end(&[pid], Duration::from_secs(30));
        assert_eq!(left, [] as [u32; 0], "Codex did not end");
    }
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.2");
}
