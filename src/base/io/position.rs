//! Positioned reads and writes, usable from any thread without a cursor.

use std::fs::File;
use std::io;

/// Fills `bytes` with the content at `offset`.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let _position = Cursor::save_position(file)?;
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    bytes = &mut bytes[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let _position = Cursor::save_position(file)?;
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// Resets the cursor of a file when dropped, because a positioned read or write moves it on Windows.
///
/// Two threads that share a file may each restore a position of the other, so a file that several threads use must be
/// read and written at positions only.
#[cfg(windows)]
struct Cursor<'a>(&'a File, u64);

#[cfg(windows)]
impl<'a> Cursor<'a> {
    fn save_position(mut file: &'a File) -> io::Result<Self> {
        io::Seek::stream_position(&mut file).map(|at| Self(file, at))
    }
}

#[cfg(windows)]
impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        let _ = io::Seek::seek(&mut self.0, io::SeekFrom::Start(self.1));
    }
}

/// The alignment in bytes of memory, offset and length for direct I/O.
pub(crate) const ALIGNMENT: usize = 4096;

/// Writes all of `bytes` at `offset`. Whole pages bypass the page cache if the file system and the alignment allow it,
/// because evicting other pages from the cache can take longer than the disk. No other thread may write through this
/// `file` meanwhile.
pub fn write_past_cache(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

        let (pages, partial_page) = bytes.split_at(bytes.len() - bytes.len() % ALIGNMENT);
        let is_aligned = !pages.is_empty()
            && bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
            && offset.is_multiple_of(ALIGNMENT as u64);

        let flags = match fcntl_getfl(file) {
            Ok(flags) if is_aligned && fcntl_setfl(file, flags | OFlags::DIRECT).is_ok() => flags,
            _ => return write_all_at(file, bytes, offset),
        };

        // The flag is set for this write alone: the rest is shorter than a page, which direct I/O
        // refuses.
        let result = write_all_at(file, pages, offset);
        fcntl_setfl(file, flags)?;

        match result {
            Ok(()) => write_all_at(file, partial_page, offset + pages.len() as u64),
            // A device with larger blocks, or a file system that only claims to support direct I/O.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => write_all_at(file, bytes, offset),
            Err(e) => Err(e),
        }
    }
    #[cfg(not(target_os = "linux"))]
    write_all_at(file, bytes, offset)
}

/// Asks the system to begin writing this range to the disk, so that a later fsync waits less. A hint:
/// nothing is durable before the fsync.
pub(crate) fn begin_writeback(file: &File, offset: u64, len: u64) {
    // The system writes pages that it is advised to drop, and keeps them meanwhile.
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(file, offset, Some(len), advice);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::BufferPool;

    #[test]
    fn positioned_reads_and_writes_leave_the_cursor() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut bytes = [0; 3];
        io::Read::read_exact(&mut file, &mut bytes).unwrap();
        read_exact_at(&file, &mut bytes, 6).unwrap();
        assert_eq!(&bytes, b"678");
        write_all_at(&file, b"xy", 0).unwrap();
        assert!(read_exact_at(&file, &mut bytes, 8).is_err());
        io::Read::read_exact(&mut file, &mut bytes).unwrap();
        assert_eq!(&bytes, b"345");
    }

    #[test]
    fn direct_writes_read_back_unchanged() {
        let mut file = tempfile::tempfile().unwrap();
        let mut expected = Vec::new();
        let page = ALIGNMENT as u64;
        // Whole pages, a remainder, an unaligned offset, unaligned memory.
        for (offset, len, skip) in [
            (0, 2 * ALIGNMENT, 0),
            (4 * page, 3 * ALIGNMENT + 17, 0),
            (9 * page + 5, 2 * ALIGNMENT, 0),
            (20 * page, ALIGNMENT + 1, 1),
            (page, 100, 0),
        ] {
            let mut buffer = BufferPool::default().take_aligned(len);
            for (byte, value) in buffer.iter_mut().zip((0..251).cycle()) {
                *byte = value;
            }
            let bytes = &buffer[skip..];
            write_past_cache(&file, bytes, offset).unwrap();
            let place = usize::try_from(offset).unwrap();
            let end = place + bytes.len();
            expected.resize(expected.len().max(end), 0);
            expected[place..end].copy_from_slice(bytes);
        }
        let mut found = Vec::new();
        io::Read::read_to_end(&mut file, &mut found).unwrap();
        assert!(found == expected);
    }
}
