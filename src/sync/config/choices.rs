//! Values of the configuration that are one of a few words.

use super::keys::Named;
use crate::logging::retention::LogArchiving;
use crate::logging::{LogFormat, Severity};
use crate::shutdown::PromptChannel;

/// Gives an enum its names in the configuration.
macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl Named for $name {
            fn names() -> &'static [(&'static str, Self)] { &[$(($text, Self::$variant)),+] }
        }
    };
}

/// An enum with its names in the configuration.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        names!($name { $($variant = $text),+ });
    };
}

named! {
    /// How files are compared where there is no state of a last sync.
    Compare {
        /// Size and time; the newer one counts.
        Mtime = "mtime",
        /// The same, and contents where size and time are equal.
        MtimeHashFallback = "mtime_hash_fallback",
        /// Contents; two that differ are a conflict, however old they are.
        ThreeWay = "three_way",
    }
}

named! {
    /// What becomes of two differing files of one time, where there is no state of a last sync.
    EqualMtime {
        /// Nothing.
        Skip = "skip",
        /// The one here counts.
        PreferLocal = "prefer_local",
        /// The one in the cloud folder counts.
        PreferCloud = "prefer_cloud",
        /// They are a conflict.
        ManualAbort = "manual_abort",
    }
}

named! {
    /// Who decides a conflict.
    ConflictPolicy {
        /// The user; the run stops and nothing is written, as with codexSync.
        ManualAbort = "manual_abort",
        /// The user; the file stays as it is on both sides, and all others are synced.
        Manual = "manual",
        /// The cloud folder.
        PreferCloud = "prefer_cloud",
        /// This machine.
        PreferLocal = "prefer_local",
        /// The newer one.
        PreferNewerMtime = "prefer_newer_mtime",
    }
}

named! {
    /// Which conversations are synced.
    SessionMode {
        /// All.
        All = "all",
        /// Those below the latest date folder of `sessions/`.
        LastDateOnly = "last_date_only",
    }
}

named! {
    /// What becomes of a file that was deleted on one side.
    DeletePolicy {
        /// It comes back from the other side.
        Never = "never",
        /// It goes there too, after a backup, and only a few at a time.
        Propagate = "propagate",
    }
}

named! {
    /// What a backup before overwriting looks like.
    Compression {
        /// A folder.
        None = "none",
        /// One `.zip`.
        Zip = "zip",
    }
}

names!(PromptChannel { Gui = "gui", Console = "console" });
names!(LogFormat { Text = "text", Json = "json", Logfmt = "logfmt" });
names!(LogArchiving { Zip = "zip", Text = "text" });
names!(Severity { Debug = "DEBUG", Info = "INFO", Warning = "WARNING", Error = "ERROR" });
