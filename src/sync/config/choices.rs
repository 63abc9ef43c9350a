//! Configuration values that are one of a fixed set of names.

use super::keys::ConfigNames;
use crate::logging::{LogArchiving, LogFormat, Severity};
use crate::shutdown::PromptChannel;

/// Implements the names of an enum's values in the configuration.
macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl ConfigNames for $name {
            fn names() -> &'static [(&'static str, Self)] { &[$(($text, Self::$variant)),+] }
        }
    };
}

/// Defines an enum with the names of its values in the configuration.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        names!($name { $($variant = $text),+ });
    };
}

named! {
    /// The comparison of files if there is no state of a last sync.
    Compare {
        /// By size and mtime; the newer file wins.
        Mtime = "mtime",
        /// By size and mtime, and by content if both are equal.
        MtimeHashFallback = "mtime_hash_fallback",
        /// By content; differing files are a conflict, whatever their mtimes.
        ThreeWay = "three_way",
    }
}

named! {
    /// The treatment of differing files with equal mtimes if there is no state of a last sync.
    EqualMtime {
        /// Both files are left as they are.
        Skip = "skip",
        /// The local file is copied.
        PreferLocal = "prefer_local",
        /// The remote file is copied.
        PreferCloud = "prefer_cloud",
        /// The files are a conflict.
        ManualAbort = "manual_abort",
    }
}

named! {
    /// The version that wins a conflict.
    ConflictPolicy {
        /// None; the run stops without writing anything, as in codexSync.
        ManualAbort = "manual_abort",
        /// None; the file stays as it is on both sides, and all others are synced.
        Manual = "manual",
        /// The remote version wins.
        PreferCloud = "prefer_cloud",
        /// The local version wins.
        PreferLocal = "prefer_local",
        /// The version with the later mtime wins.
        PreferNewerMtime = "prefer_newer_mtime",
    }
}

named! {
    /// The conversations that are synced.
    SessionMode {
        All = "all",
        /// Only conversations in the latest date folder of `sessions/` are synced.
        LastDateOnly = "last_date_only",
    }
}

named! {
    /// The treatment of a file that was deleted on one side.
    DeletePolicy {
        /// It is copied back from the other side.
        Never = "never",
        /// It is deleted there too, after a backup, unless there are many deletions.
        Propagate = "propagate",
    }
}

named! {
    /// The form of the backup before overwriting.
    Compression {
        /// A folder of plain files per snapshot.
        None = "none",
        /// One `.zip` file per snapshot.
        Zip = "zip",
    }
}

names!(PromptChannel { Gui = "gui", Console = "console" });
names!(LogFormat { Text = "text", Json = "json", Logfmt = "logfmt" });
names!(LogArchiving { Zip = "zip", Text = "text" });
names!(Severity { Debug = "DEBUG", Info = "INFO", Warning = "WARNING", Error = "ERROR" });
