//! Links the program for Linux so that it starts soon: `recommend` runs before every prompt of a shell.
//!
//! At a fixed address, because of its page faults 170 of 390 were relocations of the program, and it took 2.8 ms instead
//! of 1.8 ms. The price: the address of the program is not random, as that of programs in Go (restic, rclone). Heap, stack
//! and libraries still have random addresses.
//!
//! With the unwinder of `libgcc_eh.a` instead of `libgcc_s.so.1`, which takes 0.1 ms to load. The standard library names
//! the shared one only, so `-static-libgcc` has no effect. As a whole archive it precedes that one with any linker.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for the environment are those of the program"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| std::env::var(name).unwrap_or_default();
    // A program for musl has its own start files, which are those of a relocatable one.
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
        if target("CARGO_CFG_TARGET_ARCH") == "x86_64"
            && let Some(folder) = find_unwinder()
        {
            println!("cargo::rustc-link-search=native={}", folder.display());
            println!("cargo::rustc-link-lib=static:+whole-archive=gcc_eh");
        }
    }
}

/// Returns the folder of `libgcc_eh.a`; `None` if the linker is not GCC, or clang with the libraries of GCC.
fn find_unwinder() -> Option<PathBuf> {
    let linker = std::env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(linker);
    let output = command.arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    // Without the file it prints only the name.
    Some(Path::new(path.trim()).parent()?.to_path_buf()).filter(|folder| folder.is_absolute())
}
