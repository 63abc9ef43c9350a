# The entry point for people; CI calls the same commands.

# list the recipes
default:
    @just --list

# everything that CI runs
ci:
    .ci/run

# all tests, or those whose path contains a name: `just test sync_races` runs tests/sync_races.rs
test *names:
    cargo test -- {{names}}

# the unit tests of src, or those of a room: `just unit archive::`
unit *names:
    cargo test --lib --bins -- {{names}}

# a random test with the seed that its failure printed: `just seed 42 losses`
seed number *names:
    CODEX_MANAGER_TEST_SEED={{number}} cargo test --test suite -- {{names}} --nocapture

# accepts what tests compare with: inline snapshots (`cargo install cargo-insta`) and generated pages
bless *names:
    UPDATE_DOCS=1 INSTA_UPDATE=new INSTA_FORCE_PASS=1 cargo test -- {{names}}
    cargo insta accept --workspace

# inputs that nobody meant, for a while
fuzz seconds="60":
    fuzz/run {{seconds}}

# format, lints, docs
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# check for macOS; build, test and run for Windows under wine
cross:
    .ci/cross macos
    .ci/cross windows

# the whole workflow on a sample home
demo:
    cargo run --release -- demo

# the binary as it is shipped, in target/dist
dist:
    cargo build --profile dist --locked

# everything of a release but publishing: builds for Linux, packs, installs, runs without a network
release-dry *targets:
    release/dry-run {{targets}}

# whole commands beside their peers
bench:
    benches/compare.sh

# sync beside codexSync, unison and rsync
bench-sync:
    benches/sync.sh
    benches/sync_vault.sh

# history rebuild beside a Python parser
bench-history:
    benches/history.sh

# lines of code of each room
lines:
    benches/lines.py

# licences, advisories, duplicates
deny:
    cargo deny check
