//! Maps the exit code and the messages of restic to a kind of fault and a message of one line.
//!
//! restic has exit codes of its own for a few faults since 0.17 (10 no repository, 11 locked, 12 wrong
//! password). Older versions end with 1, so the messages decide.

use crate::codex::redaction::redact_message;

/// A kind of fault. Each has its own hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("no repository at this URL")]
    NoRepository,
    #[error("a repository exists at this URL")]
    Exists,
    /// The password opens no key of the repository.
    #[error("wrong vault password")]
    WrongPassword,
    #[error("another process has locked the vault")]
    Locked,
    /// The server cannot be reached, or the connection was cut.
    #[error("the vault cannot be reached")]
    Network,
    /// The server refuses the credentials, or there are none.
    #[error("the storage refused the credentials")]
    Credentials,
    #[error("the bucket does not exist")]
    NoBucket,
    /// The storage accepts new data but no deletions.
    #[error("the storage of the vault allows no deletions")]
    AppendOnly,
    #[error("no space left")]
    NoSpace,
    #[error("permission denied")]
    Permission,
    /// Data of the repository is missing or damaged.
    #[error("data of the vault is missing or damaged")]
    Damaged,
    #[error("restic was killed")]
    Killed,
    /// Any other fault; see the message of restic.
    #[error("restic failed")]
    Other,
}

/// Parts of messages, in lower case and separated by `|`, by fault. The first match wins.
const MESSAGES: [(Fault, &str); 10] = [
    (
        Fault::WrongPassword,
        "wrong password|an empty password is not",
    ),
    (
        Fault::Locked,
        "already locked|unable to create lock|failed to lock",
    ),
    (
        Fault::Exists,
        "config file already exists|already initialized",
    ),
    (
        Fault::NoSpace,
        "no space left|disk quota exceeded|quotaexceeded",
    ),
    (
        Fault::NoBucket,
        "bucket does not exist|nosuchbucket|containernotfound",
    ),
    (
        Fault::Credentials,
        "access key id you provided|invalidaccesskeyid|signaturedoesnotmatch|request signature we calculated|\
          token has expired|expiredtoken|expired or revoked|access denied|accessdenied|403 forbidden|401 unauthorized|unauthorized|no credentials found|\
          unsupported algorithm|invalid credentials",
    ),
    (
        Fault::Network,
        "connection refused|connection reset|no such host|network is unreachable|no route to host|i/o timeout|\
          tls handshake|certificate|unexpected eof|unable to start the sftp session|broken pipe|server closed|\
          502 bad gateway|503 service unavailable",
    ),
    (
        Fault::Permission,
        "permission denied|operation not permitted",
    ),
    (
        Fault::NoRepository,
        "is there a repository at|unable to open config file|repository does not exist|no repository",
    ),
    (
        Fault::Damaged,
        "not found in repository|ciphertext verification failed|invalid data returned|not found in index|\
          not found in snapshot|should be a file, but is a|pack file|errors were found|contains errors|\
          failed to load index|load <|load(<data/",
    ),
];

/// Part of the messages about attempts that restic retries.
const RETRY_TEXT: &str = "returned error, retrying after ";

impl Fault {
    /// Returns the fault of a restic that ended with `code`, or by a signal, and wrote `stderr`.
    pub(crate) fn classify(code: Option<i32>, stderr: &str) -> Self {
        match code {
            None => Self::Killed,
            // Codes of restic 0.17 and newer.
            Some(10) => Self::NoRepository,
            Some(11) => Self::Locked,
            Some(12) => Self::WrongPassword,
            Some(_) => Self::from_message(stderr).unwrap_or(Self::Other),
        }
    }

    /// Returns the fault that the messages of restic name; `None` if they name none.
    pub(super) fn from_message(stderr: &str) -> Option<Self> {
        let lower_stderr = stderr.to_lowercase();
        let mut rows = MESSAGES.iter();
        let row = rows.find(|(_, messages)| messages.split('|').any(|m| lower_stderr.contains(m)));
        row.map(|(fault, _)| *fault)
            .or_else(|| names_pack_file(&lower_stderr).then_some(Self::Damaged))
    }
}

