//! Packs the relocations of the program, which take most of the time before `main`.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for the environment are those of the program"
)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| std::env::var(name).unwrap_or_default();
    let is_own = target("HOST") == target("TARGET");
    // The C library of the machine has to know them, since glibc 2.36. With an older one the program would not start.
    if is_own && target("CARGO_CFG_TARGET_ENV") == "gnu" && glibc_version() >= Some((2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the version of the C library of this machine; `None` if it is not glibc.
fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
