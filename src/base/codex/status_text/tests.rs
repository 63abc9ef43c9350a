//! Tests of parsing pasted `/status` text.

use super::*;
use chrono::Duration;
use proptest::prelude::*;

const CURRENT: &str = "
  Model:               GPT-6.1-Sol (reasoning low, summaries auto)
  Directory:           ~/proj
  Account:             alice@example.com (Plus)
  ChatGPT workspace:   alice@example.com (acct-alice)
  Context window:      97% left (12.3K used / 258K)

  5h limit:            [██████████████████░░] 88% left (resets 09:08)
  Weekly limit:        [██░░░░░░░░░░░░░░░░░░] 9% left (resets 07:08 on 23 Nov)
";

fn parse_at(text: &str, now: &str, zone: &str) -> Result<StatusText, StatusTextError> {
    let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
    parse(text, now, Zone::named(zone).unwrap())
}

fn parse_now(text: &str) -> Result<StatusText, StatusTextError> {
    parse_at(text, "2026-11-20T07:20:00Z", "UTC")
}

fn reset(text: &str, now: &str, zone: &str) -> String {
    let line = format!("Quota: 40% left (resets {text})");
    match parse_at(&line, now, zone) {
        Ok(status) => status.windows[0].resets_at.unwrap().to_rfc3339(),
        Err(e) => e.to_string(),
    }
}

fn shown(status: &StatusText) -> Vec<String> {
    status
        .windows
        .iter()
        .map(|w| {
            format!(
                "{} {} {} {}",
                w.limit_id,
                w.label(),
                w.used_percent,
                w.resets_at.map_or("-".into(), |t| t.to_rfc3339())
            )
        })
        .collect()
}

#[test]
fn the_screen_of_codex_0_169_is_parsed() {
    let status = parse_now(CURRENT).unwrap();
    assert_eq!(status.email.as_deref(), Some("alice@example.com"));
    assert_eq!(status.plan.as_deref(), Some("Plus"));
    assert_eq!(
        shown(&status),
        [
            "codex 5h 12 2026-11-20T09:08:00+00:00",
            "codex weekly 91 2026-11-23T07:08:00+00:00"
        ]
    );
}

#[test]
fn borders_colours_and_line_ends_are_ignored() {
    let boxed: Vec<_> = CURRENT
        .lines()
        .map(|line| format!("\x1b[2m│\x1b[0m {line:<78}\x1b[38;5;8m│\x1b[m\r\n"))
        .collect();
    let boxed = boxed.concat();
    let boxed = format!("╭{0}╮\r\n{boxed}╰{0}╯\r\n\x1b]0;codex\x07", "─".repeat(78));
    assert_eq!(parse_now(&boxed), parse_now(CURRENT));
}

#[test]
fn lines_may_be_missing_or_wrapped() {
    let status = parse_now("Weekly limit: [█░] 9% left\n      (resets 07:08 on 23 Nov)").unwrap();
    assert_eq!(status.email, None);
    assert_eq!(
        shown(&status),
        ["codex weekly 91 2026-11-23T07:08:00+00:00"]
    );
    let status = parse_now("5h limit: 12% used\nDirectory: ~/resets 10:00").unwrap();
    assert_eq!(shown(&status), ["codex 5h 12 -"]);
    let status = parse_now("Account: a@x.com\nLimits: not available for this account").unwrap();
    assert_eq!(shown(&status), [""; 0]);
}

#[test]
fn a_reset_on_several_lines_is_read_completely_or_refused() {
    let text = "
  Account:             a@x.com (Plus)
  5h limit:            88% left
                       (resets 08:41)
  Weekly limit:        0% left
                       (resets 06:41 on
                       24 Nov)
";
    let status = parse_now(text).unwrap();
    assert_eq!(
        shown(&status),
        [
            "codex 5h 12 2026-11-20T08:41:00+00:00",
            "codex weekly 100 2026-11-24T06:41:00+00:00"
        ]
    );
    let cut = text.replace("24 Nov)", "");
    assert_eq!(
        parse_now(&cut),
        Err(StatusTextError::BadTime("(resets 06:41 on".into()))
    );
    // A terminal breaks lines at any character.
    let torn = "Weekly limit:   0% left (resets 0\n6:41 on 2\n4 Nov)\nSession: 1";
    assert_eq!(shown(&parse_now(torn).unwrap()), shown(&status)[1..]);
}

