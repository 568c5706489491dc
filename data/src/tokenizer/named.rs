//! Finds tokens in a text by their spelling, before the text is split or merged.

use checkpoint::{TokenType, Vocabulary};

/// Such tokens of one kind, the longest first.
#[derive(Debug, Default)]
pub(crate) struct Named(Vec<(Box<str>, u32)>);

/// A stretch of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    /// Text between two such tokens, and its position.
    Text(usize, &'t str),
    /// The token.
    Token(u32),
}

impl Named {
    /// The tokens of a vocabulary for which `wanted` is true.
    pub fn of(vocabulary: &Vocabulary, wanted: impl Fn(TokenType) -> bool) -> Self {
        let all = (0_u32..).zip(&vocabulary.tokens).zip(&vocabulary.types);
        let wanted = all.filter(|((_, text), kind)| wanted(**kind) && !text.is_empty());
        wanted.map(|((id, text), _)| (text.as_str(), id)).collect()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(text, id)| (text.as_ref(), *id))
    }

    /// The parts of `text` in order; of several tokens at one position the longest is taken.
    pub fn split<'t>(&self, text: &'t str) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        // The next position of each token; searched again only after that position is passed.
        let mut next: Vec<Option<usize>> =
            self.0.iter().map(|(name, _)| text.find(&**name)).collect();
        let mut at = 0;
        loop {
            for (place, (name, _)) in next.iter_mut().zip(&self.0) {
                if place.is_some_and(|place| place < at) {
                    *place = text[at..].find(&**name).map(|found| at + found);
                }
            }
            let found = next
                .iter()
                .zip(&self.0)
                .filter_map(|(place, token)| Some((*place.as_ref()?, token)));
            // The longest come first, and of equal positions the first is kept.
            let Some((place, (name, id))) = found.min_by_key(|(place, _)| *place) else { break };
            if place > at {
                fragments.push(Fragment::Text(at, &text[at..place]));
            }
            fragments.push(Fragment::Token(*id));
            at = place + name.len();
        }
        if at < text.len() {
            fragments.push(Fragment::Text(at, &text[at..]));
        }
        fragments
    }
}

impl<'a> FromIterator<(&'a str, u32)> for Named {
    fn from_iter<I: IntoIterator<Item = (&'a str, u32)>>(tokens: I) -> Self {
        let mut all: Vec<(Box<str>, u32)> =
            tokens.into_iter().map(|(text, id)| (text.into(), id)).collect();
        all.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Named(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_and_of_these_the_longest_counts() {
        let named: Named = [("<a>", 1), ("<a><b>", 2), ("b>", 3)].into_iter().collect();
        let split = |text| named.split(text);
        assert_eq!(split(""), []);
        assert_eq!(split("plain"), [Fragment::Text(0, "plain")]);
        assert_eq!(
            split("x<a>y<a><b>b><a"),
            [
                Fragment::Text(0, "x"),
                Fragment::Token(1),
                Fragment::Text(4, "y"),
                Fragment::Token(2),
                Fragment::Token(3),
                Fragment::Text(13, "<a"),
            ]
        );
        assert_eq!(Named::default().split("a"), [Fragment::Text(0, "a")]);
    }
}
