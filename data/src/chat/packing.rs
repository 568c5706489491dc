//! Windows of whole conversations.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::TokenFile;
use crate::windows::Window;

/// Puts items of the given sizes into bins of `capacity`: the largest first, each into the bin
/// that it fills best (best fit decreasing; Johnson et al., 1974: at most 11/9 of the fewest bins,
/// and one more). Gives the items of each bin. Items above the capacity are left out.
///
/// The result depends on the sizes only, so a resumed run has the same windows.
pub fn pack(sizes: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&item| sizes[item] <= capacity).collect();
    order.sort_by_key(|&item| (std::cmp::Reverse(sizes[item]), item));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    // Bins by the room that they have left, the latest opened last.
    let mut room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for item in order {
        let size = sizes[item];
        let best = room.range(size..).next().map(|(&left, _)| left);
        let (bin, left) = match best.and_then(|left| Some((room.get_mut(&left)?.pop()?, left))) {
            Some(found) => found,
            None => {
                bins.push(Vec::new());
                (bins.len() - 1, capacity)
            }
        };
        if room.get(&left).is_some_and(Vec::is_empty) {
            room.remove(&left);
        }
        bins[bin].push(item);
        room.entry(left - size).or_default().push(bin);
    }
    bins
}

/// Windows of `context` positions, each of several whole conversations of a token file.
///
/// A conversation of `n` tokens takes `n - 1` positions: each token but the last is an input, and
/// each but the first is the target of the position before it, so no position predicts the
/// beginning of another conversation.
#[derive(Debug)]
pub struct ConversationWindows {
    /// The conversations of each window, as ranges of the file's tokens.
    windows: Vec<Vec<Range<usize>>>,
    context: usize,
}

impl ConversationWindows {
    /// Windows of the conversations at `ranges`; those with less than two tokens or more than
    /// `context + 1` have no place.
    pub fn new(ranges: &[Range<usize>], context: usize) -> Self {
        let ranges: Vec<Range<usize>> =
            ranges.iter().filter(|range| range.len() >= 2).cloned().collect();
        let sizes: Vec<usize> = ranges.iter().map(|range| range.len() - 1).collect();
        let bins = pack(&sizes, context);
        let windows =
            bins.into_iter().map(|bin| bin.into_iter().map(|item| ranges[item].clone()).collect());
        ConversationWindows { windows: windows.collect(), context }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Window `index` of the tokens in `tokens`. Positions behind the last conversation hold
    /// `padding`, form a document of their own and do not train.
    ///
    /// # Panics
    /// As for a slice, when `index` is not below [`ConversationWindows::len`].
    pub fn get(&self, tokens: &TokenFile, index: usize, padding: u32) -> Window {
        let mut window = Window { inputs: Vec::with_capacity(self.context), ..Window::default() };
        let (mut trained, mut documents) = (Vec::new(), Vec::with_capacity(self.context));
        for range in &self.windows[index] {
            let start = window.inputs.len();
            let ids = tokens.get(range.clone());
            let trains = tokens.trains(range.clone());
            for (at, (pair, &trains)) in ids.windows(2).zip(&trains[1..]).enumerate() {
                if trains {
                    trained.push((start + at) as u32);
                    window.targets.push(pair[1]);
                }
            }
            window.inputs.extend_from_slice(&ids[..ids.len() - 1]);
            documents.resize(window.inputs.len(), start as u32);
        }
        let end = window.inputs.len();
        window.inputs.resize(self.context, padding);
        documents.resize(self.context, end as u32);
        Window { trained: Some(trained), documents: Some(documents), ..window }
    }

    /// Tokens of window `index` that train.
    pub fn trained(&self, tokens: &TokenFile, index: usize) -> usize {
        let count = |range: &Range<usize>| {
            let trains = tokens.trains(range.start + 1..range.end);
            trains.into_iter().filter(|&trains| trains).count()
        };
        self.windows[index].iter().map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_item_is_in_one_bin_and_no_bin_is_too_full(
            sizes in prop::collection::vec(1_usize..60, 0..200),
        ) {
            let bins = pack(&sizes, 50);
            let mut items: Vec<usize> = bins.iter().flatten().copied().collect();
            items.sort_unstable();
            let fitting = (0..sizes.len()).filter(|&item| sizes[item] <= 50);
            prop_assert!(items.into_iter().eq(fitting));
            for bin in &bins {
                prop_assert!(bin.iter().map(|&item| sizes[item]).sum::<usize>() <= 50);
            }
            let total: usize = sizes.iter().filter(|&&size| size <= 50).sum();
            prop_assert!(bins.len() <= (total.div_ceil(50) * 11).div_ceil(9) * 2 + 1);
        }
    }

    #[test]
    fn the_best_fit_is_taken() {
        assert_eq!(pack(&[5, 7, 3, 2, 9], 10), [vec![4], vec![1, 2], vec![0, 3]]);
        assert_eq!(pack(&[], 10), [[0; 0]; 0]);
    }
}
