//! Encrypts and decrypts exports with `age`, by a passphrase or by the keys of recipients, as a stream.

use super::error::TransferError;
use crate::io::{IoContext, IoError, SecretBytes, file_open};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::iter;
use std::path::Path;

/// The scrypt work factor of exports, as a power of two. Each guess of the passphrase takes 128 MiB and about 0.5 s.
const WORK_FACTOR: u8 = 17;

/// The highest work factor that an import accepts. The `age` program itself writes it.
const MAX_WORK_FACTOR: u8 = 18;

/// The first bytes of every `age` file.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// The beginning of the last line of an `age` header, which must be within the first [`MAX_HEAD_BYTES`] of the file.
const HEAD_END: &[u8] = b"\n--- ";
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The number of bytes that are read of a passphrase or of a file with a key.
pub const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// A passphrase. It is never printed, and is erased from memory on drop.
#[derive(Debug)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Returns the passphrase in the first line of `bytes`, without the newline.
    ///
    /// # Errors
    /// The first line is empty, or `bytes` is not UTF-8.
    pub fn from_bytes(bytes: &SecretBytes) -> Result<Self, TransferError> {
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| TransferError::BadKey("the passphrase is not UTF-8".into()))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(TransferError::BadKey("the passphrase is empty".into()));
        }
        Ok(Self(SecretString::from(line.to_owned())))
    }

    /// Reads the passphrase in the first line of a file.
    ///
    /// # Errors
    /// The file cannot be read, its first line is empty, or it is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, TransferError> {
        Self::from_bytes(&read_key_file(path)?)
    }
}

fn read_key_file(path: &Path) -> Result<SecretBytes, IoError> {
    let mut bytes = Vec::new();
    file_open::open_user_named(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes))
        .at("read", path)?;
    Ok(SecretBytes::new(bytes))
}

#[derive(Debug)]
pub enum Encryption {
    /// The export is not encrypted, so anyone with the file can read it.
    Plain,
    Passphrase(Passphrase),
    /// The private key of any of these recipients decrypts the export.
    Recipients(Vec<x25519::Recipient>),
}

impl Encryption {
    /// Returns the name of the encryption in output, or `None` for [`Encryption::Plain`].
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Passphrase(_) => Some("passphrase"),
            Self::Recipients(_) => Some("recipient"),
        }
    }

    /// Returns the encryptor for an export, or `None` for [`Encryption::Plain`].
    pub(super) fn into_encryptor(self) -> io::Result<Option<Encryptor>> {
        let encryptor = match self {
            Self::Plain => return Ok(None),
            Self::Passphrase(Passphrase(passphrase)) => {
                let mut recipient = scrypt::Recipient::new(passphrase);
                // By default `age` chooses the work factor by the speed of this machine. A slow machine would then take
                // too long to open an export of a fast one.
                recipient.set_work_factor(WORK_FACTOR);
                Encryptor::with_recipients(iter::once(&recipient as &dyn Recipient))
            }
            Self::Recipients(keys) => {
                Encryptor::with_recipients(keys.iter().map(|key| key as &dyn Recipient))
            }
        };

        encryptor.map(Some).map_err(io::Error::other)
    }
}

/// Parses the public key of a recipient (`age1…`).
///
/// # Errors
/// The text is not a public key of age.
pub fn parse_recipient(text: &str) -> Result<x25519::Recipient, TransferError> {
    let key = text.trim().parse();
    // The text is not shown, because it may be a private key.
    key.map_err(|reason| {
        TransferError::BadKey(format!("a recipient is not a public key of age: {reason}"))
    })
}

/// The secret that decrypts an export.
pub enum DecryptionKey {
    Passphrase(Passphrase),
    /// The private keys in a file of `age-keygen`.
    Identities(Vec<Box<dyn Identity>>),
}

impl DecryptionKey {
    /// Reads the private keys in a file.
    ///
    /// # Errors
    /// The file cannot be read, cannot be parsed, or has no key.
    pub fn read_identities(path: &Path) -> Result<Self, TransferError> {
        let no_key_error =
            || TransferError::BadKey(format!("no age key in the file: {}", path.display()));
        let bytes = read_key_file(path)?;
        let keys = age::IdentityFile::from_buffer(bytes.expose()).map_err(|_| no_key_error())?;
        let keys = keys.into_identities().map_err(|_| no_key_error())?;
        if keys.is_empty() {
            return Err(no_key_error());
        }
        Ok(Self::Identities(keys))
    }
}

