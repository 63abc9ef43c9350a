//! The picker of conversations: filter, contents, preview, scopes, keys, and unchanged files.

use crate::cooldown::{entry, write_cooldown};
use crate::launch::codex;
use crate::support::conversations::{Conversation, assistant, id, state, user, write};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::held_lock::HeldLock;
use crate::support::lab::Lab;
use crate::support::profiles::{owner, save_alice_and_bob};
use crate::support::restic;
use crate::support::sign_in::SignIn;
use crate::support::terminal::Terminal;
use crate::vault;
use base64::Engine as _;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The size of a terminal in columns and lines.
type Size = (u16, u16);

/// The size with which a terminal starts.
const START: Size = (120, 40);

/// Creates a home with four conversations: two of this folder, one of another, one archived.
pub(crate) fn home() -> TestEnv {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    let cwd = here(&env);
    for (number, minutes, title, answer) in [
        (1, 60, "Fix the parser", "The tokenizer was wrong."),
        (2, 120, "Write the docs", "They mention a borrow checker."),
    ] {
        write(
            &env,
            &Conversation {
                cwd: cwd.clone(),
                ..Conversation::new(number, minutes, title, answer)
            },
        );
    }
    let elsewhere = Conversation {
        cwd: "/home/alice/other".into(),
        account: "acct-bob".into(),
        ..Conversation::new(3, 30, "Tune the parser elsewhere", "Done.")
    };
    write(&env, &elsewhere);
    let archived = Conversation {
        archived: true,
        ..Conversation::new(4, 2 * 1440, "An old question", "An old answer.")
    };
    write(&env, &archived);
    env
}

/// Returns a folder below the one in which commands run.
fn here(env: &TestEnv) -> String {
    env.path("proj").to_str().expect("text").to_owned()
}

/// Starts a command that opens the picker, and waits until the picker is drawn.
fn ask(env: &TestEnv, args: &[&str]) -> Terminal {
    let terminal = Terminal::start(&mut env.command(args));
    terminal.wait_until(START, LIMIT, is_drawn);
    terminal
}

fn is_drawn(picture: &str) -> bool {
    picture.contains("which conversation?") && picture.contains("\nenter ")
}

/// Returns the line of the selected entry; empty if there is none.
fn selected(picture: &str) -> &str {
    let mut lines = picture.lines();
    lines.find(|line| line.starts_with("> ")).unwrap_or("")
}

/// Leaves the picker by Esc, and checks that the terminal is as before.
fn leave(mut terminal: Terminal) {
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert!(terminal.is_cooked());
}

#[test]
fn the_picker_shows_accounts_conversations_a_preview_and_its_keys() {
    let env = home();
    let terminal = ask(&env, &["resume"]);
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("The tokenizer was wrong."));
    let shown = picture.replace(&here(&env), "[HERE]");
    insta::assert_snapshot!(shown, @r"
which conversation?                                                                 work –  home –  here 2 · tab: all 3
> 1 h     Fix the parser             proj   work                │ Fix the parser
  2 h     Write the docs             proj   work                │ [HERE] · main
                                                                │ work · gpt-6 · 546 B
                                                                │ created Fri 20 Nov 04:46 · changed Fri 20 Nov 11:00
                                                                │ 01a1f78b-0001-7ef3-b0ee-5caab8d3b455
                                                                │
                                                                │ user:
                                                                │ Fix the parser
                                                                │ assistant:
                                                                │ The tokenizer was wrong.
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
                                                                │
enter resume · tab scope · ^o open · ^e export · ^d trash · ^y copy · esc · ↑↓ move · type to search
");
    assert_eq!(picture.lines().count(), 30, "{picture}");
    leave(terminal);
}

#[test]
fn the_first_line_shows_the_quota_left_of_each_account() {
    let env = home();
    let account = |name: &str, used| {
        let mut account = entry(&format!("{name}@example.com"), used, "2026-11-24T15:55:00Z");
        account["account_id"] = json!(format!("acct-{name}"));
        account["user_id"] = json!(format!("user-{name}"));
        account
    };
    write_cooldown(&env, &[account("alice", 20.0), account("bob", 100.0)]);
    let terminal = ask(&env, &["resume"]);
    let picture = terminal.picture(START.0, START.1);
    let first = picture.lines().next().expect("a line");
    assert!(
        first.ends_with("  work 80 %  home 0 %  here 2 · tab: all 3"),
        "{picture}"
    );
    leave(terminal);
}

