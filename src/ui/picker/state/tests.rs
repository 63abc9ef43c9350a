use super::*;

const KEYS: &[PickerKey] = &[
    PickerKey {
        letter: 'd',
        label: "trash",
        effect: KeyEffect::Ask("sure?"),
    },
    PickerKey {
        letter: 'e',
        label: "export",
        effect: KeyEffect::Choose,
    },
    PickerKey {
        letter: 'y',
        label: "copy",
        effect: KeyEffect::CopyId,
    },
    PickerKey {
        letter: 'z',
        label: "undo",
        effect: KeyEffect::Leave,
    },
];

fn choose(id: &str, key: Option<char>, query: &str) -> PickerAction {
    PickerAction::Choose(Picked {
        id: id.into(),
        turn: None,
        key,
        query: query.into(),
        scope: "",
        position: usize::from(id.starts_with('b')),
    })
}

fn state(names: &[&str]) -> PickerState {
    let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
    let mut state = PickerState::new(names.iter().map(item).collect(), 1, Vec::new(), 0);
    state.set_visible_rows(2);
    state
}

fn press(state: &mut PickerState, code: KeyCode) -> PickerAction {
    let action = state.handle_key(KeyEvent::new(code, KeyModifiers::NONE), KEYS);
    if state.is_filtering() {
        state.filter_more();
    }
    state.set_visible_rows(2);
    action
}

fn shown(state: &PickerState) -> Vec<(&str, bool)> {
    let visible = state.visible_items();
    visible.map(|(item, is)| (item.id.as_str(), is)).collect()
}

#[test]
fn fuzzy_filter_ranks_matches_and_clearing_it_restores_the_default() {
    let mut state = state(&["a_l_i_c_e", "bob", "alice"]);
    assert_eq!(shown(&state), [("a_l_i_c_e", false), ("bob", true)]);
    for c in "alic".chars() {
        assert_eq!(press(&mut state, KeyCode::Char(c)), PickerAction::Stay);
    }
    assert_eq!(shown(&state), [("alice", true), ("a_l_i_c_e", false)]);
    press(&mut state, KeyCode::Char('x'));
    assert_eq!(shown(&state), []);
    assert_eq!(press(&mut state, KeyCode::Enter), PickerAction::Stay);
    for _ in 0..5 {
        press(&mut state, KeyCode::Backspace);
    }
    assert_eq!(press(&mut state, KeyCode::Enter), choose("bob", None, ""));
}

#[test]
fn a_typed_key_shows_before_entries_are_examined_and_enter_means_the_new_list() {
    let mut state = state(&["apple", "bob", "berry"]);
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    state.handle_key(key(KeyCode::Char('r')), KEYS);
    assert_eq!(state.query(), "r");
    assert_eq!(shown(&state), [("apple", false), ("bob", true)]);
    assert!(state.is_filtering());
    let PickerAction::Choose(picked) = state.handle_key(key(KeyCode::Enter), KEYS) else {
        panic!("nothing is chosen");
    };
    assert_eq!(picked.id, "berry");
    assert!(!state.is_filtering());
    // Matches of the new filter may arrive before its entries are examined.
    state.handle_key(key(KeyCode::Backspace), KEYS);
    state.handle_key(key(KeyCode::Char('x')), KEYS);
    state.set_content_matches(vec![found("apple")]);
    assert_eq!(shown(&state), [("apple", true)]);
}

/// The rest of the list and matches in contents come later: a key must not mean another entry until then.
#[test]
fn the_initial_selection_waits_for_its_entry_and_survives_the_first_filter() {
    let mut state = state(&["an apple", "bob", "a pear"]);
    state.set_awaiting_entries(true);
    state.default_position = 1;
    state.set_initial_query("a".into());
    assert_eq!(shown(&state), [("an apple", false), ("a pear", true)]);
    state.default_position = 2;
    state.set_initial_query("ap".into());
    state.set_awaiting_entries(false);
    state.set_awaiting_entries(true);
    assert_eq!(state.selected().map(|item| &*item.id), None);
    assert_eq!(press(&mut state, KeyCode::Enter), PickerAction::Stay);
    state.set_awaiting_entries(false);
    assert_eq!(shown(&state).last(), Some(&("a pear", true)));
    press(&mut state, KeyCode::Char('p'));
    assert_eq!(shown(&state), [("an apple", true)]);
}

