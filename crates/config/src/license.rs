//! Licences of weights: SPDX expressions, and licences that are given only as a text.
//!
//! As with cargo's `license` and `license-file`: a licence on the SPDX list is given by its
//! identifier, any other as `LicenseRef-NAME` together with a file that holds its text.

use spdx::{Expression, LicenseItem, ParseMode};

/// The expression in SPDX's spelling, with the right case of identifiers and operators.
///
/// # Errors
/// When an identifier is not on the list, the expression is malformed, or only one of `LicenseRef-`
/// and the file with its text (`has_file`) is given; the error says what was expected.
pub fn canonical_license(expression: &str, has_file: bool) -> Result<String, String> {
    const MODE: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };
    let canonical = in_right_case(expression);
    let parsed = Expression::parse_mode(&canonical, MODE).map_err(|error| {
        format!(
            "an SPDX expression ({}): identifiers from https://spdx.org/licenses, as \"Apache-2.0\" \
             or \"MIT OR CC-BY-4.0\"; a licence that is not on that list is \"LicenseRef-NAME\" \
             with the file of its text as license_file",
            error.reason
        )
    })?;
    let is_own = |item: &LicenseItem| matches!(item, LicenseItem::Other(_));
    let own = parsed.requirements().filter(|found| is_own(&found.req.license)).count();
    match (own, has_file) {
        (0, false) | (1, true) => Ok(canonical),
        (0, true) => Err(
            "\"LicenseRef-NAME\" in it, since license_file has the text of a licence that is not \
             on SPDX's list; or no license_file"
                .to_owned(),
        ),
        (_, false) => {
            Err("license_file beside it: the file with the text of the LicenseRef".to_owned())
        }
        (_, true) => Err("one LicenseRef at most, which license_file has the text of".to_owned()),
    }
}

/// Identifiers do not depend on case, and model cards write them in lower case.
fn in_right_case(expression: &str) -> String {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-.+:".contains(letter);
    let mut text = String::with_capacity(expression.len());
    let mut rest = expression.trim();
    while let Some(first) = rest.chars().next() {
        let same = |letter: char| is_word(letter) == is_word(first);
        let length = rest.find(|letter| !same(letter)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        text.push_str(known(word).unwrap_or(word));
        rest = behind;
    }
    text
}

/// An operator or an identifier in the spelling of the list.
fn known(word: &str) -> Option<&'static str> {
    let operators = ["AND", "OR", "WITH"].into_iter();
    let licenses = spdx::identifiers::LICENSES.iter().map(|license| license.name);
    let exceptions = spdx::identifiers::EXCEPTIONS.iter().map(|exception| exception.name);
    let mut all = operators.chain(licenses).chain(exceptions);
    all.find(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::canonical_license;

    #[test]
    fn what_the_list_names_is_taken_in_either_case() {
        for (given, expected) in [
            ("MIT OR Apache-2.0", "MIT OR Apache-2.0"),
            ("apache-2.0", "Apache-2.0"),
            (
                " mit or (cc-by-4.0 and CDLA-Sharing-1.0) ",
                "MIT OR (CC-BY-4.0 AND CDLA-Sharing-1.0)",
            ),
            (
                "gpl-3.0-only with Classpath-exception-2.0",
                "GPL-3.0-only WITH Classpath-exception-2.0",
            ),
            ("GPL-3.0", "GPL-3.0"),
        ] {
            assert_eq!(canonical_license(given, false).as_deref(), Ok(expected));
        }
        let own = "LicenseRef-Gemma OR MIT";
        assert_eq!(canonical_license(own, true).as_deref(), Ok(own));
    }

    #[test]
    fn any_other_text_is_refused_with_the_way_out() {
        for (given, has_file, expected) in [
            ("", false, "an SPDX expression"),
            ("mine", false, "LicenseRef-NAME"),
            ("all rights reserved", false, "LicenseRef-NAME"),
            ("MIT OR", false, "an SPDX expression"),
            ("MIT, Apache-2.0", false, "an SPDX expression"),
            ("LicenseRef-Gemma", false, "license_file beside it"),
            ("MIT", true, "or no license_file"),
            ("LicenseRef-A AND LicenseRef-B", true, "one LicenseRef at most"),
        ] {
            let refusal = canonical_license(given, has_file).unwrap_err();
            assert!(refusal.contains(expected), "{given}: {refusal}");
        }
    }
}
