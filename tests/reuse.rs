//! Reuse of the previous archive: which members are copied, and which must not be.

use crate::support::archives::{COPYING, create_archive, open_source, restore_archive};
use crate::support::env::TestEnv;
use crate::support::hostile::{Parts, digest, gzip};
use crate::support::pauses::vary;
use crate::support::sample::{backup, line, put, sample_home, text};
use codex_manager_core::archive::ArchiveError;
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::manifest::{ArchiveManifest, Member, MemberContents};
use codex_manager_core::archive::reuse::{ReuseOptions, VerifyReused};
use codex_manager_core::archive::verify::verify;
use codex_manager_core::io::hash::ContentDigest;
use codex_manager_core::io::progress::Silent;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const ROLLOUT: &str =
    "sessions/2026/11/18/rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl";

/// Returns distinct lines that compress by a factor of about two.
fn lines(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut text = Vec::with_capacity(len + 64);
    while text.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.extend(format!("{{\"n\":\"{state:016x}\"}}\n").into_bytes());
    }
    text.truncate(len.saturating_sub(1));
    text.push(b'\n');
    text
}

/// Returns the chunks of the large file, in order.
fn chunks(manifest: &ArchiveManifest) -> Vec<&Member> {
    let all = manifest.members.iter();
    all.filter(|m| matches!(m.holds, MemberContents::Chunk(..)))
        .collect()
}