/// The bytes of an export: the head, which is already in memory, and then the remaining file.
type ExportSource = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// An opened export whose header was parsed.
pub enum ExportInput {
    /// An export without encryption.
    Plain(ExportSource),
    /// An export that is encrypted by `age`.
    Age(Box<Decryptor<ExportSource>>),
}

impl ExportInput {
    /// Opens an export and parses its header.
    ///
    /// # Errors
    /// The file cannot be read, is armored, or has an invalid `age` header.
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        let file = file_open::open_user_named(path).at("open", path)?;
        let mut file = BufReader::with_capacity(MAX_HEAD_BYTES, file);
        let mut first_bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(MAX_HEAD_BYTES as u64)
            .read_to_end(&mut first_bytes)
            .at("read", path)?;

        let foreign_error = |reason: &str| TransferError::Foreign {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };

        if first_bytes.starts_with(b"-----BEGIN AGE") {
            return Err(foreign_error("it is armored; decrypt it with age -d first"));
        }
        let is_age = first_bytes.starts_with(MAGIC);
        let mut windows = first_bytes.windows(HEAD_END.len());
        let has_header_end = windows.any(|window| window == HEAD_END);

        // The bytes that were already read come before the rest of the file.
        let source = Cursor::new(first_bytes).chain(file);
        if !is_age {
            return Ok(Self::Plain(source));
        }
        if !has_header_end {
            return Err(foreign_error("its age header has no end"));
        }
        Decryptor::new_buffered(source)
            .map(|decryptor| Self::Age(Box::new(decryptor)))
            .map_err(|_| foreign_error("its age header cannot be parsed"))
    }

    /// Returns true if the export is encrypted with a passphrase.
    pub fn needs_passphrase(&self) -> bool {
        matches!(self, Self::Age(decryptor) if decryptor.is_scrypt())
    }

    /// Returns a reader of the decrypted content, which fails at a modified block. Error messages name `path`.
    ///
    /// # Errors
    /// The export is encrypted, and `key` is missing, is of the wrong kind, or does not decrypt the export, its
    /// header or its first block is damaged, or its passphrase takes too much work.
    pub fn unlock(
        self,
        path: &Path,
        key: Option<&DecryptionKey>,
    ) -> Result<Box<dyn Read>, TransferError> {
        let decryptor = match self {
            Self::Plain(source) => return Ok(Box::new(source)),
            Self::Age(decryptor) => decryptor,
        };

        let wants_passphrase = decryptor.is_scrypt();
        let stream = match (wants_passphrase, key) {
            (true, Some(DecryptionKey::Passphrase(Passphrase(passphrase)))) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK_FACTOR);
                decryptor.decrypt(iter::once(&identity as &dyn Identity))
            }
            (false, Some(DecryptionKey::Identities(keys))) => {
                decryptor.decrypt(keys.iter().map(|key| &**key))
            }
            // The key is missing, or of the other kind.
            (true, _) => return Err(TransferError::NeedsPassphrase(path.to_path_buf())),
            (false, _) => return Err(TransferError::NeedsIdentity(path.to_path_buf())),
        };

        let path = path.to_path_buf();
        let stream = stream.map_err(|error| match error {
            DecryptError::ExcessiveWork { .. } => TransferError::TooCostly(path.clone()),
            DecryptError::InvalidMac | DecryptError::InvalidHeader => TransferError::Damaged {
                path: path.clone(),
                detail: "its age header".to_owned(),
            },
            _ => TransferError::WrongKey {
                path: path.clone(),
                reason: if wants_passphrase {
                    "wrong passphrase"
                } else {
                    "none of the keys decrypts the export"
                },
            },
        })?;
        let mut content = BufReader::new(stream);

        // A damaged first block would otherwise look like a file without a manifest.
        if let Err(e) = content.fill_buf() {
            let detail = e.to_string();
            return Err(TransferError::Damaged { path, detail });
        }
        Ok(Box::new(content))
    }
}