#[test]
fn tab_goes_from_this_folder_to_all_and_to_archived_conversations() {
    let env = home();
    let before = env.tree("home");
    let mut terminal = ask(&env, &["sessions", "--pick"]);
    terminal.wait_until(START, LIMIT, |p| p.contains("here 2 ·"));
    terminal.type_keys("\t");
    let all = terminal.wait_until(START, LIMIT, |p| p.contains("all 3 ·"));
    assert!(all.contains("Tune the parser elsewhere"), "{all}");
    assert!(selected(&all).contains("Fix the parser"), "{all}");
    terminal.type_keys("\t");
    let archived = terminal.wait_until(START, LIMIT, |p| p.contains("archived 1 ·"));
    assert!(
        selected(&archived).contains("An old question"),
        "{archived}"
    );
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, |p| p.contains("here 2 ·"));
    leave(terminal);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn typing_filters_titles_and_contents_in_a_stable_order() {
    let mut env = home();
    env.set("PAGER", "cat");
    // Without words, and without an index, which the first search creates.
    let mut terminal = ask(&env, &["find"]);
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 3 ·"));
    terminal.type_keys("parser");
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("all 2 ·"));
    // Sorted by the time of the last change, not by the score.
    let titles: Vec<_> = picture
        .lines()
        .filter_map(|line| {
            ["Tune", "Fix"]
                .into_iter()
                .find(|title| line.contains(title))
        })
        .collect();
    assert_eq!(titles[..2], ["Tune", "Fix"], "{picture}");
    // A word that only an answer has, typed in part.
    terminal.type_keys("\x15borrow che");
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("all 1 ·") && !p.contains('…'));
    assert!(selected(&picture).contains("Write the docs"), "{picture}");
    let noted = terminal.wait_until(START, LIMIT, |p| p.contains("turn 1, assistant:"));
    assert!(noted.contains("borrow checker"), "{noted}");
    // An open quotation mark is no error.
    terminal.type_keys("\x15\"borrow");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("\"borrow") && p.contains("all 1 ·")
    });
    // Nor is the last word of a phrase before its end.
    terminal.type_keys(" chec");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("\"borrow chec") && p.contains("all 1 ·") && !p.contains('…')
    });
    terminal.type_keys("\x0f");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("They mention a borrow checker."));
}

#[test]
fn without_a_full_match_partial_matches_are_shown_and_explained_below_the_list() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 3 ·"));
    for (words, notice, count) in [
        (
            "borow",
            "nothing has borow; did you mean borrow?",
            "all 0 ·",
        ),
        (
            "borow checker",
            "nothing has borow; did you mean borrow?",
            "all 1 ·",
        ),
        (
            "borrow zeppelin",
            "no conversation has all 2 words; these have 1",
            "all 1 ·",
        ),
    ] {
        terminal.type_keys(&format!("\x15{words}"));
        let picture = terminal.wait_until(START, LIMIT, |p| {
            p.contains(notice) && p.contains(words) && p.contains(count)
        });
        let is_shown = selected(&picture).contains("Write the docs");
        assert_eq!(is_shown, count == "all 1 ·", "{picture}");
    }
    // The next key brings back the line of keys.
    terminal.type_keys("\x15borrow");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("all 1 ·") && p.contains("enter resume")
    });
    leave(terminal);
}

/// Replaces the end of a file by other bytes. Does nothing if the file is shorter, as an index is that is being made.
fn damage(path: &Path, from: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes.iter_mut().skip(from).for_each(|byte| *byte = 0xaa);
    fs::write(path, bytes).expect("write");
}

#[test]
fn contents_are_found_although_the_index_is_damaged_while_the_screen_is_open() {
    let env = home();
    let _ = env.run(["find", "parser"]).code(0);
    let mut files = fs::read_dir(env.manager_home().join("index")).expect("index");
    let is_index = |path: &PathBuf| path.extension().is_some_and(|end| end == "sqlite");
    let path = files.find_map(|file| Some(file.ok()?.path()).filter(is_index));
    let path = path.expect("the index");
    let mut terminal = ask(&env, &["find"]);
    for change in [
        (|path| damage(path, 0)) as fn(&Path),
        |path| damage(path, 5000),
        |path| fs::remove_file(path).expect("remove"),
    ] {
        for words in ["\x15tokeni", "\x15borrow che"] {
            terminal.type_keys(words);
            let typed = words.replace('\x15', "conversation? ");
            terminal.wait_until(START, LIMIT, |p| {
                p.contains(&typed) && p.contains("here 1 ·") && p.contains("turn 1, assistant:")
            });
        }
        change(&path);
    }
    leave(terminal);
}

#[test]
fn the_screen_stays_in_terminals_of_any_size() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    for size in [(1, 1), (2, 2), (20, 5), (5, 1), (3000, 8), (u16::MAX, 2)] {
        terminal.forget();
        terminal.resize(size.0, size.1);
        terminal.wait_until(size, LIMIT, |p| !p.is_empty());
    }
    terminal.forget();
    terminal.resize(START.0, START.1);
    terminal.wait_until(START, LIMIT, is_drawn);
    terminal.type_keys("borrow");
    terminal.wait_until(START, LIMIT, |p| {
        is_drawn(p) && selected(p).contains("Write the docs")
    });
    leave(terminal);
}

