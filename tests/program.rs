//! Finding the Codex program and its version.

use crate::support::write_program;
use codex_manager_core::codex::program::{Program, ProgramError};
use codex_manager_core::io::environment::Environment;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    write_program(&path, text);
    path
}

#[test]
fn the_first_program_on_path_is_found() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::File::create_new(a.path().join("codex")).expect("not executable");
    let path = script(b.path(), "codex", "#!/bin/sh\n");
    let search = std::env::join_paths([Path::new(""), a.path(), b.path()]).unwrap();
    let env = Environment::default().with("PATH", search);
    assert_eq!(Program::find(None, &env).unwrap().path(), path);
    assert_eq!(
        Program::find(Some(Path::new("other")), &env),
        Err(ProgramError::NotOnPath("other".into()))
    );
    assert_eq!(Program::find(Some(&path), &env).unwrap().path(), path);
    assert!(Program::find(Some(&a.path().join("codex")), &env).is_err());
    assert!(Program::find(None, &Environment::default()).is_err());
}

#[test]
fn reading_the_version_has_a_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "codex", "#!/bin/sh\necho codex-cli 1.2.3\n");
    let env = Environment::default();
    let version = |path: &Path, patience| {
        Program::find(Some(path), &env)
            .unwrap()
            .version(&env, Duration::from_millis(patience))
    };
    assert_eq!(version(&path, 60_000).as_deref(), Some("1.2.3"));
    let slow = script(folder.path(), "slow", "#!/bin/sh\nexec /bin/sleep 60\n");
    assert_eq!(version(&slow, 50), None);
}
