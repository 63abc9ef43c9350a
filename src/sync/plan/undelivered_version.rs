//! Versions that other machines list and that have not arrived.

use crate::io::quantity::pluralize;
use std::collections::BTreeSet;

/// A version that another machine lists and that the cloud client has not delivered to this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndeliveredVersion {
    /// Name of the machine that lists the version.
    pub machine: String,
    /// Relative path in the cloud folder.
    pub path: String,
    /// True for conversations, false for other files.
    pub is_conversation: bool,
    /// True if this machine has no version of the file.
    pub is_new: bool,
}

impl UndeliveredVersion {
    /// Returns the reason that output prints after the path.
    pub(crate) fn reason(&self) -> String {
        let what = if self.is_new {
            "has it"
        } else {
            "has a newer version"
        };
        format!("{} {what}, which has not arrived yet", self.machine)
    }

    /// Returns one line for each machine: "desk has 3 conversations that have not arrived yet".
    pub(crate) fn by_machine(all: &[Self]) -> Vec<String> {
        let machines: BTreeSet<&str> = all.iter().map(|file| &*file.machine).collect();
        let lines = machines.into_iter().map(|machine| {
            let on_machine = all.iter().filter(|file| file.machine == machine);
            let (conversations, files): (Vec<_>, Vec<_>) =
                on_machine.partition(|file| file.is_conversation);
            let counts = [(conversations.len(), "conversation"), (files.len(), "file")];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            let counts: Vec<_> = counts.map(|(count, noun)| pluralize(count, noun)).collect();
            let verb = if conversations.len() + files.len() == 1 {
                "has"
            } else {
                "have"
            };
            format!(
                "{machine} has {} that {verb} not arrived yet",
                counts.join(" and ")
            )
        });
        lines.collect()
    }
}