#[test]
fn no_key_is_lost_while_the_size_of_the_terminal_changes() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    for round in 0..100 {
        let size = if round % 2 == 0 { (100, 30) } else { START };
        // The screen is drawn for the first key while the others and the signal arrive.
        terminal.type_keys("a");
        terminal.resize(size.0, size.1);
        terminal.type_keys("b");
        terminal.wait_until(size, LIMIT, |p| p.contains("? ab "));
        terminal.type_keys("\x15");
        terminal.wait_until(size, LIMIT, |p| !p.contains("? ab "));
    }
    leave(terminal);
}

#[test]
fn pasted_line_ends_are_no_enter() {
    let env = home();
    let mut terminal = ask(&env, &["show"]);
    terminal.type_keys("\x1b[200~write\rthe\tdocs\r\n\x1b[201~");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("? write the docs ") && selected(p).contains("Write the docs")
    });
    // Marks of pastes end with the picker, so that the shell gets none.
    assert!(terminal.colored().contains("\x1b[?2004h"));
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert!(terminal.colored().contains("\x1b[?2004l"));
    assert!(terminal.is_cooked());
}

#[test]
fn a_picker_that_a_signal_stopped_works_after_it_continues() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    // A job in a terminal without a shell ignores SIGTSTP.
    terminal.signal("STOP");
    terminal.make_cooked();
    terminal.forget();
    terminal.signal("CONT");
    terminal.wait_until(START, LIMIT, is_drawn);
    assert!(terminal.colored().contains("\x1b[?2004h"));
    terminal.type_keys("docs");
    terminal.wait_until(START, LIMIT, |p| p.contains("? docs "));
    assert!(!terminal.is_cooked());
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert!(terminal.is_cooked());
}

#[test]
fn a_signal_ends_the_picker_after_a_part_of_an_escape_sequence() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    terminal.type_keys("\x1b[");
    // At the second change of the size, the part has been read.
    for size in [(100, 30), START, (100, 30)] {
        terminal.forget();
        terminal.resize(size.0, size.1);
        terminal.wait_until(size, LIMIT, is_drawn);
    }
    terminal.signal("TERM");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert!(terminal.is_cooked());
}

#[test]
fn the_end_of_a_long_filter_is_shown() {
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    terminal.type_keys(&"many words ".repeat(20));
    terminal.type_keys("at the end");
    terminal.wait_until(START, LIMIT, |p| {
        p.lines()
            .next()
            .is_some_and(|line| line.ends_with("many words at the end"))
    });
    leave(terminal);
}

#[test]
fn typing_finds_contents_written_after_the_last_index_update() {
    let env = home();
    let _ = env.run(["find", "parser"]).code(0);
    let newer = Conversation {
        cwd: here(&env),
        ..Conversation::new(5, 1, "Newer", "About zygohistomorphic things.")
    };
    write(&env, &newer);
    let mut terminal = ask(&env, &["show"]);
    terminal.type_keys("zygohist");
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("here 1 ·"));
    assert!(selected(&picture).contains("Newer"), "{picture}");
    leave(terminal);
}

#[test]
fn the_preview_moves_below_the_list_in_a_narrow_terminal_and_returns() {
    let env = home();
    let mut terminal = ask(&env, &["resume"]);
    terminal.wait_until(START, LIMIT, |p| p.contains("The tokenizer was wrong."));
    for (size, rule) in [
        ((99, 30), Some('─')),
        ((100, 30), Some('│')),
        ((40, 12), Some('─')),
        ((20, 6), None),
    ] {
        terminal.forget();
        terminal.resize(size.0, size.1);
        let picture = terminal.wait_until(size, LIMIT, |picture| {
            let shown = ['─', '│'].into_iter().find(|rule| picture.contains(*rule));
            let is_drawn = picture.lines().any(|line| line.starts_with("enter "));
            is_drawn
                && shown == rule
                && (rule.is_none() || picture.contains("acct") || picture.contains("work"))
        });
        assert!(selected(&picture).contains("Fix"), "{size:?}\n{picture}");
        let height = picture.lines().count();
        assert_eq!(height, usize::from(size.1), "{size:?}\n{picture}");
    }
    leave(terminal);
}

/// Writes a conversation of another folder, with a rare word deep in a long answer.
fn write_long_answer(env: &TestEnv) {
    let filler = "Nothing of interest is here.\n".repeat(300);
    let answer = format!("{filler}At last the zygohistomorphic part 漢字 🚀.\n{filler}");
    let long = Conversation {
        cwd: "/home/alice/other".into(),
        ..Conversation::new(8, 10, "長い会話 🚀 about nothing", &answer)
    };
    write(env, &long);
}

