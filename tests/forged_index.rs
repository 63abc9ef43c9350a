//! Archives with a forged index, or with members that differ from the index: `restore` and `verify`
//! refuse them and write nothing.

use crate::hostile::{HostileTest, NAME};
use crate::support::env::assert_same_tree;
use crate::support::hostile::{Entry, Parts, Piece, digest, gzip};
use crate::support::sample::{assert_same_home, put, text};
use codex_manager_core::archive::reader::ArchiveReader;
use codex_manager_core::archive::sidecar::SidecarProblem;
use codex_manager_core::archive::verify::verify;
use codex_manager_core::io::progress::Silent;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;

const MIB: usize = 1 << 20;

/// Three chunks, the last of which has padding.
const LARGE: &str = "prompts/large";
const LARGE_LEN: usize = 9 * MIB + 5;

/// Returns compressible text without a period that two chunks could share.
fn content(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(len + 64);
    while text.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.extend(format!("{:x}", state >> 40).repeat(64).into_bytes());
    }
    text.truncate(len);
    text
}

/// Creates a home with large and small files.
fn world() -> HostileTest {
    HostileTest::with(|env| {
        put(env, LARGE, content(LARGE_LEN));
        put(env, "prompts/chunk", content(4 * MIB));
        put(env, "prompts/small", content(513));
    })
}