/// Returns true if a message names a pack of the repository: `data/5e/5e01…`. A home may be below `/data/` too.
fn names_pack_file(message: &str) -> bool {
    message.split("/data/").skip(1).any(|path| {
        let name = path.as_bytes();
        // A folder of two digits, then a file whose name begins with the same digits.
        name.len() > 5 && name[2] == b'/' && name[..2] == name[3..5]
    })
}

/// Returns the message of restic in one line, without its advice and without secrets.
pub(crate) fn extract_reason(stderr: &str) -> String {
    let lines: Vec<String> = stderr.lines().map(extract_message).collect();

    let is_advice = |line: &str| {
        line.is_empty()
            || line.starts_with("Is there a repository")
            || line.starts_with("the `unlock` command")
            || line.starts_with("Usage:")
            || line.contains(RETRY_TEXT)
    };

    let fatal_line = lines.iter().find(|line| line.starts_with("Fatal:"));
    let message = fatal_line.or_else(|| lines.iter().find(|line| !is_advice(line)));
    let reason = message.map_or("no message", String::as_str);
    redact_message(reason.trim_start_matches("Fatal: "))
}

/// Returns true if the storage has refused to delete a snapshot. restic 0.14 would retry for 40 seconds.
pub(crate) fn is_deletion_refused(stderr: &str) -> bool {
    let mut lines = stderr.lines();
    let is_refusal = |line: &str| Fault::from_message(line) == Some(Fault::Credentials);
    lines.any(|line| line.contains("Remove(<snapshot/") && is_refusal(line))
}

/// Returns true if restic has retried to read the config of the repository, its first access, for several
/// seconds.
pub(crate) fn is_unreachable(stderr: &str) -> bool {
    const MAX_RETRIES: usize = 3;
    let is_retry = |line: &&str| line.contains("(<config/") && line.contains(RETRY_TEXT);
    stderr.lines().filter(is_retry).count() > MAX_RETRIES
}

/// Returns the reason of the last attempt that restic retries, without secrets.
pub(crate) fn extract_last_retry_reason(stderr: &str) -> Option<String> {
    let mut reasons = stderr.lines().rev().filter_map(|line| {
        let (_, attempt) = line.split_once(RETRY_TEXT)?;
        Some(attempt.split_once(": ")?.1)
    });
    reasons.next().map(redact_message)
}

