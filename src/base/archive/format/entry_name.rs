//! Validated names of archive entries: relative paths that cannot leave the folder they are
//! unpacked into.

use crate::io::json_path;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// Maximum length of a path on Linux, without the terminating zero byte.
const MAX_BYTES: usize = 4095;

/// A relative path of plain components, without `.` and `..`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(Arc<Path>);

impl EntryName {
    /// Validates a name from an archive. Removes a leading `./` and a trailing `/`.
    ///
    /// # Errors
    /// Returns the rule that the name breaks, for the user.
    pub fn parse(raw: &[u8]) -> Result<Self, &'static str> {
        if raw.contains(&0) {
            return Err("a NUL byte in the name");
        }
        Self::from_path(&json_path::path_from_bytes(raw.to_vec())?)
    }

    /// Validates a relative path.
    ///
    /// # Errors
    /// Returns the rule that the path breaks, for the user.
    pub fn from_path(path: &Path) -> Result<Self, &'static str> {
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    check_component(name)?;
                    clean.push(name);
                }
                Component::CurDir => {}
                Component::ParentDir => return Err("`..` in the name"),
                Component::RootDir | Component::Prefix(_) => return Err("an absolute path"),
            }
        }

        if clean.as_os_str().is_empty() {
            return Err("an empty name");
        }
        if clean.as_os_str().len() > MAX_BYTES {
            return Err("a name of more than 4095 bytes");
        }

        Ok(Self(clean.into()))
    }

    /// Creates a name from the bytes of a valid name, without checking it again.
    pub(crate) fn from_checked_bytes(bytes: Vec<u8>) -> Self {
        // The bytes of a valid name are always a path.
        Self(json_path::path_from_bytes(bytes).unwrap_or_default().into())
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the first component: the top-level entry of the home.
    pub fn top(&self) -> &OsStr {
        self.0.iter().next().unwrap_or_default()
    }

    /// Returns true if the first component starts with `.codex-manager`, which is reserved for this
    /// program.
    pub fn is_manager_name(&self) -> bool {
        crate::codex::home::is_manager_name(self.top())
    }

    /// Returns the name in lower case and in Unicode NFC; see [`fold_case`].
    pub fn fold_case(&self) -> String {
        fold_case(&self.0)
    }
}

/// Returns a path in lower case and in Unicode NFC. Two paths with the same result collide on a disk that ignores
/// case. The disks of macOS ignore the Unicode form too.
pub(super) fn fold_case(path: &Path) -> String {
    path.to_string_lossy()
        .nfc()
        .collect::<String>()
        .to_lowercase()
}

fn check_component(name: &OsStr) -> Result<(), &'static str> {
    // The limit of all common file systems.
    if name.len() > 255 {
        return Err("a component of more than 255 bytes");
    }
    if cfg!(windows) {
        check_windows_name(name.to_str().ok_or("a name that is not Unicode")?)?;
    }
    Ok(())
}

/// Checks one component by the rules of Windows ("Naming Files, Paths, and Namespaces").
///
/// # Errors
/// Returns the rule that the name breaks, for the user.
fn check_windows_name(name: &str) -> Result<(), &'static str> {
    let is_forbidden = |c: char| c < ' ' || r#"<>:"|?*\"#.contains(c);
    if name.contains(is_forbidden) || name.ends_with(['.', ' ']) {
        return Err("a name that Windows cannot hold");
    }

    // Windows ignores what follows the first dot, and blanks before it.
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ').to_ascii_uppercase();

    // Windows reads the superscripts 1 to 3 as digits here.
    let is_port = |port: &str| {
        let number = stem.strip_prefix(port);
        number.is_some_and(|n| n.chars().count() == 1 && "0123456789¹²³".contains(n))
    };

    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    if devices.contains(&stem.as_str()) || is_port("COM") || is_port("LPT") {
        return Err("the name of a device");
    }
    Ok(())
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(windows) {
            return f.write_str(&self.0.to_string_lossy().replace('\\', "/"));
        }
        self.0.display().fmt(f)
    }
}

impl Serialize for EntryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) if cfg!(windows) => serializer.serialize_str(&text.replace('\\', "/")),
            _ => json_path::serialize(&self.0, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EntryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&json_path::deserialize_bytes(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_refuses_absolute_parent_and_empty_names() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "./"] {
            assert!(EntryName::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(EntryName::parse(b"a\0b").is_err());
        assert_eq!(EntryName::parse(b"./a/b/").unwrap().to_string(), "a/b");
    }

    #[test]
    fn names_of_devices_and_names_that_windows_cannot_hold_are_refused_but_not_similar_ones() {
        let device = Err("the name of a device");
        for name in [
            "con",
            "CON.txt",
            "con .txt",
            "nul.tar.gz",
            "aux",
            "prn",
            "COM1",
            "com9.md",
            "COM¹",
            "lpt³.log",
            "LPT0",
            "conin$",
            "CONOUT$.x",
        ] {
            assert_eq!(check_windows_name(name), device, "{name}");
        }
        for name in [
            "comm.md", "common", "com10", "console", "lpt", "com", "nul-l", "c.con", "COM⁴",
        ] {
            assert_eq!(check_windows_name(name), Ok(()), "{name}");
        }
        for name in ["a.", "a ", "a:b", "a?", "a\tb", r"a\b", "a|b", "a\"b"] {
            let unfit = Err("a name that Windows cannot hold");
            assert_eq!(check_windows_name(name), unfit, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_unicode_survive_json() {
        let name = EntryName::parse(b"sessions/\xff\xfe.jsonl").unwrap();
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<EntryName>(&json).unwrap(), name);
    }
}
