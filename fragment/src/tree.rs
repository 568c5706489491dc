//! A BLAKE3 tree of a piece: with it a part of a piece can be verified without the rest.
//!
//! BLAKE3 is the root of a binary tree over chunks of 1 KiB (O'Connor et al., 2020, section 2.4). The
//! file `<blake3>.tree` has two levels of that tree, chaining values of 32 bytes each:
//!
//! ```text
//! groups   one for each 128 KiB of the piece
//! leaves   one for each 4 KiB of the piece
//! ```
//!
//! To verify a part, a reader needs all groups, which must give the piece's BLAKE3, and the leaves of
//! the two groups in which the part begins and ends, which must give these groups. So the tree is as
//! little trusted as the piece.

use std::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

/// Bytes of a piece for each leaf: parts are read in whole leaves.
pub const LEAF_BYTES: u64 = 4 << 10;
/// Bytes of a piece for each group. Pieces of one group have no tree: they are read whole.
pub const GROUP_BYTES: u64 = 128 << 10;
/// Bytes of a chaining value.
const VALUE_BYTES: u64 = 32;
const LEAVES_PER_GROUP: u64 = GROUP_BYTES / LEAF_BYTES;

/// Name of the tree of the piece with this BLAKE3 hash.
pub fn tree_name(blake3: &str) -> String {
    format!("{blake3}.tree")
}

/// Whether a piece of this size has a tree.
pub fn has_tree(piece_bytes: u64) -> bool {
    piece_bytes > GROUP_BYTES
}

/// The content of the tree file of a piece; empty if the piece has none.
pub fn tree_of(piece: &[u8]) -> Vec<u8> {
    if !has_tree(piece.len() as u64) {
        return Vec::new();
    }
    let leaves = leaf_values(piece, 0);
    let groups = leaves.chunks(LEAVES_PER_GROUP as usize).map(merge);
    groups.chain(leaves.iter().copied()).flatten().collect()
}

/// What is read to get a part of a piece verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Bytes of the piece: the part, widened to whole leaves.
    pub data: Range<u64>,
    /// Bytes of the tree file with all groups.
    pub groups: Range<u64>,
    /// Bytes of the tree file with the leaves of the first group that the part touches, and of the
    /// last one if it is another.
    pub leaves: Vec<Range<u64>>,
    piece_bytes: u64,
}

impl Proof {
    /// What to read for `part` of a piece of `piece_bytes`; `None` if the piece has no tree, or the
    /// part is empty or not inside of the piece.
    pub fn of(piece_bytes: u64, part: &Range<u64>) -> Option<Self> {
        if !has_tree(piece_bytes) || part.start >= part.end || part.end > piece_bytes {
            return None;
        }
        let start = part.start - part.start % LEAF_BYTES;
        let end = part.end.next_multiple_of(LEAF_BYTES).min(piece_bytes);
        let groups = piece_bytes.div_ceil(GROUP_BYTES);
        let (first, last) = (start / GROUP_BYTES, (end - 1) / GROUP_BYTES);
        let row = |group: u64| {
            let leaves = piece_bytes.div_ceil(LEAF_BYTES);
            let from = group * LEAVES_PER_GROUP;
            let to = leaves.min(from + LEAVES_PER_GROUP);
            (groups + from) * VALUE_BYTES..(groups + to) * VALUE_BYTES
        };
        let leaves = match last - first {
            0 => vec![row(first)],
            1 => {
                let both = row(first).start..row(last).end;
                vec![both]
            }
            _ => vec![row(first), row(last)],
        };
        Some(Proof { data: start..end, groups: 0..groups * VALUE_BYTES, leaves, piece_bytes })
    }

    /// Bytes that are read in all.
    pub fn bytes(&self) -> u64 {
        let length = |range: &Range<u64>| range.end - range.start;
        length(&self.data) + length(&self.groups) + self.leaves.iter().map(length).sum::<u64>()
    }

    /// Whether the bytes read for [`Proof::groups`] belong to the piece with this BLAKE3.
    pub fn groups_are_of(&self, blake3: &str, groups: &[u8]) -> bool {
        let values = values(groups);
        let expected = self.groups.end - self.groups.start;
        groups.len() as u64 == expected && root(&values).to_hex().as_str() == blake3
    }

    /// Whether `data` are the bytes [`Proof::data`] of the piece that verified `groups` belong to.
    /// `leaves` are the bytes read for [`Proof::leaves`], one after the other.
    pub fn holds(&self, groups: &[u8], leaves: &[u8], data: &[u8]) -> bool {
        let length = |range: &Range<u64>| range.end - range.start;
        let expected = self.leaves.iter().map(length).sum::<u64>();
        if data.len() as u64 != length(&self.data) || leaves.len() as u64 != expected {
            return false;
        }
        let (groups, rows) = (values(groups), values(leaves));
        let found = leaf_values(data, self.data.start);
        let (first, end) = (self.data.start / LEAF_BYTES, self.data.end.div_ceil(LEAF_BYTES));
        let (first_group, last_group) =
            (first / LEAVES_PER_GROUP, (self.data.end - 1) / GROUP_BYTES);
        (first_group..=last_group).all(|group| {
            let from = group * LEAVES_PER_GROUP;
            let to = (from + LEAVES_PER_GROUP).min(self.piece_bytes.div_ceil(LEAF_BYTES));
            let leaf = |leaf: u64| match (first..end).contains(&leaf) {
                true => found.get((leaf - first) as usize),
                false => rows.get(self.place_of(leaf)?),
            };
            let all: Option<Vec<ChainingValue>> =
                (from..to).map(|index| leaf(index).copied()).collect();
            all.is_some_and(|all| groups.get(group as usize) == Some(&merge(&all)))
        })
    }