#[test]
fn contents_of_other_folders_are_found_while_typing_at_each_width() {
    let env = home();
    write_long_answer(&env);
    for (args, size) in [
        (&["find"][..], (40, 20)),
        (&["resume"], (80, 24)),
        (&["show"], (120, 40)),
        (&["sessions", "--pick"], (80, 12)),
    ] {
        let mut terminal = ask(&env, args);
        terminal.forget();
        terminal.resize(size.0, size.1);
        let height = usize::from(size.1.min(30));
        terminal.wait_until(size, LIMIT, |p| {
            p.lines().count() == height && p.contains("esc")
        });
        // A part of a Chinese word is found too.
        terminal.type_keys("漢字");
        terminal.wait_until(size, LIMIT, |p| {
            p.contains("here 0 · tab: all 1") && p.contains("part 漢字")
        });
        terminal.type_keys("\x15zygohist");
        let picture = terminal.wait_until(size, LIMIT, |p| {
            let shown = [
                "zygohist ",
                "here 0 · tab: all 1",
                "the zygohistomorphic part 漢字",
            ];
            shown.iter().all(|text| p.contains(text))
        });
        let lines: Vec<_> = picture.lines().collect();
        assert!(lines[0].contains("zygohist "), "{picture}");
        assert!(selected(&picture).contains("長い会話 🚀"), "{picture}");
        let keys = lines[lines.len() - 2..].join(" ");
        let [enter, reading] = if args[0] == "show" {
            ["enter show", "^r resume"]
        } else {
            ["enter resume", "^o open"]
        };
        for key in [
            enter,
            "tab scope",
            reading,
            "^e export",
            "^d trash",
            "^y copy",
            "esc",
        ] {
            assert!(keys.contains(key), "{key}\n{picture}");
        }
        assert_eq!(lines.len(), height, "{picture}");
        // The match is in view, although 300 lines are before it.
        assert!(picture.contains("turn 1, assistant:"), "{picture}");
        leave(terminal);
    }
}

#[test]
fn ctrl_o_opens_the_found_conversation_and_enter_shows_one_in_the_picker_of_show() {
    let mut env = home();
    env.set("PAGER", "cat");
    write_long_answer(&env);
    let mut terminal = ask(&env, &["find"]);
    terminal.type_keys("zygohist");
    terminal.wait_until(START, LIMIT, |p| p.contains("turn 1, assistant:"));
    terminal.type_keys("\x0f");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("Nothing of interest is here."));
    // Where only the text can be meant, Enter shows it.
    let mut terminal = Terminal::start(&mut env.command(["show", "--tools"]));
    terminal.wait_until(START, LIMIT, |p| p.contains("\nenter show"));
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("The tokenizer was wrong."));
}

#[test]
fn a_conversation_goes_to_the_trash_and_comes_back() {
    let env = home();
    let rollout = env
        .codex_home()
        .join(Conversation::new(1, 0, "", "").relative());
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("parser");
    terminal.wait_until(START, LIMIT, |p| p.contains("here 1 · tab: all 2"));
    terminal.type_keys("\x04y");
    let picture = terminal.wait_until(START, LIMIT, |p| {
        p.contains("moved to the trash · ^z undo") && p.contains("here 0 · tab: all 1\n")
    });
    assert!(picture.starts_with("which conversation?"), "{picture}");
    assert!(selected(&picture).contains("Tune the parser"), "{picture}");
    assert!(!rollout.exists());
    terminal.type_keys("\x1a");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("brought back from the trash") && selected(p).contains("Fix the parser")
    });
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    assert_eq!(terminal.picture(START.0, START.1), "");
    assert_eq!(
        fs::read(&rollout).expect("the rollout"),
        Conversation {
            cwd: here(&env),
            ..Conversation::new(1, 60, "Fix the parser", "The tokenizer was wrong.")
        }
        .text()
        .into_bytes()
    );
}

#[test]
fn the_command_that_brings_trashed_conversations_back_is_printed_at_the_end() {
    let env = home();
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\t\x04y");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 2 ·"));
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 1 ·"));
    terminal.type_keys("\x1b");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    let left = terminal.picture(START.0, START.1);
    assert!(
        left.starts_with("moved 2 conversations to the trash"),
        "{left}"
    );
    let command = left.split("codex-manager ").nth(1).unwrap_or_default();
    let run = env.run(command.split_whitespace()).code(0);
    assert!(run.stdout.contains("2 conversations brought back"), "{run}");
}

