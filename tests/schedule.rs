//! Tests of jobs for the system's scheduler: the scheduler parses exactly the intended words, and files
//! of the user are not touched.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::skips::skip;
use crate::support::write_program;
use codex_manager_core::io::environment::Environment;
use codex_manager_core::schedule::{
    self, JobContext, JobDefinition, JobKind, JobOptions, Scheduler, Trigger, systemd,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;

fn options(job: JobKind, when: Trigger) -> JobOptions {
    JobOptions {
        job,
        when,
        apply: false,
        if_codex_changed: false,
        config: None,
        search_path: None,
    }
}

fn environment(home: &Path) -> Environment {
    let mut env = Environment::default();
    env.home_dir = Some(home.to_path_buf());
    env
}

fn place<'a>(scheduler: Scheduler, words: &[String; 3], env: &'a Environment) -> JobContext<'a> {
    JobContext {
        scheduler,
        program: Path::new("/opt").join(&words[0]).join("codex-manager"),
        codex_home: Path::new("/home").join(&words[1]),
        manager_home: Path::new("/home").join(&words[2]),
        codex_bin: None,
        env,
        user_id: 1000,
    }
}

/// Names of folders with special characters of all formats.
fn name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(" ".to_owned()),
        "[%$\"'\\\\;&<>#=~@:!+*?|(){}`^-]{1,3}",
        Just("%h".to_owned()),
        Just("${HOME}".to_owned()),
        Just("--".to_owned()),
        Just("-->".to_owned()),
        Just("]]>".to_owned()),
        Just("&amp;".to_owned()),
        "[a-zé日🙂]{1,4}",
    ];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn names() -> impl Strategy<Value = [String; 3]> {
    [name(), name(), name()]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        (60u32..2_678_400).prop_map(Trigger::Every),
        (0u32..24, 0u32..60).prop_map(|(hour, minute)| Trigger::Daily(hour, minute)),
    ]
}

fn entry(words: &[String; 3], when: Trigger, place: &JobContext<'_>) -> JobDefinition {
    let config = Path::new("/etc").join(&words[1]).join("config.toml");
    let options = JobOptions {
        apply: true,
        config: Some(config),
        ..options(JobKind::Sync, when)
    };
    JobDefinition::new(options, place).expect("an entry")
}

/// Splits a line of a unit by the rules of systemd.syntax(7) and systemd.service(5).
fn systemd_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ' ' {
            continue;
        }
        assert_eq!(c, '"', "every word is quoted: {line}");
        let mut word = String::new();
        loop {
            match chars.next().expect("the quote is closed") {
                '"' => break,
                '\\' => word.push(chars.next().expect("an escaped character")),
                '%' => {
                    assert_eq!(chars.next(), Some('%'), "a specifier: {line}");
                    word.push('%');
                }
                other => word.push(other),
            }
        }
        assert!(matches!(chars.peek(), None | Some(' ')), "{line}");
        words.push(word);
    }
    words
}

/// Expands the variables in an argument. There must be none, only `$$`.
fn without_variables(word: &str) -> String {
    let halves: Vec<_> = word.split("$$").collect();
    assert!(halves.iter().all(|half| !half.contains('$')), "{word}");
    halves.join("$")
}

fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// Returns the name and text of each element of an XML document, in order.
fn xml_texts(text: &str) -> Vec<(String, String)> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut found = Vec::new();
    let mut open: Vec<(String, String)> = Vec::new();
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Start(tag) => {
                let name = tag.name().as_ref().to_owned();
                open.push((name, String::new()));
            }
            Event::Text(text) => {
                if let Some((_, content)) = open.last_mut() {
                    content.push_str(&text);
                }
            }
            Event::GeneralRef(name) => {
                let c = match &*name {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    other => panic!("an undefined entity: {other}"),
                };
                open.last_mut().expect("an open element").1.push(c);
            }
            Event::End(_) => found.push(open.pop().expect("balanced")),
            Event::Comment(comment) => {
                assert!(!comment.contains("--"), "{text}");
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

/// Splits a command line as Windows programs do (`CommandLineToArgvW`).
fn windows_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' if !is_quoted => words.extend(word.take()),
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' => {
                let mut count = 1;
                while chars.next_if_eq(&'\\').is_some() {
                    count += 1;
                }
                let text = word.get_or_insert_default();
                if chars.peek() == Some(&'"') {
                    text.push_str(&"\\".repeat(count / 2));
                    if count % 2 == 1 {
                        chars.next();
                        text.push('"');
                    }
                } else {
                    text.push_str(&"\\".repeat(count));
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_systemd_unit_is_parsed_into_the_original_arguments(words in names(), when in trigger()) {
        let env = environment(Path::new("/home/me"));
        let place = place(Scheduler::Systemd, &words, &env);
        let entry = entry(&words, when, &place);
        let files = schedule::render(&entry, &place);
        let service = &files[0];
        let exec = values(service, "ExecStart");
        prop_assert_eq!(exec.len(), 1);
        let mut read = systemd_words(exec[0]);
        if entry.command[0].contains(['"', '\'', '\\']) {
            let program = read.split_off(3);
            prop_assert_eq!(&read[..2], ["/bin/sh", "-c"]);
            prop_assert_eq!(without_variables(&read[2]), "exec \"$0\" \"$@\"");
            read = program.iter().map(|word| without_variables(word)).collect();
        } else {
            let arguments: Vec<_> = read[1..].iter().map(|word| without_variables(word)).collect();
            read.splice(1.., arguments);
        }
        prop_assert_eq!(&read, &entry.command);
        let variables: Vec<_> = values(service, "Environment")
            .into_iter()
            .flat_map(systemd_words)
            .collect();
        let meant: Vec<_> = entry.environment.iter().map(|(n, v)| format!("{n}={v}")).collect();
        prop_assert_eq!(variables, meant);
    }

    #[test]
    fn a_launchd_job_is_parsed_into_the_original_arguments(words in names(), when in trigger()) {
        let env = environment(Path::new("/home/me"));
        let place = place(Scheduler::Launchd, &words, &env);
        let entry = entry(&words, when, &place);
        let files = schedule::render(&entry, &place);
        let texts = xml_texts(&files[0]);
        let strings: Vec<_> = texts
            .iter()
            .filter(|(name, _)| name == "string")
            .map(|(_, text)| text.clone())
            .collect();
        let mut meant = vec!["codex-manager.sync".to_owned()];
        meant.extend(entry.command.iter().cloned());
        meant.extend(entry.environment.iter().map(|(_, value)| value.clone()));
        prop_assert_eq!(&strings[..meant.len()], &meant[..]);
        let integers: Vec<u32> = texts
            .iter()
            .filter(|(name, _)| name == "integer")
            .map(|(_, text)| text.parse().expect("a number"))
            .collect();
        match when {
            Trigger::Every(secs) => prop_assert_eq!(integers[0], secs),
            Trigger::Daily(hour, minute) => {
                prop_assert_eq!(&integers[..2], [hour, minute]);
            }
        }
    }

    #[test]
    fn a_task_scheduler_job_is_parsed_into_the_original_arguments_or_refused(
        words in names(),
        when in trigger(),
    ) {
        let env = environment(Path::new("/home/me"));
        let place = place(Scheduler::Windows, &words, &env);
        let config = Path::new("/etc").join(&words[1]);
        let options = JobOptions { config: Some(config), ..options(JobKind::Sync, when) };
        let is_replaced = |word: &String| word.matches('%').count() > 1 || word.contains("$(");
        let entry = match JobDefinition::new(options, &place) {
            Ok(entry) => entry,
            Err(e) => {
                prop_assert!(words.iter().any(is_replaced), "{}", e);
                return Ok(());
            }
        };
        prop_assert!(!words.iter().any(is_replaced));
        let files = schedule::render(&entry, &place);
        let texts = xml_texts(&files[0]);
        let text = |wanted: &str| {
            let found = texts.iter().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.clone()).expect("an element")
        };
        let mut read = vec![text("Command")];
        read.extend(windows_words(&text("Arguments")));
        prop_assert_eq!(read, entry.command);
    }
}

