//! Benchmarks of the parts that dominate the time of backup and restore: `cargo bench --bench parts`.

use codex_manager_core::io::hash::ContentDigest;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// The uncompressed size of one archive member of a large conversation.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

fn main() {
    divan::main();
}

/// Returns lines like those of a conversation: mostly words, with noise like encrypted reasoning.
fn conversation() -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "function", "returns", "error", "value", "path", "test", "module", "session", "build",
        "apply", "line", "the",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // xorshift: the same text in every run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut text = Vec::with_capacity(CHUNK_BYTES + 4096);
    let mut ordinal = 0;
    while text.len() < CHUNK_BYTES {
        ordinal += 1;
        let _ = write!(
            text,
            "{{\"ordinal\":{ordinal},\"type\":\"response_item\",\"payload\":\""
        );
        for _ in 0..60 {
            let word = WORDS[usize::try_from(next() % 12).unwrap_or(0)];
            let _ = write!(text, "{word} ");
        }
        for _ in 0..4 {
            let _ = write!(text, "{:016x}", next());
        }
        let _ = writeln!(text, "\"}}");
    }
    text.truncate(CHUNK_BYTES);
    text
}

#[divan::bench(args = [2, 6, 7, 8, 9])]
fn deflate_with_libdeflate(bencher: Bencher<'_, '_>, level: i32) {
    let text = conversation();
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap_or_default());
    let mut packed = vec![0; compressor.gzip_compress_bound(text.len())];
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench_local(|| compressor.gzip_compress(black_box(&text), &mut packed));
}

#[divan::bench(args = [1, 6])]
fn deflate_with_zlib_rs(bencher: Bencher<'_, '_>, level: u32) {
    let text = conversation();
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench_local(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            let written = encoder.write_all(black_box(&text));
            (written.is_ok(), encoder.finish().map(|packed| packed.len()))
        });
}

fn packed() -> (Vec<u8>, usize) {
    let text = conversation();
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut packed = vec![0; compressor.gzip_compress_bound(text.len())];
    let n = compressor.gzip_compress(&text, &mut packed).unwrap_or(0);
    packed.truncate(n);
    (packed, text.len())
}

#[divan::bench]
fn inflate_with_libdeflate(bencher: Bencher<'_, '_>) {
    let (packed, len) = packed();
    let mut decompressor = Decompressor::new();
    let mut text = vec![0; len];
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| decompressor.gzip_decompress(black_box(&packed), &mut text));
}

#[divan::bench]
fn inflate_with_zlib_rs(bencher: Bencher<'_, '_>) {
    let (packed, len) = packed();
    let mut text = Vec::with_capacity(len);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        text.clear();
        GzDecoder::new(black_box(&*packed)).read_to_end(&mut text)
    });
}

#[divan::bench]
fn blake3_of_archives(bencher: Bencher<'_, '_>) {
    let text = conversation();
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench_local(|| ContentDigest::of(black_box(&text)));
}

#[divan::bench]
fn sha256(bencher: Bencher<'_, '_>) {
    let text = conversation();
    bencher
        .counter(BytesCount::of_slice(&text))
        .bench_local(|| Sha256::digest(black_box(&text)));
}