#[test]
fn the_selection_keeps_its_position_and_each_trashed_conversation_comes_back() {
    let env = home();
    let mut terminal = ask(&env, &["resume"]);
    let list = |counts: &'static str, title: &'static str| {
        move |p: &str| p.contains(counts) && selected(p).contains(title)
    };
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, list("all 3 ·", "Fix the parser"));
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, list("all 2 ·", "Write the docs"));
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, list("all 1 ·", "Tune the parser"));
    terminal.type_keys("\x1a");
    terminal.wait_until(START, LIMIT, list("all 2 ·", "Tune the parser"));
    terminal.type_keys("\x1a");
    terminal.wait_until(START, LIMIT, list("all 3 ·", "Tune the parser"));
    // The contents are searched later than the titles.
    terminal.type_keys("parser");
    terminal.wait_until(START, LIMIT, list("all 2 ·", "Tune the parser"));
    terminal.type_keys("\x0e\x04y");
    terminal.wait_until(START, LIMIT, list("all 1 ·", "Tune the parser"));
    leave(terminal);
}

#[test]
fn the_screen_shows_why_a_conversation_was_not_trashed() {
    let env = home();
    let name = format!("home/.codex/thread-writer-locks/{}.lock", id(1));
    let lock = env.write(&name, "");
    let lock = HeldLock::exclusive(&lock);
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, |p| {
        let notice = p.lines().last().unwrap_or_default();
        notice.starts_with("skipped: Codex has the conversation open")
            && selected(p).contains("Fix the parser")
    });
    leave(terminal);
    drop(lock);
    let rollout = Conversation::new(1, 0, "", "").relative();
    fs::remove_file(env.codex_home().join(rollout)).expect("remove");
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, |p| {
        let notice = p.lines().last().unwrap_or_default();
        notice.contains(&id(1)) && selected(p).contains("Fix the parser")
    });
    leave(terminal);
}

#[test]
fn each_key_reports_a_conversation_that_was_deleted_or_trashed_while_the_screen_was_open() {
    let delete: fn(&TestEnv) = |env| {
        let rollout = Conversation::new(1, 0, "", "").relative();
        fs::remove_file(env.codex_home().join(rollout)).expect("remove");
        let row = "DELETE FROM threads WHERE id=?1";
        state(env).execute(row, [id(1)]).expect("delete");
    };
    let trash: fn(&TestEnv) = |env| drop(env.run(["storage", "trash", &id(1), "--yes"]).code(0));
    for (key, leave_home, expected) in [
        ("\r", delete, "no conversation has this id"),
        ("\x0f", delete, "no conversation has this id"),
        ("\x05", delete, "no conversation has this id"),
        ("\r", trash, "storage undelete 01a1f78b-0001"),
        ("\x0f", trash, "storage undelete 01a1f78b-0001"),
        ("\x05", trash, "storage undelete 01a1f78b-0001"),
    ] {
        let env = home();
        let mut terminal = ask(&env, &["find"]);
        terminal.type_keys("parser");
        terminal.wait_until(START, LIMIT, |p| p.contains("here 1 · tab: all 2"));
        leave_home(&env);
        terminal.type_keys(key);
        assert_eq!(terminal.end().code(), Some(1), "{}", terminal.text());
        let left = terminal.picture(START.0, START.1);
        assert!(left.starts_with("error: "), "{left}");
        assert!(left.contains(expected), "{left}");
        assert!(terminal.is_cooked());
    }
    let env = home();
    let mut terminal = ask(&env, &["find"]);
    delete(&env);
    terminal.type_keys("\x04y");
    terminal.wait_until(START, LIMIT, |p| p.contains("no such conversation"));
    leave(terminal);
}

#[test]
fn the_screen_stays_when_its_last_conversation_is_trashed() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "The only one", "Yes."));
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\x04y");
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("moved to the trash · ^z undo"));
    assert_eq!(selected(&picture), "", "{picture}");
    terminal.type_keys("\r\x04\x1a");
    let is_back = |p: &str| selected(p).contains("The only one");
    terminal.wait_until(START, LIMIT, is_back);
    leave(terminal);
}

/// Types the name of the conversation of bob, who is not the live account, and presses `key`.
fn choose_of_bob(env: &TestEnv, args: &[&str], key: &str) -> Terminal {
    let mut terminal = ask(env, args);
    terminal.type_keys("elsewhere");
    terminal.wait_until(START, LIMIT, |p| selected(p).contains("elsewhere"));
    terminal.type_keys(key);
    terminal
}