#[track_caller]
fn assert_good(env: &TestEnv, archive: &Path) {
    let report = verify(archive, &env.path("tmp"), &Silent).expect("verify");
    let problems: Vec<_> = report
        .problems
        .iter()
        .filter(|p| !p.contains("sidecar"))
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Changes one byte and restores the modification time.
fn change_in_place(path: &Path, at: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let modified = file.metadata().expect("meta").modified().expect("time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
    file.set_modified(modified).expect("set time");
}

#[test]
fn a_small_change_writes_few_new_members() {
    let env = TestEnv::new();
    for n in 0..100 {
        put(
            &env,
            format!("sessions/2026/11/{:02}/{n}.jsonl", n % 10),
            lines(60 * KIB, n),
        );
    }
    // A rollout that begins with no conversation is read by each backup.
    let rollout = [line(0).as_bytes(), &lines(6 * MIB, 1000)].concat();
    put(&env, ROLLOUT, rollout);
    let (first, full) =
        create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    assert_eq!(full.reused_bytes, 0);
    let source = open_source(&first, COPYING).expect("a source");
    let (same, packed) =
        create_archive(&env, "1.tar.gz", Compression::Default, Some(&source)).expect("archived");
    let members: u64 = packed.manifest.members.iter().map(|m| m.len).sum();
    assert!(
        packed.reused_bytes * 100 >= members * 99,
        "{} of {members}",
        packed.reused_bytes
    );
    assert_good(&env, &same);

    put(&env, "sessions/2026/11/03/3.jsonl", lines(60 * KIB, 77));
    let source = open_source(&same, COPYING).expect("a source");
    let (next, packed) =
        create_archive(&env, "2.tar.gz", Compression::Default, Some(&source)).expect("archived");
    assert!(
        packed.reused_bytes * 100 >= packed.archive_bytes * 93,
        "{packed:?}"
    );
    assert!(
        packed.reused_bytes * 100 >= members * 95,
        "{} of {members}",
        packed.reused_bytes
    );
    assert_good(&env, &next);
}

#[test]
fn full_chunks_before_the_change_of_a_grown_rollout_are_copied() {
    let env = TestEnv::new();
    let path = put(&env, ROLLOUT, lines(20 * MIB + 1000, 1));
    let (first, old) =
        create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    let mut file = File::options().append(true).open(&path).expect("open");
    file.write_all(&lines(300, 2)).expect("append");
    let source = open_source(&first, COPYING).expect("a source");
    let (second, new) =
        create_archive(&env, "1.tar.gz", Compression::Default, Some(&source)).expect("archived");
    let (a, b) = (chunks(&old.manifest), chunks(&new.manifest));
    assert_eq!((a.len(), b.len()), (6, 6));
    let kept: u64 = a[..5].iter().map(|m| m.len).sum();
    assert!(new.reused_bytes >= kept, "{} of {kept}", new.reused_bytes);
    for (a, b) in a.iter().zip(&b).take(5) {
        assert_eq!(a.digest, b.digest);
    }
    assert_ne!(a[5].digest, b[5].digest);
    assert_good(&env, &second);

    // A change in the third chunk: two are kept.
    change_in_place(&path, 9 * MIB as u64);
    let source = open_source(&second, COPYING).expect("a source");
    let (third, new) =
        create_archive(&env, "2.tar.gz", Compression::Default, Some(&source)).expect("archived");
    let kept: u64 = a[..2].iter().map(|m| m.len).sum();
    assert_eq!(new.reused_bytes, kept);
    assert_good(&env, &third);
    let restored = restore_archive(&env, &third, "restored").join(ROLLOUT);
    assert!(fs::read(restored).expect("read") == fs::read(&path).expect("read"));
}

#[test]
fn a_change_in_place_is_noticed_with_equal_size_and_mtime() {
    let env = TestEnv::new();
    let small = put(&env, "notes/small", lines(700, 1));
    let large = put(&env, "notes/large", lines(MIB, 2));
    let (mut archive, _) =
        create_archive(&env, "0.tar.gz", Compression::Fast, None).expect("archived");
    // Repeated without a pause, because the clock of the file system has a resolution of milliseconds.
    for round in 1..40 {
        change_in_place(&small, round);
        change_in_place(&large, round * 7);
        let options = ReuseOptions {
            compression: Compression::Fast,
            ..COPYING
        };
        let source = open_source(&archive, options).expect("a source");
        let name = format!("{round}.tar.gz");
        let (next, packed) =
            create_archive(&env, &name, Compression::Fast, Some(&source)).expect("archived");
        change_in_place(&small, 0);
        let source = open_source(&next, options).expect("a source");
        let (again, second) =
            create_archive(&env, "again.tar.gz", Compression::Fast, Some(&source))
                .expect("archived");
        let listed = |packed: &codex_manager_core::archive::pack::FinishedArchive| {
            let files = packed.manifest.files.iter();
            files
                .map(|f| f.digest.expect("a digest"))
                .collect::<Vec<_>>()
        };
        let now = [&large, &small].map(|p| ContentDigest::of(&fs::read(p).expect("read")));
        assert_eq!(listed(&second), now, "round {round}");
        assert_eq!(listed(&packed)[0], now[0], "round {round}");
        assert_good(&env, &again);
        archive = next;
    }
}

#[test]
fn rehash_reads_every_file_despite_equal_stamps() {
    let env = TestEnv::new();
    put(&env, "notes/small", "file content\n");
    put(&env, ROLLOUT, lines(5 * MIB, 3));
    // Older than the clock tick in which the capture begins.
    env.tick();
    let (first, _) =
        create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    // The archive gets the stamps of the current files, with other content.
    let mut parts = Parts::of(&fs::read(&first).expect("read"));
    for (name, at) in [("notes/small", 3), (ROLLOUT, 4 * MIB + 9)] {
        parts.entry(name).content[at] ^= 1;
        let listed = digest(&parts.entry(name).content);
        let files = parts.manifest_mut()["files"].as_array_mut().expect("files");
        let file = files
            .iter_mut()
            .find(|f| f["path"] == name)
            .expect("listed");
        file["sha256"] = listed.into();
    }
    let forged = env.write("backups/forged.tar.gz", parts.pack());
    assert_good(&env, &forged);
    let seen = |options: ReuseOptions, name: &str| {
        let source = open_source(&forged, options).expect("a source");
        let (archive, packed) =
            create_archive(&env, name, Compression::Default, Some(&source)).expect("archived");
        let small =
            restore_archive(&env, &archive, &format!("restored-{name}")).join("notes/small");
        assert_good(&env, &archive);
        (
            fs::read_to_string(small).expect("read"),
            packed.reused_bytes,
        )
    };
    // Without --rehash, equal stamps mean equal content.
    assert_eq!(seen(COPYING, "believing").0, "fild content\n");
    let rehash = ReuseOptions {
        rehash: true,
        ..COPYING
    };
    let (small, reused) = seen(rehash, "rehash");
    assert_eq!(small, "file content\n");
    // Chunks are only copied from archives with digests of the current kind.
    assert_eq!(reused, 0);
}

#[test]
fn no_damaged_member_is_copied_when_all_are_checked() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, ROLLOUT, lines(5 * MIB, 5));
    env.tick();
    let first = backup(&env, &[]);
    let mut bytes = fs::read(&first).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    fs::write(&first, &bytes).expect("write");
    let run = env
        .run(["backup", "--no-status", "--json", "--verify-reused", "all"])
        .code(0);
    assert!(run.stderr.contains("every file is read instead"), "{run}");
    let second = env
        .manager_home()
        .join("backups")
        .join(run.json()["archive"].as_str().expect("name"));
    let _ = env.run(["verify", &text(&second)]).code(0);
    assert_eq!(fs::read(&first).expect("read"), bytes);
    // The library names the damaged archive.
    let home = env.codex_home();
    let source = open_source(&first, COPYING).expect("a readable index");
    match create_archive(&env, "x.tar.gz", Compression::Default, Some(&source)) {
        Err(ArchiveError::Damaged { archive, .. }) => assert_eq!(archive, first),
        other => panic!("{other:?}"),
    }
    assert!(home.join(ROLLOUT).exists());

    // An archive without a readable index is not opened further.
    let end = bytes.len();
    bytes[end - 100] ^= 1;
    fs::write(&first, &bytes).expect("write");
    assert!(open_source(&first, COPYING).is_none());
}

#[track_caller]
fn reported_by_verify(env: &TestEnv, archive: &Path) {
    let report = verify(archive, &env.path("tmp"), &Silent).expect("verify");
    let listed = report.problems[0].contains("does not match its digest");
    assert!(listed, "{report:?}");
}

