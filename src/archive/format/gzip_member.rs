//! One gzip member: compressed by libdeflate, and decompressed if it is exactly one gzip stream.

use crate::io::buffers::{AlignedBuffer, BufferPool};
use flate2::bufread::GzDecoder;
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};
use std::cell::RefCell;
use std::io;

/// Compression level of a new archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Compression {
    /// Larger archives, written faster
    Fast,
    /// A balance of size and speed
    #[default]
    Default,
    /// Smaller archives, written more slowly
    Best,
}

impl Compression {
    fn level(self) -> CompressionLvl {
        let level = match self {
            Self::Fast => 2,
            Self::Default => 6,
            Self::Best => 7,
        };
        CompressionLvl::new(level).unwrap_or_default()
    }

    /// Returns the value of the manifest's key `effort`: 0 for fast, 1 for default, 2 for best.
    pub fn effort(self) -> u8 {
        match self {
            Self::Fast => 0,
            Self::Default => 1,
            Self::Best => 2,
        }
    }
}

/// Compresses `bytes` into one member. Stores them if samples show that they are compressed already.
pub(crate) fn compress(
    bytes: &[u8],
    compression: Compression,
    buffers: &BufferPool,
) -> io::Result<AlignedBuffer> {
    if is_incompressible(bytes, buffers)? {
        return store(bytes, buffers);
    }
    thread_local! {
        // Creating a compressor takes longer than compressing a small member.
        static COMPRESSOR: RefCell<Option<(Compression, Compressor)>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let (_, compressor) = match slot {
            Some(kept) if kept.0 == compression => kept,
            _ => slot.insert((compression, Compressor::new(compression.level()))),
        };
        compress_with(compressor, bytes, buffers)
    })
}

/// The length of a sample in bytes.
const SAMPLE_BYTES: usize = 8 << 10;
/// The number of samples of a member, evenly distributed.
const SAMPLES: usize = 4;

