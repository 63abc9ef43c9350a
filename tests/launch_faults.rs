//! I2, I3: each system call of a launch that changes a disk fails, or is the last one. The login
//! stays usable at every stage of its move.
//!
//! The program `codex` is a shell that renews its login as Codex does. The points are sampled as in
//! [`faults`](crate::faults).

#![allow(
    clippy::print_stdout,
    reason = "seeds and what was skipped are shown when a test fails, or with --nocapture"
)]

use crate::support::aftermath::report_points;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::{Dice, Mount};
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample};
use crate::support::launched::{isolated_homes, isolated_logins};
use crate::support::pauses::EVENT_LIMIT;
use crate::support::processes;
use crate::support::sign_in::{SignIn, auth_json, read_refresh_token, unix_now, write_auth};
use codex_manager_core::codex::process::find_codex;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

const LIMIT: Duration = EVENT_LIMIT;

/// The script of `codex exec`, where `codex` is a shell and `exec` the file of this script. It uses
/// its refresh token, which is valid once, and stores the next one by a rename.
const RENEWING: &str = r#"
server="${0%exec}server"
current=$(cat "$server/current")
if ! grep -q "\"$current\"" "$CODEX_HOME/auth.json"; then
    echo "$current is not what $CODEX_HOME has" >> "$server/refused"
    exit 9
fi
next=$(cat "$server/next")
cat "$server/next.json" > "$CODEX_HOME/.auth-next"
printf %s "$next" > "$server/current"
mv "$CODEX_HOME/.auth-next" "$CODEX_HOME/auth.json"
[ ! -e "$server/after" ] || . "$server/after"
"#;

/// Alice is live, Bob has a profile, and each run of Codex renews Bob's login.
struct World {
    env: TestEnv,
    generation: u64,
}

impl World {
    fn new(env: TestEnv) -> Self {
        write_auth(&env.codex_home(), &Self::login(1));
        let _ = env.run(["profile", "save", "bob"]).code(0);
        write_auth(&env.codex_home(), &SignIn::alice());
        let _ = env.run(["profile", "save", "alice"]).code(0);
        fs::copy("/bin/sh", env.path("bin/codex")).expect("a shell");
        env.write("exec", RENEWING);
        env.write("server/current", Self::login(1).refresh_token());
        let mut world = Self { env, generation: 1 };
        world.prepare_renewal();
        world
    }

    fn login(generation: u64) -> SignIn {
        let made = unix_now() - 10_000 + i64::try_from(generation).expect("in range");
        SignIn::bob().generation(generation).issued_at(made)
    }

    /// Sets the login that the next renewal returns. Call it before each launch.
    fn prepare_renewal(&mut self) {
        self.generation += 1;
        let next = Self::login(self.generation);
        self.env.write("server/next.json", auth_json(&next));
        self.env.write("server/next", next.refresh_token());
    }

    /// Returns the only refresh token that is not spent.
    fn current(&self) -> String {
        fs::read_to_string(self.env.path("server/current")).expect("a token")
    }

    /// Waits for the end of a Codex that a killed launch has left.
    #[track_caller]
    fn wait_for_codex(&self) {
        let mut homes = isolated_homes(&self.env.manager_home());
        homes.push(self.env.codex_home());
        let holders = homes.iter().flat_map(|home| find_codex(home));
        let pids: Vec<u32> = holders.filter_map(|holder| holder.pid).collect();
        let left = processes::wait_for_end(&pids, LIMIT);
        assert!(left.is_empty(), "{left:?}");
    }

    /// Launches Bob without a fault. Asserts that Codex finds an unspent token, and that the profile
    /// has the next one afterwards.
    #[track_caller]
    fn check(&mut self, context: &str) {
        self.wait_for_codex();
        let listed = self.env.run(["launches", "--json"]);
        assert_eq!(listed.code, 0, "{context}\n{listed}");
        let states = listed.json();
        let states = states["sessions"].as_array().expect("a list");
        assert!(
            states.iter().all(|row| row["state"] != "running"),
            "{context}\n{listed}"
        );
        self.prepare_renewal();
        let used = self.env.run(["launch", "bob", "--isolated", "--", "exec"]);
        let refused = fs::read_to_string(self.env.path("server/refused"));
        assert!(refused.is_err(), "{context}\n{refused:?}\n{used}");
        assert_eq!(used.code, 0, "{context}\n{used}");
        assert_eq!(
            isolated_logins(&self.env.manager_home()),
            Vec::<PathBuf>::new(),
            "{context}"
        );
        let profile = self.env.manager_home().join("profiles/bob");
        assert_eq!(read_refresh_token(&profile), self.current(), "{context}");
        let alice = read_refresh_token(&self.env.codex_home());
        assert_eq!(alice, SignIn::alice().refresh_token(), "{context}");
    }
}

/// Checks exit code and messages of a launch with a fault.
#[track_caller]
fn check_end(output: &Output, fault: Fault, context: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{context} {output:?}");
    if !matches!(fault, Fault::Killed) {
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1 | 5)), "{context} {output:?}");
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Once("EIO"),
    Fault::Once("ENOSPC"),
    Fault::FromThenOn("EIO"),
    Fault::FromThenOn("ENOSPC"),
    Fault::Killed,
];