#[test]
fn reuse_finds_damage_in_a_sample_of_the_members_and_verify_finds_the_rest() {
    let env = TestEnv::new();
    put(&env, ROLLOUT, lines(40 * MIB, 6));
    env.tick();
    let (first, packed) =
        create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    let good = fs::read(&first).expect("read");
    let with = |verify| ReuseOptions { verify, ..COPYING };
    let (mut found, mut copied) = (0, 0);
    for member in chunks(&packed.manifest) {
        let mut bytes = good.clone();
        bytes[usize::try_from(member.offset + member.len / 2).expect("in range")] ^= 1;
        fs::write(&first, bytes).expect("write");
        let trusting = open_source(&first, with(VerifyReused::None)).expect("a source");
        let taken = create_archive(&env, "1.tar.gz", Compression::Default, Some(&trusting));
        reported_by_verify(&env, &taken.expect("archived").0);
        let source = open_source(&first, with(VerifyReused::Sample)).expect("a source");
        match create_archive(&env, "1.tar.gz", Compression::Default, Some(&source)) {
            Err(ArchiveError::Damaged { archive, .. }) => {
                assert_eq!(archive, first);
                found += 1;
            }
            Err(e) => panic!("{e}"),
            Ok((second, _)) => {
                reported_by_verify(&env, &second);
                copied += 1;
            }
        }
    }
    assert!(found >= 1 && copied >= 7, "{found} found, {copied} copied");
}

#[test]
fn members_with_a_lower_compression_are_compressed_again() {
    let env = TestEnv::new();
    put(&env, ROLLOUT, lines(5 * MIB, 8));
    put(&env, "notes/small", lines(5000, 9));
    let levels = [Compression::Fast, Compression::Default, Compression::Best];
    for from in levels {
        let (source, _) = create_archive(&env, "source.tar.gz", from, None).expect("archived");
        for to in levels {
            let options = ReuseOptions {
                compression: to,
                ..COPYING
            };
            let opened = open_source(&source, options);
            assert_eq!(opened.is_some(), from >= to, "{from:?} to {to:?}");
            let (archive, packed) =
                create_archive(&env, "next.tar.gz", to, opened.as_ref()).expect("archived");
            assert_eq!(packed.reused_bytes > 0, from >= to, "{from:?} to {to:?}");
            assert_eq!(packed.manifest.effort, to.effort());
            assert_good(&env, &archive);
        }
    }
}

#[test]
fn a_recompressed_archive_is_not_reused() {
    let env = TestEnv::new();
    put(&env, ROLLOUT, lines(2 * MIB, 8));
    let (archive, _) =
        create_archive(&env, "0.tar.gz", Compression::Default, None).expect("archived");
    let mut tar = Vec::new();
    let bytes = fs::read(&archive).expect("read");
    MultiGzDecoder::new(&*bytes)
        .read_to_end(&mut tar)
        .expect("unpack");
    fs::write(&archive, gzip(&tar)).expect("write");
    assert_good(&env, &archive);
    assert!(open_source(&archive, COPYING).is_none());
    fs::remove_file(&archive).expect("remove");
    assert!(open_source(&archive, COPYING).is_none());
}

#[test]
fn concurrent_backups_succeed_while_the_archive_that_they_reuse_is_removed() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, ROLLOUT, lines(9 * MIB, 10));
    env.tick();
    for round in 0..3 {
        let before = backup(&env, &[]);
        let args = ["backup", "--no-status", "--json", "--verify-reused", "all"];
        let start = || {
            let mut command = env.command(args);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().expect("start")
        };
        let two = [start(), start()];
        vary(std::time::Duration::from_millis(15 * round));
        fs::remove_file(&before).expect("remove");
        for child in two {
            let output = child.wait_with_output().expect("wait");
            assert!(output.status.success(), "{output:?}");
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
            let name = document["archive"].as_str().expect("archive");
            let archive = env.manager_home().join("backups").join(name);
            let _ = env.run(["verify", &text(&archive)]).code(0);
        }
    }
}

#[test]
fn an_archive_that_verify_found_damaged_is_not_reused() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, ROLLOUT, lines(9 * MIB, 1));
    let damaged = backup(&env, &[]);
    let name = damaged.file_name().expect("a name").to_str().expect("text");
    let middle = fs::metadata(&damaged).expect("stat").len() / 2;
    let file = File::options()
        .read(true)
        .write(true)
        .open(&damaged)
        .expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("read");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("write");
    // The modification time is restored, so only the bytes differ.
    file.set_modified(
        fs::metadata(&damaged)
            .expect("stat")
            .modified()
            .expect("a time"),
    )
    .expect("set");
    let _ = env.run(["verify", &text(&damaged)]).code(5);
    let listed = env.run(["list-backups", "--json"]).code(0).json();
    let problem = listed["backups"][0]["problem"].to_string();
    assert!(problem.contains("verify"), "{listed}");
    for args in [&[][..], &["--rehash"]] {
        let next = backup(&env, args);
        assert_good(&env, &next);
    }
    // `restore latest` selects a good archive.
    let run = env
        .run(["restore", "latest", "--dry-run", "--json"])
        .code(0);
    assert_ne!(run.json()["archive"], name, "{run}");
}
