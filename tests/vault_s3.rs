//! `vault` with an S3 server on loopback.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::pauses::wait_until;
use crate::support::restic::{self, S3_KEYS, S3Server};
use crate::support::sample::{put, sample_home};
use serde_json::Value;

/// Returns a sample home and a server with an empty bucket.
fn s3_env() -> Option<(TestEnv, S3Server)> {
    restic::program()?;
    let mut env = TestEnv::new();
    let server = S3Server::start(&env.path("s3"))?;
    sample_home(&env);
    env.set("RESTIC_PASSWORD", restic::PASSWORD);
    env.set("AWS_ACCESS_KEY_ID", S3_KEYS.0);
    env.set("AWS_SECRET_ACCESS_KEY", S3_KEYS.1);
    Some((env, server))
}

#[track_caller]
fn assert_error(run: &Run, error: &str) {
    assert!(run.stderr.contains(&format!("error: {error}")), "{run}");
    assert!(run.stderr.contains("hint: "), "{run}");
}

#[test]
fn backup_and_restore_work_with_s3() {
    let Some((env, server)) = s3_env() else {
        return;
    };
    let url = server.url("bucket");
    let run = env.run(["vault", "init", &url, "--json"]).code(0).json();
    assert_eq!(
        (&run["created"], &run["repository"]),
        (&true.into(), &Value::from(url.clone()))
    );
    let again = env.run(["vault", "init", &url, "--json"]).code(0).json();
    assert_eq!(again["created"], false);
    let made = env.run(["vault", "backup", "--json"]).code(0).json();
    let before = env.tree("home/.codex");
    put(&env, "config.toml", "model = \"other\"\n");
    put(&env, "AGENTS.md", "changed");
    let second = env.run(["vault", "backup", "--json"]).code(0).json();
    assert!(second["files_new"].as_u64().unwrap() <= 1, "{second}");
    let id = made["snapshot"].as_str().unwrap();
    let _ = env.run(["vault", "restore", id]).code(0);
    let names = ["config.toml", "sessions", "auth.json", "history.jsonl"];
    let after = env.tree("home/.codex");
    assert_same_tree(&before.only(&names), &after.only(&names));
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
    let _ = env.run(["vault", "drill"]).code(0);
}

#[test]
fn missing_buckets_wrong_credentials_and_an_unreachable_s3_server_have_different_errors() {
    let Some((mut env, mut server)) = s3_env() else {
        return;
    };
    let url = server.url("bucket");
    restic::new_repository(&server.folder.join("bucket/vault"));
    let _ = env.run(["vault", "init", &url]).code(0);
    let _ = env.run(["vault", "backup"]).code(0);
    let missing = server.url("no-such-bucket");
    let run = env.run(["vault", "snapshots", "--repo", &missing]).code(1);
    assert_error(&run, "the bucket does not exist");
    env.set("AWS_SECRET_ACCESS_KEY", "wrong");
    let run = env.run(["vault", "snapshots"]).code(1);
    assert_error(&run, "the storage refused the credentials");
    env.set("AWS_ACCESS_KEY_ID", "unknown");
    let run = env.run(["vault", "backup"]).code(1);
    assert_error(&run, "the storage refused the credentials");
    env.unset("AWS_ACCESS_KEY_ID")
        .unset("AWS_SECRET_ACCESS_KEY");
    let run = env.run(["vault", "backup"]).code(1);
    assert_error(&run, "the storage refused the credentials");
    env.set("AWS_ACCESS_KEY_ID", S3_KEYS.0);
    env.set("AWS_SECRET_ACCESS_KEY", S3_KEYS.1);
    server.stop();
    let run = env.run(["vault", "backup", "--timeout", "5"]).code(1);
    let is_network = run.stderr.contains("error: the vault cannot be reached");
    assert!(
        is_network || run.stderr.contains("error: restic made no progress"),
        "{run}"
    );
    server.restart();
    let _ = env.run(["vault", "backup"]).code(0);
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
}

/// Starts a backup of data that does not compress, and waits until some of it was uploaded.
fn start_upload(env: &TestEnv) -> std::process::Child {
    // More than one pack of restic's.
    let noise = Dice::seeded(1).bytes(48 << 20);
    put(env, "skills/mine/noise.bin", noise);
    let mut command = env.command(["vault", "backup", "--timeout", "5"]);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let packs = || {
        walkdir::WalkDir::new(env.path("s3/bucket/vault/data"))
            .into_iter()
            .count()
    };
    let before = packs();
    wait_until("data arrives", || packs() != before);
    child
}

#[test]
fn a_connection_cut_during_an_upload_loses_no_snapshot() {
    let Some((env, mut server)) = s3_env() else {
        return;
    };
    restic::new_repository(&server.folder.join("bucket/vault"));
    let _ = env.run(["vault", "init", &server.url("bucket")]).code(0);
    let _ = env.run(["vault", "backup"]).code(0);
    let child = start_upload(&env);
    server.stop();
    let run = Run::of_output(child.wait_with_output().unwrap());
    assert_eq!(run.code, 1, "{run}");
    server.restart();
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(json["snapshots"].as_array().unwrap().len(), 1);
    let _ = env.run(["vault", "backup"]).code(0);
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
    let _ = env
        .run(["vault", "restore", "latest", "--to", "new"])
        .code(0);
}

#[test]
fn restic_ends_when_the_manager_is_killed() {
    let Some((env, mut server)) = s3_env() else {
        return;
    };
    restic::new_repository(&server.folder.join("bucket/vault"));
    let _ = env.run(["vault", "init", &server.url("bucket")]).code(0);
    let _ = env.run(["vault", "backup"]).code(0);
    let mut child = start_upload(&env);
    // A paused server prevents the end of the upload.
    server.pause();
    let restic = child_of(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("restic ends", || !is_running(restic));
    server.restart();
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(json["snapshots"].as_array().unwrap().len(), 1);
    let _ = env.run(["vault", "backup"]).code(0);
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
}

/// Returns the only child process of `pid`.
pub(crate) fn child_of(pid: u32) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks.map(|task| {
        let children = task.unwrap().path().join("children");
        std::fs::read_to_string(children).unwrap()
    });
    let children = children.collect::<String>();
    children.trim().parse().expect("one child")
}

/// Returns true if the process runs and is not a zombie.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}