/// Returns the position of the first member with content of this kind.
fn place(index: &[Value], kind: &str) -> usize {
    let found = index.iter().position(|m| holds(&m["holds"], kind));
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn holds(held: &Value, kind: &str) -> bool {
    held.get(kind).is_some() || held == kind
}

fn piece(pieces: &[Piece], kind: &str) -> usize {
    let found = pieces.iter().position(|p| holds(&p.holds, kind));
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// Returns the position of the first chunk of a file with several.
fn first_of_several(pieces: &[Piece]) -> usize {
    let found = pieces
        .windows(2)
        .position(|pair| pair.iter().all(|p| holds(&p.holds, "chunk")));
    found.expect("a file of several chunks")
}

fn add(value: &mut Value, by: i64) {
    *value = value
        .as_u64()
        .expect("number")
        .wrapping_add_signed(by)
        .into();
}

/// One forged value in the index.
type IndexForgery = fn(&mut Vec<Value>);

/// One change of the members. The index stays correct about their bytes.
type MemberChange = fn(&mut Vec<Piece>);

#[test]
fn a_valid_index_is_accepted() {
    let world = world();
    let path = text(&world.env.write(NAME, world.parts().pack()));
    let before = world.env.tree("home/.codex");
    fs::remove_dir_all(world.env.codex_home().join("prompts")).expect("remove");
    let _ = world.env.run(["restore", &path]).code(0);
    let untimed = |tree: &crate::support::env::Tree| tree.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(untimed(&before), untimed(&world.env.tree("home/.codex")));
    let restored = fs::read(world.env.codex_home().join(LARGE)).expect("read");
    assert!(restored == content(LARGE_LEN));
}

#[test]
fn an_index_with_wrong_offsets_lengths_sizes_or_digests_is_refused() {
    let world = world();
    let (parts, pieces) = (world.parts(), world.parts().pieces());
    let lies: [(&str, IndexForgery, &str); 18] = [
        (
            "gap",
            |i| add(&mut i[3]["offset"], 1),
            "members are not contiguous",
        ),
        (
            "overlap",
            |i| add(&mut i[3]["offset"], -1),
            "members are not contiguous",
        ),
        (
            "does not begin at 0",
            |i| add(&mut i[0]["offset"], 9),
            "members are not contiguous",
        ),
        (
            "far away",
            |i| i[3]["offset"] = u64::MAX.into(),
            "members are not contiguous",
        ),
        ("longer", |i| add(&mut i[3]["len"], 1), "the index is wrong"),
        (
            "shorter",
            |i| add(&mut i[3]["len"], -1),
            "the index is wrong",
        ),
        (
            "longest",
            |i| i[3]["len"] = u64::MAX.into(),
            "the index is wrong",
        ),
        (
            "last longer",
            |i| add(&mut i.last_mut().expect("an element")["len"], 1),
            "the index is wrong",
        ),
        (
            "shifted border",
            |i| {
                add(&mut i[2]["len"], 1);
                add(&mut i[3]["offset"], 1);
                add(&mut i[3]["len"], -1);
            },
            "does not match its digest",
        ),
        (
            "unpacks to more",
            |i| add(&mut i[0]["size"], 512),
            "a member",
        ),
        (
            "unpacks to less",
            |i| add(&mut i[0]["size"], -512),
            "a member",
        ),
        (
            "unpacks to nothing",
            |i| i[0]["size"] = 0.into(),
            "an empty member",
        ),
        (
            "unpacks to all",
            |i| i[0]["size"] = u64::MAX.into(),
            "an oversized member",
        ),
        (
            "a chunk has the wrong size",
            |i| {
                let c = place(i, "chunk");
                add(&mut i[c]["size"], -1);
            },
            "the wrong size",
        ),
        ("negative", |i| i[0]["size"] = (-1).into(), "manifest"),
        ("fraction", |i| i[0]["len"] = 1.5.into(), "manifest"),
        (
            "digest",
            |i| i[2]["sha256"] = digest(b"x").into(),
            "does not match its digest",
        ),
        ("no digest", |i| i[2]["sha256"] = "".into(), "manifest"),
    ];
    for (what, lie, because) in lies {
        world.assert_refused(what, &parts.pack_pieces(&pieces, lie), because);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn an_index_with_wrong_member_contents_is_refused() {
    let world = world();
    let (parts, pieces) = (world.parts(), world.parts().pieces());
    let lies: [(&str, IndexForgery, &str); 22] = [
        (
            "out of range",
            |i| {
                let f = place(i, "files");
                i[f]["holds"]["files"][1] = 1_000_000.into();
            },
            "the index is wrong",
        ),
        (
            "overflow",
            |i| {
                let f = place(i, "files");
                i[f]["holds"]["files"][1] = u64::MAX.into();
            },
            "the index is wrong",
        ),
        (
            "overflow later",
            |i| {
                let all: Vec<_> = (0..i.len())
                    .filter(|n| holds(&i[*n]["holds"], "files"))
                    .collect();
                i[*all.last().expect("an element")]["holds"]["files"][1] = u64::MAX.into();
            },
            "the index is wrong",
        ),
        (
            "structures overflow",
            |i| {
                let s = place(i, "structure");
                i[s]["holds"]["structure"][1] = u64::MAX.into();
            },
            "the index is wrong",
        ),
        (
            "overlapping",
            |i| {
                let f = place(i, "files");
                add(&mut i[f]["holds"]["files"][1], 1);
            },
            "the index is wrong",
        ),
        (
            "one unheld",
            |i| {
                let f = place(i, "files");
                add(&mut i[f]["holds"]["files"][1], -1);
            },
            "the index is wrong",
        ),
        (
            "begins later",
            |i| {
                let f = place(i, "files");
                add(&mut i[f]["holds"]["files"][0], 1);
            },
            "out of order",
        ),
        (
            "none",
            |i| {
                let f = place(i, "files");
                i[f]["holds"]["files"][1] = 0.into();
            },
            "out of order",
        ),
        (
            "too many for u64",
            |i| {
                let f = place(i, "files");
                i[f]["holds"]["files"][1] = json!(1e30);
            },
            "manifest",
        ),
        (
            "head of another",
            |i| {
                let h = place(i, "head");
                add(&mut i[h]["holds"]["head"], 1);
            },
            "out of order",
        ),
        (
            "head of an unlisted file",
            |i| {
                let h = place(i, "head");
                i[h]["holds"]["head"] = u64::MAX.into();
            },
            "out of order",
        ),
        (
            "chunk of another",
            |i| {
                let c = place(i, "chunk");
                add(&mut i[c]["holds"]["chunk"][0], 1);
            },
            "the index is wrong",
        ),
        (
            "chunk of an unlisted file",
            |i| {
                let c = place(i, "chunk");
                i[c]["holds"]["chunk"][0] = u64::MAX.into();
            },
            "the index is wrong",
        ),
        (
            "upto",
            |i| {
                let c = place(i, "chunk");
                i[c]["holds"]["chunk"][1] = digest(b"x").into();
            },
            "digest",
        ),
        (
            "last upto",
            |i| {
                let last = i
                    .iter()
                    .rposition(|m| holds(&m["holds"], "chunk"))
                    .expect("an element");
                i[last]["holds"]["chunk"][1] = digest(b"x").into();
            },
            "digest",
        ),
        (
            "files as structure",
            |i| {
                let f = place(i, "files");
                i[f]["holds"] = json!({"structure": i[f]["holds"]["files"]});
            },
            "the index is wrong",
        ),
        (
            "structure as files",
            |i| {
                let s = place(i, "structure");
                i[s]["holds"] = json!({"files": i[s]["holds"]["structure"]});
            },
            "the index is wrong",
        ),
        (
            "files as void",
            |i| {
                let f = place(i, "files");
                i[f]["holds"] = "void".into();
            },
            "the index is wrong",
        ),
        (
            "all void",
            |i| i.iter_mut().for_each(|m| m["holds"] = "void".into()),
            "the index is wrong",
        ),
        ("unknown", |i| i[0]["holds"] = "nothing".into(), "manifest"),
        ("no members", Vec::clear, "the index is wrong"),
        (
            "no last member",
            |i| {
                i.pop();
            },
            "the index is wrong",
        ),
    ];
    for (what, lie, because) in lies {
        world.assert_refused(what, &parts.pack_pieces(&pieces, lie), because);
    }
    let swap: IndexForgery = |index| {
        let (a, b) = (place(index, "structure"), place(index, "files"));
        let held = index[a]["holds"].clone();
        index[a]["holds"] = std::mem::replace(&mut index[b]["holds"], held);
    };
    world.assert_refused("swapped", &parts.pack_pieces(&pieces, swap), "");
    // A large file stored like a small one, and a small one like a large one.
    let mut one = pieces.clone();
    let head = piece(&one, "head");
    let number = one[head].holds["head"].clone();
    one[head].holds = json!({"files": [number, 1]});
    world.assert_refused(
        "head as files",
        &parts.pack_pieces(&one, |_| {}),
        "the index is wrong",
    );
}

#[test]
fn missing_repeated_and_swapped_members_are_refused() {
    let world = world();
    let parts = world.parts();
    let cuts: [(&str, MemberChange, &str); 6] = [
        (
            "no chunks",
            |p| p.retain(|p| !holds(&p.holds, "chunk")),
            "the index is wrong",
        ),
        (
            "a chunk is missing",
            |p| {
                p.remove(piece(p, "chunk"));
            },
            "the index is wrong",
        ),
        (
            "no head",
            |p| {
                p.remove(piece(p, "head"));
            },
            "the index is wrong",
        ),
        (
            "chunks swapped",
            |p| {
                let c = first_of_several(p);
                p.swap(c, c + 1);
            },
            "digest",
        ),
        (
            "chunk twice",
            |p| {
                let c = piece(p, "chunk");
                p.insert(c, p[c].clone());
            },
            "the index is wrong",
        ),
        (
            "files twice",
            |p| {
                let f = piece(p, "files");
                p.insert(f, p[f].clone());
            },
            "out of order",
        ),
    ];
    for (what, recut, because) in cuts {
        let mut pieces = parts.pieces();
        recut(&mut pieces);
        world.assert_refused(what, &parts.pack_pieces(&pieces, |_| {}), because);
    }
    // The contents of two chunks are swapped, consistently with the index.
    let mut pieces = parts.pieces();
    let chunk = first_of_several(&pieces);
    let tar = pieces[chunk].tar.clone();
    pieces[chunk].tar = std::mem::replace(&mut pieces[chunk + 1].tar, tar);
    world.assert_refused(
        "content swapped",
        &parts.pack_pieces(&pieces, |_| {}),
        "digest",
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn hidden_data_in_a_member_is_refused() {
    let world = world();
    let parts = world.parts();
    let cuts: [(&str, MemberChange, &str); 11] = [
        (
            "padding of a chunk",
            |p| {
                let last = p
                    .iter()
                    .rposition(|p| holds(&p.holds, "chunk") && p.tar.len() % MIB != 0);
                let tar = &mut p[last.expect("an element")].tar;
                *tar.last_mut().expect("padding") = 1;
            },
            "unexpected data after",
        ),
        (
            "padding of a small file",
            |p| {
                let files = p
                    .iter()
                    .rposition(|p| holds(&p.holds, "files"))
                    .expect("an element");
                *p[files].tar.last_mut().expect("padding") = 1;
            },
            "unexpected data after",
        ),
        (
            "an entry among small files",
            |p| add_hidden_entry(p, "files", false),
            "not the entry that the manifest lists",
        ),
        (
            "an entry after the end of a tar",
            |p| add_hidden_entry(p, "files", true),
            "unexpected data after",
        ),
        (
            "a file among folders",
            |p| add_hidden_entry(p, "structure", false),
            "not the entry that the manifest lists",
        ),
        (
            "a file after folders",
            |p| add_hidden_entry(p, "structure", true),
            "unexpected data after",
        ),
        (
            "an entry after a head",
            |p| add_hidden_entry(p, "head", false),
            "exactly one header",
        ),
        (
            "an entry before a head",
            |p| {
                let head = piece(p, "head");
                let mut tar = hidden_entry();
                tar.extend(&p[head].tar);
                p[head].tar = tar;
            },
            "exactly one header",
        ),
        (
            "a long name without an entry",
            |p| {
                let files = piece(p, "files");
                let mut tar = Vec::new();
                Entry::file(vec![b'n'; 200], "").write(&mut tar);
                tar.truncate(tar.len() - 512);
                p[files].tar.extend(tar);
            },
            "unexpected data after",
        ),
        (
            "half an entry",
            |p| {
                let files = piece(p, "files");
                p[files].tar.extend(&hidden_entry()[..512]);
            },
            "not the entry that the manifest lists",
        ),
        (
            "an end in the middle",
            |p| {
                let files = piece(p, "files");
                let mut tar = vec![0; 1024];
                tar.extend(&p[files].tar);
                p[files].tar = tar;
            },
            "is missing",
        ),
    ];
    for (what, recut, because) in cuts {
        let mut pieces = parts.pieces();
        recut(&mut pieces);
        world.assert_refused(what, &parts.pack_pieces(&pieces, |_| {}), because);
    }
    let mut after = parts.clone();
    after.after_manifest.push(Entry::file("hidden", "x"));
    world.assert_refused(
        "an entry after the manifest",
        &after.pack(),
        "unexpected data after the manifest",
    );
    world.assert_refused(
        "the same as a stream",
        &after.pack_stream(),
        "not in the manifest",
    );
}

/// Returns a tar entry that the manifest does not list.
fn hidden_entry() -> Vec<u8> {
    let mut tar = Vec::new();
    Entry::file("hidden", "x").write(&mut tar);
    tar
}

/// Adds such an entry to a member, optionally after the end-of-tar blocks.
fn add_hidden_entry(pieces: &mut [Piece], kind: &str, after_end: bool) {
    let tar = &mut pieces[piece(pieces, kind)].tar;
    if after_end {
        tar.extend([0; 1024]);
    }
    tar.extend(hidden_entry());
}

#[test]
fn data_after_the_gzip_stream_of_a_member_is_refused() {
    let world = world();
    let parts = world.parts();
    for kind in ["structure", "files", "head", "chunk"] {
        let mut pieces = parts.pieces();
        let place = piece(&pieces, kind);
        // Other programs would unpack the hidden entry.
        pieces[place].tail = gzip(&hidden_entry());
        let archive = parts.pack_pieces(&pieces, |_| {});
        world.assert_refused("a second gzip stream", &archive, "data after its end");
        // A second stream with the same trailer as the first.
        let trailer = gzip(&pieces[place].tar);
        pieces[place].tail.extend(&trailer[trailer.len() - 8..]);
        let archive = parts.pack_pieces(&pieces, |_| {});
        world.assert_refused("its trailer again", &archive, "data after its end");
        pieces[place].tail = vec![0; 8];
        let archive = parts.pack_pieces(&pieces, |_| {});
        world.assert_refused("zeros", &archive, "data after its end");
    }
}

#[test]
fn members_with_a_wrong_size_are_refused() {
    let world = world();
    // A file in one member of 9 MiB; then a large file with a header only.
    let parts = world.parts();
    let mut pieces = parts.pieces();
    let head = pieces
        .iter()
        .position(|p| {
            p.tar.windows(LARGE.len()).any(|w| w == LARGE.as_bytes()) && holds(&p.holds, "head")
        })
        .expect("the large file");
    let chunks: Vec<_> = pieces.drain(head + 1..head + 4).collect();
    let number = pieces[head].holds["head"].clone();
    let tars: Vec<_> = chunks.into_iter().map(|c| c.tar).collect();
    let tar = tars.concat();
    let whole = json!({"chunk": [number, digest(&content(LARGE_LEN))]});
    pieces.insert(head + 1, Piece::new(tar, whole));
    world.assert_refused(
        "oversized",
        &parts.pack_pieces(&pieces, |_| {}),
        "an oversized member",
    );

    let mut pieces = parts.pieces();
    pieces.insert(1, Piece::new(Vec::new(), json!({"files": [0, 0]})));
    world.assert_refused(
        "empty",
        &parts.pack_pieces(&pieces, |_| {}),
        "an empty member",
    );
    let mut pieces = parts.pieces();
    pieces.insert(1, Piece::new(Vec::new(), json!("void")));
    world.assert_refused(
        "empty void",
        &parts.pack_pieces(&pieces, |_| {}),
        "an empty member",
    );

    // An empty file stored like a large one: without a chunk, no digest is checked.
    let mut parts = world.parts().with_listed(Entry::file("zzz/none", ""));
    let files = parts.manifest_mut()["files"].as_array_mut().expect("files");
    files.last_mut().expect("an element")["sha256"] = digest(b"x").into();
    let mut pieces = parts.pieces();
    let last = pieces.last_mut().expect("an element");
    last.holds = json!({"head": last.holds["files"][0]});
    world.assert_refused(
        "an empty large file",
        &parts.pack_pieces(&pieces, |_| {}),
        "without content",
    );
}

#[test]
fn files_larger_than_their_member_are_refused() {
    let world = world();
    for size in [1 << 20, 1 << 63, u64::MAX] {
        let mut parts = world.parts();
        for name in ["prompts/small", "notes.txt"] {
            let files = parts.manifest_mut()["files"].as_array_mut().expect("files");
            let file = files.iter_mut().find(|f| f["path"] == name);
            file.expect("listed")["size"] = size.into();
        }
        let listed = format!("files of {size}");
        world.assert_refused(&listed, &parts.pack(), "larger than their member");
    }
}

#[test]
fn only_the_void_entries_that_the_manifest_lists_are_accepted() {
    let world = world();
    let large = |parts: &Parts, entry: &Entry| {
        let (head, chunks) = entry.head_and_chunks();
        let mut pieces = parts.pieces();
        pieces.push(Piece::new(head, "void".into()));
        pieces.extend(
            chunks
                .into_iter()
                .map(|(c, _)| Piece::new(c, "void".into())),
        );
        pieces
    };
    let shrunk = Entry::file("prompts/shrunk", content(5 * MIB));
    let mut listed = world.parts();
    listed.manifest_mut()["void"] = json!(["prompts/shrunk"]);
    let mut listed = listed.with(shrunk.clone());
    let mut pieces = large(&listed.clone().without_entry("prompts/shrunk"), &shrunk);

    // The form that is written for a file that became shorter.
    let path = text(&world.env.write(NAME, listed.pack_pieces(&pieces, |_| {})));
    let before = world.env.tree("home/.codex");
    let _ = world.env.run(["restore", &path]).code(0);
    assert!(!world.env.codex_home().join("prompts/shrunk").exists());
    let after = world.env.tree("home/.codex");
    assert_eq!(before.0.len(), after.0.len());

    // A restore creates safety backups; they are ignored here.
    let unlisted = world.parts();
    world.assert_refused(
        "unlisted",
        &unlisted.pack_pieces(&pieces, |_| {}),
        "not the entry that the manifest lists",
    );
    let cut = pieces.pop().expect("a chunk");
    world.assert_refused(
        "cut",
        &listed.pack_pieces(&pieces, |_| {}),
        "the void entries differ",
    );
    pieces.push(cut);
    pieces.push(Piece::new(hidden_entry(), "void".into()));
    world.assert_refused(
        "hidden",
        &listed.pack_pieces(&pieces, |_| {}),
        "exactly one header",
    );
    pieces.pop();
    let moved = pieces.pop().expect("a chunk");
    pieces.insert(1, moved);
    world.assert_refused("elsewhere", &listed.pack_pieces(&pieces, |_| {}), "");

    listed.manifest_mut()["void"] = json!(["prompts/shrunk", "notes.txt"]);
    let pieces = large(&listed.clone().without_entry("prompts/shrunk"), &shrunk);
    world.assert_refused(
        "a real file",
        &listed.pack_pieces(&pieces, |_| {}),
        "twice in the archive",
    );
    let mut missing = world.parts();
    missing.manifest_mut()["void"] = json!(["prompts/never"]);
    world.assert_refused("never there", &missing.pack(), "the void entries differ");
    let mut outside = world.parts();
    outside.manifest_mut()["void"] = json!(["../outside"]);
    world.assert_refused("outside", &outside.pack(), "manifest");
}

#[test]
fn a_footer_without_an_index_is_refused() {
    let world = world();
    let mut parts = world.parts();
    let manifest = parts.manifest_mut().as_object_mut().expect("object");
    manifest.remove("members");
    let text = serde_json::to_vec(manifest).expect("json");
    parts.manifest_bytes = Some(text);
    world.assert_refused("no index", &parts.pack(), "the index is wrong");
}

#[test]
fn a_recompressed_archive_is_read_as_a_stream() {
    let world = world();
    let mut tar = Vec::new();
    MultiGzDecoder::new(&*world.good)
        .read_to_end(&mut tar)
        .expect("unpack");
    let again = gzip(&tar);
    let path = world.env.write(NAME, &again);
    let before = world.env.tree("home/.codex");
    fs::remove_dir_all(world.env.codex_home().join("prompts")).expect("remove");
    let _ = world.env.run(["restore", &text(&path)]).code(0);
    assert_same_home(&before, &world.env.tree("home/.codex"));
    let report = verify(&path, &world.env.path("tmp"), &Silent).expect("verify");
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.sidecar_problem, Some(SidecarProblem::Missing));

    // One file, without the others.
    fs::write(world.env.codex_home().join(LARGE), "other").expect("write");
    let _ = world
        .env
        .run(["restore", &text(&path), "--only", LARGE])
        .code(0);
    let restored = fs::read(world.env.codex_home().join(LARGE)).expect("read");
    assert!(restored == content(LARGE_LEN));

    // Hidden data is also found in a stream.
    let mut parts = world.parts();
    *parts.entry(LARGE).content.last_mut().expect("an element") ^= 1;
    world.assert_refused("changed", &parts.pack_stream(), "digest");
}

#[test]
fn a_flipped_bit_in_a_large_archive_is_refused_or_has_no_effect() {
    let world = world();
    let path = world.env.write(NAME, &world.good);
    let tmp = world.env.path("tmp");
    let expected = ArchiveReader::open(&path).expect("good");
    let members = expected.contents().members.clone();
    let expected = expected.contents();
    // In each member: the header, the middle, the checksum and the length; then random positions.
    let mut bits = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let (start, end) = (member.offset, member.offset + member.len);
        for byte in [
            start + n as u64 % 10,
            start + member.len / 2,
            end - 8,
            end - 1,
        ] {
            bits.push(byte * 8 + n as u64 % 8);
        }
    }
    let all = world.good.len() as u64 * 8;
    bits.extend((0..60).map(|i| i * all / 60 + i % 8));
    let before = world.env.tree("home");
    for bit in bits {
        let mut archive = world.good.clone();
        let byte = usize::try_from(bit / 8).expect("in range");
        archive[byte] ^= 1 << (bit % 8);
        fs::write(&path, &archive).expect("write");
        let report = verify(&path, &tmp, &Silent).expect("verify");
        if !report.is_archive_good() {
            continue;
        }
        // The manifest's members and the footer have no digest except in the sidecar.
        let end = members.last().expect("an element");
        assert!(bit / 8 >= end.offset + end.len, "bit {bit}");
        let archive = ArchiveReader::open(&path).expect("opens");
        let contents = archive.contents();
        assert!(contents.files.iter().eq(expected.files.iter()), "bit {bit}");
        assert_eq!(contents.folders, expected.folders, "bit {bit}");
    }
    assert_same_tree(&before, &world.env.tree("home"));
    let chunk = members.iter().rfind(|m| m.len > 1000).expect("an element");
    let mut archive = world.good.clone();
    archive[usize::try_from(chunk.offset + 500).expect("in range")] ^= 4;
    world.assert_refused("flipped", &archive, "does not match its digest");
}
