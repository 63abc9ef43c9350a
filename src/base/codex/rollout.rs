//! Rollouts: the files of each conversation.
//!
//! The first is named `rollout-<local time>-<thread id>.jsonl`. A rewind (Esc Esc in Codex 0.169) begins another one,
//! `rollout-<local time>-<thread id>_<rollout id>.jsonl`, whose first line has the position at which it branches off.
//! The name of a compressed rollout ends in `.zst`. Both forms are the same rollout; if both exist, the plain
//! file counts, as in Codex.

use super::program::is_version_before;
use crate::io::file_open;
use memchr::memmem;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The file name suffix of a compressed rollout.
pub const ZST: &str = ".zst";

/// The file name suffix of conversations of the TypeScript version of Codex.
const DOCUMENT: &str = ".json";

/// Returns true if a rollout has, by its name, the plain form: it is neither compressed nor a JSON document.
pub fn is_plain(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_none_or(|e| e != "zst" && e != "json")
}

/// The first version of Codex that reads compressed rollouts: 0.137.0 resumes one, 0.136.0 does not
/// find it.
pub const FIRST_VERSION_WITH_ZST: (u32, u32) = (0, 137);

/// Returns true if this version of Codex, such as "0.169.0", reads compressed rollouts. False for a text that is no
/// version.
pub fn supports_zst(version: &str) -> bool {
    !is_version_before(version, FIRST_VERSION_WITH_ZST)
}

/// The name of a rollout, which identifies its conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolloutName {
    /// The file name without `.zst`. It is the same for the plain and the compressed form, in
    /// `sessions/` and `archived_sessions/`.
    pub name: String,
    /// True for the compressed form.
    pub compressed: bool,
}

pub fn without_zst(path: &Path) -> &Path {
    let plain = path.to_str().and_then(|text| text.strip_suffix(ZST));
    plain.map_or(path, Path::new)
}

/// Returns the name of a rollout without `.zst`, and true if it has that suffix; `None` for other names.
fn parse_name(name: &str) -> Option<(&str, bool)> {
    let plain = name.strip_suffix(ZST).unwrap_or(name);
    plain.strip_prefix("rollout-")?.strip_suffix(".jsonl")?;
    Some((plain, plain.len() < name.len()))
}

pub(crate) fn is_rollout_name(name: &OsStr) -> bool {
    name.to_str().and_then(parse_name).is_some()
}

/// The length of a UUID as text.
const UUID_BYTES: usize = 36;

impl RolloutName {
    /// Parses the file name of `path`; `None` if it is not the name of a rollout.
    pub fn parse(path: &Path) -> Option<Self> {
        Self::parse_file_name(path.file_name()?.to_str()?)
    }

    /// Parses a file name; `None` if it is not the name of a rollout.
    pub fn parse_file_name(name: &str) -> Option<Self> {
        let (name, compressed) = parse_name(name)?;
        Some(Self {
            name: name.to_owned(),
            compressed,
        })
    }

    /// Parses the file name of a conversation of the TypeScript version of Codex, which wrote one JSON document. Newer
    /// versions do not list or open these documents.
    pub(crate) fn parse_document(path: &Path) -> Option<Self> {
        let name = path.file_name().and_then(OsStr::to_str)?;
        let is_document = name.starts_with("rollout-") && name.ends_with(DOCUMENT);
        is_document.then(|| Self {
            name: name.to_owned(),
            compressed: false,
        })
    }

    /// Parses the file name of a rollout or of a document of the TypeScript version of Codex.
    pub(crate) fn parse_any(path: &Path) -> Option<Self> {
        Self::parse(path).or_else(|| Self::parse_document(path))
    }

    /// Returns the id of the thread that the rollout belongs to.
    pub fn id(&self) -> Option<&str> {
        self.thread_and_rollout_id().map(|(thread, _)| thread)
    }

    /// Returns the id of the rollout, by which other rollouts name it as their base. The first rollout of a thread has
    /// the id of the thread.
    pub fn rollout_id(&self) -> Option<&str> {
        self.thread_and_rollout_id().map(|(_, rollout)| rollout)
    }

    /// Returns the id of the rollout with its place in the order of the rollouts of the thread.
    pub fn ordered_id(&self) -> Option<OrderedRolloutId> {
        Some(OrderedRolloutId {
            is_rewind: self.is_rewind(),
            id: self.rollout_id()?.to_lowercase(),
        })
    }

