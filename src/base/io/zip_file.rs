//! Writes zip files.

use std::io::{self, Read, Seek, SeekFrom, Write};

use zip::ZipWriter;

/// The number of bytes that [`add_content`] copies between two checks of the target.
const PART_BYTES: u64 = 1 << 20;

/// Writes a zip to `target`, with the members that `add_members` adds.
///
/// # Errors
///
/// Returns the first error of `target`, or else the error of `add_members` as the inner result. The zip is of no use
/// then.
pub fn write<W: Write + Seek, E>(
    target: W,
    add_members: impl FnOnce(&mut ZipWriter<&mut Target<W>>) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    let mut target = Target {
        inner: target,
        error: None,
    };
    let mut zip = ZipWriter::new(&mut target);
    let added = add_members(&mut zip);
    let finished = zip.finish().map(drop);
    match target.error {
        Some(error) => Err(error),
        None if added.is_err() => Ok(added),
        None => Ok(Ok(finished?)),
    }
}

/// Copies `content` into the current member. Stops after the first error of the target, which [`write()`] returns.
///
/// # Errors
///
/// `content` cannot be read, or the zip allows no more bytes.
pub fn add_content<W: Write + Seek>(
    zip: &mut ZipWriter<&mut Target<W>>,
    content: &mut impl Read,
) -> io::Result<()> {
    while zip.get_ref().is_none_or(|target| target.error.is_none())
        && io::copy(&mut content.by_ref().take(PART_BYTES), zip)? > 0
    {}
    Ok(())
}

/// Keeps the first error and skips all later bytes.
///
/// It shows `ZipWriter` no error of a write: after one, the drop of a `ZipWriter` writes on, and prints a second error
/// or panics.
pub struct Target<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W: Write + Seek> Write for Target<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none() {
            match self.inner.write(bytes) {
                Ok(written) => return Ok(written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) => self.error = Some(e),
            }
        }
        let skipped = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.inner.seek_relative(skipped)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Seek> Seek for Target<W> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use zip::write::SimpleFileOptions;

    struct FullDisk {
        file: Cursor<Vec<u8>>,
        writes_left: usize,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.writes_left == 0 {
                return Err(io::Error::from_raw_os_error(28));
            }
            self.writes_left -= 1;
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    impl Seek for FullDisk {
        fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
            self.file.seek(position)
        }
    }

    fn write_two_members(disk: &mut FullDisk) -> io::Result<()> {
        write(disk, |zip| {
            for name in ["one", "two"] {
                zip.start_file(name, SimpleFileOptions::default().large_file(true))?;
                zip.write_all(&[b'x'; 10_000])?;
            }
            Ok(())
        })?
    }

    #[test]
    fn a_source_is_not_read_to_its_end_after_a_full_disk() {
        let mut disk = FullDisk {
            file: Cursor::default(),
            writes_left: 20,
        };
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut source = io::repeat(b'x').take(100 * PART_BYTES);
        let written = write(&mut disk, |zip| {
            zip.start_file("one", stored)?;
            add_content(zip, &mut source)
        });
        assert_eq!(written.unwrap_err().raw_os_error(), Some(28));
        assert_eq!(source.limit(), 99 * PART_BYTES);
    }

    #[test]
    fn a_full_disk_at_any_write_is_an_error_without_a_panic() {
        for writes in 0.. {
            let mut disk = FullDisk {
                file: Cursor::default(),
                writes_left: writes,
            };
            match write_two_members(&mut disk) {
                Ok(()) => {
                    assert!(writes > 5);
                    let zip = zip::ZipArchive::new(disk.file).unwrap();
                    assert_eq!(zip.len(), 2);
                    return;
                }
                Err(e) => assert_eq!(e.raw_os_error(), Some(28), "at write {writes}: {e}"),
            }
        }
    }
}
