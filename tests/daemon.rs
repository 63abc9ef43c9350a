//! The background daemon of the real Codex, which copies itself (about 400 MB) into the home.

use crate::support::env::TestEnv;
use crate::support::mock_backend::MockBackend;
use crate::support::pauses::EVENT_LIMIT;
use crate::support::processes;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, codex_env, signed_in_home, write_auth};
use codex_manager_core::codex::daemon;
use codex_manager_core::codex::process::find_holders;
use codex_manager_core::codex::program::Program;
use codex_manager_core::io::environment::Environment;

#[test]
fn a_running_daemon_is_found_and_stopped_and_status_queries_the_account_in_auth_json() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let mut world = TestEnv::new();
    let home = world.codex_home();
    signed_in_home(&home, &backend, &SignIn::alice());
    assert_eq!(daemon::find(&home), None);
    let running = codex.start_daemon(&home, &backend);
    let pid = running.pid().expect("a pid file");

    // The daemon is a user of the home; its helper that updates the package is not.
    assert_eq!(daemon::find(&home).expect("alive").pid, pid);
    let holders = find_holders(&home, &[]);
    let seen: Vec<_> = holders.iter().map(ToString::to_string).collect();
    assert_eq!(seen, [format!("codex (PID {pid}, background daemon)")]);

    // The daemon keeps Alice's account; the probe reads the account in auth.json.
    write_auth(&home, &SignIn::bob());
    world.set("PATH", codex.search_path());
    world.unset("CODEX_MANAGER_NOW");
    let mut env = Environment::default();
    for (name, value) in codex_env(&backend) {
        world.set(&name, &value);
        env = env.with(&name, value);
    }
    let output = world.run(["status", "--json"]).code(0).json();
    assert_eq!(output["email"], "bob@example.com");
    assert_eq!(output["source"], "live");

    // Codex's own command stops the daemon; a second stop finds nothing to stop.
    let env = env
        .with("PATH", codex.search_path())
        .with("HOME", world.path("home"));
    let program = Program::find(None, &env).expect("find codex");
    let limit = EVENT_LIMIT;
    assert!(daemon::stop(&program, &home, &env, limit).expect("stop"));
    assert!(!processes::alive(pid));
    assert_eq!(daemon::find(&home), None);
    assert_eq!(find_holders(&home, &[]), []);
    assert!(!daemon::stop(&program, &home, &env, limit).expect("stop"));
}