proptest! {
    // Each case fsyncs a dozen files.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_installed_job_is_found_with_its_options(words in names(), when in trigger()) {
        let root = tempfile::tempdir().expect("a folder");
        let env = environment(root.path());
        for scheduler in [Scheduler::Systemd, Scheduler::Launchd, Scheduler::Windows] {
            let mut place = place(scheduler, &words, &env);
            place.manager_home = root.path().join("manager");
            place.codex_home = root.path().join("codex");
            place.program = "/opt/codex-manager".into();
            let config = PathBuf::from("/etc").join(&words[0]);
            let options = JobOptions {
                apply: true,
                config: Some(config),
                ..options(JobKind::Sync, when)
            };
            let Ok(entry) = JobDefinition::new(options.clone(), &place) else { continue };
            let plan = schedule::plan_install(&entry, &place).expect("a plan");
            schedule::apply(&plan, scheduler).expect("apply");
            let found = schedule::find(JobKind::Sync, &place).expect("read").expect("an installed job");
            prop_assert_eq!(found.options, options);
            prop_assert!(found.is_current);
            place.codex_home = "/elsewhere".into();
            let found = schedule::find(JobKind::Sync, &place).expect("read").expect("an installed job");
            prop_assert!(!found.is_current);
        }
    }
}

#[test]
fn paths_with_newlines_control_characters_or_invalid_utf8_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let env = environment(Path::new("/home/me"));
    for bytes in [&b"/a\nb"[..], b"/a\x7fb", b"/a\xffb"] {
        let mut place = place(Scheduler::Systemd, &Default::default(), &env);
        place.codex_home = PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
        let refused = JobDefinition::new(options(JobKind::Backup, Trigger::Daily(3, 30)), &place);
        assert!(refused.is_err(), "{bytes:?}");
    }
}