#[test]
fn an_email_on_several_lines_is_joined_and_never_truncated() {
    let account = |lines: &str| {
        let status = parse_now(&format!("{lines}\n  5h limit:  1% left\n")).unwrap();
        (status.email, status.unreadable_account)
    };
    let alice = (Some("alice@example.com".to_owned()), None);
    for lines in [
        "  Account:   alice@example.com\n             (Pro 200)",
        "  Account:   alice@example.com (Pro\n             200)",
        "  Account:\n             alice@example.co\n             m (Pro 200)",
        "  Account:\n         alice@\n         exampl\n         e.com\n         (Pro\n         200)",
        "│  Account:  alice@example.com (Pl │\n│  Session:  01a1fd23-fb7b-7370-81 │",
        "  Account:   alice@example.co\nm (Pro 200)",
        "  Account:\nalice@example.co\nm (Pro 200)",
    ] {
        assert_eq!(account(lines), alice, "{lines}");
    }
    for lines in [
        "  Account:\n             alice@example.co\n             m",
        "  Account:   alice@example.co\nm",
        "  Account:",
        "  Account:   Plus",
        "  Account:   API key configured (run codex login to use ChatGPT)",
    ] {
        let (email, unreadable) = account(lines);
        assert!(email.is_none() && unreadable.is_some(), "{lines}");
    }
}

#[test]
fn the_notice_in_the_footer_is_ignored() {
    let status = parse_now(&format!(
        "⚠ Heads up, you have less than 10% of your weekly limit\n  left. Run /status for a breakdown.\n\
         {CURRENT}                 ⚠ weekly limit: 9% left · /status\n› Ask Codex to do anything\n"
    ));
    assert_eq!(status, parse_now(CURRENT));
    let alone = parse_now("        ⚠ weekly limit: only <1% left · /status");
    assert_eq!(alone, Err(StatusTextError::Nothing));
}

#[test]
fn text_around_the_screen_is_ignored() {
    let text = "
• Set the rate limit: 100 per minute (burst 20).
  Tip: Hourly limit: a hint
■ You've hit your usage limit. Visit https://chatgpt.com/settings/usage or try again at 8:41 AM.
  >_ OpenAI Codex (v0.159.0)
  Account:             alice@example.com
  Limits:              refresh requested; run /status again shortly.
  5h limit:            data not available yet
  Secondary limit:     unavailable
  Weekly limit:        [██] 93% left (resets 12:58 AM on 24 Nov)  › Ask Codex to do anything
  Credits:             2625 credits
";
    let status = parse_now(text).unwrap();
    assert_eq!(status.email.as_deref(), Some("alice@example.com"));
    assert_eq!(shown(&status), ["codex weekly 7 2026-11-24T00:58:00+00:00"]);
}

#[test]
fn usage_limits_without_a_length_belong_to_codex_or_to_the_limit_that_they_name() {
    let status = parse_now(
        "Usage limit: [░░] 0% left (resets 12:36 on 22 Nov)\nSecondary usage limit: 40% left\n\
         Spark Usage limit: 90% left\n",
    )
    .unwrap();
    assert_eq!(
        shown(&status),
        [
            "codex window 100 2026-11-22T12:36:00+00:00",
            "codex window 60 -",
            "Spark window 10 -"
        ]
    );
}

