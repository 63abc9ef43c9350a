//! Describes two versions of a conversation for the decision of the user: by the title and the messages.

use crate::conversations::messages::{MessageComparison, compare_branches, compare_messages};
use crate::history::thread_rollouts::RolloutSlice;
use crate::history::thread_titles::ThreadTitles;
use crate::io::quantity::pluralize;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::io;
use std::path::Path;

/// Two versions of a conversation, with the numbers of messages that only one of them has. Of two branches, the local
/// version is the branch that Codex shows. The keys are part of the JSON contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConflictingVersions {
    pub session_id: String,
    /// The name of the conversation, else the first line of the first message.
    pub title: Option<String>,
    local_prompts: usize,
    local_answers: usize,
    remote_prompts: usize,
    remote_answers: usize,
    /// Time of the last message that both versions have.
    #[serde(skip)]
    pub since: Option<DateTime<Utc>>,
    /// For output: the places of the local and of the other version.
    #[serde(skip)]
    places: [&'static str; 2],
}

impl ConflictingVersions {
    /// Compares the local version of a conversation with another version. `place` describes the place of the other
    /// version for output, such as "in the cloud folder". Reads the name of the conversation from the Codex home.
    pub(crate) fn compare(
        home: &Path,
        id: &str,
        local: &Path,
        other: &Path,
        place: &'static str,
    ) -> io::Result<Self> {
        let messages = compare_messages(local, other)?;
        Ok(Self::new(home, id, messages, ["on this machine", place]))
    }

    /// Compares the branch of a conversation that Codex shows with another branch.
    pub(crate) fn of_branches(
        home: &Path,
        id: &str,
        shown: &[RolloutSlice],
        other: &[RolloutSlice],
    ) -> io::Result<Self> {
        let places = ["in the branch that Codex shows", "in the other branch"];
        let messages = compare_branches(shown, other)?;
        Ok(Self::new(home, id, messages, places))
    }

    /// `messages` compares the local version, as the first, with the other one. `places` has the same order.
    fn new(home: &Path, id: &str, messages: MessageComparison, places: [&'static str; 2]) -> Self {
        Self {
            title: ThreadTitles::read(home).find_name(id).or(messages.title),
            session_id: id.to_owned(),
            local_prompts: messages.only_in_first.prompts,
            local_answers: messages.only_in_first.answers,
            remote_prompts: messages.only_in_second.prompts,
            remote_answers: messages.only_in_second.answers,
            since: messages.last_common_at,
            places,
        }
    }

    /// Returns true if the other version has messages that the local one lacks.
    pub(crate) fn local_lacks_messages(&self) -> bool {
        self.remote_prompts + self.remote_answers > 0
    }

    /// Returns a text such as "2 answers on this machine, 1 answer in the cloud folder since Tue 24 Nov 14:10". For
    /// each version, it counts the answers that the other one lacks, or the prompts if there are no such answers.
    pub fn describe(&self, format_time: impl Fn(&DateTime<Utc>) -> String) -> String {
        let describe_count = |prompts, answers| match (prompts, answers) {
            (0, 0) => "no message".to_owned(),
            (prompts, 0) => pluralize(prompts, "prompt"),
            (_, answers) => pluralize(answers, "answer"),
        };

        let local = describe_count(self.local_prompts, self.local_answers);
        let remote = describe_count(self.remote_prompts, self.remote_answers);
        let [local_place, other_place] = self.places;
        let since_text = self.since.as_ref();
        let since_text = since_text.map(|at| format!(" since {}", format_time(at)));
        format!(
            "{local} {local_place}, {remote} {other_place}{}",
            since_text.unwrap_or_default()
        )
    }
}