/// Returns the message in a line of standard error, which is JSON with `--json` of restic 0.17 and newer.
fn extract_message(line: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = json.as_ref().and_then(|json| {
        let message = json.get("message");
        let message = message.or_else(|| json.pointer("/error/message"));
        message.and_then(serde_json::Value::as_str)
    });
    message.unwrap_or(line).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_restic_map_to_faults() {
        // As printed by restic 0.14.0.
        for (text, fault) in [
            (
                "Fatal: unable to open config file: stat /r/config: no such file or directory\nIs there a repository at the following location?\n/r\n",
                Fault::NoRepository,
            ),
            (
                "Fatal: wrong password or no key found\n",
                Fault::WrongPassword,
            ),
            (
                "Fatal: create repository at /r failed: config file already exists\n",
                Fault::Exists,
            ),
            (
                "unable to create lock in backend: repository is already locked by PID 24383 on vm by root (UID 0, GID 0)\nlock was created at 2026-11-21 11:43:45 (2.38219691s ago)\nstorage ID d9b88ed5\nthe `unlock` command can be used to remove stale locks\n",
                Fault::Locked,
            ),
            (
                "Fatal: unable to open config file: Stat: The specified bucket does not exist\nIs there a repository at the following location?\ns3:http://127.0.0.1:1/b/p\n",
                Fault::NoBucket,
            ),
            (
                "Fatal: unable to open config file: Stat: The Access Key Id you provided does not exist in our records.\nIs there a repository at the following location?\ns3:x\n",
                Fault::Credentials,
            ),
            (
                "Fatal: unable to open config file: Stat: The request signature we calculated does not match the signature you provided. Check your key and signing method.\n",
                Fault::Credentials,
            ),
            (
                "Fatal: unable to open config file: Stat: Get \"http://127.0.0.1:18080/buck/?location=\": dial tcp 127.0.0.1:18080: connect: connection refused\nIs there a repository at the following location?\n",
                Fault::Network,
            ),
            (
                "Fatal: unable to save snapshot: write /r/data/e4/e4-tmp-1: no space left on device\n",
                Fault::NoSpace,
            ),
            (
                "loading tree for snapshot \"latest\" failed: id 4ecf9e not found in repository\n",
                Fault::Damaged,
            ),
            (
                "cannot dump file: path \"/.codex-manager/manifest.json\" not found in snapshot\n",
                Fault::Damaged,
            ),
            (
                "Fatal: unable to open config file: stat /mnt/data/r/config: no such file or directory\nIs there a repository at the following location?\n/mnt/data/r\n",
                Fault::NoRepository,
            ),
            (
                "Fatal: unable to open repository at /r: ReadDir: open /r/keys: permission denied\n",
                Fault::Permission,
            ),
            (
                "Fatal: open /r/data/5e/5e01ab: no such file or directory\n",
                Fault::Damaged,
            ),
            (
                "Fatal: open /data/codex/notes: too many open files\n",
                Fault::Other,
            ),
            (
                "Fatal: unable to open config file: Head \"https://h/config\": x509: certificate has expired or is not yet valid\n",
                Fault::Network,
            ),
            (
                "Fatal: unable to open config file: Stat: The provided token has expired.\n",
                Fault::Credentials,
            ),
            (
                "Fatal: unable to open repository at sftp:nosuch.invalid:/x: unable to start the sftp session, error: read |0: file already closed\n",
                Fault::Network,
            ),
            ("Fatal: something new\n", Fault::Other),
        ] {
            assert_eq!(Fault::classify(Some(1), text), fault, "{text}");
        }
        assert_eq!(
            Fault::classify(Some(12), "Fatal: nope"),
            Fault::WrongPassword
        );
    }

    #[test]
    fn a_reason_is_one_line_without_advice_and_without_secrets() {
        let text = "unable to create lock\nlock was created at 2026\nstorage ID d9\nthe `unlock` command can be used\n";
        assert_eq!(extract_reason(text), "unable to create lock");
        let text = "Fatal: unable to open config file: Head \"http://me:secret@host/config\": refused\nIs there a repository at the following location?\nrest:http://me:secret@host/\n";
        assert_eq!(
            extract_reason(text),
            "unable to open config file: Head \"http://[redacted]@host/config\": refused"
        );
        // As printed by restic 0.19.1.
        let text = "Stat(<config/>) returned error, retrying after 739.8ms: Head \"http://:***@h:9/config\": dial tcp 127.0.0.1:9: connect: connection refused\n";
        assert!(!is_unreachable(&text.repeat(3)) && is_unreachable(&text.repeat(4)));
        let retried = extract_last_retry_reason(text).unwrap();
        assert_eq!(
            retried,
            "Head \"http://[redacted]@h:9/config\": dial tcp 127.0.0.1:9: connect: connection refused"
        );
        assert_eq!(Fault::classify(Some(1), &retried), Fault::Network);
        assert_eq!(extract_last_retry_reason("Fatal: wrong password"), None);
        let text = "Fatal: unable to open repository at rest:https://a-token-without-a-name-9f8e7d@h/: OPENAI_API_KEY=sk-abcdefghijklmnopqrstuvwxyz012345";
        assert_eq!(
            extract_reason(text),
            "unable to open repository at rest:https://[redacted]@h/: OPENAI_API_KEY=[redacted]"
        );
        let json = r#"{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}"#;
        assert_eq!(extract_reason(json), "wrong password or no key found");
    }
}
