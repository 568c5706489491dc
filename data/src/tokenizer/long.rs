//! Merges pieces of any length with a fixed amount of memory.
//!
//! Merging selects the lowest rank in the whole piece, so it seems to need the whole piece in
//! memory: about 40 bytes for each byte of it. But the tokens of a piece have a local description.
//! Call two neighbouring tokens *valid* if their concatenated text, merged alone, becomes these
//! two. Then
//!
//! 1. the neighbours in the tokens of any piece are valid, and
//! 2. a sequence of tokens whose neighbours are all valid is the result of merging its text.
//!
//! Both follow from one fact. If no merge ever crosses a position, the merges on either side are
//! those that each side would do alone, in the same order, since the lowest rank of the whole,
//! leftmost first, is also the lowest of its own side. (1): no merge crosses the position between
//! two resulting tokens, so both sides are merged as they would be alone. (2): suppose a merge of
//! the whole crossed a position between two of the tokens, and take the first one that does. Until
//! then the two tokens were merged as they would be alone, so the same merge would be next there,
//! and they would not be valid.
//!
//! A long piece is therefore merged window by window. Each window begins at a token of the previous
//! window, some tokens before its end, since the last tokens may still change. If the tokens on
//! both sides of that position are valid, the position is right, by (2). Otherwise the piece is
//! merged at once; with real vocabularies, no text in the tests causes this.

use super::encoder::Pieces;
use super::merge::{MergeTable, Scratch};

/// Parts that each window adds: enough that windows cost little, few enough for the cache.
const WINDOW: usize = 16 << 10;
/// Parts at the end of a window that are merged again with the next one.
const OVERLAP: usize = 512;
/// Longest piece that is merged at once, in bytes.
pub(super) const LONG_PIECE: usize = 2 * WINDOW;

/// Appends the tokens of a long piece, which is UTF-8, to `out`. The error is the position of a
/// byte that has no token.
pub(super) fn encode(
    vocabulary: &impl Pieces,
    piece: &[u8],
    out: &mut Vec<u32>,
) -> Result<(), usize> {
    let mut start = 0;
    let next = |parts: &mut Vec<u32>| -> Result<bool, usize> {
        let end = start + cut(&piece[start..], WINDOW);
        vocabulary.spell(&piece[start..end], parts).map_err(|at| start + at)?;
        start = end;
        Ok(end < piece.len())
    };
    let before = out.len();
    if !merge_windows(vocabulary.table(), next, OVERLAP, out)? {
        out.truncate(before);
        let mut ids = Vec::with_capacity(piece.len());
        vocabulary.spell(piece, &mut ids)?;
        vocabulary.table().apply(&mut ids, u32::MAX, &mut Scratch::default());
        out.extend_from_slice(&ids);
    }
    Ok(())
}

/// The last position between two characters at or before byte `at`.
fn cut(text: &[u8], at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    // At most three bytes of a character are before the position.
    let is_inside = |&place: &usize| text[place] & 0b1100_0000 == 0b1000_0000;
    (at.saturating_sub(3)..=at).rev().find(|place| !is_inside(place)).unwrap_or(at)
}

/// Merges parts that come in windows. `next` appends the parts of the next window and returns
/// whether there is another one; the last `overlap` parts of each are merged again with the next
/// one.
///
/// Returns false, with undefined content in `out`, if a position between two windows is not right.
/// Errors are those of `next`.
fn merge_windows<E>(
    table: &MergeTable,
    mut next: impl FnMut(&mut Vec<u32>) -> Result<bool, E>,
    overlap: usize,
    out: &mut Vec<u32>,
) -> Result<bool, E> {
    let mut parts = Vec::new();
    let mut ids = Vec::new();
    // The last token that is final: its parts, and the token.
    let mut settled: Option<(Vec<u32>, u32)> = None;
    loop {
        let goes_on = next(&mut parts)?;
        ids.clear();
        ids.extend_from_slice(&parts);
        let alive = table.merge_in_place(&mut ids, u32::MAX);
        let starts: Vec<usize> = (0..ids.len()).filter(|&at| alive[at]).collect();
        let end_of = |token: usize| starts.get(token + 1).copied().unwrap_or(ids.len());
        if let (Some((before, token)), Some(&first)) = (&settled, starts.first()) {
            let both = [before, &parts[first..end_of(0)]].concat();
            if !is_valid(table, both, [*token, ids[first]]) {
                return Ok(false);
            }
        }
        let kept = match goes_on {
            true => starts.iter().take_while(|&&at| at + overlap <= ids.len()).count(),
            false => starts.len(),
        };
        out.extend(starts[..kept].iter().map(|&at| ids[at]));
        if !goes_on {
            return Ok(true);
        }
        // If a single token is longer than the window, the window is enlarged.
        let Some(last) = kept.checked_sub(1) else { continue };
        let (start, end) = (starts[last], end_of(last));
        settled = Some((parts[start..end].to_vec(), ids[start]));
        parts.drain(..end);
    }
}