#[test]
fn in_show_enter_shows_and_changes_nothing_and_ctrl_r_resumes() {
    let mut env = home();
    env.set("PAGER", "cat");
    codex(&env, "exit 7");
    let before = env.tree("home/.codex");
    let mut terminal = choose_of_bob(&env, &["show"], "\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(terminal.text().contains("Tune the parser elsewhere"));
    assert!(
        terminal
            .text()
            .contains("enter show · tab scope · ^r resume")
    );
    assert_same_tree(&before, &env.tree("home/.codex"));

    // The conversation of the live account changes no login.
    let mut terminal = ask(&env, &["show"]);
    terminal.type_keys("parser\x12");
    assert_eq!(terminal.end().code(), Some(7), "{}", terminal.text());
}

#[test]
fn a_resume_from_a_picker_asks_before_it_changes_the_live_account() {
    let env = home();
    codex(&env, "exit 7");
    let question = "make home the live account in place of alice@example.com, and resume? [y/N]";
    for (args, key) in [
        (&["show"][..], "\x12"),
        (&["resume"], "\r"),
        (&["find"], "\r"),
        (&["sessions", "--pick"], "\r"),
    ] {
        let mut terminal = choose_of_bob(&env, args, key);
        terminal.wait_until(START, LIMIT, |p| p.contains(question));
        terminal.type_keys("\n");
        assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        let left = terminal.text();
        assert!(left.contains("nothing was changed"), "{left}");
        assert!(
            left.contains("codex-manager resume 01a1f78b-0003-7ef3-b0ee-5caab8d3b455 --isolated"),
            "{left}"
        );
        assert_eq!(owner(&env, "work"), "live", "{args:?}");
    }

    // An isolated home, `--yes` and an answer need no further consent.
    let mut terminal = choose_of_bob(&env, &["resume", "--isolated"], "\r");
    assert_eq!(terminal.end().code(), Some(7), "{}", terminal.text());
    assert_eq!(owner(&env, "work"), "live");
    let mut terminal = choose_of_bob(&env, &["resume"], "\r");
    terminal.wait_until(START, LIMIT, |p| p.contains(question));
    terminal.type_keys("y\n");
    assert_eq!(terminal.end().code(), Some(7), "{}", terminal.text());
    assert_eq!(owner(&env, "home"), "live");
    let _ = env.run(["use", "work"]).code(0);
    let mut terminal = choose_of_bob(&env, &["resume", "--yes"], "\r");
    assert_eq!(terminal.end().code(), Some(7), "{}", terminal.text());
    assert_eq!(owner(&env, "home"), "live");
}

#[test]
fn ctrl_d_trashes_only_after_a_yes() {
    let env = home();
    let rollout = Conversation::new(1, 0, "", "").relative();
    let mut terminal = ask(&env, &["resume"]);
    for no in ["\x04", "n", "\r", "\x1b"] {
        terminal.type_keys("\x04");
        terminal.wait_until(START, LIMIT, |p| p.ends_with("move it to the trash? y/N"));
        terminal.type_keys(no);
        terminal.wait_until(START, LIMIT, is_drawn);
        assert!(env.codex_home().join(&rollout).exists(), "{no:?}");
    }
    leave(terminal);
}

#[test]
fn leaving_a_picker_prints_nothing() {
    let env = home();
    let _ = env.run(["backup", "--no-status"]).code(0);
    for args in [
        &["find"][..],
        &["resume"],
        &["show"],
        &["export"],
        &["sessions", "--pick"],
        &["use"],
        &["restore"],
    ] {
        let mut terminal = Terminal::start(&mut env.command(args));
        terminal.wait_until(START, LIMIT, |p| p.contains("\nenter "));
        terminal.type_keys("\x1b");
        assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        assert_eq!(terminal.picture(START.0, START.1), "", "{args:?}");
        assert!(terminal.is_cooked());
    }
}

#[test]
fn ten_thousand_conversations_are_filtered_and_paged() {
    let env = home();
    state(&env)
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 10006)
             INSERT INTO threads(id, rollout_path, cwd, title, archived, updated_at_ms, thread_source, history_mode)
             SELECT printf('01a1f78b-%04x-7ef3-b0ee-5caab8d3b455', i), '/gone/' || i, '/home/alice/many',
             'Question number ' || i, 0, 1700000000000 + i, 'user', 'paginated' FROM n",
        )
        .expect("rows");
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 10000 ·"));
    terminal.type_keys("\x1b[F");
    let last = terminal.wait_until(START, LIMIT, |p| selected(p).contains("number 10 "));
    assert!(last.contains("all 10000 ·"), "{last}");
    terminal.type_keys("number 7007");
    terminal.wait_until(START, LIMIT, |p| {
        selected(p).contains("number 7007") && p.contains("the rollout is missing")
    });
    leave(terminal);
}

