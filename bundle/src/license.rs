//! The `LICENSE` of a bundle: the texts that its SPDX expression names.

/// Identifiers whose text this program has.
const TEXTS: [(&str, &str); 2] = [
    ("MIT", include_str!("../../LICENSE-MIT")),
    ("Apache-2.0", include_str!("../../LICENSE-APACHE")),
];

/// The expression, then the text of each licence in it, or where to find it.
pub fn text(expression: &str, name: &str) -> String {
    let mut text = format!("The weights of {name} are licensed as: {expression}\n");
    let operators = ["OR", "AND", "WITH", ""];
    let words = expression.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
    for identifier in words.filter(|word| !operators.contains(word)) {
        text += &format!("\n{}\n{identifier}\n\n", "-".repeat(72));
        match TEXTS.iter().find(|(known, _)| *known == identifier) {
            Some((_, full)) => text += full,
            None => text += &format!("The text is at https://spdx.org/licenses/{identifier}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_licences_are_given_in_full() {
        let text = super::text("MIT OR (Apache-2.0 AND CC-BY-4.0)", "m");
        assert!(text.contains("Permission is hereby granted"));
        assert!(text.contains("Apache License"));
        assert!(text.contains("spdx.org/licenses/CC-BY-4.0"));
        assert!(!text.contains("licenses/OR"));
    }
}
