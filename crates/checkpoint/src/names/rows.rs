//! The order of the output rows of a projection, where Hugging Face's differs from Burn's and
//! GGUF's.
//!
//! There are two cases. Both exchange two neighbouring axes of the rows, so one description with
//! two constructors covers them.

/// The order of the rows of a matrix, or the entries of its bias: seen as `[outer, a, b, inner]` in
/// Hugging Face they are `[outer, b, a, inner]` in Burn and in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowOrder {
    outer: usize,
    a: usize,
    b: usize,
    inner: usize,
}

impl RowOrder {
    /// The same order everywhere.
    pub(crate) const SAME: RowOrder = RowOrder { outer: 1, a: 1, b: 1, inner: 1 };

    /// Queries or keys of `heads` heads, `D` wide, whose rotation pairs neighbouring channels.
    /// Hugging Face stores the first channel of every pair, then the second of every pair,
    /// `[heads, 2, D / 2]`; the model was trained with `[heads, D / 2, 2]`.
    ///
    /// Source: `permute` in `convert_llama_weights_to_hf.py` of transformers, and its inverse in
    /// `conversion/llama.py` of llama.cpp.
    pub(super) fn halves_to_pairs(heads: usize, head_width: usize) -> RowOrder {
        RowOrder { outer: heads, a: 2, b: head_width / 2, inner: 1 }
    }

    /// One projection for query, key and value: Hugging Face stores the three of one head
    /// together, `[heads, 3, D]`; ours is all queries, all keys, all values, `[3, heads, D]`.
    ///
    /// Source: `modeling_gpt_neox.py` of transformers, `conversion/gpt_neox.py` of llama.cpp.
    pub(super) fn interleaved_qkv(heads: usize, head_width: usize) -> RowOrder {
        RowOrder { outer: 1, a: heads, b: 3, inner: head_width }
    }

    /// Whether the order is the same everywhere.
    pub fn is_same(self) -> bool {
        self.a == 1 || self.b == 1
    }

    /// The index in Burn and GGUF of the row `row` of Hugging Face.
    pub fn ours(self, row: usize) -> usize {
        swap(row, self.a, self.b, self.inner)
    }

    /// The index in Hugging Face of the row `row` of Burn and GGUF.
    pub fn hugging_face(self, row: usize) -> usize {
        swap(row, self.b, self.a, self.inner)
    }

    /// Rows of `width` values each, from Hugging Face's order to ours.
    pub(super) fn arrange<T: Copy>(self, values: &[T], width: usize) -> Vec<T> {
        gather(values, width, |row| self.hugging_face(row))
    }

    /// Rows of `width` values each, from our order to Hugging Face's.
    pub(super) fn restore<T: Copy>(self, values: &[T], width: usize) -> Vec<T> {
        gather(values, width, |row| self.ours(row))
    }
}

/// The index in `[.., b, a, inner]` of the row `row` in `[.., a, b, inner]`.
fn swap(row: usize, a: usize, b: usize, inner: usize) -> usize {
    let (i, rest) = (row % inner, row / inner);
    let (at_b, rest) = (rest % b, rest / b);
    let (at_a, outer) = (rest % a, rest / a);
    ((outer * b + at_b) * a + at_a) * inner + i
}

/// Row `i` of the result is row `source(i)` of `values`.
fn gather<T: Copy>(values: &[T], width: usize, source: impl Fn(usize) -> usize) -> Vec<T> {
    let rows = values.len() / width;
    (0..rows).flat_map(|row| &values[source(row) * width..][..width]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w.reshape(heads, 2, D // 2, in).swapaxes(1, 2)`, for two heads of six rows.
    #[test]
    fn halves_become_pairs_head_by_head() {
        let order = RowOrder::halves_to_pairs(2, 6);
        let rows: Vec<usize> = (0..12).collect();
        assert_eq!(order.arrange(&rows, 1), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    /// Two heads of two rows: q0 k0 v0 q1 k1 v1 becomes q0 q1 k0 k1 v0 v1.
    #[test]
    fn interleaved_heads_become_all_queries_all_keys_all_values() {
        let order = RowOrder::interleaved_qkv(2, 2);
        let rows: Vec<usize> = (0..12).collect();
        assert_eq!(order.arrange(&rows, 1), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        for order in [
            RowOrder::SAME,
            RowOrder::halves_to_pairs(3, 4),
            RowOrder::halves_to_pairs(1, 64),
            RowOrder::interleaved_qkv(5, 2),
            RowOrder::interleaved_qkv(1, 7),
        ] {
            let rows = order.outer * order.a * order.b * order.inner;
            let values: Vec<usize> = (0..rows * 3).collect();
            assert_eq!(order.restore(&order.arrange(&values, 3), 3), values, "{order:?}");
            assert_eq!(order.arrange(&order.restore(&values, 3), 3), values, "{order:?}");
            for row in 0..rows {
                assert_eq!(order.hugging_face(order.ours(row)), row, "{order:?}");
                assert_eq!(order.ours(order.hugging_face(row)), row, "{order:?}");
            }
            let moved = (0..rows).any(|row| order.ours(row) != row);
            assert_eq!(moved, !order.is_same(), "{order:?}");
        }
    }
}
