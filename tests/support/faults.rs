//! Faults of the environment: kills at random moments, small disks, mounts.

#![allow(
    clippy::print_stdout,
    reason = "seeds and skipped tests are printed when a test fails, or with --nocapture"
)]

use super::env::{PROGRAM, Run, TestEnv};
use super::pauses::vary;
use super::skips::skip;
use super::variables::{self, SEED};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A generator of random numbers. It prints its seed; setting [`SEED`] to the same seed repeats a failure.
pub(crate) struct Dice(u64);

impl Dice {
    /// Creates a generator with a seed from the variable, or from the clock.
    pub(crate) fn new() -> Self {
        Self::seeded(variables::seed())
    }

    /// Creates a generator with this seed, and prints the seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        println!("{SEED}={seed}");
        // Mixes the bits, so that adjacent seeds give unrelated numbers.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// Returns a random number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    /// Returns bytes that cannot be compressed.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for word in bytes.chunks_mut(8) {
            let random = self.below(u64::MAX).to_le_bytes();
            word.copy_from_slice(&random[..word.len()]);
        }
        bytes
    }
}

/// Starts the command and kills it after `delay`. Returns true if the command ended earlier.
pub(crate) fn run_ends_before_kill(env: &TestEnv, args: &[&str], delay: Duration) -> bool {
    let mut child = env
        .command(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    vary(delay);
    let ended = child.try_wait().expect("wait").is_some();
    let _ = child.kill();
    let _ = child.wait();
    ended
}

/// Runs the command in a `bash` after `limit`, for example `ulimit -f 1000`.
pub(crate) fn run_limited(env: &TestEnv, limit: &str, args: &[&str]) -> Output {
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    let mut bash = env.other_program("bash");
    bash.args(["-c", &script, PROGRAM]).args(args);
    bash.output().expect("bash")
}

/// A mount point. Dropping it unmounts.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system in memory of `kib` KiB. Without permission it skips the test and returns
    /// `None`.
    pub(crate) fn tmpfs(at: &Path, kib: u64) -> Option<Self> {
        let size = format!("size={kib}k,mode=0700");
        Self::new(&["-t", "tmpfs", "-o", &size, "tmpfs"], at)
    }

    /// Mounts a file system in memory with 64 MiB that can hold `count` files and folders. Without permission it skips the
    /// test and returns `None`.
    pub(crate) fn of_inodes(at: &Path, count: u64) -> Option<Self> {
        let size = format!("size=64m,nr_inodes={count},mode=0700");
        Self::new(&["-t", "tmpfs", "-o", &size, "tmpfs"], at)
    }

    /// Creates a file system without file modes in a file beside `at`, and mounts it: `exfat`, which has no hard
    /// links and no lasting inode numbers, or `ntfs`. Without permission or its programs it skips the test and
    /// returns `None`.
    pub(crate) fn without_modes(kind: &str, at: &Path) -> Option<Self> {
        let image = at.with_extension("img");
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(96 << 20).expect("size");
        let program: &[&str] = match kind {
            "exfat" => &["mkfs.exfat"],
            _ => &["mkfs.ntfs", "--fast", "--force", "--quiet"],
        };
        let made = Command::new(program[0])
            .args(&program[1..])
            .arg(&image)
            .output()
            .is_ok_and(|made| made.status.success());
        if !made {
            skip(kind, "its programs are missing");
        }
        made.then(|| Self::of_image(kind, &image, at)).flatten()
    }

    /// Mounts the file of [`Mount::without_modes`] again.
    pub(crate) fn of_image(kind: &str, image: &Path, at: &Path) -> Option<Self> {
        let image = image.to_str().expect("text");
        match kind {
            // The loop device ends with the mount.
            "exfat" => Self::new(&["-t", "exfat-fuse", "-o", "loop", image], at),
            _ => Self::new(&["-t", "ntfs-3g", image], at),
        }
    }

    /// Mounts the folder or file `of` at a second path, where a file must exist.
    pub(crate) fn bind(of: &Path, at: &Path) -> Option<Self> {
        Self::new(&["--bind", of.to_str().expect("text")], at)
    }

    /// Makes the folder `at` read-only, as on a read-only disk.
    pub(crate) fn read_only(at: &Path) -> Option<Self> {
        let mount = Self::bind(at, at)?;
        let remounted = Command::new("mount")
            .args(["-o", "remount,ro,bind"])
            .arg(at)
            .status();
        assert!(remounted.is_ok_and(|status| status.success()), "remount");
        Some(mount)
    }

    /// Mounts an overlay of the folders `lower` and `upper` in `of`. The kernel needs its folder `work`.
    pub(crate) fn overlay(of: &Path, at: &Path) -> Option<Self> {
        for folder in ["lower", "upper", "work"] {
            std::fs::create_dir_all(of.join(folder)).expect("folder");
        }
        let of = of.to_str().expect("text");
        let of = of.trim_end_matches('/');
        let layers = format!("lowerdir={of}/lower,upperdir={of}/upper,workdir={of}/work");
        Self::new(&["-t", "overlay", "-o", &layers, "overlay"], at)
    }

    /// Makes a bind mount read-only.
    pub(crate) fn make_read_only(self) -> Self {
        let remount = ["-o", "remount,bind,ro"];
        let made = Command::new("mount").args(remount).arg(&self.0).status();
        assert!(made.expect("mount").success());
        self
    }

    fn new(args: &[&str], at: &Path) -> Option<Self> {
        if !at.is_file() {
            std::fs::create_dir_all(at).expect("folder");
        }
        let made = cfg!(target_os = "linux")
            && Command::new("mount")
                .args(args)
                .arg(at)
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success());
        if !made {
            skip("mounts", "mounting is not permitted here");
        }
        made.then(|| Self(at.to_path_buf()))
    }
}

/// A file or folder with a flag of `chattr`, such as `i`. Dropping it clears the flag.
pub(crate) struct FileFlag(PathBuf, &'static str);

impl FileFlag {
    /// Sets the flag. If the system does not support it, skips the test and returns `None`.
    pub(crate) fn set(path: &Path, flag: &'static str) -> Option<Self> {
        let made = change_flag("+", flag, path);
        if !made {
            skip("chattr", "files cannot have flags on this system");
        }
        made.then(|| Self(path.to_path_buf(), flag))
    }
}

impl Drop for FileFlag {
    fn drop(&mut self) {
        change_flag("-", self.1, &self.0);
    }
}

fn change_flag(change: &str, flag: &str, path: &Path) -> bool {
    let mut chattr = Command::new("chattr");
    let ended = chattr.arg(format!("{change}{flag}")).arg(path).output();
    ended.is_ok_and(|output| output.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        let umount = |args: &[&str]| {
            let ended = Command::new("umount").args(args).arg(&self.0).status();
            ended.is_ok_and(|status| status.success())
        };
        // A failed test may leave a process that has files open.
        let _ = umount(&[]) || umount(&["--lazy"]);
    }
}

/// Runs the command with an empty `/proc`. Without permission to mount it skips the test and returns
/// `None`.
pub(crate) fn without_processes(env: &TestEnv, args: &[&str]) -> Option<Run> {
    let script = "mount -t tmpfs none /proc && exec \"$@\"; exit 99";
    let mut command = env.other_program("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", PROGRAM]);
    let ended = command.args(args).output().ok();
    let run = ended.map(Run::of_output);
    let run = run.filter(|run| run.code != 99 && !run.stderr.starts_with("unshare: "));
    if run.is_none() {
        skip("mounts", "mounting is not permitted here");
    }
    run
}
