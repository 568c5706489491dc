//! Reads the licence of weights from the folder that they come from.
//!
//! A model's folder on Hugging Face has it as `license:` in the front matter of `README.md`: an
//! identifier of SPDX in lower case, one of Hugging Face's own (`gemma`, `llama3.2`), or `other`
//! with `license_name:`. The text is in `LICENSE`, where there is one.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::license::{License, read_text};

const README: &str = "README.md";

/// Names of the file with the text.
const TEXTS: [&str; 4] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"];

impl License {
    /// The given expression, or the licence that the first of the folders `sources` with one
    /// states.
    ///
    /// # Errors
    /// Those of [`License::new`] and `read`; when neither names a licence.
    pub fn of(
        given: Option<&str>,
        file: Option<&Path>,
        sources: &[PathBuf],
    ) -> anyhow::Result<Self> {
        if let Some(expression) = given {
            return License::new(expression, file);
        }
        ensure!(
            file.is_none(),
            "a licence's text is given without its name: expected bundle.license (--license) \
             LicenseRef-NAME beside it"
        );
        for folder in sources {
            if let Some(license) = read(folder)? {
                return Ok(license);
            }
        }
        bail!(
            "nothing says under which licence the weights may be passed on: set bundle.license in \
             the run file (--license with bundle pack) to an SPDX expression, as \"Apache-2.0\""
        )
    }
}

/// The licence that `folder` states, if it states one.
///
/// # Errors
/// When the licence is not on SPDX's list and the folder does not have its text; when a file cannot
/// be read.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<License>> {
    let text = TEXTS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let text = text.map(|path| read_text(&path)).transpose()?;
    let readme = folder.join(README);
    let stated = match readme.is_file() {
        true => stated(
            &plain_file::read_to_string(&readme)
                .with_context(|| format!("cannot read {}", readme.display()))?,
        ),
        false => None,
    };
    let Some(stated) = stated else {
        return Ok(text.map(|text| License::with_text("LicenseRef-Source".to_owned(), Some(text))));
    };
    if let Ok(expression) = config::canonical_license(&stated, false) {
        return Ok(Some(License::with_text(expression, text)));
    }
    match text {
        Some(text) => Ok(Some(License::with_text(reference(&stated), Some(text)))),
        None => bail!(
            "{} names the licence {stated:?}, which is not on SPDX's list, and no file LICENSE has \
             its text: set bundle.license (--license) to \"LicenseRef-NAME\" and \
             bundle.license_file (--license-file) to a file with the text",
            readme.display()
        ),
    }
}

/// `license`, or the name of one that is `other`, in the front matter of a `README.md`.
fn stated(readme: &str) -> Option<String> {
    let matter = readme.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let (matter, _) = matter.split_once("\n---")?;
    let value = |key: &str| {
        let line = matter.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let value = line.split(" #").next()?.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    let license = value("license")?;
    match license.as_str() {
        "other" => value("license_name").or(Some(license)),
        "unknown" => None,
        _ => Some(license),
    }
}

/// `LicenseRef-NAME` with what SPDX allows in a name.
fn reference(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    format!("LicenseRef-{name}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails says where")]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn expression(files: &[(&str, &str)]) -> Option<String> {
        let license = read(folder(files).path()).unwrap();
        license.map(|license| license.expression().to_owned())
    }

    #[test]
    fn the_front_matter_names_it() {
        for (readme, expected) in [
            ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", Some("Apache-2.0")),
            ("---\r\nlicense: \"mit\" # ours\r\n---\r\n", Some("MIT")),
            ("---\nlicense_name: a\nlicense_link: LICENSE\n---\n", None),
            ("---\nlicense: unknown\n---\n", None),
            ("# Model\nlicense: mit\n", None),
            ("---\nlicense: mit\n", None),
        ] {
            assert_eq!(expression(&[("README.md", readme)]).as_deref(), expected, "{readme}");
        }
        assert_eq!(expression(&[]), None);
    }

    #[test]
    fn a_licence_of_ones_own_needs_its_text() {
        let readme = ("README.md", "---\nlicense: other\nlicense_name: my terms\n---\n");
        let text = ("LICENSE", "Do as you like.\n");
        assert_eq!(expression(&[readme, text]).as_deref(), Some("LicenseRef-my-terms"));
        assert_eq!(expression(&[text]).as_deref(), Some("LicenseRef-Source"));
        let error = read(folder(&[readme]).path()).unwrap_err().to_string();
        assert!(error.contains("\"my terms\"") && error.contains("bundle.license"), "{error}");
    }

    #[test]
    fn the_authors_names_go_along() {
        let readme = ("README.md", "---\nlicense: mit\n---\n");
        let text = ("LICENSE", "MIT License\n\nCopyright Somebody\n");
        let license = read(folder(&[readme, text]).path()).unwrap().unwrap();
        assert!(license.text("m").starts_with("The weights of m are licensed as: MIT\n"));
        assert!(license.text("m").ends_with("Copyright Somebody\n"));
    }

    #[test]
    fn nothing_is_taken_for_granted() {
        let silent = folder(&[]);
        let source = folder(&[("README.md", "---\nlicense: cc-by-4.0\n---\n")]);
        let of = |given, folder: &tempfile::TempDir| {
            License::of(given, None, &[folder.path().to_owned()])
        };
        let error = of(None, &silent).unwrap_err().to_string();
        assert!(error.contains("set bundle.license") && error.contains("--license"), "{error}");
        assert_eq!(of(None, &source).unwrap().expression(), "CC-BY-4.0");
        assert_eq!(of(Some("mit"), &source).unwrap().expression(), "MIT");
    }
}
