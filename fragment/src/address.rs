//! Where a model in pieces lies: a folder here, or an address of a store.
//!
//! ```text
//! https://host/model            the folder with manifest.json
//! s3://bucket/model/Q8_0.manifest.json
//! az://container/model#6f1c...  with the BLAKE3 of the manifest: nothing else is accepted
//! ```

use std::path::{Path, PathBuf};

use crate::manifest::MANIFEST_NAME;

/// The schemes of addresses.
const SCHEMES: [&str; 5] = ["http", "https", "s3", "gs", "az"];
/// Longest address: what servers accept.
const MAX_ADDRESS_BYTES: usize = 2048;

/// Why an address was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Another scheme.
    #[error("{address}: unknown scheme {scheme}; expected one of http, https, s3, gs, az")]
    Scheme {
        /// What was given.
        address: String,
        /// Its scheme.
        scheme: String,
    },
    /// A password or signature, which would stand in logs and reports.
    #[error(
        "the address has a user name, a password or a query in it: expected none; credentials are \
         read from the environment (AWS_..., GOOGLE_..., AZURE_...)"
    )]
    Credentials,
    /// What follows `#` is not a hash.
    #[error("{address}: expected the 64 hexadecimal digits of the manifest's BLAKE3 after #")]
    Pin {
        /// What was given.
        address: String,
    },
    /// Something else.
    #[error("{address}: {problem}")]
    Malformed {
        /// What was given.
        address: String,
        /// The rule that it breaks.
        problem: &'static str,
    },
}

/// Whether a path that the user gave is an address: it has a scheme.
pub fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

/// Where pieces and a manifest lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The folder of the pieces.
    pub place: Place,
    /// Name of the manifest in it.
    pub manifest: String,
    /// The BLAKE3 that the manifest must have, if the user gave it.
    pub pin: Option<String>,
}

/// A folder of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Folder(PathBuf),
    /// In a store, by its address without a slash at the end.
    Store(String),
}

impl Origin {
    /// Reads an address, or the path of a folder or manifest.
    ///
    /// # Errors
    /// When it has a scheme and is not an address.
    pub fn parse(text: &Path) -> Result<Self, AddressError> {
        match text.to_str().and_then(|text| Some((text, text.split_once("://")?))) {
            Some((text, (scheme, rest))) => address(text, scheme, rest),
            None if text.is_dir() => Ok(Origin {
                place: Place::Folder(text.to_owned()),
                manifest: MANIFEST_NAME.to_owned(),
                pin: None,
            }),
            None => Ok(Origin {
                place: Place::Folder(text.parent().unwrap_or(Path::new("")).to_owned()),
                manifest: text.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                pin: None,
            }),
        }
    }

    /// The address or path, for messages.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Folder(folder) => folder.display().to_string(),
            Place::Store(address) => address.clone(),
        }
    }

    /// The address with the BLAKE3 of the manifest behind it.
    pub fn pinned(&self, blake3: &str) -> String {
        let name = self.name();
        match self.manifest == MANIFEST_NAME {
            true => format!("{name}#{blake3}"),
            false => format!("{name}/{}#{blake3}", self.manifest),
        }
    }
}

fn address(text: &str, scheme: &str, rest: &str) -> Result<Origin, AddressError> {
    let host_end = rest.find(['/', '#']).unwrap_or(rest.len());
    // Before anything else: what follows is not repeated in a message.
    if rest[..host_end].contains('@') || rest.contains('?') {
        return Err(AddressError::Credentials);
    }
    if !SCHEMES.contains(&scheme) {
        return Err(AddressError::Scheme { address: text.to_owned(), scheme: scheme.to_owned() });
    }
    let malformed = |problem| Err(AddressError::Malformed { address: text.to_owned(), problem });
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(AddressError::Malformed {
            address: format!("{scheme}://{}", &rest[..host_end.min(64)]),
            problem: "the address has more than 2048 bytes",
        });
    }
    let (place, pin) = match rest.split_once('#') {
        Some((place, pin)) => (place, Some(pin)),
        None => (rest, None),
    };
    let hex = |pin: &str| {
        pin.len() == 64 && pin.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !pin.is_none_or(hex) {
        return Err(AddressError::Pin { address: text.to_owned() });
    }
    if place.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return malformed("expected no spaces, backslashes or control characters");
    }
    let place = place.trim_end_matches('/');
    let mut segments = place.split('/');
    if segments.next().is_none_or(str::is_empty) {
        return malformed("expected a host, bucket or container after ://");
    }
    if segments.any(|segment| segment.is_empty() || segment == "." || segment == "..") {
        return malformed("expected no empty part and no . or .. in the path");
    }
    let (folder, manifest) = match place.rsplit_once('/') {
        Some((folder, name)) if name.ends_with(MANIFEST_NAME) => (folder, name),
        _ => (place, MANIFEST_NAME),
    };
    Ok(Origin {
        place: Place::Store(format!("{scheme}://{folder}")),
        manifest: manifest.to_owned(),
        pin: pin.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Origin, AddressError> {
        Origin::parse(Path::new(text))
    }

    #[test]
    fn an_address_names_a_folder_a_manifest_and_a_hash() {
        let pin = "0123456789abcdef".repeat(4);
        for (text, place, manifest, hash) in [
            ("https://host:81/a/b/", "https://host:81/a/b", "manifest.json", None),
            ("s3://bucket", "s3://bucket", "manifest.json", None),
            ("gs://b/x/Q8.manifest.json", "gs://b/x", "Q8.manifest.json", None),
            (&format!("az://c/x#{pin}"), "az://c/x", "manifest.json", Some(pin.clone())),
        ] {
            let origin = parse(text).unwrap();
            assert_eq!(origin.place, Place::Store(place.to_owned()));
            assert_eq!((origin.manifest.as_str(), &origin.pin), (manifest, &hash), "{text}");
            assert_eq!(parse(&origin.pinned(&pin)).unwrap().pin, Some(pin.clone()));
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_and_secrets_are_not_repeated() {
        for text in ["https://me:secret@host/a", "https://host/a?X-Amz-Signature=secret"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, AddressError::Credentials);
            assert!(!error.to_string().contains("secret"));
        }
        for (text, says) in [
            ("ftp://host/a", "unknown scheme ftp"),
            ("https:///a", "expected a host"),
            ("s3://", "expected a host"),
            ("https://host/a/../b", "no . or .."),
            ("https://host/a//b", "no empty part"),
            ("https://host/a b", "no spaces"),
            ("s3://bucket/a#123", "64 hexadecimal digits"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let long = format!("https://host/{}", "a".repeat(4000));
        assert!(parse(&long).unwrap_err().to_string().len() < 200);
    }
}