#[test]
fn the_usage_page_is_parsed_however_its_lines_are_broken() {
    let expected = ["codex 5h 11 2026-11-20T08:41:00+00:00", "codex weekly 18 -"];
    for text in [
        "5 hour usage limit: 89% remaining, resets 8:41 AM\nWeekly usage limit: 82% remaining",
        "5 hour usage limit:\n89% remaining\nResets 8:41 AM\nWeekly usage limit:\n82% remaining",
        "5 hour usage limit\n89%\nremaining\nResets 8:41 AM\nWeekly usage limit\n82%\nremaining\n\
         Code review\n100%\nremaining",
        "5-hour usage limit\n89% remaining\nResets Nov 20, 2026 8:41 AM\n\nWeekly usage limit\n82% remaining",
    ] {
        assert_eq!(shown(&parse_now(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn decimal_commas_are_accepted_and_other_digits_before_the_figure_refused() {
    assert_eq!(
        shown(&parse_now("Weekly limit: 39,5% left").unwrap()),
        ["codex weekly 60.5 -"]
    );
    for value in [
        "3 9% left",
        "[██] 1 of 9% left",
        "9,9,9% left",
        "<1% left",
        "88% le",
    ] {
        let error = parse_now(&format!("Weekly limit: {value}")).unwrap_err();
        assert_eq!(error, StatusTextError::BadFigure(value.into()));
    }
}

#[test]
fn a_figure_on_a_line_of_its_own_is_read() {
    let text =
        "│ 5h limit:   [####----]  │\n│             72% used    │\n│             (resets 09:14) │";
    assert_eq!(
        shown(&parse_now(text).unwrap()),
        ["codex 5h 72 2026-11-20T09:14:00+00:00"]
    );
}

#[test]
fn truncated_and_garbled_text_is_refused() {
    for (text, expected) in [
        // Older versions cut a line at the width of the terminal.
        (
            "│  5h limit:   [██████░░░░░░░░]  │\n│              (resets 03:14)   │",
            "not a percentage from 0 to 100: [██████░░░░░░░░] (resets 03:14)",
        ),
        (
            "5h limit: 12% used\n5h limit:\nWeekly limit: 1% used",
            "the status text is cut off at 5h limit",
        ),
        (
            "  GPT-5.3-Codex-Spark\n  limit:\n  5h limit: 1% left",
            "the status text is cut off at limit",
        ),
        // The terminal was resized while Codex drew the screen.
        (
            "  Weekly limit:-Spark limit:     ░                   9% left (resets 08:14 on 24 Nov)",
            "not a percentage from 0 to 100: -Spark limit:     ░                   9% left (resets 08:14 …",
        ),
        (
            "  Weekly limit:                          ░░░░░░░░░   50               0  13 on 23 Nov)",
            "not a percentage from 0 to 100: ░░░░░░░░░   50               0  13 on 23 Nov)",
        ),
        (
            "5h limit: 12% left (resets 09:00) Weekly limit: 0% left",
            "not a reset time: (resets 09:00) Weekly limit: 0% left",
        ),
        // The heading between them is missing.
        (
            "5h limit: 12% left\n5h limit: 97% left",
            "the status text shows two different figures for one window: 5h",
        ),
    ] {
        assert_eq!(parse_now(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn the_last_of_several_screens_is_used() {
    let later = CURRENT.replace("88%", "70%").replace("9% left", "0% left");
    let both = parse_now(&format!("{CURRENT}\n› /status\n{later}")).unwrap();
    assert_eq!(shown(&both), shown(&parse_now(&later).unwrap()));
    let twice = parse_now(&format!("{CURRENT}{CURRENT}"));
    assert_eq!(twice, parse_now(CURRENT));
    let hidden = CURRENT.replace("alice@example.com (Plus)", "");
    let status = parse_now(&format!("{CURRENT}{hidden}")).unwrap();
    assert_eq!(status.unreadable_account.as_deref(), Some(""));
}

#[test]
fn two_figures_for_one_window_are_refused_in_the_second_screen_too() {
    // The heading of the second limit is missing.
    let later = format!("{CURRENT}5h limit: 97% left");
    let both = parse_now(&format!("{CURRENT}{later}"));
    assert_eq!(both, parse_now(&later));
    assert_eq!(
        both.unwrap_err().to_string(),
        "the status text shows two different figures for one window: 5h"
    );
}

#[test]
fn a_monthly_credit_limit_is_returned_only_if_used_up() {
    let text = |left: u8| {
        format!(
            "5h limit: 88% left\nCredits: 25 credits\n\
             Monthly credit limit: [█░] {left}% left (resets 00:00 on 1 Dec)\n\
                                   4,998 of 5,000 credits used\n"
        )
    };
    let status = parse_now(&text(1)).unwrap();
    assert_eq!((shown(&status).len(), status.spend_cap), (1, None));
    let status = parse_now(&text(0)).unwrap();
    assert_eq!(shown(&status), ["codex 5h 12 -"]);
    let cap = status.spend_cap.unwrap();
    assert_eq!(cap.kind, CapKind::SpendLimit);
    assert_eq!(
        cap.resets_at.unwrap().to_rfc3339(),
        "2026-12-01T00:00:00+00:00"
    );
}

#[test]
fn the_format_of_the_python_tool_is_parsed() {
    let status =
        parse_now("Email: user1@example.com\nQuota: 40% left (resets 15:55 on 24 Nov)\n").unwrap();
    assert_eq!(status.email.as_deref(), Some("user1@example.com"));
    assert_eq!(
        shown(&status),
        ["codex weekly 60 2026-11-24T15:55:00+00:00"]
    );
}

#[test]
fn named_limits_get_their_own_limit_id() {
    let status = parse_now(
        "5h limit: 88% left\nGPT-6-Spark limit:\n  5h limit: 50% left\n  Weekly limit: 40% left\n\
         Review Weekly limit: 1% used\n",
    )
    .unwrap();
    assert_eq!(
        shown(&status),
        [
            "codex 5h 12 -",
            "GPT-6-Spark 5h 50 -",
            "GPT-6-Spark weekly 60 -",
            "Review weekly 1 -"
        ]
    );
}

#[test]
fn a_time_without_a_date_is_the_next_such_time_or_in_this_minute_and_spans_count_from_now() {
    let reset = |text, now| reset(text, now, "America/New_York");
    assert_eq!(
        reset("00:30", "2026-11-20T23:50:00-05:00"),
        "2026-11-21T00:30:00-05:00"
    );
    assert_eq!(
        reset("9:08 PM", "2026-11-20T21:08:40-05:00"),
        "2026-11-20T21:08:00-05:00"
    );
    assert_eq!(
        reset("Tue 15:55", "2026-11-20T23:50:00-05:00"),
        "2026-11-24T15:55:00-05:00"
    );
    assert_eq!(
        reset("in 3h 20m", "2026-11-20T10:00:00-05:00"),
        "2026-11-20T13:20:00-05:00"
    );
}

#[test]
fn a_five_hour_reset_at_a_time_that_has_passed_today_is_not_tomorrow() {
    let status = parse_now("5h limit: 0% left (resets 07:08)").unwrap();
    assert_eq!(shown(&status), ["codex 5h 100 2026-11-20T07:08:00+00:00"]);
}

#[test]
fn a_date_without_a_year_is_the_next_possible_reset_or_else_the_last_such_date() {
    let reset = |text, now| reset(text, now, "UTC");
    let new_year = "2027-01-02T12:00:00Z";
    assert_eq!(
        reset("09:00 on 3 Jan", "2026-12-30T12:00:00Z"),
        "2027-01-03T09:00:00+00:00"
    );
    assert_eq!(
        reset("09:00 on 31 Dec", new_year),
        "2026-12-31T09:00:00+00:00"
    );
    assert_eq!(
        reset("3:05 PM on Nov 24", "2026-11-20T12:00:00Z"),
        "2026-11-24T15:05:00+00:00"
    );
    assert_eq!(
        reset("Nov 23rd, 2026 6:05 AM", "2026-11-20T12:00:00Z"),
        "2026-11-23T06:05:00+00:00"
    );
    assert_eq!(
        reset("10:00 on 29 Feb", "2028-02-25T12:00:00Z"),
        "2028-02-29T10:00:00+00:00"
    );
    assert_eq!(
        reset("10:00 on 29 Feb", "2026-02-25T12:00:00Z"),
        "not a reset time: 10:00 on 29 Feb"
    );
}

#[test]
fn a_reset_has_the_utc_offset_of_its_own_date() {
    let ny = "America/New_York";
    assert_eq!(
        reset("09:00 on 3 Nov", "2026-10-30T12:00:00-04:00", ny),
        "2026-11-03T09:00:00-05:00"
    );
    assert_eq!(
        reset("09:00 on 16 Mar", "2027-03-12T12:00:00-05:00", ny),
        "2027-03-16T09:00:00-04:00"
    );
    assert_eq!(
        reset("02:30 on 29 Mar", "2026-03-27T12:00:00Z", "Europe/Berlin"),
        "2026-03-29T03:30:00+02:00",
        "a time that daylight saving skips"
    );
    let fold = "01:45 on 5 Apr";
    assert_eq!(
        reset(fold, "2026-04-03T12:00:00Z", "Australia/Lord_Howe"),
        "2026-04-05T01:45:00+11:00",
        "a time that daylight saving repeats"
    );
    assert_eq!(
        reset(fold, "2026-04-05T01:50:00+11:00", "Australia/Lord_Howe"),
        "2026-04-05T01:45:00+10:30"
    );
}

#[test]
fn invalid_text_is_refused_with_the_invalid_part() {
    for (text, expected) in [
        ("", "the status text names no account and no quota"),
        ("garbage", "the status text names no account and no quota"),
        (
            "Quota: -5% left",
            "not a percentage from 0 to 100: -5% left",
        ),
        (
            "Quota: 99999999999% left",
            "not a percentage from 0 to 100: 99999999999% left",
        ),
        ("Quota: garbage", "not a percentage from 0 to 100: garbage"),
        (
            "Weekly limit: 1.2.3% left",
            "not a percentage from 0 to 100: 1.2.3% left",
        ),
        ("Quota: 40% left (resets 25:99)", "not a reset time: 25:99"),
        (
            "Quota: 40% left (resets 24 Foo)",
            "not a reset time: 24 Foo",
        ),
        (
            "Quota: 40% left (resets 9:00 on 31 Jun)",
            "not a reset time: 9:00 on 31 Jun",
        ),
        (
            "Email: a@x.com\nAccount: b@x.com",
            "the status text names two accounts: a@x.com and b@x.com",
        ),
    ] {
        assert_eq!(parse_now(text).unwrap_err().to_string(), expected);
    }
    let long = "Email: a@x.com\n".repeat(20_000);
    assert_eq!(parse_now(&long), Err(StatusTextError::TooLong(long.len())));
}

/// Wraps a value as Codex 0.169 does: between words, and inside a word that is longer than the column.
fn wrapped(value: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in value.split(' ') {
        let line = lines.last_mut().unwrap();
        let is_first = line.is_empty();
        if line.len() + usize::from(!is_first) + word.len() <= width {
            *line += if is_first { "" } else { " " };
            *line += word;
            continue;
        }
        let parts = word.as_bytes().chunks(width);
        let parts = parts.map(|part| String::from_utf8(part.to_vec()).unwrap());
        lines.extend(parts);
    }
    lines
}

/// Formats a row of the table, with its value in a column of `width` characters.
fn row(label: &str, value: &str, width: usize) -> String {
    let lines = wrapped(value, width);
    let rows = lines.iter().enumerate().map(|(i, line)| {
        let label = if i == 0 {
            format!("{label}:")
        } else {
            String::new()
        };
        format!("  {label:<28}{line}\n")
    });
    rows.collect()
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,200}", tail in ".{0,40}") {
        let _ = parse_now(&text);
        let _ = parse_now(&format!("Weekly limit: {tail}"));
        let _ = parse_now(&format!("{tail} limit: 5% left (resets {text})\n(resets {tail})"));
    }

    #[test]
    fn every_figure_and_reset_that_codex_prints_is_parsed(
        left in 0u8..=100, ahead in 0i64..10_000, start in 1_600_000_000i64..2_000_000_000,
        zone in prop::sample::select(vec!["America/New_York", "Europe/Berlin", "Asia/Kolkata"]),
    ) {
        let zone = Zone::named(zone).unwrap();
        let now = DateTime::from_timestamp(start, 0).unwrap();
        let at = zone.at(&(now + Duration::minutes(ahead)));
        let text = format!("Weekly limit: [██] {left}% left (resets {})", at.format("%H:%M on %-d %b"));
        let status = parse(&text, now, zone).unwrap();
        let window = &status.windows[0];
        prop_assert!((window.used_percent - f64::from(100 - left)).abs() < 1e-9);
        let error = window.resets_at.unwrap() - at;
        // The text has no seconds, and is ambiguous if daylight saving repeats the time.
        prop_assert!(error.abs() < Duration::minutes(1) || (error.abs() - Duration::hours(1)).abs() < Duration::minutes(1), "{}", error);
    }

    #[test]
    fn values_are_parsed_at_every_column_width(
        width in 3usize..60, left in 0u8..=100, ahead in 0i64..10_000, has_blank in any::<bool>(),
        email in "[a-z0-9][a-z0-9._%+'=-]{0,25}@[a-z0-9.-]{1,25}",
    ) {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let at = zone.at(&(now + Duration::minutes(ahead)));
        let reset = format!("(resets {})", at.format("%H:%M on %-d %b"));
        let figure = format!("{left}% left");
        let limit = |label: &str| {
            if wrapped(&figure, width).len() == 1 && figure.len() + 1 + reset.len() <= width {
                return row(label, &format!("{figure} {reset}"), width);
            }
            let blank = if has_blank { "\n" } else { "" };
            format!("{}{blank}{}", row(label, &figure, width), row("", &reset, width).replacen(':', " ", 1))
        };
        let text = format!(
            "{}{}\n{}{}",
            row("Account", &format!("{email} (Pro 200)"), width),
            row("Session", "01a1fd23-fb7b-7370-8183-f3c320762fe4", width),
            limit("Weekly limit"),
            "                          ⚠ weekly 9% left\n",
        );
        let status = parse(&text, now, zone);
        prop_assert!(status.is_ok(), "{:?}\n{}", status, text);
        let status = status.unwrap();
        prop_assert_eq!(status.email.as_ref(), Some(&email), "{}", text);
        prop_assert_eq!(status.windows.len(), 1);
        let window = &status.windows[0];
        prop_assert!((window.used_percent - f64::from(100 - left)).abs() < 1e-9, "{}", text);
        prop_assert!((window.resets_at.unwrap() - at).abs() < Duration::minutes(1), "{}", text);
    }
}
