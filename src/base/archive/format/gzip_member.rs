//! One gzip member: compressed by libdeflate, and decompressed if it is exactly one gzip stream.

use crate::io::buffers::{AlignedBuffer, BufferPool};
use flate2::bufread::GzDecoder;
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

/// Compression level of a new archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Compression {
    /// Larger archives, written faster
    Fast = 0,
    /// A balance of size and speed
    #[default]
    Default = 1,
    /// Smaller archives, written more slowly
    Best = 2,
}

impl Compression {
    fn libdeflate_level(self) -> i32 {
        match self {
            Self::Fast => 2,
            Self::Default => 6,
            // 8 takes three times as long.
            Self::Best => 7,
        }
    }

    /// Returns the value of the manifest's key `effort`.
    pub fn effort(self) -> u8 {
        self as u8
    }
}

/// Compresses `bytes` into one member. Uses a lower level than `compression` asks for if samples of `bytes` show that
/// the higher level would not save space.
pub(crate) fn compress(
    bytes: &[u8],
    compression: Compression,
    buffers: &BufferPool,
) -> io::Result<AlignedBuffer> {
    let sample_sizes = measure_samples(bytes, buffers)?;
    let level = choose_level(&sample_sizes, compression.libdeflate_level());
    compress_at_level(level, bytes, buffers)
}

/// Stores `bytes` uncompressed in one member.
pub(crate) fn store_uncompressed(bytes: &[u8], buffers: &BufferPool) -> io::Result<AlignedBuffer> {
    compress_at_level(STORED_LEVEL, bytes, buffers)
}

/// For content that is compressed or encrypted already, such as zstd or PNG.
const STORED_LEVEL: i32 = 0;
/// For content without repetitions, such as base64 of an image, of which every level gives about the same size.
const FASTEST_LEVEL: i32 = 1;

fn compress_at_level(level: i32, bytes: &[u8], buffers: &BufferPool) -> io::Result<AlignedBuffer> {
    thread_local! {
        // By level. Creating a compressor takes longer than compressing a small member.
        static COMPRESSORS: RefCell<BTreeMap<i32, Compressor>> =
            const { RefCell::new(BTreeMap::new()) };
    }

    COMPRESSORS.with_borrow_mut(|compressors| {
        let new_compressor = || Compressor::new(CompressionLvl::new(level).unwrap_or_default());
        let compressor = compressors.entry(level).or_insert_with(new_compressor);

        let mut packed = buffers.take_aligned(compressor.gzip_compress_bound(bytes.len()));
        let len = compressor
            .gzip_compress(bytes, &mut packed)
            .map_err(|e| io::Error::other(format!("deflate: {e:?}")))?;
        packed.truncate(len);
        Ok(packed)
    })
}

/// The length of a sample in bytes.
const SAMPLE_BYTES: usize = 4 << 10;
/// The number of samples of a member, evenly distributed.
const SAMPLES: usize = 8;

/// Returns the level that pays off for a member, by the compressed sizes of samples of [`SAMPLE_BYTES`] each:
/// `requested_level`, unless that would not save space.
fn choose_level(sample_sizes: &[usize], requested_level: i32) -> i32 {
    // Base64 of random bytes shrinks to 76 %. Text is below 60 %.
    let is_dense = |size: &&usize| **size >= SAMPLE_BYTES * 7 / 10;
    // Smaller by less than a thirtieth.
    let is_incompressible = |size: &usize| *size >= SAMPLE_BYTES - SAMPLE_BYTES / 30;
    let dense_samples = sample_sizes.iter().filter(is_dense).count();

    // In a mix of text and images, fewer than three quarters of the samples are dense.
    if sample_sizes.is_empty() || dense_samples * 4 < sample_sizes.len() * 3 {
        requested_level
    } else if sample_sizes.iter().all(is_incompressible) {
        STORED_LEVEL
    } else {
        FASTEST_LEVEL
    }
}

/// Returns the compressed sizes of samples of `bytes`. Returns no sizes for a short member, which is not worth
/// sampling. Takes 1 % of the time of compressing a full member.
fn measure_samples(bytes: &[u8], buffers: &BufferPool) -> io::Result<Vec<usize>> {
    if bytes.len() < 2 * SAMPLES * SAMPLE_BYTES {
        return Ok(Vec::new());
    }
    // Distributed over the whole member: a conversation can begin with text and go on with an image.
    let step = (bytes.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    let sample = |i: usize| &bytes[i * step..][..SAMPLE_BYTES];
    let packed = (0..SAMPLES).map(|i| compress_at_level(FASTEST_LEVEL, sample(i), buffers));
    packed.map(|packed| Ok(packed?.len())).collect()
}

/// Decompresses a member that unpacks to `size` bytes.
///
/// # Errors
/// Returns the defect of the member, as a clause without a subject: "cannot be unpacked".
pub(crate) fn decompress(
    packed: &[u8],
    size: usize,
    buffers: &BufferPool,
) -> Result<AlignedBuffer, &'static str> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    }

    // libdeflate needs the exact size in advance. The index has it, and `index_check` has limited
    // it.
    let mut bytes = buffers.take_aligned(size);
    let unpacked = DECOMPRESSOR.with_borrow_mut(|d| d.gzip_decompress(packed, &mut bytes));
    match unpacked {
        Ok(len) if len == size && is_exactly_one_stream(packed, &bytes) => Ok(bytes),
        Ok(len) if len == size => Err("has data after its end"),
        _ => Err("cannot be unpacked"),
    }
}

