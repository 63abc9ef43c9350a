//! Logins that Codex cannot store after a renewal: no command may start a Codex that would renew them.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::{FileFlag, Mount};
use crate::support::lab::Lab;
use crate::support::profiles::alice_and_bob;
use crate::support::sign_in::{SignIn, read_refresh_token, write_auth};
use std::any::Any;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The values that end a state when they are dropped.
type Guards = Vec<Box<dyn Any>>;

/// Makes a state of the login in the Codex home. `None`, with a note, if the machine cannot.
type MakeState = fn(&TestEnv) -> Option<Guards>;

fn auth(env: &TestEnv) -> PathBuf {
    env.codex_home().join("auth.json")
}

/// A mode that is set until the value is dropped.
struct Mode(PathBuf, u32);

impl Mode {
    fn set(path: &Path, mode: u32) -> Self {
        let before = path.metadata().unwrap().permissions().mode();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        Self(path.to_path_buf(), before)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = fs::set_permissions(&self.0, Permissions::from_mode(self.1));
    }
}

/// Moves auth.json into the folder `dotfiles`, leaves a link, and returns the target.
fn link(env: &TestEnv) -> PathBuf {
    let target = env.write("dotfiles/login.json", fs::read(auth(env)).unwrap());
    fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(auth(env)).unwrap();
    symlink("../../dotfiles/login.json", auth(env)).unwrap();
    target
}

/// Mounts a copy of the file over the file.
fn mount_over(env: &TestEnv, file: &Path) -> Option<Mount> {
    let copy = env.path("mounted.json");
    let _ = fs::remove_file(&copy);
    fs::copy(file, &copy).unwrap();
    Mount::bind(&copy, file)
}

fn one(guard: impl Any) -> Guards {
    vec![Box::new(guard)]
}

fn mounted_read_only(folder: &Path) -> Option<Guards> {
    Some(one(Mount::bind(folder, folder)?.make_read_only()))
}

/// The states in which Codex 0.171 spends the refresh token and cannot store the renewed login.
const UNSTORABLE: &[(&str, MakeState)] = &[
    ("a mounted file", |env| {
        Some(one(mount_over(env, &auth(env))?))
    }),
    ("a mounted file, read-only", |env| {
        Some(one(mount_over(env, &auth(env))?.make_read_only()))
    }),
    ("a link to a mounted file", |env| {
        let target = link(env);
        Some(one(mount_over(env, &target)?))
    }),
    ("a second hard link", |env| {
        fs::hard_link(auth(env), env.path("second.json")).unwrap();
        Some(Vec::new())
    }),
    ("a second hard link to the target of a link", |env| {
        fs::hard_link(link(env), env.path("second.json")).unwrap();
        Some(Vec::new())
    }),
    ("immutable", |env| {
        Some(one(FileFlag::set(&auth(env), "i")?))
    }),
    ("append-only", |env| {
        Some(one(FileFlag::set(&auth(env), "a")?))
    }),
    ("a link into an immutable folder", |env| {
        let target = link(env);
        Some(one(FileFlag::set(target.parent().unwrap(), "i")?))
    }),
    ("an append-only home", |env| {
        Some(one(FileFlag::set(&env.codex_home(), "a")?))
    }),
    ("a link into a read-only mount", |env| {
        mounted_read_only(link(env).parent().unwrap())
    }),
    ("a read-only mount of the home", |env| {
        mounted_read_only(&env.codex_home())
    }),
    ("a home without write permission", |env| {
        Some(one(Mode::set(&env.codex_home(), 0o500)))
    }),
    ("a link into a folder without write permission", |env| {
        let target = link(env);
        Some(one(Mode::set(target.parent().unwrap(), 0o500)))
    }),
    (
        "a link to elsewhere, in a home without write permission",
        |env| {
            link(env);
            fs::remove_file(env.codex_home().join("auth.lock")).unwrap();
            Some(one(Mode::set(&env.codex_home(), 0o500)))
        },
    ),
    ("a file without write permission", |env| {
        Some(one(Mode::set(&auth(env), 0o400)))
    }),
    ("a lock file without write permission", |env| {
        Some(one(Mode::set(&env.codex_home().join("auth.lock"), 0o400)))
    }),
    ("a folder in place of the lock of a link's target", |env| {
        let lock = link(env).with_file_name("login.json.lock");
        fs::create_dir(&lock).unwrap();
        Some(Vec::new())
    }),
];

