//! `profile export` and `import` in interactive use: the passphrase on a terminal, profiles named
//! like emails, a damaged profile.

use crate::support::env::TestEnv;
use crate::support::pauses::EVENT_LIMIT;
use crate::support::profiles::write_age_key;
use crate::support::sample::{RENEWED, alice, bob};
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use crate::support::terminal::Terminal;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = EVENT_LIMIT;

const PASSPHRASE: &str = "correct horse";

fn carol() -> SignIn {
    SignIn::new("acct-carol", "carol@example.com").issued_at(RENEWED)
}

/// Creates an environment in which Alice and Bob have profiles, and Carol is signed in.
fn world() -> TestEnv {
    let env = TestEnv::new();
    for (name, login) in [("work", alice(0)), ("home", bob())] {
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    write_auth(&env.codex_home(), &carol());
    env
}

#[test]
fn a_terminal_prompts_for_the_passphrase_without_echo() {
    let env = world();
    let ask = |args: &[&str], answers: &[(&str, &str)]| {
        let mut terminal = Terminal::start(&mut env.command(args));
        for (question, answer) in answers {
            terminal.wait_for(question, LIMIT);
            terminal.type_keys(&format!("{answer}\n"));
        }
        let code = terminal.end().code();
        let shown = terminal.text();
        assert!(!shown.contains(PASSPHRASE), "{shown}");
        (code, shown)
    };
    let export = ["profile", "export", "out.age", "--with-logins"];
    let (code, shown) = ask(&export, &[("passphrase:", PASSPHRASE), ("again:", "other")]);
    assert_eq!(code, Some(4), "{shown}");
    assert!(shown.contains("differ"), "{shown}");
    assert!(!env.path("out.age").exists());
    let twice = [("passphrase:", PASSPHRASE), ("again:", PASSPHRASE)];
    let (code, shown) = ask(&export, &twice);
    assert_eq!(code, Some(0), "{shown}");

    let import = ["profile", "import", "out.age", "--manager-home", "other"];
    let (code, shown) = ask(&import, &[("passphrase:", "wrong")]);
    assert_eq!(code, Some(5), "{shown}");
    assert!(!env.path("other/profiles").exists());
    let (code, shown) = ask(&import, &[("passphrase:", PASSPHRASE)]);
    assert_eq!(code, Some(0), "{shown}");
    let kept = fs::read_to_string(env.path("other/profiles/work/auth.json"));
    assert_eq!(kept.expect("a login"), auth_json(&alice(0)));
}

#[test]
fn an_imported_profile_named_like_the_email_of_a_local_account_gets_a_number() {
    let env = world();
    let rename = ["profile", "rename", "home", "carol@example.com"];
    let _ = env.run(rename).code(0);
    let key = write_age_key(&env);
    let export = ["profile", "export", "out.age", "--with-logins"];
    let _ = env
        .run([&export[..], &["--recipient", &key]].concat())
        .code(0);
    // On the other machine, Carol has a profile of another name.
    let there = |args: &[&str]| env.run([&["--manager-home", "other"], args].concat());
    let _ = there(&["profile", "save", "mine"]).code(0);
    let import = ["profile", "import", "out.age", "--identity", "key.txt"];
    let output = there(&[&import[..], &["--json"]].concat()).code(0).json();
    let mut profiles = output["profiles"].as_array().expect("profiles").iter();
    let bobs = profiles.find(|p| p["email"] == "bob@example.com");
    let bobs = bobs.expect("bob");
    assert_eq!(bobs["name"], "carol@example.com");
    assert_eq!(bobs["profile"], "carol@example.com-2");
    let kept = env.path("other/profiles/carol@example.com-2/auth.json");
    assert_eq!(
        fs::read_to_string(kept).expect("a login"),
        auth_json(&bob())
    );
    // The email selects the account, not the profile of that name.
    let switched = there(&["use", "carol@example.com", "--json"])
        .code(0)
        .json();
    assert_eq!(switched["to"], "mine", "{switched}");
}

#[test]
fn the_login_of_a_damaged_profile_is_not_exported_and_is_reported() {
    let env = world();
    env.write("home/.codex-manager/profiles/work/profile.json", "{");
    let export = |name: &str, args: &[&str]| {
        env.run([&["profile", "export", name, "--json"], args].concat())
    };
    let key = write_age_key(&env);
    let with = ["--with-logins", "--recipient", &key];
    let output = export("out.age", &with).code(6);
    let left = output.json()["left"].clone();
    assert_eq!(left[0]["name"], "work", "{output}");
    let reason = left[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("damaged"), "{output}");
    let kept = env.manager_home().join("profiles/work/auth.json");
    assert_eq!(
        fs::read_to_string(kept).expect("read"),
        auth_json(&alice(0))
    );
    let note = env.manager_home().join("profiles/work/profile.json");
    assert_eq!(fs::read_to_string(note).expect("read"), "{");
    let there = |args: &[&str]| env.run([&["--manager-home", "other"], args].concat());
    let import = ["profile", "import", "out.age", "--identity", "key.txt"];
    let _ = there(&import).code(0);
    let refused = there(&["use", "work"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    let _ = there(&["use", "home"]).code(0);
    // An export without logins is complete.
    let _ = export("open.export", &[]).code(0);
}