#[test]
fn entries_with_the_letters_close_together_come_first() {
    let mut state = state(&["cooldown alias nora@example.test", "b", "contractor-client"]);
    for c in "clnt".chars() {
        press(&mut state, KeyCode::Char(c));
    }
    let ids: Vec<_> = shown(&state).into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        ids,
        ["contractor-client", "cooldown alias nora@example.test"]
    );
}

#[test]
fn the_selection_stays_in_the_list_and_visible() {
    let mut state = state(&["a", "b", "c", "d", "e"]);
    for (code, expected) in [
        (KeyCode::Down, "c"),
        (KeyCode::PageDown, "e"),
        (KeyCode::Down, "e"),
        (KeyCode::PageUp, "c"),
        (KeyCode::Home, "a"),
        (KeyCode::Up, "a"),
        (KeyCode::End, "e"),
    ] {
        press(&mut state, code);
        assert!(shown(&state).contains(&(expected, true)), "{code:?}");
        assert_eq!(shown(&state).len(), 2);
    }
}

#[test]
fn escape_and_control_c_cancel() {
    let mut state = state(&["a", "b"]);
    assert_eq!(press(&mut state, KeyCode::Esc), PickerAction::Cancel);
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.handle_key(key, KEYS), PickerAction::Cancel);
    assert_eq!(state.query(), "");
}

fn counts(state: &PickerState) -> String {
    let (count, next) = state.format_counts();
    count + &next
}

fn found(id: &str) -> ContentMatch {
    ContentMatch {
        id: id.into(),
        note: "turn 1".into(),
        turn: Some(1),
        marks: Vec::new(),
    }
}

#[test]
fn content_matches_come_before_scattered_letters_and_keep_the_selection() {
    let mut state = state(&["parser", "other", "p-a-r-s", "more", "no parser"]);
    for c in "pars".chars() {
        press(&mut state, KeyCode::Char(c));
    }
    state.set_visible_rows(5);
    press(&mut state, KeyCode::Down);
    state.set_visible_rows(5);
    let words = [("parser", false), ("no parser", true)];
    assert_eq!(shown(&state), [&words[..], &[("p-a-r-s", false)]].concat());
    state.set_content_matches(["other", "more", "parser"].map(found).into());
    let after = [("other", false), ("more", false), ("p-a-r-s", false)];
    assert_eq!(shown(&state), [&words[..], &after].concat());
    // A changed filter forgets them until the next answer.
    press(&mut state, KeyCode::Backspace);
    state.set_visible_rows(5);
    assert_eq!(shown(&state).len(), 3);
}

#[test]
fn a_scope_without_matches_shows_the_matches_of_the_next_scope_once_the_search_ends() {
    let item = |name: &str| PickerItem::new(name, vec![(Style::Plain, name.to_owned())]);
    let scope = |name, items: &[usize]| PickerScope {
        name,
        items: items.to_vec(),
    };
    let scopes = vec![scope("here", &[0]), scope("all", &[0, 1, 2])];
    let items = ["one", "two", "three"].map(item);
    let mut state = PickerState::new(items.into(), 0, scopes, 0);
    state.set_visible_rows(5);
    assert_eq!(counts(&state), "here 1 · tab: all 3");
    for c in "invoice".chars() {
        press(&mut state, KeyCode::Char(c));
    }
    state.set_awaiting_entries(true);
    assert_eq!(shown(&state), []);
    state.set_content_matches(["three", "two"].map(found).into());
    assert_eq!(shown(&state), []);
    state.set_awaiting_entries(false);
    assert_eq!(shown(&state), [("three", true), ("two", false)]);
    assert_eq!(counts(&state), "here 0 · tab: all 2");
    let chosen = press(&mut state, KeyCode::Enter);
    assert!(
        matches!(&chosen, PickerAction::Choose(picked) if picked.id == "three" && picked.turn == Some(1)),
        "{chosen:?}"
    );
}

