//! Compares searching by the index with a model that knows every text and matches naively.
//!
//! Homes are generated: words with accents, code, emoji, Chinese and Japanese, all forms in which Codex
//! records a text, torn and damaged lines, compactions, forks of both kinds, compressed rollouts, names
//! from `session_index.jsonl`.

mod home;
mod modeled;
mod random;
mod rollout_lines;
mod term;
mod texts;

use self::home::World;
use self::modeled::Modeled;
use self::random::Random;
use self::term::{Meaning, term};
use super::evaluate::{self, HitOrder, SearchOptions};
use super::query;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexSource, IndexStore, Thoroughness, refresh};
use crate::io::progress::Silent;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::Path;

fn searched(store: &IndexStore, typed: &[String], role: Option<Role>) -> BTreeSet<String> {
    let query = query::parse(typed).unwrap();
    let options = SearchOptions {
        role,
        order: HitOrder::Best,
        limit: usize::MAX,
        accepts: &|_| true,
    };
    let hits = evaluate::search(store, &query, &options).unwrap().hits;
    for hit in &hits {
        assert!(!hit.snippet.text.is_empty(), "{typed:?}: {hit:?}");
    }
    hits.into_iter()
        .map(|hit| hit.conversation.session)
        .collect()
}

fn compare(random: &mut Random, world: &World, store: &IndexStore, queries: usize) -> usize {
    let mut found = 0;
    for _ in 0..queries {
        let mut typed = Vec::new();
        let mut meanings = Vec::new();
        for i in 0..=random.below(3) {
            let (text, meaning) = term(random, world);
            let is_negated = i > 0 && random.is_one_in(4);
            typed.push(if is_negated { format!("!{text}") } else { text });
            meanings.push((meaning, is_negated));
        }
        let role = match random.below(8) {
            0 => Some(Role::User),
            1 => Some(Role::Tool),
            _ => None,
        };
        let matches = |conversation: &Modeled, holds: fn(&Meaning, &str) -> bool| {
            let mut texts = conversation.texts.clone();
            let title = conversation.searched_title();
            texts.extend(title.map(|title| (Role::Title, title.to_owned())));
            texts.retain(|(author, _)| role.is_none_or(|role| role == *author));
            meanings.iter().all(|(meaning, is_negated)| {
                let holds = if *is_negated { Meaning::holds } else { holds };
                texts.iter().any(|(_, text)| holds(meaning, text)) != *is_negated
            })
        };
        let all = world.conversations.iter();
        let possible = all.clone().filter(|c| matches(c, Meaning::may_hold));
        let possible: BTreeSet<_> = possible.map(|c| c.session.clone()).collect();
        let expected = all.filter(|c| matches(c, Meaning::holds));
        let expected: BTreeSet<_> = expected.map(|c| c.session.clone()).collect();
        found += expected.len();
        let got = searched(store, &typed, role);
        if !got.is_superset(&expected) || !got.is_subset(&possible) {
            let differing: Vec<_> = got.symmetric_difference(&expected).cloned().collect();
            let texts = world
                .conversations
                .iter()
                .filter(|c| differing.contains(&c.session));
            let texts: Vec<_> = texts
                .map(|c| (&c.session, c.searched_title(), &c.texts, &c.path))
                .collect();
            panic!("{typed:?} {role:?}: found {got:?}, expected {expected:?}\n{texts:#?}");
        }
    }
    found
}

fn source<'a>(home: &'a Path, database: &'a Path, minutes: i64) -> IndexSource<'a> {
    let now = DateTime::<Utc>::from_timestamp_millis(1_795_176_000_000 + minutes * 60_000);
    IndexSource {
        home,
        database: Some(database),
        now: now.unwrap(),
    }
}

#[test]
fn a_thousand_random_queries_match_a_naive_model() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut found = 0;
    for round in 0..5 {
        // Conversations without a row are only found by looking at all rollouts.
        let (are_all_listed, thoroughness) = match round % 2 {
            0 => (true, Thoroughness::Changes),
            _ => (false, Thoroughness::All),
        };
        let mut world = World::new(&mut random, 40, are_all_listed);
        let (home, database) = (world.home(), world.database());
        let path = world.folder.path().join("index/x.sqlite");
        let mut store = IndexStore::open(&path).unwrap();
        let all = Thoroughness::All;
        refresh(&mut store, source(&home, &database, 0), all, &Silent).unwrap();
        found += compare(&mut random, &world, &store, 100);
        for minutes in 1..=2 {
            world.change(&mut random);
            let now = source(&home, &database, minutes);
            let report = refresh(&mut store, now, thoroughness, &Silent).unwrap();
            assert_eq!(report.is_complete, thoroughness == Thoroughness::All);
            found += compare(&mut random, &world, &store, 50);
        }
    }
    assert!(found > 2000, "the queries find something: {found}");
}

#[test]
fn a_first_answer_searches_the_newest_conversations_and_the_next_updates_read_the_others() {
    let mut random = Random(11);
    let world = World::new(&mut random, 60, true);
    let (home, database) = (world.home(), world.database());
    let path = world.folder.path().join("index/x.sqlite");
    let mut counts = Vec::new();
    loop {
        // Each time as after a kill.
        let mut store = IndexStore::open(&path).unwrap();
        let now = source(&home, &database, 0);
        let report = refresh(&mut store, now, Thoroughness::Newest, &Silent).unwrap();
        counts.push(store.count_conversations().unwrap());
        if report.is_complete {
            break;
        }
        let sql = "SELECT min(updated) FROM conversation";
        let oldest: Option<i64> = store.query_optional(sql, [], |row| row.get(0)).unwrap();
        let newer = world
            .conversations
            .iter()
            .filter(|c| Some(c.updated_ms) >= oldest);
        assert_eq!(
            i64::try_from(newer.count()).unwrap(),
            *counts.last().unwrap()
        );
    }
    assert!(counts.len() > 3 && counts.is_sorted(), "{counts:?}");
    compare(&mut random, &world, &IndexStore::open(&path).unwrap(), 50);
}