/// Injects each fault at sampled calls of a launch of Bob, and checks that the login stays usable.
/// `after` makes Alice live again if the launch has replaced her.
#[track_caller]
fn inject_all_faults(args: &[&str], after: impl Fn(&TestEnv)) {
    let mut dice = Dice::new();
    let mut world = World::new(TestEnv::new());
    world.check("before all faults");
    world.prepare_renewal();
    let points = points(&world.env, args);
    after(&world.env);
    world.check("without a fault");
    let mut missed = Vec::new();
    let mut tried = 0;
    for fault in FAULTS {
        for point in sample(&points, &mut dice) {
            let context = format!("{point:?} {fault:?}");
            tried += 1;
            world.prepare_renewal();
            match run_with_fault(&world.env, args, &point, fault) {
                Some(output) => check_end(&output, fault, &context),
                None => missed.push(context.clone()),
            }
            world.wait_for_codex();
            after(&world.env);
            world.check(&context);
        }
    }
    report_points(points.len(), tried, &missed);
}

#[test]
fn i2_i3_a_failed_system_call_in_an_isolated_launch_loses_no_login() {
    if can_inject() {
        inject_all_faults(&["launch", "bob", "--isolated", "--", "exec"], |_| ());
    }
}

#[test]
fn i2_i3_a_failed_system_call_in_a_launch_loses_no_login() {
    if can_inject() {
        inject_all_faults(&["launch", "bob", "--", "exec"], |env| {
            let _ = env.run(["use", "alice"]).code(0);
        });
    }
}

/// Creates a manager home on its own small disk; `None` if mounting is not permitted.
fn on_a_disk(kib: u64) -> Option<(World, Mount)> {
    let env = TestEnv::new();
    let mount = Mount::tmpfs(&env.manager_home(), kib)?;
    Some((World::new(env), mount))
}

#[test]
fn i3_an_isolated_launch_is_refused_without_space_for_a_renewed_login() {
    let Some((mut world, _mount)) = on_a_disk(40 << 10) else {
        return;
    };
    let filler = world.env.manager_home().join("filler");
    fs::write(&filler, vec![1; 20 << 20]).expect("fill the disk");
    let before = world.env.tree("home");
    let args = ["launch", "bob", "--isolated", "--", "exec"];
    let full = world.env.run(args).code(1);
    assert!(full.stderr.contains("not enough free disk space"), "{full}");
    assert!(full.stderr.contains("hint: free some disk space"), "{full}");
    assert_eq!(world.current(), World::login(1).refresh_token());
    let after = world.env.tree("home");
    let profile = "home/.codex-manager/profiles/bob";
    assert_same_tree(&before.only(&[profile]), &after.only(&[profile]));
    fs::remove_file(&filler).expect("remove");
    world.check("with enough space");
}

#[test]
fn i3_a_launch_in_the_codex_home_is_refused_without_space_for_a_renewed_login() {
    for enough in ["bytes", "inodes"] {
        let env = TestEnv::new();
        let home = env.codex_home();
        let mount = if enough == "bytes" {
            Mount::of_inodes(&home, 60)
        } else {
            Mount::tmpfs(&home, 30 << 10)
        };
        let Some(_mount) = mount else { return };
        let world = World::new(env);
        let before = world.env.tree("home");
        for args in [
            &["launch", "bob", "--", "exec"][..],
            &["launch", "bob", "--dry-run"],
            &["launch", "alice", "--", "exec"],
            &["launch", "alice", "--isolated", "--", "exec"],
        ] {
            let refused = world.env.run(args).code(1);
            assert!(refused.stderr.contains("not enough free"), "{refused}");
        }
        assert_eq!(world.current(), World::login(1).refresh_token());
        assert_same_tree(&before, &world.env.tree("home"));
    }
}

#[test]
fn i3_an_isolated_launch_is_refused_without_inodes_for_a_renewed_login() {
    let env = TestEnv::new();
    let Some(_mount) = Mount::of_inodes(&env.manager_home(), 60) else {
        return;
    };
    let world = World::new(env);
    let args = ["launch", "bob", "--isolated", "--", "exec"];
    let refused = world.env.run(args).code(1);
    assert!(
        refused.stderr.contains("not enough free inodes"),
        "{refused}"
    );
    assert_eq!(world.current(), World::login(1).refresh_token());
}

#[test]
fn i3_a_login_without_space_in_its_profile_stays_isolated_until_there_is_space() {
    let Some((mut world, _mount)) = on_a_disk(40 << 10) else {
        return;
    };
    let filler = world.env.manager_home().join("filler");
    let fill = format!(
        "dd if=/dev/zero of={} bs=4096 2> /dev/null",
        filler.display()
    );
    world.env.write("server/after", fill);
    let args = ["launch", "bob", "--isolated", "--", "exec"];
    // The exit code of Codex stays 0: it ended without an error.
    let ended = world.env.run(args);
    assert!(ended.stderr.contains("No space left"), "{ended}");
    let [kept] = &isolated_logins(&world.env.manager_home())[..] else {
        panic!("{ended}");
    };
    let home = kept.parent().expect("a home").to_path_buf();
    assert_eq!(read_refresh_token(&home), world.current());
    let refused = world.env.run(["use", "bob"]).code(1);
    assert!(refused.stderr.contains("No space left"), "{refused}");
    assert_eq!(read_refresh_token(&home), world.current());
    fs::remove_file(&filler).expect("remove");
    fs::remove_file(world.env.path("server/after")).expect("remove");
    world.check("with enough space");
}