#[test]
fn a_key_examines_a_part_of_50_000_entries_and_later_entries_keep_the_selection() {
    let entries = |count: usize| -> Vec<_> {
        let item = |n: usize| {
            let name = format!("question {n}");
            PickerItem::new(name.clone(), vec![(Style::Plain, name)])
        };
        (0..count).map(item).collect()
    };
    let mut state = PickerState::new(entries(200), 0, Vec::new(), 0);
    state.set_visible_rows(5);
    press(&mut state, KeyCode::Down);
    state.replace_entries(PickerListing::new(entries(50_000), Vec::new()));
    assert!(shown(&state).contains(&("question 1", true)));
    press(&mut state, KeyCode::Char('q'));
    assert_eq!(counts(&state), format!("{ENTRIES_PER_STEP}/50000"));
    while state.is_filtering() {
        state.filter_more();
    }
    assert_eq!(counts(&state), "50000/50000");
}

#[test]
fn a_change_of_the_scope_keeps_the_filter_and_the_selection() {
    let names = ["a1", "b1", "a2"];
    let item = |name: &&str| PickerItem::new(*name, vec![(Style::Plain, (*name).to_owned())]);
    let scope = |name, items: &[usize]| PickerScope {
        name,
        items: items.to_vec(),
    };
    let scopes = vec![scope("here", &[1, 2]), scope("all", &[0, 1, 2])];
    let mut state = PickerState::new(names.iter().map(item).collect(), 0, scopes, 0);
    state.set_visible_rows(5);
    assert_eq!(state.scope_name(), "here");
    assert_eq!(shown(&state), [("b1", true), ("a2", false)]);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Tab);
    state.set_visible_rows(5);
    assert_eq!(shown(&state), [("a1", false), ("b1", false), ("a2", true)]);
    press(&mut state, KeyCode::Char('b'));
    press(&mut state, KeyCode::BackTab);
    assert_eq!((state.scope_name(), state.query()), ("here", "b"));
    assert_eq!(shown(&state), [("b1", true)]);
}

#[test]
fn keys_of_the_command_act_on_the_selected_entry() {
    let mut state = state(&["a", "b"]);
    let key = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    assert_eq!(
        state.handle_key(key('y'), KEYS),
        PickerAction::Copy("b".into())
    );
    assert_eq!(state.notice(), Some("copied b"));
    assert_eq!(state.handle_key(key('e'), KEYS), choose("b", Some('e'), ""));
    assert_eq!(state.notice(), None);
    state.set_query("nothing".into());
    assert_eq!(state.handle_key(key('e'), KEYS), PickerAction::Stay);
    assert_eq!(
        state.handle_key(key('z'), KEYS),
        choose("", Some('z'), "nothing")
    );
}

#[test]
fn only_y_answers_a_question_with_yes_and_the_choice_is_that_of_the_key() {
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
    let asked = || {
        let mut state = state(&["a", "b"]);
        assert_eq!(state.handle_key(control('d'), KEYS), PickerAction::Stay);
        // An answer of a worker leaves the question.
        state.set_notice(Some("news".into()));
        assert_eq!(state.notice(), Some("sure?"));
        state
    };

    for no in [
        plain(KeyCode::Enter),
        plain(KeyCode::Char('n')),
        control('y'),
        control('d'),
        plain(KeyCode::Esc),
    ] {
        let mut state = asked();
        assert_eq!(state.handle_key(no, KEYS), PickerAction::Stay, "{no:?}");
        assert_eq!((state.notice(), state.query()), (None, ""), "{no:?}");
    }
    let mut pasted = asked();
    pasted.paste("y");
    assert_eq!((pasted.notice(), pasted.query()), (None, "y"));

    let mut listed_anew = asked();
    let items = ["b", "c"].map(|name| PickerItem::new(name, vec![(Style::Plain, name.to_owned())]));
    listed_anew.replace_entries(PickerListing::new(items.into(), Vec::new()));
    let answered = listed_anew.handle_key(plain(KeyCode::Char('y')), KEYS);
    assert_eq!(answered, choose("b", Some('d'), ""));
}

/// The preview is requested once. Without it, the pane stayed empty.
#[test]
fn a_preview_that_arrives_while_no_entry_matches_is_shown_when_its_entry_matches_again() {
    let mut state = state(&["alice", "bob"]);
    let query = state.preview_query().unwrap();
    press(&mut state, KeyCode::Char('x'));
    assert_eq!(state.preview_query(), None);
    state.set_preview(query.clone(), vec![(Style::Plain, "facts".into())]);
    assert_eq!(state.preview(), []);
    press(&mut state, KeyCode::Backspace);
    assert_eq!(state.preview_query(), Some(query));
    assert_eq!(state.preview(), [(Style::Plain, "facts".to_owned())]);
}