/// Whether `parts`, merged alone, become these two tokens.
fn is_valid(table: &MergeTable, mut parts: Vec<u32>, tokens: [u32; 2]) -> bool {
    table.apply(&mut parts, u32::MAX, &mut Scratch::default());
    parts == tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::merge::Merge;
    use super::*;

    /// Random merges of ids below 24 to ids from 4 on, including some that training would never
    /// give.
    fn table(pairs: &[(u32, u32)]) -> MergeTable {
        let mut table = MergeTable::default();
        for (rank, &(left, right)) in (0_u32..).zip(pairs) {
            table.insert(left, right, Merge { rank, id: 4 + rank });
        }
        table
    }

    fn at_once(table: &MergeTable, parts: &[u32]) -> Vec<u32> {
        let mut ids = parts.to_vec();
        table.apply(&mut ids, u32::MAX, &mut Scratch::default());
        ids
    }

    fn in_windows(
        table: &MergeTable,
        parts: &[u32],
        window: usize,
        overlap: usize,
    ) -> Option<Vec<u32>> {
        let mut windows = parts.chunks(window);
        let mut out = Vec::new();
        let next = |parts: &mut Vec<u32>| {
            parts.extend_from_slice(windows.next().unwrap_or_default());
            Ok::<_, std::convert::Infallible>(windows.len() > 0)
        };
        merge_windows(table, next, overlap, &mut out).unwrap().then_some(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn windows_give_what_the_whole_gives_or_say_that_they_do_not(
            pairs in prop::collection::vec((0_u32..24, 0_u32..24), 0..24),
            parts in prop::collection::vec(0_u32..4, 0..300),
            window in 1_usize..40,
            overlap in 0_usize..20,
        ) {
            let table = table(&pairs);
            if let Some(found) = in_windows(&table, &parts, window, overlap) {
                prop_assert_eq!(found, at_once(&table, &parts));
            }
        }

        /// The property that the algorithm depends on.
        #[test]
        fn tokens_are_right_where_all_neighbours_are_valid(
            pairs in prop::collection::vec((0_u32..12, 0_u32..12), 0..12),
            parts in prop::collection::vec(0_u32..4, 1..12),
            cuts in prop::collection::vec(any::<bool>(), 12),
        ) {
            let table = table(&pairs);
            // Any way to divide the parts into runs.
            let mut runs: Vec<Vec<u32>> = vec![vec![parts[0]]];
            for (&part, &is_cut) in parts[1..].iter().zip(&cuts) {
                match runs.last_mut() {
                    Some(run) if !is_cut => run.push(part),
                    _ => runs.push(vec![part]),
                }
            }
            // A run that does not become one token is split into its parts, each of which is one.
            let runs: Vec<Vec<u32>> = runs
                .into_iter()
                .flat_map(|run| match at_once(&table, &run).len() {
                    1 => vec![run],
                    _ => run.into_iter().map(|part| vec![part]).collect(),
                })
                .collect();
            let tokens: Vec<u32> = runs.iter().flat_map(|run| at_once(&table, run)).collect();
            let all_valid = runs.windows(2).zip(tokens.windows(2)).all(|(runs, tokens)| {
                is_valid(&table, runs.concat(), [tokens[0], tokens[1]])
            });
            prop_assert_eq!(all_valid, tokens == at_once(&table, &parts));
        }
    }

    #[test]
    fn long_runs_of_one_letter_need_no_second_attempt() {
        // a a -> 4, 4 4 -> 5, 5 5 -> 6, and one left over.
        let table = table(&[(0, 0), (4, 4), (5, 5), (6, 0)]);
        for length in [1, 7, 100, 999, 1000, 1001] {
            let parts = vec![0; length];
            let found = in_windows(&table, &parts, 64, 16).unwrap();
            assert_eq!(found, at_once(&table, &parts), "{length}");
        }
    }

    #[test]
    fn characters_stay_whole() {
        let text = "a\u{E4}\u{4E2D}\u{1F600}";
        for at in 0..=text.len() + 2 {
            let place = cut(text.as_bytes(), at);
            assert!(text.is_char_boundary(place) && place <= at, "{at}: {place}");
            assert!(place + 3 >= at.min(text.len()), "{at}: {place}");
        }
    }
}