    /// Where the chaining value of a leaf stands among the values that were read.
    fn place_of(&self, leaf: u64) -> Option<usize> {
        let groups = self.groups.end / VALUE_BYTES;
        let at = (groups + leaf) * VALUE_BYTES;
        let mut before = 0;
        for row in &self.leaves {
            if row.contains(&at) {
                return usize::try_from((before + at - row.start) / VALUE_BYTES).ok();
            }
            before += row.end - row.start;
        }
        None
    }
}

/// Chaining values of the leaves of `bytes`, which begin at `offset` of the piece.
fn leaf_values(bytes: &[u8], offset: u64) -> Vec<ChainingValue> {
    let value = |(index, leaf): (usize, &[u8])| {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset + index as u64 * LEAF_BYTES);
        hasher.update(leaf);
        hasher.finalize_non_root()
    };
    bytes.chunks(LEAF_BYTES as usize).enumerate().map(value).collect()
}

fn values(bytes: &[u8]) -> Vec<ChainingValue> {
    bytes.as_chunks::<{ VALUE_BYTES as usize }>().0.to_vec()
}

/// The chaining value of a subtree from those of its parts, which are of equal size but for the last.
fn merge(parts: &[ChainingValue]) -> ChainingValue {
    match parts {
        [one] => *one,
        _ => {
            let (left, right) = parts.split_at(left_parts(parts.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// The hash of the whole from its parts: two or more.
fn root(parts: &[ChainingValue]) -> blake3::Hash {
    if parts.len() < 2 {
        return blake3::Hash::from_bytes([0; 32]);
    }
    let (left, right) = parts.split_at(left_parts(parts.len()));
    merge_subtrees_root(&merge(left), &merge(right), Mode::Hash)
}

/// The left subtree has the largest power of two that leaves something for the right one.
fn left_parts(parts: usize) -> usize {
    // The rule of BLAKE3 for chunks; parts of equal size follow it alike.
    let chunk = blake3::CHUNK_LEN as u64;
    (left_subtree_len(parts as u64 * chunk) / chunk) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn pick(from: &[u8], ranges: &[Range<u64>]) -> Vec<u8> {
        let parts = ranges.iter().flat_map(|range| &from[range.start as usize..range.end as usize]);
        parts.copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_part_is_verified_and_a_flipped_bit_anywhere_is_found(
            size in GROUP_BYTES + 1..9 * GROUP_BYTES,
            at in 0.0..1.0_f64,
            length in 0.0..1.0_f64,
            flip in 0.0..1.0_f64,
        ) {
            let piece = piece(size as usize);
            let tree = tree_of(&piece);
            let start = (at * (size - 1) as f64) as u64;
            let end = start + 1 + (length * (size - start - 1) as f64) as u64;
            let proof = Proof::of(size, &(start..end)).unwrap();
            let hash = blake3::hash(&piece).to_hex();
            let mut data = pick(&piece, std::slice::from_ref(&proof.data));
            let groups = pick(&tree, std::slice::from_ref(&proof.groups));
            let leaves = pick(&tree, &proof.leaves);
            prop_assert!(proof.groups_are_of(&hash, &groups));
            prop_assert!(proof.holds(&groups, &leaves, &data));

            let mut wrong = groups.clone();
            wrong[(flip * groups.len() as f64) as usize] ^= 1;
            prop_assert!(!proof.groups_are_of(&hash, &wrong));
            data[(flip * proof.data.end.saturating_sub(proof.data.start) as f64) as usize] ^= 1;
            prop_assert!(!proof.holds(&groups, &leaves, &data));
        }
    }

    #[test]
    fn the_groups_of_every_shape_of_tree_give_the_hash_of_the_blake3_crate() {
        for size in
            (1..=9).flat_map(|n| [n * GROUP_BYTES - 1, n * GROUP_BYTES, n * GROUP_BYTES + 1])
        {
            let piece = piece(size as usize);
            let tree = tree_of(&piece);
            assert_eq!(tree.is_empty(), size <= GROUP_BYTES);
            let Some(proof) = Proof::of(size, &(0..size)) else { continue };
            let hash = blake3::hash(&piece).to_hex();
            assert!(proof.groups_are_of(&hash, &tree[..proof.groups.end as usize]), "{size}");
            assert!(!proof.groups_are_of(&hash, &tree), "too long");
        }
    }

    #[test]
    fn a_part_of_a_mebibyte_and_a_quarter_costs_one_percent_more_at_most() {
        let size = 10 << 20;
        for start in (0..size - (5 << 18)).step_by(4099) {
            let part = start..start + (5 << 18);
            let bytes = Proof::of(size, &part).unwrap().bytes();
            assert!(bytes <= (5 << 18) * 101 / 100, "{part:?}: {bytes}");
        }
    }

    #[test]
    fn what_is_not_inside_of_a_piece_has_no_proof() {
        for part in [0..0, 5..5, 0..GROUP_BYTES + 2, GROUP_BYTES + 1..GROUP_BYTES + 2] {
            assert_eq!(Proof::of(GROUP_BYTES + 1, &part), None, "{part:?}");
        }
        assert_eq!(Proof::of(GROUP_BYTES, &(0..1)), None, "a piece without a tree");
    }
}
