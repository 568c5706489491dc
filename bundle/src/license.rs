//! The `LICENSE` of a bundle: the texts that its SPDX expression names.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};

/// Longest text of a licence that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Identifiers whose text this program has, without the name of an author.
const TEXTS: [(&str, &str); 2] = [
    ("MIT", include_str!("../licenses/MIT.txt")),
    ("Apache-2.0", include_str!("../licenses/Apache-2.0.txt")),
];

/// The licence of the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// As SPDX writes it.
    expression: String,
    /// The text of its `LicenseRef`, or the one that came with the weights.
    own_text: Option<String>,
}

impl License {
    /// An SPDX expression, and the file with the text of the `LicenseRef` in it.
    ///
    /// # Errors
    /// When the expression is not valid or its `LicenseRef` has no file
    /// ([`config::canonical_license`]); when the file cannot be read or is empty.
    pub fn new(expression: &str, file: Option<&Path>) -> anyhow::Result<Self> {
        let expression = config::canonical_license(expression, file.is_some())
            .map_err(|expected| anyhow!("license = {expression:?}: expected {expected}"))?;
        let own_text = file.map(read_text).transpose()?;
        Ok(License { expression, own_text })
    }

    /// A licence with the text that came with the weights, which names their authors.
    pub(crate) fn with_text(expression: String, text: Option<String>) -> Self {
        License { expression, own_text: text }
    }

    /// The SPDX expression.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The expression, then the text of each licence in it, or the address of the text.
    pub fn text(&self, name: &str) -> String {
        let expression = &self.expression;
        let mut text = format!("The weights of {name} are licensed as: {expression}\n");
        if let Some(own) = self.own_text.as_ref().filter(|_| !expression.contains("LicenseRef-")) {
            text += &format!("\n{}\nThe text that came with them:\n\n{own}", "-".repeat(72));
            return text;
        }
        let operators = ["OR", "AND", "WITH", ""];
        let words = expression.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
        for identifier in words.filter(|word| !operators.contains(word)) {
            text += &format!("\n{}\n{identifier}\n\n", "-".repeat(72));
            let known = TEXTS.iter().find(|(known, _)| *known == identifier);
            match (known, &self.own_text) {
                (Some((_, full)), _) => text += full,
                (None, Some(own)) if identifier.starts_with("LicenseRef-") => text += own,
                _ => text += &format!("The text is at https://spdx.org/licenses/{identifier}\n"),
            }
        }
        text
    }
}

pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = String::new();
    plain_file::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("the licence: cannot read {name} as text"))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "the licence: {name} is longer than {MAX_BYTES} bytes");
    ensure!(!text.trim().is_empty(), "the licence: {name} is empty, expected a licence's text");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::License;

    #[test]
    fn known_licences_are_given_in_full() {
        let text = License::new("mit OR (Apache-2.0 AND CC-BY-4.0)", None).unwrap().text("m");
        assert!(text.contains("Permission is hereby granted"));
        assert!(text.contains("Apache License"));
        assert!(text.contains("spdx.org/licenses/CC-BY-4.0"));
        assert!(!text.contains("licenses/OR"));
    }

    #[test]
    fn a_licence_of_ones_own_comes_with_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("TERMS.txt");
        let with = |expression: &str| License::new(expression, Some(&file));
        assert!(with("LicenseRef-Terms").unwrap_err().to_string().contains("TERMS.txt"));
        std::fs::write(&file, " \n").unwrap();
        assert!(with("LicenseRef-Terms").unwrap_err().to_string().contains("is empty"));
        std::fs::write(&file, "Do as you like.\n").unwrap();
        let license = with("LicenseRef-Terms").unwrap();
        assert!(license.text("m").ends_with("LicenseRef-Terms\n\nDo as you like.\n"));
        assert!(with("MIT").is_err());
        let error = License::new("do as you like", None).unwrap_err().to_string();
        assert!(
            error.contains("an SPDX expression") && error.contains("LicenseRef-NAME"),
            "{error}"
        );
    }
}