    /// Returns true if a rewind began this rollout.
    pub fn is_rewind(&self) -> bool {
        self.thread_and_rollout_id()
            .is_some_and(|(thread, rollout)| thread != rollout)
    }

    fn thread_and_rollout_id(&self) -> Option<(&str, &str)> {
        let stem = self.name.strip_suffix(".jsonl");
        let stem = stem.or_else(|| self.name.strip_suffix(DOCUMENT))?;
        let (text_before, rollout) = split_uuid(stem)?;
        match text_before.strip_suffix('_').and_then(split_uuid) {
            Some((_, thread)) => Some((thread, rollout)),
            // The name of the first rollout has one id, which is the id of the thread.
            None => Some((rollout, rollout)),
        }
    }
}

/// The id of a rollout, in lower case. The ids of one thread sort in the order in which the rollouts were created: the
/// id of a rewind is a UUID of version 7, which begins with its time. The first rollout sorts before all rewinds by
/// `is_rewind`, because Codex up to 0.34 gave it a random id, of version 4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderedRolloutId {
    // The first field, because it is compared first.
    is_rewind: bool,
    pub id: String,
}

impl OrderedRolloutId {
    /// Parses the file name of `path`; `None` if it is not the name of a rollout, or has no id.
    pub fn parse_name(path: &Path) -> Option<Self> {
        RolloutName::parse(path)?.ordered_id()
    }
}

/// Returns the rollout id in the name of a rollout, in lower case. [`OrderedRolloutId`] has the order of rollouts.
pub fn parse_rollout_id(path: &Path) -> Option<String> {
    OrderedRolloutId::parse_name(path).map(|rollout| rollout.id)
}

/// Returns true if `path` is a later rollout of the same thread than `other`.
pub fn is_later_rollout(path: &Path, other: &Path) -> bool {
    let [path, other] = [path, other].map(RolloutName::parse);
    path.zip(other).is_some_and(|(path, other)| {
        path.id() == other.id() && path.ordered_id() > other.ordered_id()
    })
}

/// Returns the time in an id, in milliseconds since 1970; `None` if its UUID is not of version 7.
pub fn uuid_time_ms(id: &str) -> Option<i64> {
    // `tttttttt-tttt-7…`: the hex digits of the time, then the version.
    const TIME_CHARS: usize = 13;
    if id.as_bytes().get(TIME_CHARS + 1) != Some(&b'7') {
        return None;
    }
    let time = id.get(..TIME_CHARS)?.replace('-', "");
    i64::from_str_radix(&time, 16).ok()
}

/// Splits `text` before the UUID at its end; `None` if it does not end with one.
pub fn split_uuid(text: &str) -> Option<(&str, &str)> {
    let (before, id) = text.split_at_checked(text.len().checked_sub(UUID_BYTES)?)?;
    let is_uuid = id.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    is_uuid.then_some((before, id))
}

/// The first bytes of a compressed file.
pub(crate) const ZST_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The start of a line, in bytes, that contains the type of its event.
const TYPE_BYTES: usize = 256;

/// Returns true for a line that ends a turn because of a usage limit, and false for a line that begins a turn or ends
/// it for another reason. `None` for any other line.
pub fn turn_hit_limit(line: &[u8]) -> Option<bool> {
    let line_start = &line[..line.len().min(TYPE_BYTES)];
    // A search is faster than the parser, and a rollout has thousands of other lines.
    memmem::find(line_start, b"\"task_")?;
    let line: Value = serde_json::from_slice(line).ok()?;
    let event = &line["payload"];
    match event["type"].as_str()? {
        "task_started" => Some(false),
        // For some errors `codex_error_info` is an object, and no text.
        "task_complete" => Some(event["error"]["codex_error_info"] == "usage_limit_exceeded"),
        _ => None,
    }
}

/// Opens a rollout for reading as plain text. The first bytes, not the name, tell whether it is compressed, because
/// other programs may have appended something to the name. A JSON document, recognized by its name, is read as lines.
///
/// Reading a compressed rollout fails if it unpacks to an implausible size.
pub fn open_plain(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if RolloutName::parse_document(path).is_some() {
        let text = file_open::read_small_to_string(path, MIN_UNPACKED_LIMIT)?;
        return Ok(Box::new(io::Cursor::new(document_to_lines(&text)?)));
    }

    let file = file_open::open(path)?;
    let size = file.metadata()?.len();
    let mut file = BufReader::with_capacity(128 * 1024, file);

    if file.fill_buf()?.starts_with(&ZST_MAGIC) {
        let limit = (size.saturating_mul(MAX_UNPACKED_RATIO)).max(MIN_UNPACKED_LIMIT);
        Ok(Box::new(SizeLimitedReader {
            reader: decompress(file)?,
            limit,
            remaining: limit,
        }))
    } else {
        Ok(Box::new(file))
    }
}

