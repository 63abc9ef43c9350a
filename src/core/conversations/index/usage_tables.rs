//! The tables of token usage: requests, their sums, and the quota that Codex recorded.
//!
//! | table | content |
//! | --- | --- |
//! | `model` | the names of models |
//! | `request` | one row per request: its time, model and tokens |
//! | `slot` | the sums of the requests of a conversation and a model in a quarter of an hour |
//! | `quota` | the used part of a window whenever it changed within a conversation |
//!
//! All time zones differ from UTC by a multiple of a quarter of an hour, so days and weeks in any time zone are sums of
//! slots.

/// The length of a slot in milliseconds.
pub const SLOT_MS: i64 = 15 * 60 * 1000;

/// The statements that create the tables.
pub(super) const CREATE_USAGE_TABLES: &str = "
CREATE TABLE model(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE request(
    conversation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    model INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    PRIMARY KEY(conversation, number)
) WITHOUT ROWID;
CREATE INDEX request_at ON request(at);
CREATE TABLE slot(
    conversation INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    model INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    PRIMARY KEY(conversation, slot, model)
) WITHOUT ROWID;
CREATE INDEX slot_time ON slot(slot);
CREATE TABLE quota(
    conversation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    minutes INTEGER NOT NULL,
    used REAL NOT NULL,
    resets INTEGER
);
CREATE INDEX quota_conversation ON quota(conversation, minutes);
CREATE INDEX quota_at ON quota(at);
";