/// Returns true if no sample of `bytes` becomes smaller by a thirtieth. Takes 1 % of the time of
/// compressing a full member; a short one is not worth it.
fn is_incompressible(bytes: &[u8], buffers: &BufferPool) -> io::Result<bool> {
    thread_local! {
        static FASTEST: RefCell<Compressor> =
            RefCell::new(Compressor::new(CompressionLvl::new(1).unwrap_or_default()));
    }
    if bytes.len() < 2 * SAMPLES * SAMPLE_BYTES {
        return Ok(false);
    }
    let step = (bytes.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    FASTEST.with_borrow_mut(|compressor| {
        for sample in 0..SAMPLES {
            let sample = &bytes[sample * step..][..SAMPLE_BYTES];
            let packed = compress_with(compressor, sample, buffers)?;
            if packed.len() < SAMPLE_BYTES - SAMPLE_BYTES / 30 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Stores `bytes` uncompressed in one member.
pub(crate) fn store(bytes: &[u8], buffers: &BufferPool) -> io::Result<AlignedBuffer> {
    let level = CompressionLvl::new(0).unwrap_or_default();
    compress_with(&mut Compressor::new(level), bytes, buffers)
}

fn compress_with(
    compressor: &mut Compressor,
    bytes: &[u8],
    buffers: &BufferPool,
) -> io::Result<AlignedBuffer> {
    let mut packed = buffers.aligned(compressor.gzip_compress_bound(bytes.len()));
    let len = compressor
        .gzip_compress(bytes, &mut packed)
        .map_err(|e| io::Error::other(format!("deflate: {e:?}")))?;
    packed.truncate(len);
    Ok(packed)
}

/// Decompresses a member that unpacks to `size` bytes.
///
/// # Errors
/// Returns the defect of the member, as a clause without its subject.
pub(crate) fn decompress(
    packed: &[u8],
    size: usize,
    buffers: &BufferPool,
) -> Result<AlignedBuffer, &'static str> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    }
    let mut bytes = buffers.aligned(size);
    let unpacked = DECOMPRESSOR.with_borrow_mut(|d| d.gzip_decompress(packed, &mut bytes));
    match unpacked {
        Ok(n) if n == size && is_exactly_one_stream(packed, &bytes) => Ok(bytes),
        Ok(n) if n == size => Err("has data after its end"),
        _ => Err("cannot be unpacked"),
    }
}

/// Returns true if `packed` is exactly one gzip stream of `bytes`, with nothing behind it.
///
/// A stream ends with the checksum and length of `bytes`. If these eight bytes also occur earlier,
/// for instance in content that did not compress, the stream is decoded once more.
fn is_exactly_one_stream(packed: &[u8], bytes: &[u8]) -> bool {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    // Members are much smaller than 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    trailer[4..].copy_from_slice(&len.to_le_bytes());
    match memchr::memmem::find(packed, &trailer) {
        None => false,
        first if first == packed.len().checked_sub(trailer.len()) => true,
        Some(_) => decodes_as_one_stream(packed),
    }
}

/// Returns true if one gzip stream takes all of `packed`.
fn decodes_as_one_stream(packed: &[u8]) -> bool {
    let mut rest = packed;
    let unpacked = io::copy(&mut GzDecoder::new(&mut rest), &mut io::sink());
    unpacked.is_ok() && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    /// Returns four bytes that, appended to `bytes`, give the CRC `wanted`.
    fn forge(bytes: &[u8], wanted: u32) -> [u8; 4] {
        let step = |byte: u32| (0..8).fold(byte, |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)));
        let table: Vec<u32> = (0..256).map(step).collect();
        // Walks backwards: the highest byte of each sum determines the table index.
        let (mut sum, mut steps) = (!wanted, Vec::new());
        for _ in 0..4 {
            let index = table.iter().position(|t| t >> 24 == sum >> 24).unwrap();
            steps.push(index);
            sum = (sum ^ table[index]) << 8;
        }
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut sum = !crc.sum();
        let mut found = [0; 4];
        for (byte, index) in found.iter_mut().zip(steps.into_iter().rev()) {
            *byte = sum.to_le_bytes()[0] ^ index.to_le_bytes()[0];
            sum = table[index] ^ (sum >> 8);
        }
        found
    }

    #[test]
    fn content_equal_to_the_gzip_trailer_does_not_end_the_stream() {
        const SUM: u32 = 0xDEAD_BEEF;
        let mut bytes = b"before ".to_vec();
        bytes.extend(SUM.to_le_bytes());
        bytes.extend(100_u32.to_le_bytes());
        bytes.resize(96, b'x');
        bytes.extend(forge(&bytes, SUM));
        let mut stored = Compressor::new(CompressionLvl::new(0).unwrap());
        let mut packed = vec![0; 1000];
        let len = stored.gzip_compress(&bytes, &mut packed).unwrap();
        packed.truncate(len);
        assert_eq!(packed[len - 8..len - 4], SUM.to_le_bytes(), "as forged");
        assert!(is_exactly_one_stream(&packed, &bytes));
        packed.push(0);
        assert!(!is_exactly_one_stream(&packed, &bytes));
        packed.extend_from_within(len - 8..len);
        assert!(!is_exactly_one_stream(&packed, &bytes));
    }

    #[test]
    fn only_members_that_are_compressed_throughout_are_stored() {
        const LEN: usize = 256 << 10;
        let seeds = (0_u64..).flat_map(|n| Sha256Digest::of(&n.to_le_bytes()).into_bytes());
        let random: Vec<u8> = seeds.take(LEN).collect();
        let text = b"{\"type\":\"event_msg\"}\n".repeat(LEN / 22);
        let buffers = BufferPool::default();
        let is_stored = |bytes: &[u8]| {
            let stored = is_incompressible(bytes, &buffers).unwrap();
            let packed = compress(bytes, Compression::Default, &buffers).unwrap();
            assert_eq!(&*decompress(&packed, bytes.len(), &buffers).unwrap(), bytes);
            stored
        };
        assert!(is_stored(&random));
        assert!(!is_stored(&text));
        assert!(!is_stored(&[&random[..], &text].concat()));
        assert!(!is_stored(&[&text[..LEN / 16], &random].concat()));
        assert!(!is_stored(&random[..1000]));
        assert!(!is_stored(b""));
    }
}