#[test]
fn systemd_analyze_accepts_the_units() {
    let verify = |files: &[PathBuf]| {
        let mut command = Command::new("systemd-analyze");
        command
            .args(["verify", "--user", "--man=no"])
            .args(files)
            .env("XDG_RUNTIME_DIR", std::env::temp_dir());
        command.output()
    };
    if verify(&[]).is_err() {
        skip("systemd", "there is no systemd-analyze");
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("we ird $x ${HOME} 100% %h é ;");
    std::fs::create_dir(&folder).expect("folder");
    let program = folder.join("codex-manager");
    write_program(&program, "#!/bin/sh\n");
    let env = environment(root.path())
        .with("PATH", "/usr/bin:relative:/bin")
        .with("TZ", "Europe/Berlin");
    let odd = root.path().join("qu\"o\\te'");
    std::fs::create_dir(&odd).expect("folder");
    let odd_program = odd.join("codex-manager");
    write_program(&odd_program, "#!/bin/sh\n");
    for program in [program, odd_program] {
        for (job, when) in [
            (JobKind::Backup, Trigger::Daily(3, 30)),
            (JobKind::Sync, Trigger::Every(1800)),
        ] {
            let place = JobContext {
                scheduler: Scheduler::Systemd,
                program: program.clone(),
                codex_home: folder.join("\"q\" \\ home"),
                manager_home: folder.join("manager"),
                codex_bin: Some(folder.join("codex")),
                env: &env,
                user_id: 1000,
            };
            let options = JobOptions {
                search_path: schedule::search_path(&env, place.scheduler).expect("text"),
                ..options(job, when)
            };
            assert_eq!(options.search_path.as_deref(), Some("/usr/bin:/bin"));
            let entry = JobDefinition::new(options, &place).expect("an entry");
            let plan = schedule::plan_install(&entry, &place).expect("a plan");
            schedule::apply(&plan, place.scheduler).expect("apply");
            let files: Vec<_> = plan.into_iter().map(|planned| planned.path).collect();
            let printed = verify(&files).expect("a pid");
            let stderr = String::from_utf8_lossy(&printed.stderr);
            assert!(printed.status.success() && stderr.is_empty(), "{stderr}");
        }
    }
}

#[test]
fn the_next_run_is_parsed_from_systemctl() {
    let answer = br#"[{"next":1795230000000000,"left":1,"last":null,"unit":"x","activates":"y"}]"#;
    assert_eq!(systemd::parse_next_run(answer), Some(1_795_230_000_000_000));
    for none in [
        &b"[]"[..],
        b"",
        b"[{\"next\":null}]",
        b"[{\"next\":0}]",
        b"{}",
    ] {
        assert_eq!(systemd::parse_next_run(none), None);
    }
}

/// Creates a test environment with a `systemctl` that records its arguments, and enables timers as the real one.
fn world() -> TestEnv {
    let env = TestEnv::new();
    let noted = env.path("told");
    let wants = env.path("home/.config/systemd/user/timers.target.wants");
    write_program(
        &env.path("bin/systemctl"),
        &format!(
            "#!/bin/sh\n\
             echo \"$@\" >> '{}'\n\
             case \"$2\" in\n\
             list-timers) echo '[{{\"next\":1795231800000000}}]';;\n\
             enable) mkdir -p '{wants}' && ln -sf \"../$3\" '{wants}/';;\n\
             disable) rm '{wants}'/\"$4\";;\n\
             esac\n",
            noted.display(),
            wants = wants.display(),
        ),
    );
    env
}

#[test]
fn a_job_is_installed_enabled_shown_and_removed_and_a_second_installation_writes_nothing() {
    let env = world();
    let before = env.tree("home");
    let run = env
        .run(["schedule", "install", "backup", "--daily", "03:30"])
        .code(0);
    insta::assert_snapshot!(run.stderr, @r"
    backup will run daily at 03:30 once it is activated
    to activate it, run these commands, or install with --enable:
      systemctl --user daemon-reload
      systemctl --user enable codex-manager-backup.timer
      systemctl --user restart codex-manager-backup.timer
    ");
    assert!(run.stdout.contains("OnCalendar=*-*-* 03:30:00"), "{run}");
    assert!(!env.path("told").exists(), "a command was run");
    let shown = env.run(["schedule", "show"]).code(0);
    insta::assert_snapshot!(shown, @r"
    exit 0
    --- stdout
    JOB     STATE          RUNS            NEXT
    sync    not installed  -               -
    backup  not active     daily at 03:30  -
    status  not installed  -               -
    vault   not installed  -               -
    notify  not installed  -               -
    --- stderr
    activate it:
        codex-manager schedule install backup --daily 03:30 --enable
    ");
    let _ = env
        .run([
            "schedule", "install", "backup", "--daily", "03:30", "--enable", "-q",
        ])
        .code(0);
    insta::assert_snapshot!(std::fs::read_to_string(env.path("told")).unwrap(), @r"
    --user daemon-reload
    --user enable codex-manager-backup.timer
    --user restart codex-manager-backup.timer
    ");
    let shown = env.run(["schedule", "show", "backup"]).code(0);
    insta::assert_snapshot!(shown, @r"
    exit 0
    --- stdout
    JOB     STATE    RUNS            NEXT
    backup  enabled  daily at 03:30  Sat 21 Nov 03:30, in 15 h 30 min
    --- stderr
    ");
    // The second installation writes nothing.
    let installed = env.tree("home");
    let again = env.run([
        "schedule", "install", "backup", "--daily", "03:30", "--json",
    ]);
    let again = again.code(0).json();
    assert_eq!(again["files"][0]["action"], "keep");
    assert_eq!(again["files"][1]["action"], "keep");
    assert_same_tree(&installed, &env.tree("home"));

    let removed = env.run(["schedule", "remove", "backup"]).code(0);
    insta::assert_snapshot!(removed, @r"
    exit 0
    --- stdout
    removed: [ROOT]/home/.config/systemd/user/codex-manager-backup.service
    removed: [ROOT]/home/.config/systemd/user/codex-manager-backup.timer
    --- stderr
    ");
    let gone = env.run(["schedule", "remove", "backup"]).code(0);
    assert_eq!(gone.stderr, "backup is not installed\n");
    let left = env.tree("home");
    let is_file = |text: &String| text.starts_with("file") || text.starts_with("link");
    assert!(!left.0.values().any(is_file), "{left:?}");
    assert!(before.0.len() <= left.0.len());
}

#[test]
fn sync_is_a_dry_run_unless_installed_with_apply() {
    let env = world();
    env.write("my sync/config.toml", "");
    let base = [
        "schedule",
        "install",
        "sync",
        "-c",
        "my sync/config.toml",
        "--json",
    ];
    let dry = env.run(base).code(0).json();
    let words: Vec<_> = dry["runs"].as_array().unwrap()[1..].to_vec();
    assert_eq!(
        words,
        [
            "sync",
            "run",
            "--config",
            "[ROOT]/my sync/config.toml",
            "--dry-run"
        ]
    );
    assert_eq!(dry["when"]["every"], 3600);
    let real = env.run([&base[..], &["--apply"]].concat()).code(0).json();
    assert_eq!(real["runs"].as_array().unwrap().last().unwrap(), "--apply");
    assert_eq!(real["files"][0]["action"], "update");
    let shown = env
        .run(["schedule", "show", "sync", "--json"])
        .code(0)
        .json();
    assert_eq!(shown["jobs"][0]["apply"], true);
    assert_eq!(shown["jobs"][0]["up_to_date"], true);
    assert_eq!(shown["jobs"][0]["enabled"], false);
}

#[test]
fn an_installed_job_is_out_of_date_with_another_home_but_not_with_another_path() {
    let env = world();
    env.write("my sync/config.toml", "");
    let install = [
        "schedule",
        "install",
        "sync",
        "-c",
        "my sync/config.toml",
        "--apply",
    ];
    let _ = env.run(install).code(0);
    let mut elsewhere = env.command(["schedule", "show", "sync", "--json"]);
    let printed = elsewhere.env("PATH", "/bin").output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(shown["jobs"][0]["up_to_date"], true);
    let other = env.path("other").into_os_string().into_string().unwrap();
    let shown = env.run(["schedule", "show", "sync", "--codex-home", &other, "--json"]);
    assert_eq!(shown.code(0).json()["jobs"][0]["up_to_date"], false);
}

#[test]
fn installing_sync_without_a_configuration_warns() {
    let env = world();
    let args = ["schedule", "install", "sync", "--every", "1h"];
    let printed = env.run(args).code(0);
    assert!(printed.stderr.contains("exit code 4"), "{printed}");
    assert!(
        printed.stderr.contains("codex-manager sync init"),
        "{printed}"
    );
    let cloud = env.path("cloud").into_os_string().into_string().unwrap();
    std::fs::create_dir(&cloud).unwrap();
    let _ = env.run(["sync", "init", "--cloud", &cloud]).code(0);
    let printed = env.run(args).code(0);
    assert!(!printed.stderr.contains("exit code 4"), "{printed}");
}

#[test]
fn homes_are_stored_as_absolute_paths() {
    let mut env = world();
    env.set("CODEX_HOME", "re lative");
    env.set("CODEX_SQLITE_HOME", "sq");
    let run = env
        .run(["schedule", "install", "status", "--dry-run"])
        .code(0);
    for wanted in [
        "Environment=\"CODEX_HOME=[ROOT]/re lative\"",
        "Environment=\"CODEX_MANAGER_HOME=[ROOT]/home/.codex-manager\"",
        "Environment=\"CODEX_SQLITE_HOME=[ROOT]/sq\"",
        "Environment=\"PATH=[ROOT]/bin:/usr/bin:/bin\"",
    ] {
        assert!(run.stdout.contains(wanted), "{wanted}\n{run}");
    }
}

#[test]
fn a_dry_run_writes_nothing_and_shows_every_format() {
    let env = world();
    let before = env.tree("");
    for (scheduler, wanted) in [
        ("systemd", "OnUnitActiveSec=1800"),
        ("launchd", "<integer>1800</integer>"),
        ("windows", "<Interval>PT1800S</Interval>"),
    ] {
        let words = [
            "schedule",
            "install",
            "status",
            "--every",
            "30min",
            "--dry-run",
        ];
        let run = env
            .run([&words[..], &["--scheduler", scheduler]].concat())
            .code(0);
        assert!(run.stdout.contains(wanted), "{run}");
        let words = [
            "schedule",
            "remove",
            "status",
            "--dry-run",
            "--scheduler",
            scheduler,
        ];
        let _ = env.run(words).code(0);
    }
    assert_same_tree(&before, &env.tree(""));
    let _ = env
        .run(["schedule", "install", "status", "--scheduler", "launchd"])
        .code(4);
}

#[test]
fn a_file_of_the_user_is_neither_replaced_nor_removed() {
    let env = world();
    let theirs = "home/.config/systemd/user/codex-manager-backup.timer";
    env.write(theirs, "[Timer]\nOnCalendar=daily\n");
    let before = env.tree("home");
    for verb in ["install", "remove"] {
        let run = env.run(["schedule", verb, "backup"]).code(5);
        assert!(
            run.stderr
                .contains("codex-manager did not create this file"),
            "{run}"
        );
        assert!(run.stderr.contains("codex-manager-backup.timer"), "{run}");
    }
    let _ = env.run(["schedule", "show"]).code(5);
    assert_same_tree(&before, &env.tree("home"));
    // A dangling link belongs to the user, too.
    std::fs::remove_file(env.path(theirs)).unwrap();
    std::os::unix::fs::symlink("/nonexistent", env.path(theirs)).unwrap();
    let _ = env.run(["schedule", "install", "backup"]).code(5);
}

#[test]
fn a_failing_scheduler_command_is_shown_in_the_error() {
    let env = world();
    write_program(
        &env.path("bin/systemctl"),
        "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n",
    );
    let run = env
        .run(["schedule", "install", "backup", "--enable"])
        .code(1);
    insta::assert_snapshot!(run.stderr, @r"
    error: the scheduler command failed: systemctl: Failed to connect to bus: No medium found

    hint: the files of the job were written; run this in your desktop or login session:
      systemctl --user daemon-reload
      systemctl --user enable codex-manager-backup.timer
      systemctl --user restart codex-manager-backup.timer
    ");
}

#[test]
fn invalid_times_and_the_options_of_another_job_are_refused() {
    let env = world();
    for words in [
        &["--every", "soon"][..],
        &["--every", "1s"],
        &["--every", "99d"],
        &["--daily", "25:00"],
        &["--daily", "tue 10:00"],
        &["--daily", "3:30", "--every", "1h"],
        &["--apply"],
    ] {
        let _ = env
            .run([&["schedule", "install", "backup"], words].concat())
            .code(4);
    }
    let _ = env
        .run(["schedule", "install", "sync", "--config", "nowhere.toml"])
        .code(4);
    assert!(env.tree("home").0.len() == 1);
}

#[test]
fn a_job_can_be_shown_and_removed_without_codex() {
    let env = world();
    let program = env.path("bin/codex");
    write_program(&program, "#!/bin/sh\n");
    let _ = env.run(["config", "set", "codex.bin", "codex"]).code(0);
    let install = ["schedule", "install", "backup", "--daily", "03:30"];
    let _ = env.run(install).code(0);
    std::fs::remove_file(program).expect("remove");
    let run = env.run(["schedule", "show"]).code(0);
    assert!(run.stdout.contains("daily at 03:30"), "{run}");
    let run = env.run(install);
    assert!(run.code == 4 && run.stderr.contains("codex.bin"), "{run}");
    let _ = env.run(["schedule", "remove", "backup"]).code(0);
    let left = env.tree("home/.config");
    assert!(
        !left
            .0
            .keys()
            .any(|p| p.to_string_lossy().contains("codex-manager"))
    );
}

#[test]
fn the_suggested_command_installs_the_same_job() {
    let env = world();
    for options in [
        &["backup", "--if-codex-changed"][..],
        &["sync", "--every", "30min", "--apply"],
    ] {
        let install = ["schedule", "install"];
        let _ = env.run([&install[..], options].concat()).code(0);
        let shown = env.run(["schedule", "show", options[0]]).code(0);
        let suggested = shown
            .stderr
            .split_once(":\n    codex-manager ")
            .expect("a hint");
        let words: Vec<_> = suggested.1.split_whitespace().collect();
        let again = env.run([&words[..], &["--json"]].concat()).code(0).json();
        for file in again["files"].as_array().expect("files") {
            assert_eq!(file["action"], "keep", "{shown}");
        }
    }
}