#[test]
fn the_preview_reports_a_deleted_rollout() {
    let env = home();
    let rollout = Conversation::new(1, 0, "", "").relative();
    let mut terminal = ask(&env, &["resume"]);
    terminal.wait_until(START, LIMIT, |p| p.contains("The tokenizer was wrong."));
    fs::remove_file(env.codex_home().join(rollout)).expect("remove");
    terminal.type_keys("\x1b[B");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains("They mention a borrow checker.")
    });
    terminal.type_keys("\x1b[A");
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("the rollout is missing"));
    assert!(!picture.contains("tokenizer"), "{picture}");
    leave(terminal);
}

#[test]
fn junk_and_control_characters_do_not_reach_the_terminal() {
    let env = home();
    let junk = Conversation {
        cwd: here(&env),
        lines: vec![
            user("\u{1b}]0;owned\u{7}\u{1b}[2J first 漢字漢字漢字 🚀\twith a tab"),
            assistant(&"A very long word: ".repeat(3).replace(' ', "_").repeat(60)),
        ],
        ..Conversation::new(
            6,
            1,
            "日本語の題名 🚀 \u{202e}עברית\u{1b}[31mred\u{1b}[0m",
            "",
        )
    };
    write(&env, &junk);
    let binary = Conversation {
        cwd: here(&env),
        ..Conversation::new(7, 2, &format!("Binary {}", "長い".repeat(2 << 20)), "")
    };
    let path = write(&env, &binary);
    fs::write(
        path,
        [b"\xff\xfe\x00\x1b[2J".repeat(5000), b"\n{}\n".to_vec()].concat(),
    )
    .expect("write");
    let mut terminal = ask(&env, &["show"]);
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("with a tab"));
    assert!(picture.contains("日本語の題名 🚀"), "{picture}");
    let raw = terminal.colored();
    assert!(
        ["\u{1b}]0;", "\u{1b}[2J", "\u{202e}"]
            .iter()
            .all(|bad| !raw.contains(bad)),
        "{raw:?}"
    );
    terminal.type_keys("\x1b[B");
    terminal.wait_until(START, LIMIT, |p| {
        // Only the file of a conversation is one.
        selected(p).contains("Binary") && p.contains("the rollout is missing")
    });
    leave(terminal);
}

#[test]
fn keys_copy_the_id_and_export_the_conversation() {
    let env = home();
    let mut terminal = ask(&env, &["sessions", "--pick"]);
    terminal.type_keys("\x19");
    terminal.wait_until(START, LIMIT, |p| p.contains(&format!("copied {}", id(1))));
    let encoded = base64::engine::general_purpose::STANDARD.encode(id(1));
    let copied = format!("\u{1b}]52;c;{encoded}\u{7}");
    assert!(
        terminal.colored().contains(&copied),
        "{:?}",
        terminal.colored()
    );
    terminal.type_keys("\x05");
    assert!(terminal.end().success(), "{}", terminal.text());
    let page = env.path("codex-01a1f78b-0001.html");
    let page = fs::read_to_string(page).expect("the page");
    assert!(page.contains("The tokenizer was wrong."), "{page}");
}

#[test]
fn a_signal_or_a_closed_terminal_ends_the_picker() {
    let env = home();
    let before = env.tree("home");
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        let mut terminal = ask(&env, &["resume"]);
        terminal.signal(signal);
        assert_eq!(
            terminal.end().code(),
            Some(130),
            "{signal}: {}",
            terminal.text()
        );
        assert!(terminal.is_cooked());
    }
    let mut terminal = ask(&env, &["resume"]);
    terminal.type_keys("\x03");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
    // The window is closed: reading from the terminal fails from now on.
    let status = Terminal::hang_up(&mut env.command(["resume"]), "enter resume");
    assert!(!status.success());
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn without_a_capable_terminal_some_conversations_are_listed_and_the_exit_code_is_4() {
    let mut env = home();
    for args in [
        &["find"][..],
        &["resume"],
        &["show"],
        &["export"],
        &["sessions", "--pick"],
    ] {
        let run = env.run(args).code(4);
        assert!(run.stdout.is_empty(), "{run}");
        assert!(run.stderr.contains("which conversation?"), "{run}");
        assert!(
            run.stderr.contains("01a1f78b-0001     1 h  Fix the parser"),
            "{run}"
        );
        let json = env.run([args, &["--json"]].concat());
        if args[0] != "export" {
            let json = json.code(4);
            assert_eq!(json.stderr.lines().count(), 1, "{json}");
        }
    }
    env.set("TERM", "dumb");
    let mut terminal = Terminal::start(&mut env.command(["resume"]));
    assert_eq!(terminal.end().code(), Some(4), "{}", terminal.text());
    let empty = TestEnv::new();
    for args in [&["show"][..], &["sessions", "--pick"]] {
        let run = empty.run(args).code(1);
        assert!(
            run.stderr
                .starts_with("error: there are no conversations yet"),
            "{run}"
        );
    }
}

