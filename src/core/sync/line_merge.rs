//! Merges files of lines, `history.jsonl` and `session_index.jsonl`, without losing or duplicating a line.
//!
//! If a line occurs several times, the merge has it as often as the version with the most occurrences. Lines are
//! ordered by the times in them. The order is total and symmetric: two machines that merge the same versions write the
//! same bytes. Memory is bounded by the number of lines, not by their length.
//!
//! Because of `history.max_bytes`, Codex drops the oldest lines of `history.jsonl`. These lines stay in the cloud
//! folder and are not copied back.

use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoContext, IoError, file_open};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Returns true if the file at this relative path consists of lines that can be merged.
pub(crate) fn is_mergeable(path: &str) -> bool {
    matches!(path, "history.jsonl" | "session_index.jsonl")
}

/// A line of one of the versions.
#[derive(Debug, Clone)]
struct MergeLine {
    /// Time in the line, in nanoseconds since 1970. A line without a time has `i128::MIN`, so that it comes first.
    time: i128,
    /// The first half of the digest of the text.
    digest: [u8; 16],
    /// Index of the version with the line.
    version_index: usize,
    offset: u64,
    len: u64,
}

/// One of the merged files, as it was read.
#[derive(Debug)]
pub(crate) struct MergedVersion {
    path: PathBuf,
    size: u64,
    pub digest: Sha256Digest,
    /// Digests of the lines in file order.
    line_digests: Vec<[u8; 16]>,
    /// The earliest time in a line.
    oldest_time: Option<i128>,
}

/// A merge that is not written yet. It knows the places of its lines in the versions, not their text.
#[derive(Debug)]
pub(crate) struct Merge {
    pub versions: Vec<MergedVersion>,
    lines: Vec<MergeLine>,
    /// Size of the merge in bytes.
    pub bytes: u64,
}

/// Merges versions of one file.
///
/// # Errors
/// A version cannot be read.
pub(crate) fn merge_versions(paths: &[PathBuf]) -> Result<Merge, IoError> {
    let mut copies_by_digest: HashMap<[u8; 16], Vec<MergeLine>> = HashMap::new();
    let mut versions = Vec::new();

    for (index, path) in paths.iter().enumerate() {
        let (version, lines) = read_version(path, index).at("read", path)?;
        versions.push(version);

        let mut copies_in_version: HashMap<[u8; 16], Vec<MergeLine>> = HashMap::new();
        for line in lines {
            copies_in_version.entry(line.digest).or_default().push(line);
        }
        for (digest, copies) in copies_in_version {
            let most_copies = copies_by_digest.entry(digest).or_default();
            // The version with the most copies of a line decides how often the line was written.
            if copies.len() > most_copies.len() {
                *most_copies = copies;
            }
        }
    }

    let mut lines: Vec<MergeLine> = copies_by_digest.into_values().flatten().collect();
    // The digest orders lines of equal times in the same way on all machines.
    lines.sort_by_key(|line| (line.time, line.digest));
    let bytes = lines.iter().map(|line| line.len + 1).sum();
    Ok(Merge {
        versions,
        lines,
        bytes,
    })
}

impl Merge {
    /// Returns the index of the first line to write to a home in which Codex limits the file to `max_bytes`. The file
    /// of that home is the version `version_index`. A larger merge is written without the lines that are older than all
    /// lines of the file. It may still be too large; Codex removes the excess.
    pub(crate) fn first_line_within(&self, max_bytes: u64, version_index: usize) -> usize {
        if self.bytes <= max_bytes {
            return 0;
        }
        match self.versions[version_index].oldest_time {
            Some(oldest) => self.lines.partition_point(|line| line.time < oldest),
            None => 0,
        }
    }

    /// Returns the size in bytes of the lines from `first_line` on.
    pub(crate) fn bytes_from(&self, first_line: usize) -> u64 {
        let lines = self.lines[first_line..].iter();
        lines.map(|line| line.len + 1).sum()
    }

    /// Returns true if the version `version_index` has exactly the bytes of the lines from `first_line` on.
    pub(crate) fn matches_version(&self, first_line: usize, version_index: usize) -> bool {
        let version = &self.versions[version_index];
        let line_digests = self.lines[first_line..].iter().map(|line| &line.digest);
        version.size == self.bytes_from(first_line) && line_digests.eq(&version.line_digests)
    }

    /// Writes the lines from `first_line` on.
    ///
    /// # Errors
    /// A file cannot be read or written, or a line changed since the merge ([`io::ErrorKind::InvalidData`]).
    pub(crate) fn write_from(&self, first_line: usize, to: &mut dyn Write) -> io::Result<()> {
        let paths = self.versions.iter().map(|version| &version.path);
        let mut files = paths.map(file_open::open).collect::<io::Result<Vec<_>>>()?;
        let mut to = BufWriter::new(to);
        let mut line_text = Vec::new();

        for line in &self.lines[first_line..] {
            let file = &mut files[line.version_index];
            file.seek(SeekFrom::Start(line.offset))?;
            line_text.clear();
            file.take(line.len).read_to_end(&mut line_text)?;

            // The lines were read before; Codex may have truncated the file since.
            if Sha256Digest::of(&line_text).first_half() != line.digest {
                let why = "one of its lines changed while it was read";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }

            line_text.push(b'\n');
            to.write_all(&line_text)?;
        }
        to.flush()
    }
}

