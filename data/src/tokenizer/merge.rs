//! Byte-pair merging (Sennrich et al., 2016): which two neighbours merge, and in which order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rustc_hash::FxBuildHasher;

/// Pieces of at most this many bytes are merged by scanning, longer ones with a heap, so that a
/// text without spaces does not take quadratic time.
const SCAN_LIMIT: usize = 96;

/// The merge of two neighbouring tokens. Lower ranks merge first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Order of precedence.
    pub rank: u32,
    /// The token that replaces both.
    pub id: u32,
}

/// No merge: every real rank is lower.
const NONE: Merge = Merge { rank: u32::MAX, id: u32::MAX };

/// All merges of a vocabulary, by the pair of token ids that they join.
#[derive(Debug, Clone, Default)]
pub(crate) struct MergeTable(HashMap<(u32, u32), Merge, FxBuildHasher>);

impl MergeTable {
    /// Adds a merge; of two for the same pair the first one is kept.
    pub fn insert(&mut self, left: u32, right: u32, merge: Merge) {
        self.0.entry((left, right)).or_insert(merge);
    }

    fn get(&self, left: u32, right: u32) -> Merge {
        self.0.get(&(left, right)).copied().unwrap_or(NONE)
    }

    /// Merges `ids`, the tokens of single bytes, until no pair has a rank below `rank_limit`:
    /// always the lowest rank first, and of equal ranks the leftmost.
    pub fn apply(&self, ids: &mut Vec<u32>, rank_limit: u32, scratch: &mut Scratch) {
        if ids.len() <= SCAN_LIMIT {
            self.apply_by_scan(ids, rank_limit, &mut scratch.pairs);
        } else {
            self.apply_by_heap(ids, rank_limit);
        }
    }

    fn apply_by_scan(&self, ids: &mut Vec<u32>, rank_limit: u32, pairs: &mut Vec<Merge>) {
        pairs.clear();
        pairs.extend(ids.windows(2).map(|pair| self.get(pair[0], pair[1])));
        while let Some(at) = (0..pairs.len()).min_by_key(|&at| pairs[at].rank) {
            let Merge { rank, id } = pairs[at];
            if rank >= rank_limit {
                break;
            }
            ids[at] = id;
            ids.remove(at + 1);
            pairs.remove(at);
            if at < pairs.len() {
                pairs[at] = self.get(id, ids[at + 1]);
            }
            if at > 0 {
                pairs[at - 1] = self.get(ids[at - 1], id);
            }
        }
    }

    /// The same in `n log n`.
    fn apply_by_heap(&self, ids: &mut Vec<u32>, rank_limit: u32) {
        let alive = self.merge_in_place(ids, rank_limit);
        let mut at = 0;
        ids.retain(|_| {
            at += 1;
            alive[at - 1]
        });
    }

    /// Merges tokens in a linked list, with candidates in a heap. Each remaining token is stored at
    /// the position of its first part; the result lists these positions. A candidate whose tokens
    /// have changed since it was put into the heap no longer matches `pairs` and is skipped.
    pub fn merge_in_place(&self, ids: &mut [u32], rank_limit: u32) -> Vec<bool> {
        let end = ids.len();
        let mut next: Vec<usize> = (1..=end).collect();
        let mut previous: Vec<usize> = (0..end).map(|at| at.wrapping_sub(1)).collect();
        let mut alive = vec![true; end];
        let mut pairs: Vec<Merge> = ids.windows(2).map(|p| self.get(p[0], p[1])).collect();
        pairs.push(NONE);
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = pairs
            .iter()
            .enumerate()
            .filter(|(_, merge)| merge.rank < rank_limit)
            .map(|(at, merge)| Reverse((merge.rank, at)))
            .collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            if !alive[at] || pairs[at].rank != rank {
                continue;
            }
            let gone = next[at];
            ids[at] = pairs[at].id;
            alive[gone] = false;
            next[at] = next[gone];
            if next[at] < end {
                previous[next[at]] = at;
            }
            for left in [at, previous[at]] {
                if left >= end {
                    continue;
                }
                let right = next[left];
                pairs[left] = if right < end { self.get(ids[left], ids[right]) } else { NONE };
                if pairs[left].rank < rank_limit {
                    heap.push(Reverse((pairs[left].rank, left)));
                }
            }
        }
        alive
    }
}

/// Buffers that are reused from piece to piece.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pairs: Vec<Merge>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Random merges over four letters, without any structure, so that stale candidates occur.
    fn table(pairs: &[(u32, u32)]) -> MergeTable {
        let mut table = MergeTable::default();
        for (rank, &(left, right)) in (0_u32..).zip(pairs) {
            table.insert(left, right, Merge { rank, id: 4 + rank });
        }
        table
    }

    proptest! {
        #[test]
        fn the_heap_merges_as_the_scan_does(
            pairs in prop::collection::vec((0_u32..24, 0_u32..24), 0..24),
            ids in prop::collection::vec(0_u32..4, 0..200),
            limit in 0_u32..30,
        ) {
            let table = table(&pairs);
            let mut scanned = ids.clone();
            table.apply_by_scan(&mut scanned, limit, &mut Vec::new());
            let mut heaped = ids;
            if !heaped.is_empty() {
                table.apply_by_heap(&mut heaped, limit);
            }
            prop_assert_eq!(scanned, heaped);
        }
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        let table = table(&[(1, 1), (0, 1)]);
        let mut ids = vec![0, 1, 1, 1];
        table.apply(&mut ids, u32::MAX, &mut Scratch::default());
        assert_eq!(ids, [0, 4, 1]);
    }
}