#[test]
fn the_variable_no_color_disables_the_colours_of_the_picker() {
    let mut env = home();
    env.set("NO_COLOR", "1");
    let terminal = ask(&env, &["resume"]);
    terminal.wait_until(START, LIMIT, |p| p.contains("The tokenizer was wrong."));
    let raw = terminal.colored();
    assert!(
        !raw.contains(";31m") && !raw.contains(";32m") && !raw.contains(";33m"),
        "{raw:?}"
    );
    leave(terminal);
}

#[test]
fn restore_lets_the_user_choose_a_conversation_that_is_no_longer_on_disk() {
    let env = home();
    let _ = env.run(["backup", "--no-status"]).code(0);
    let rollout = env
        .codex_home()
        .join(Conversation::new(2, 0, "", "").relative());
    fs::remove_file(&rollout).expect("remove");
    let mut terminal = ask(&env, &["restore", "latest", "--session"]);
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("missing 1 ·"));
    assert!(selected(&picture).contains("Write the docs"), "{picture}");
    terminal.type_keys("\t");
    terminal.wait_until(START, LIMIT, |p| p.contains("all 4 ·"));
    terminal.type_keys("docs\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(rollout.is_file());
    let run = env.run(["restore", "latest", "--session"]).code(4);
    assert!(run.stderr.contains("which conversation?"), "{run}");
    assert!(run.stderr.contains("Write the docs"), "{run}");

    // A title that the picker shows is also a name for the option.
    for args in [&["restore", "latest"][..], &["restore"]] {
        fs::remove_file(&rollout).expect("remove");
        let args = [args, &["--session", "Write the docs"]].concat();
        let _ = env.run(args).code(0);
        assert!(rollout.is_file());
    }
    let run = env.run(["restore", "--session", "no such title"]).code(1);
    assert!(run.stderr.contains("find --archives WORDS"), "{run}");
}

#[test]
fn vault_restore_lets_the_user_choose_a_conversation_that_is_no_longer_on_disk() {
    if restic::program().is_none() {
        return;
    }
    let mut env = home();
    vault::set_up(&mut env);
    let _ = vault::backup(&env);
    let rollout = env
        .codex_home()
        .join(Conversation::new(2, 0, "", "").relative());
    fs::remove_file(&rollout).expect("remove");
    let before = env.tree("home");
    let args = ["vault", "restore", "latest", "--session"];
    let terminal = ask(&env, &args);
    terminal.wait_until(START, LIMIT, |p| p.contains("missing 1 ·"));
    leave(terminal);
    assert_same_tree(&before, &env.tree("home"));
    let mut terminal = ask(&env, &args);
    let picture = terminal.wait_until(START, LIMIT, |p| p.contains("missing 1 ·"));
    assert!(selected(&picture).contains("Write the docs"), "{picture}");
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(rollout.is_file());
    let run = env.run(args).code(4);
    assert!(run.stderr.contains("Write the docs"), "{run}");
}

#[test]
fn codex_resumes_the_chosen_conversation_under_its_account() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let exec = |profile: &str, prompt: &str| {
        let args = [
            "launch",
            profile,
            "--",
            "exec",
            "--skip-git-repo-check",
            prompt,
        ];
        let _ = lab.manager(args).code(0);
    };
    exec("bob", "the question of bob");
    exec("alice", "the question of alice");
    lab.backend.forget_requests();
    let args = ["resume", "--", "exec", "--skip-git-repo-check", "and now?"];
    let mut terminal = Terminal::start(&mut lab.world.command(args));
    terminal.wait_until(START, LIMIT, is_drawn);
    terminal.type_keys("of bob");
    terminal.wait_until(START, LIMIT, |p| {
        p.contains(" 1 · tab: ") && selected(p).contains("the question of bob")
    });
    terminal.type_keys("\r");
    // Alice is live.
    terminal.wait_until(START, LIMIT, |p| p.contains("and resume? [y/N]"));
    terminal.type_keys("y\n");
    assert!(terminal.end().success(), "{}", terminal.text());
    let turns = lab.backend.requests_to("/responses");
    let accounts = turns.into_iter().filter(|turn| turn.status == 200);
    let accounts: Vec<_> = accounts.filter_map(|turn| turn.account_id).collect();
    assert_eq!(accounts, ["acct-bob"]);
    let launches = lab.manager(["launches", "--all", "--json"]).code(0).json();
    let newest = &launches["sessions"][0];
    assert_eq!(newest["profile"], "bob");
    let chosen = newest["session_id"].as_str().expect("an id");
    assert_eq!(
        lab.user_messages(&lab.home(), chosen),
        ["the question of bob", "and now?"]
    );
}
