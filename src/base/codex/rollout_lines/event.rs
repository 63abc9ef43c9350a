//! The events of a conversation that searching, showing and counting use, and the items of lines from which they come.

use super::content::{PayloadText, split_answer};
use crate::codex::window::Window;
use crate::io::clock::Timestamp;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq)]
pub struct RolloutEvent {
    /// The number of the turn; see [`super::TurnCounter`]. Events before the first turn have turn 0.
    pub turn: u32,
    /// The time at which Codex wrote the line.
    pub at: Option<DateTime<Utc>>,
    /// The offset of the line in the plain text of the rollout.
    pub offset: u64,
    /// The id that a tool call shares with its output.
    pub call_id: Option<String>,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    User(String),
    /// A text that Codex inserted for the model in the user's name.
    ModelInput,
    /// A message that the model got in the user's name. Usually its event follows; see [`super::user_items`].
    UserInput(String),
    Assistant(String),
    Reasoning(String),
    /// A call of a tool: a command, a patch, a search.
    ToolCall {
        name: String,
        /// The command line, patch or arguments.
        text: String,
    },
    /// The paths of changed files, one a line.
    FilesTouched(String),
    ToolOutput(String),
    /// The URL of an image in a message or in a tool's output. The URL usually contains the image.
    Image(String),
    /// The summary by which Codex replaced the messages so far.
    Compaction(String),
    Meta(Box<SessionMetaLine>),
    /// The settings of the following turn.
    TurnContext(Box<TurnContext>),
    /// The number of tokens used so far, and the quota windows.
    Tokens(Box<TokenEvent>),
    Request(Box<RequestRecord>),
    /// Codex began a turn: for a message of the user, a command, or a goal.
    TurnStarted,
    TurnEnded,
    /// The user took this number of turns back. Codex up to 0.150 leaves these turns in the rollout, and newer versions
    /// do so for legacy conversations.
    RolledBack(u32),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SessionMetaLine {
    /// The metadata as Codex wrote it.
    pub payload: Value,
    /// False for the form before 0.32, which newer versions of Codex do not read.
    pub has_envelope: bool,
}

/// The settings of a turn. The last four are text, or JSON if Codex records them as an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct TurnContext {
    pub model: Option<String>,
    /// The folder that Codex works in.
    pub cwd: Option<String>,
    /// The effort of reasoning.
    #[serde(deserialize_with = "deserialize_text_or_json")]
    pub effort: Option<String>,
    /// When Codex asks for approval.
    #[serde(deserialize_with = "deserialize_text_or_json")]
    pub approval_policy: Option<String>,
    /// The restrictions of commands.
    #[serde(deserialize_with = "deserialize_text_or_json")]
    pub sandbox_policy: Option<String>,
    /// The restrictions of commands in newer versions.
    #[serde(deserialize_with = "deserialize_text_or_json")]
    pub permission_profile: Option<String>,
}

/// Reads a string's text, any other value as the JSON that Codex wrote, and `None` for null.
fn deserialize_text_or_json<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let raw: Box<RawValue> = Deserialize::deserialize(deserializer)?;
    Ok(match raw.get() {
        "null" => None,
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok(),
        other => Some(other.to_owned()),
    })
}

/// One `token_count` event of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// The time at which Codex wrote the line.
    pub at: Timestamp,
    /// The windows of its `rate_limits`; empty if the server sent none. In Codex 0.169 they name no account.
    pub windows: Vec<Window>,
    /// The sum of all requests of the conversation. Codex sometimes resets it.
    pub total: Option<TokenUsage>,
    /// The tokens of the last request.
    pub last: Option<TokenUsage>,
}

/// The tokens of one request to the model, which Codex 0.169 records once. Copies of a conversation lack
/// these records or have them with the id of the original.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct RequestRecord {
    /// The conversation that made the request.
    pub thread_id: String,
    pub usage: TokenUsage,
}