/// Returns true if `packed` is exactly one gzip stream of `bytes`, with no bytes after it.
///
/// A stream ends with the checksum and the length of `bytes`. If these eight bytes also occur earlier, for example in
/// content that did not compress, the stream is decoded a second time to find its end.
fn is_exactly_one_stream(packed: &[u8], bytes: &[u8]) -> bool {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    // Members are much smaller than 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    trailer[4..].copy_from_slice(&len.to_le_bytes());

    match memchr::memmem::find(packed, &trailer) {
        // The stream ends with the checksum of other bytes.
        None => false,
        Some(start) if start + trailer.len() == packed.len() => true,
        Some(_) => decodes_as_one_stream(packed),
    }
}

/// Returns true if one gzip stream takes all of `packed`.
fn decodes_as_one_stream(packed: &[u8]) -> bool {
    let mut unread = packed;
    let unpacked = io::copy(&mut GzDecoder::new(&mut unread), &mut io::sink());
    unpacked.is_ok() && unread.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::ContentDigest;

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

    const LEN: usize = 256 << 10;

    fn random(len: usize) -> Vec<u8> {
        let seeds = (0_u64..).flat_map(|n| ContentDigest::of(&n.to_le_bytes()).bytes().0);
        seeds.take(len).collect()
    }

    const ASKED_LEVEL: i32 = 6;

    /// Returns the level for a member. Checks that it unpacks to the same bytes.
    fn level_of(bytes: &[u8]) -> i32 {
        let buffers = BufferPool::default();
        for compression in [Compression::Fast, Compression::Default, Compression::Best] {
            let packed = compress(bytes, compression, &buffers).unwrap();
            assert_eq!(&*decompress(&packed, bytes.len(), &buffers).unwrap(), bytes);
        }
        choose_level(&measure_samples(bytes, &buffers).unwrap(), ASKED_LEVEL)
    }

    #[test]
    fn only_incompressible_members_are_stored() {
        let random = random(LEN);
        let text = b"{\"type\":\"event_msg\"}\n".repeat(LEN / 22);
        assert_eq!(level_of(&random), STORED_LEVEL);
        assert_eq!(level_of(&text), ASKED_LEVEL);
        assert_eq!(level_of(&[&random[..], &text].concat()), ASKED_LEVEL);
        assert_ne!(
            level_of(&[&text[..LEN / 16], &random].concat()),
            STORED_LEVEL
        );
        assert_eq!(level_of(&random[..1000]), ASKED_LEVEL);
        assert_eq!(level_of(b""), ASKED_LEVEL);
    }

    #[test]
    fn base64_images_are_compressed_at_the_fastest_level() {
        use base64::Engine as _;
        let image = base64::engine::general_purpose::STANDARD.encode(random(LEN));
        let image = image.as_bytes();
        let text = b"{\"type\":\"event_msg\"}\n".repeat(LEN / 22);
        assert_eq!(level_of(image), FASTEST_LEVEL);
        // A conversation with images: the text in it is a small part of the archive.
        assert_eq!(
            level_of(&[&text[..LEN / 16], image].concat()),
            FASTEST_LEVEL
        );
        assert_eq!(level_of(&[&text[..], image].concat()), ASKED_LEVEL);
        // The size is that of the slowest level, within a hundredth.
        let buffers = BufferPool::default();
        let packed = |compression: Compression| {
            compress_at_level(compression.libdeflate_level(), image, &buffers)
                .unwrap()
                .len()
        };
        let fastest = compress(image, Compression::Best, &buffers).unwrap().len();
        assert!(fastest < packed(Compression::Best) * 101 / 100, "{fastest}");
    }

    #[test]
    fn choose_level_decides_by_the_share_of_dense_samples() {
        let (stored, dense, text) = (SAMPLE_BYTES, SAMPLE_BYTES * 3 / 4, SAMPLE_BYTES / 3);
        for (samples, level) in [
            (&[][..], ASKED_LEVEL),
            (&[stored; 8], STORED_LEVEL),
            (&[stored, stored, stored, dense], FASTEST_LEVEL),
            (&[dense; 8], FASTEST_LEVEL),
            (&[dense, dense, stored, text], FASTEST_LEVEL),
            (&[dense, dense, text, text], ASKED_LEVEL),
            (&[text; 8], ASKED_LEVEL),
        ] {
            assert_eq!(choose_level(samples, ASKED_LEVEL), level, "{samples:?}");
        }
    }
}
