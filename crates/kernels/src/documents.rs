//! Several documents in a row of tokens.

use std::sync::Arc;

/// Which earlier positions each position sees when a row holds several documents: only those of its
/// own document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// `[B, T]`: position within its row at which the document of each position begins. Shared with
    /// clones, of which a model has one for each layer.
    starts: Arc<[u32]>,
    time: usize,
}

impl Documents {
    /// `starts [B, T]`, row by row: the position within its row at which the document of each
    /// position begins.
    ///
    /// # Panics
    /// When these are not `B * T` numbers, or a row is not one document after the other.
    pub fn new(starts: impl Into<Arc<[u32]>>, [rows, time]: [usize; 2]) -> Self {
        let starts = starts.into();
        assert_eq!(starts.len(), rows * time, "document starts of {rows} rows of {time} positions");
        for (row, starts) in starts.chunks(time.max(1)).enumerate() {
            let mut begun = 0;
            for (position, &start) in starts.iter().enumerate() {
                assert!(
                    start == begun || start as usize == position,
                    "row {row}, position {position}: its document begins at {start}; expected \
                     {begun}, as before, or {position}"
                );
                begun = start;
            }
        }
        Documents { starts, time }
    }

    /// `B` and `T`.
    pub fn shape(&self) -> [usize; 2] {
        [self.starts.len() / self.time.max(1), self.time]
    }

    /// Whether any row holds more than one document.
    pub fn divide_rows(&self) -> bool {
        self.starts.iter().any(|&start| start > 0)
    }

    /// The position of each token within its document, counted from 0: `[B * T]`.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.starts.iter().enumerate().map(|(i, &start)| (i % self.time) as u32 - start)
    }

    /// Tokens of the longest document.
    pub fn longest(&self) -> usize {
        self.positions().max().map_or(0, |last| last as usize + 1)
    }

    /// Where the document of a position of a row begins.
    fn start(&self, row: usize, position: usize) -> usize {
        self.starts[row * self.time + position] as usize
    }
}

/// The first key that a query sees: where its window begins, or where its document begins if that
/// is later. It never decreases from one query of a row to the next.
pub(crate) fn first_key(
    window: usize,
    documents: Option<&Documents>,
    row: usize,
    query: usize,
) -> usize {
    let in_window = (query + 1).saturating_sub(window);
    documents.map_or(in_window, |documents| in_window.max(documents.start(row, query)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_the_start_of_each_document() {
        let documents = Documents::new([0, 0, 2, 2, 2, 0, 1, 2, 2, 2], [2, 5]);
        assert_eq!(documents.positions().collect::<Vec<_>>(), [0, 1, 0, 1, 2, 0, 0, 0, 1, 2]);
        assert_eq!((documents.shape(), documents.longest()), ([2, 5], 3));
        assert!(documents.divide_rows());
        assert!(!Documents::new([0; 10], [2, 5]).divide_rows());
    }

    #[test]
    fn a_query_sees_its_window_within_its_document() {
        let documents = Documents::new([0, 0, 2, 2, 2, 0, 0, 0, 0, 0], [2, 5]);
        let seen = |window, row| -> Vec<usize> {
            (0..5).map(|query| first_key(window, Some(&documents), row, query)).collect()
        };
        assert_eq!(seen(9, 0), [0, 0, 2, 2, 2]);
        assert_eq!(seen(2, 0), [0, 0, 2, 2, 3]);
        assert_eq!(seen(2, 1), [0, 0, 1, 2, 3]);
        assert_eq!(first_key(2, None, 0, 4), 3);
    }

    #[test]
    #[should_panic(expected = "row 1, position 2: its document begins at 1; expected 0, as before")]
    fn a_document_that_begins_again_is_refused() {
        Documents::new([0, 0, 0, 0, 0, 1], [2, 3]);
    }

    #[test]
    #[should_panic(expected = "document starts of 2 rows of 3 positions")]
    fn a_start_is_needed_for_every_position() {
        Documents::new([0, 0, 0, 0, 0], [2, 3]);
    }
}