/// Reads a version and its lines.
fn read_version(path: &Path, version_index: usize) -> io::Result<(MergedVersion, Vec<MergeLine>)> {
    let mut reader = BufReader::new(file_open::open(path)?);
    let mut lines = Vec::new();
    let mut hasher = Hasher::default();
    let (mut text, mut offset) = (Vec::new(), 0);

    loop {
        text.clear();
        let read_bytes = reader.read_until(b'\n', &mut text)? as u64;
        if read_bytes == 0 {
            break;
        }

        hasher.update(&text);
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        if !line.is_empty() {
            lines.push(MergeLine {
                time: parse_time_ns(line).unwrap_or(i128::MIN),
                digest: Sha256Digest::of(line).first_half(),
                version_index,
                offset,
                len: line.len() as u64,
            });
        }
        offset += read_bytes;
    }

    let times = lines.iter().map(|line| line.time);
    let version = MergedVersion {
        path: path.to_path_buf(),
        size: offset,
        digest: hasher.digest(),
        line_digests: lines.iter().map(|line| line.digest).collect(),
        oldest_time: times.filter(|time| *time > i128::MIN).min(),
    };
    Ok((version, lines))
}

/// Parses the time in a line, in nanoseconds since 1970: `ts` in seconds, or `updated_at` as RFC 3339.
fn parse_time_ns(line: &[u8]) -> Option<i128> {
    #[derive(serde::Deserialize)]
    struct Times<'a> {
        ts: Option<f64>,
        #[serde(borrow)]
        updated_at: Option<std::borrow::Cow<'a, str>>,
    }

    let times: Times<'_> = serde_json::from_slice(line).ok()?;
    if let Some(updated_at) = times.updated_at {
        let updated_at = chrono::DateTime::parse_from_rfc3339(&updated_at).ok()?;
        return updated_at.timestamp_nanos_opt().map(i128::from);
    }

    let seconds = times.ts.filter(|ts| ts.abs() < 1e12)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range was checked; parts of a microsecond order nothing"
    )]
    Some((seconds * 1e6) as i128 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(versions: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = versions
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let path = folder.path().join(i.to_string());
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let merge = merge_versions(&paths).unwrap();
        let mut out = Vec::new();
        merge.write_from(0, &mut out).unwrap();
        assert_eq!(out.len() as u64, merge.bytes);
        for (version, text) in versions.iter().enumerate() {
            // A version without a final newline differs from the merge.
            assert_eq!(
                text.as_bytes() == out,
                merge.matches_version(0, version),
                "{text:?}"
            );
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn merged_lines_are_ordered_by_time_and_unique() {
        let local = "{\"ts\":1,\"text\":\"a\"}\n{\"ts\":5,\"text\":\"c\"}\n";
        let remote = "{\"ts\":1,\"text\":\"a\"}\n{\"ts\":3,\"text\":\"b\"}\n";
        assert_eq!(
            merged(&[local, remote]),
            "{\"ts\":1,\"text\":\"a\"}\n{\"ts\":3,\"text\":\"b\"}\n{\"ts\":5,\"text\":\"c\"}\n"
        );
    }

    #[test]
    fn repeated_and_torn_lines_are_kept() {
        assert_eq!(
            merged(&["{\"ts\":1}\n{\"ts\":1}\n", "{\"ts\":1}\n{\"ts\""]),
            "{\"ts\"\n{\"ts\":1}\n{\"ts\":1}\n"
        );
    }

    #[test]
    fn lines_dropped_by_max_bytes_are_not_copied_back() {
        let line = |n: u8| format!("{{\"ts\":{n}}}\n");
        let all: String = (1..=6).map(line).collect();
        let own: String = [3, 5].map(line).concat();
        let folder = tempfile::tempdir().unwrap();
        let paths = ["own", "there"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], &own).unwrap();
        std::fs::write(&paths[1], &all).unwrap();
        let merge = merge_versions(&paths).unwrap();
        let size = all.len() as u64;
        for (max_bytes, first) in [(size, 0), (size - 1, 2), (1, 2)] {
            assert_eq!(merge.first_line_within(max_bytes, 0), first, "{max_bytes}");
        }
        let mut kept = Vec::new();
        merge.write_from(2, &mut kept).unwrap();
        assert_eq!(kept, (3..=6).map(line).collect::<String>().into_bytes());
        assert_eq!(merge.bytes_from(2), kept.len() as u64);
        assert!(
            merge.matches_version(0, 1)
                && !merge.matches_version(2, 1)
                && !merge.matches_version(2, 0)
        );
    }

    #[test]
    fn names_are_ordered_by_updated_at() {
        let early =
            "{\"id\":\"x\",\"thread_name\":\"old\",\"updated_at\":\"2026-11-20T06:00:51.5Z\"}\n";
        let late =
            "{\"id\":\"x\",\"thread_name\":\"new\",\"updated_at\":\"2026-11-20T08:00:51+01:00\"}\n";
        assert_eq!(merged(&[late, early]), format!("{early}{late}"));
    }

    proptest! {
        #[test]
        fn merging_is_symmetric_and_idempotent(
            a in proptest::collection::vec(0u8..12, 0..12),
            b in proptest::collection::vec(0u8..12, 0..12),
        ) {
            let line = |n: &u8| format!("{{\"ts\":{},\"n\":{n}}}\n", n / 3);
            let text = |lines: &[u8]| lines.iter().map(line).collect::<Vec<_>>().concat();
            let (a, b) = (text(&a), text(&b));
            let once = merged(&[&a, &b]);
            prop_assert_eq!(&once, &merged(&[&b, &a]));
            prop_assert_eq!(&once, &merged(&[&once, &a]));
            prop_assert_eq!(&once, &merged(&[&b, &once]));
        }
    }
}
