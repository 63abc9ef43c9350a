//! Child processes with piped input and output, and their end.

use crate::support::processes;
use codex_manager_core::io::child::{ChildGroup, ChildOutput};
use std::process::Command;
use std::time::{Duration, Instant};

fn shell(script: &str) -> ChildGroup {
    ChildGroup::spawn(Command::new("/bin/sh").args(["-c", script])).expect("sh starts")
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn a_child_that_ignores_everything_is_killed_with_its_children() {
    let mut child = shell("trap '' TERM INT HUP; sleep 300 & echo $!; exec 0<&-; wait");
    let ChildOutput::Line(pid) = child.read_line(deadline()) else {
        panic!("no line");
    };
    let pid: u32 = String::from_utf8(pid).unwrap().parse().unwrap();
    let started = Instant::now();
    assert_eq!(child.finish(started + Duration::from_millis(100)), None);
    assert!(started.elapsed() < Duration::from_secs(200));
    let left = processes::wait_for_end(&[pid], Duration::from_secs(60));
    assert_eq!(left, [] as [u32; 0], "the grandchild still runs");
}

#[test]
fn a_child_that_ends_in_time_is_not_killed() {
    let mut child = shell("read line; echo \"$line\"; echo oops >&2; read more; exit 3");
    child.send_line("hello").unwrap();
    assert_eq!(
        child.read_line(deadline()),
        ChildOutput::Line(b"hello".to_vec())
    );
    assert_eq!(child.finish(deadline()).unwrap().code(), Some(3));
    assert_eq!(child.read_line(deadline()), ChildOutput::Closed);
    assert_eq!(child.stderr(), "oops\n");
}