/// The states in which Codex stores a renewed login.
const STORABLE: &[(&str, MakeState)] = &[
    ("a file", |_| Some(Vec::new())),
    ("a link", |env| {
        link(env);
        Some(Vec::new())
    }),
    ("a link to a link", |env| {
        let target = link(env);
        let end = target.with_file_name("end.json");
        fs::rename(&target, &end).unwrap();
        symlink("end.json", target).unwrap();
        Some(Vec::new())
    }),
    ("a home that is a mount", |env| {
        Some(one(Mount::bind(&env.codex_home(), &env.codex_home())?))
    }),
    ("a file in a sticky folder of the same user", |env| {
        Some(one(Mode::set(&env.codex_home(), 0o1700)))
    }),
];

/// Removes what a state has left: links, second names, lock files.
fn clear(env: &TestEnv) {
    for name in ["auth.json", "auth.json.lock"] {
        let _ = fs::remove_file(env.codex_home().join(name));
    }
    let _ = fs::remove_dir_all(env.path("dotfiles"));
    let _ = fs::remove_file(env.path("second.json"));
    fs::write(env.codex_home().join("auth.lock"), "").unwrap();
}

/// The commands that may start a Codex with the live login.
fn commands(conversation: &str) -> Vec<Vec<&str>> {
    let exec = ["--", "exec", "--skip-git-repo-check", "x"];
    let with_exec = |args: &[&'static str]| [args, &exec[..]].concat();
    let resume = |args: &[&'static str]| {
        [&["resume", conversation][..], args, &exec[..2], &exec[3..]].concat()
    };
    vec![
        vec!["status"],
        vec!["status", "--if-older", "1s"],
        vec!["status", "--all"],
        vec!["status", "alice"],
        vec!["current", "--refresh"],
        vec!["backup"],
        vec!["usage", "--server"],
        vec!["doctor"],
        with_exec(&["launch", "alice"]),
        with_exec(&["launch", "alice", "--isolated"]),
        with_exec(&["launch", "alice", "--wait"]),
        with_exec(&["launch", "--if-folder"]),
        vec!["launch", "--if-folder", "--", "mcp", "list"],
        resume(&[]),
        resume(&["--untracked"]),
    ]
}

fn explains(run: &Run) -> bool {
    let output = format!("{} {}", run.stdout, run.stderr);
    let words: Vec<_> = output.split_whitespace().collect();
    words.join(" ").contains("cannot store a renewed login")
}

#[test]
fn no_command_spends_a_login_that_codex_cannot_store() {
    let Some(lab) = Lab::new() else {
        return;
    };
    let conversation = lab.say("first");
    let env = &lab.world;
    let due = SignIn::alice().family("due").ttl_seconds(-60);
    clear(env);
    write_auth(&lab.home(), &due);
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    for (state, make) in UNSTORABLE {
        clear(env);
        write_auth(&lab.home(), &due);
        let Some(guards) = make(env) else {
            continue;
        };
        for command in commands(&conversation) {
            let run = env.run_unprivileged(&command);
            assert!(explains(&run), "{state}, {command:?}: {run}");
            assert_eq!(lab.backend.refreshes(), [], "{state}, {command:?}: {run}");
            assert_eq!(read_refresh_token(&lab.home()), due.refresh_token());
        }
        // These use no login, or replace it.
        let _ = env
            .run_unprivileged(&["launch", "--if-folder", "--", "--version"])
            .code(0);
        drop(guards);
    }
}

#[test]
fn a_login_that_codex_can_store_is_renewed_and_kept() {
    let Some(lab) = Lab::new() else {
        return;
    };
    for (state, make) in STORABLE {
        clear(&lab.world);
        let due = SignIn::alice().family(&state.replace(' ', "-"));
        write_auth(&lab.home(), &due.clone().ttl_seconds(-60));
        let spent_before = lab.backend.refreshes();
        let Some(guards) = make(&lab.world) else {
            continue;
        };
        let run = lab.world.run_unprivileged(&["status"]).code(0);
        let spent = lab.backend.refreshes().split_off(spent_before.len());
        assert_eq!(spent, [(due.refresh_token(), 200)], "{state}: {run}");
        let renewed = due.generation(2).refresh_token();
        assert_eq!(read_refresh_token(&lab.home()), renewed, "{state}");
        let checked = lab.world.run_unprivileged(&["doctor"]);
        assert!(!explains(&checked), "{state}: {checked}");
        drop(guards);
    }
}

#[test]
fn another_account_works_in_a_home_of_its_own_beside_a_mounted_login() {
    let bob = SignIn::bob().ttl_seconds(-60);
    let Some(lab) = Lab::of_two(&SignIn::alice().ttl_seconds(-60), &bob) else {
        return;
    };
    let Some(_mount) = mount_over(&lab.world, &auth(&lab.world)) else {
        return;
    };
    let run = lab.manager(["status"]).code(6);
    assert!(run.stderr.contains("launch ACCOUNT --isolated"), "{run}");
    let exec = ["--", "exec", "--skip-git-repo-check", "x"];
    let _ = lab
        .manager([&["launch", "bob", "--isolated"][..], &exec].concat())
        .code(0);
    let spent: Vec<_> = lab.backend.refreshes();
    assert_eq!(spent, [(bob.refresh_token(), 200)]);
    assert_eq!(lab.backend.reused_tokens(), [] as [&str; 0]);
}

#[test]
fn doctor_names_a_login_that_codex_may_read_and_cannot_store() {
    let env = alice_and_bob();
    let setting = "cli_auth_credentials_store = \"auto\"\n";
    env.write("home/.codex/config.toml", setting);
    fs::hard_link(auth(&env), env.path("second.json")).unwrap();
    let run = env.run(["doctor"]).code(5);
    assert!(explains(&run), "{run}");
    fs::remove_file(env.path("second.json")).unwrap();
    assert!(!explains(&env.run(["doctor"])));
}

#[test]
fn doctor_reports_a_state_by_one_check() {
    let env = alice_and_bob();
    let findings = || {
        let document = env.run(["doctor", "--json"]).json();
        let checks = document["checks"].as_array().unwrap().clone();
        let is_finding = |check: &&serde_json::Value| {
            check["status"] != "ok" && check["id"].as_str().unwrap().starts_with("home")
        };
        let ids = checks
            .iter()
            .filter(is_finding)
            .map(|check| check["id"].clone());
        ids.collect::<Vec<_>>()
    };
    let before = findings();
    for (id, make) in [
        (
            "home.login",
            (|env| Some(one(mount_over(env, &auth(env))?))) as MakeState,
        ),
        ("home.login", |env| mounted_read_only(&env.codex_home())),
    ] {
        let Some(guards) = make(&env) else {
            continue;
        };
        let mut found = findings();
        drop(guards);
        found.retain(|finding| !before.contains(finding));
        assert_eq!(found, [id]);
    }
}

#[test]
fn an_auth_json_that_no_rename_can_replace_is_refused_by_use_before_a_change() {
    let states: &[(&str, MakeState)] = &[
        ("is a mount point", |env| {
            Some(one(mount_over(env, &auth(env))?))
        }),
        ("is immutable", |env| {
            Some(one(FileFlag::set(&auth(env), "i")?))
        }),
        ("is in a folder that is immutable or append-only", |env| {
            Some(one(FileFlag::set(&env.codex_home(), "a")?))
        }),
    ];
    for (reason, make) in states {
        let env = alice_and_bob();
        let Some(_guards) = make(&env) else {
            continue;
        };
        let before = env.tree("home");
        for command in [&["use", "home"][..], &["use", "home", "--dry-run"]] {
            let run = env.run(command).code(1);
            assert!(run.stderr.contains(reason), "{run}");
            assert!(run.stderr.contains("hint: "), "{run}");
            assert_same_tree(&before, &env.tree("home"));
        }
    }
}