/// Converts a document to a rollout in the form of Codex before 0.32: a line with the metadata, then a line for each
/// item.
fn document_to_lines(text: &str) -> io::Result<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Document {
        session: Value,
        #[serde(default)]
        items: Vec<Value>,
    }

    let document: Document = serde_json::from_str(text)?;
    let mut lines = Vec::new();
    for line in [&document.session].into_iter().chain(&document.items) {
        serde_json::to_writer(&mut lines, line)?;
        lines.push(b'\n');
    }

    Ok(lines)
}

/// The size in bytes to which any compressed rollout may unpack, and the largest JSON document that is read.
const MIN_UNPACKED_LIMIT: u64 = 256 << 20;
/// The factor by which a large compressed rollout may unpack. Real ones reach a tenth of it.
const MAX_UNPACKED_RATIO: u64 = 1000;

/// A reader that fails after `limit` bytes. A decompression bomb turns a few kilobytes into terabytes.
struct SizeLimitedReader<R> {
    reader: R,
    limit: u64,
    remaining: u64,
}

impl<R: Read> Read for SizeLimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        let Some(remaining) = self.remaining.checked_sub(n as u64) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "unpacks to more than {} MB, which is implausible for a conversation of its size",
                    self.limit >> 20
                ),
            ));
        };
        self.remaining = remaining;
        Ok(n)
    }
}

/// Decompresses a rollout, without a limit on its size.
pub fn decompress<R: Read>(compressed: R) -> io::Result<impl Read + use<R>> {
    zstd::Decoder::new(compressed)
}

/// The relation of two rollouts of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Both have the same text.
    Equal,
    /// The first is a prefix of the second.
    SecondExtends,
    /// The second is a prefix of the first.
    FirstExtends,
    /// Neither is a prefix of the other.
    Diverged,
}

/// Compares the plain text of two rollouts, in constant memory.
pub fn compare(first: &Path, second: &Path) -> io::Result<Relation> {
    let (relation, _common_len) = compare_texts(first, second)?;
    Ok(relation)
}

/// Returns the relation of the texts of two rollouts, and the length of their common beginning in bytes.
pub fn compare_texts(first: &Path, second: &Path) -> io::Result<(Relation, u64)> {
    let (mut first, mut second) = (open_plain(first)?, open_plain(second)?);
    let (mut first_chunk, mut second_chunk) = (Vec::new(), Vec::new());
    let mut common_len = 0;

    loop {
        let first_len = refill_chunk(&mut *first, &mut first_chunk)?;
        let second_len = refill_chunk(&mut *second, &mut second_chunk)?;
        let shorter_len = first_len.min(second_len);
        if first_chunk[..shorter_len] != second_chunk[..shorter_len] {
            let mut pairs = first_chunk.iter().zip(&second_chunk);
            common_len += pairs.position(|(a, b)| a != b).unwrap_or(0) as u64;
            return Ok((Relation::Diverged, common_len));
        }

        common_len += shorter_len as u64;
        let relation = match first_len.cmp(&second_len) {
            std::cmp::Ordering::Less => Relation::SecondExtends,
            std::cmp::Ordering::Greater => Relation::FirstExtends,
            std::cmp::Ordering::Equal if first_len == 0 => Relation::Equal,
            std::cmp::Ordering::Equal => continue,
        };
        return Ok((relation, common_len));
    }
}

/// Replaces the content of `chunk` by the next 64 KiB, or by less at the end of the file. Returns the number of bytes.
fn refill_chunk(reader: &mut dyn Read, chunk: &mut Vec<u8>) -> io::Result<usize> {
    chunk.clear();
    reader.take(64 * 1024).read_to_end(chunk)
}