/// Numbers of tokens, as the model's provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "the names are Codex's")]
pub struct TokenUsage {
    /// Tokens of the input, with the cached ones.
    pub input_tokens: u64,
    /// Tokens of the input that came from the provider's cache.
    pub cached_input_tokens: u64,
    /// Tokens of the output, with those of reasoning.
    pub output_tokens: u64,
    /// Tokens of the reasoning alone.
    pub reasoning_output_tokens: u64,
    /// Tokens of input and output.
    pub total_tokens: u64,
}

/// The author of a text.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    Deserialize,
    clap::ValueEnum,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Messages of the user
    User,
    /// Messages and reasoning of the assistant
    Assistant,
    /// Commands, changed files and outputs
    Tool,
    /// The title of the conversation, which is no event
    #[value(skip)]
    #[serde(skip_deserializing)]
    Title,
}

impl Role {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl EventKind {
    /// Returns true for events from which the usage is computed. These events count even if Codex hides their turn.
    pub(crate) fn is_usage_event(&self) -> bool {
        matches!(
            self,
            Self::TurnContext(_) | Self::Tokens(_) | Self::Request(_)
        )
    }

    /// Returns the author and the text; `None` for events that have no text to search.
    pub fn author_and_text(&self) -> Option<(Role, &str)> {
        match self {
            Self::User(text) => Some((Role::User, text)),
            Self::Assistant(text) | Self::Reasoning(text) => Some((Role::Assistant, text)),
            Self::ToolCall { text, .. } | Self::FilesTouched(text) | Self::ToolOutput(text) => {
                Some((Role::Tool, text))
            }
            _ => None,
        }
    }
}

/// Counts the turns of a conversation. Codex 0.130 and later record the beginning of each turn; a turn may have no
/// message of the user, or several. In earlier versions, each message of the user begins a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TurnCounter {
    /// The number of turns so far.
    pub turns: u32,
    /// True within a turn with a recorded beginning.
    pub is_open: bool,
}

impl TurnCounter {
    pub(crate) fn count(&mut self, kind: &EventKind) {
        match kind {
            EventKind::TurnStarted => {
                self.turns += 1;
                self.is_open = true;
            }
            EventKind::User(text) if !self.is_open && !text.trim().is_empty() => self.turns += 1,
            EventKind::TurnEnded => self.is_open = false,
            EventKind::RolledBack(turns) => {
                self.turns = self.turns.saturating_sub(*turns);
                self.is_open = false;
            }
            _ => {}
        }
    }
}

/// The form in which Codex recorded an item. The numbers are the indices of the reader's counts by form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemOrigin {
    /// A `response_item`: input or output of the model.
    Item = 0,
    /// An `event_msg` of older versions.
    Event = 1,
    /// An `item_completed` event of newer versions, such as Codex 0.169.
    Completed = 2,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineItem {
    pub origin: ItemOrigin,
    /// The id that a tool call shares with its output and its completed item.
    pub call_id: Option<String>,
    pub kind: EventKind,
}

/// The items of a line, and its time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LineItems {
    pub at: Option<DateTime<Utc>>,
    pub items: Vec<LineItem>,
}

pub(super) type ParsedItems = serde_json::Result<Vec<LineItem>>;
pub(super) type ParseItems = fn(&PayloadText<'_>) -> ParsedItems;

pub(super) fn one_item(origin: ItemOrigin, kind: EventKind) -> Vec<LineItem> {
    vec![item_without_call_id(origin, kind)]
}

pub(super) fn item_without_call_id(origin: ItemOrigin, kind: EventKind) -> LineItem {
    call_item(origin, None, kind)
}

/// Returns the items of an answer; see [`split_answer`].
pub(super) fn answer_items(origin: ItemOrigin, answer: String) -> Vec<LineItem> {
    let texts = split_answer(answer).into_iter();
    let items = texts.map(|text| item_without_call_id(origin, EventKind::Assistant(text)));
    items.collect()
}

pub(super) fn call_item(
    origin: ItemOrigin,
    call_id: Option<Cow<'_, str>>,
    kind: EventKind,
) -> LineItem {
    LineItem {
        origin,
        call_id: call_id.map(Cow::into_owned),
        kind,
    }
}