/// Returns the length of the complete lines in the first `len` bytes of `file`; zero if there is no
/// newline.
pub(crate) fn complete_lines_len(file: &mut File, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];

    // Searches backwards, because the partial line at the end is short compared to the rollout.
    let mut end = len;
    while end > 0 {
        let chunk_len = end.min(buffer.len() as u64);
        let start = end - chunk_len;
        file.seek(SeekFrom::Start(start))?;
        let chunk = &mut buffer[..usize::try_from(chunk_len).unwrap_or(0)];
        file.read_exact(chunk)?;

        if let Some(at) = chunk.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }

        end = start;
    }

    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    #[test]
    fn plain_and_compressed_names_identify_one_conversation() {
        let id = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
        let plain = RolloutName::parse(Path::new(&format!(
            "a/rollout-2026-11-20T01-02-03-{id}.jsonl"
        )))
        .unwrap();
        let zst = RolloutName::parse(Path::new(&format!(
            "rollout-2026-11-20T01-02-03-{id}.jsonl.zst"
        )))
        .unwrap();
        assert_eq!(plain.name, zst.name);
        assert_eq!(plain.id(), Some(id));
        assert!(zst.compressed && !plain.compressed);
        assert_eq!(RolloutName::parse(Path::new("notes.jsonl")), None);
    }

    #[test]
    fn a_rewind_name_has_the_ids_of_thread_and_rollout() {
        let (thread, own) = (
            "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455",
            "01a20471-e6dd-7613-9612-d0b77e1e1a66",
        );
        for (name, ids, is_rewind) in [
            (
                format!("rollout-2026-11-20T01-02-03-{thread}"),
                Some((thread, thread)),
                false,
            ),
            (
                format!("rollout-2026-11-20T01-02-03-{thread}_{own}"),
                Some((thread, own)),
                true,
            ),
            (
                format!("rollout-2026-11-20T01-02-03-{thread}_1"),
                None,
                false,
            ),
            (format!("rollout-x_{own}"), Some((own, own)), false),
        ] {
            let file = RolloutName::parse(Path::new(&format!("{name}.jsonl.zst"))).unwrap();
            assert_eq!(file.thread_and_rollout_id(), ids, "{name}");
            assert_eq!(file.is_rewind(), is_rewind, "{name}");
        }
    }

    #[test]
    fn the_first_rollout_of_a_thread_is_older_than_its_rewinds() {
        let (first, older, newer) = (
            "c9e9da7a-486a-4153-9d2c-0b6a3b1c7d55",
            "01a20471-e6dd-7613-9612-d0b77e1e1a66",
            "01a20471-ef54-7cd3-bf51-82eb8a211511",
        );
        let names = [String::new(), format!("_{older}"), format!("_{newer}")];
        let paths = names.map(|rewind| {
            PathBuf::from(format!("rollout-2025-09-01T01-02-03-{first}{rewind}.jsonl"))
        });
        for (i, path) in paths.iter().enumerate() {
            for (j, other) in paths.iter().enumerate() {
                assert_eq!(is_later_rollout(path, other), i > j, "{i} {j}");
            }
        }
        let thread =
            Path::new("rollout-2025-09-01T01-02-03-01a20471-173b-7473-bfed-d3ac4957f9e9.jsonl");
        assert!(!is_later_rollout(&paths[2], thread));
    }

    #[test]
    fn compressed_rollouts_are_supported_from_version_0_137_on() {
        for version in ["0.137.0", "0.169.0-alpha.1", "1.0.0"] {
            assert!(supports_zst(version), "{version}");
        }
        for version in ["0.136.9", "0.99.0", "", "dev"] {
            assert!(!supports_zst(version), "{version}");
        }
    }

    #[test]
    fn the_reader_fails_beyond_its_limit() {
        let read = |bytes: &[u8], left| {
            let mut reader = SizeLimitedReader {
                reader: bytes,
                limit: left,
                remaining: left,
            };
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        };
        assert_eq!(read(b"12345", 5).unwrap(), b"12345");
        let error = read(b"123456", 5).unwrap_err();
        assert!(error.to_string().contains("unpacks to more"));
    }

    #[test]
    fn complete_lines_len_finds_the_last_newline_across_chunks() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\n").unwrap();
        file.write_all(&vec![b'x'; 200_000]).unwrap();
        assert_eq!(complete_lines_len(&mut file, 200_004).unwrap(), 4);
        assert_eq!(complete_lines_len(&mut file, 3).unwrap(), 0);
        assert_eq!(complete_lines_len(&mut file, 4).unwrap(), 4);
    }
}
