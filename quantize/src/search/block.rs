//! Scales, offsets and codes of one block: the pairs that are tried, and their order.
//!
//! The pair of a group is searched in two rounds of 16. The first tries shrunken copies of the pair
//! that spans all weights, since clipping a few of them makes the steps of the others finer. The
//! second tries pairs around the solution of the normal equations for the codes found. Formats
//! whose groups share a 16-bit float then need integers: the shared float follows from the largest
//! scale, and a few smaller and larger ones are tried. For each of them every group tries the
//! integers around its own pair, one group after another, and takes the errors of the groups before
//! it into account.

#![allow(clippy::needless_range_loop, reason = "indices are those of the formulas")]

use gguf::grid::{Grid, MAX_BLOCK, MAX_GROUPS, OffsetGrid, Parts, ScaleGrid};
use half::f16;

use super::group::{LANES, Lanes, Metric, Rounded, Target, costs, fit, polish, round};

/// Sweeps of coordinate descent after a rounding.
const SWEEPS: usize = 2;

/// Factors on the shared 16-bit floats of a block that are tried.
const SHARED_FACTORS: [f32; 3] = [1.0, 0.94, 1.06];

/// Scale and offset of a group.
type Pair = (f32, f32);

/// One block of a row, given the rounding of the earlier blocks.
pub(super) struct BlockTarget<'a> {
    /// `w`, one block.
    pub weights: &'a [f32],
    /// `ζ` from the columns before this block.
    pub feedback: &'a [f32],
}

/// The weights of the errors within a block.
pub(super) struct BlockMetric<'a, const L: usize> {
    /// One for each group.
    pub groups: &'a [Metric<L>],
    /// `U_ij` from earlier to later columns: row `j` starts at `j * stride` and holds column `i` of
    /// the block at `first + i`.
    pub across: &'a [f32],
    /// Floats from one row of `across` to the next.
    pub stride: usize,
    /// The column of the matrix that the block starts with.
    pub first: usize,
}

/// An encoded block.
#[derive(Clone)]
pub(super) struct BlockResult {
    /// Scales and codes.
    pub parts: Parts,
    /// `e`
    pub errors: [f32; MAX_BLOCK],
    /// The sum of the groups' `J`.
    pub cost: f32,
}

/// Rounds a number to the nearest that a block can store as a 16-bit float.
#[inline(always)]
pub(super) fn to_half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// Finds scales and codes of a block that make `J` small, given the errors of earlier blocks.
#[inline(always)]
pub(super) fn encode<const L: usize>(
    grid: &Grid,
    metric: &BlockMetric<'_, L>,
    target: &BlockTarget<'_>,
) -> BlockResult {
    match grid.scale {
        ScaleGrid::Free => encode_free(grid, &metric.groups[0], target),
        ScaleGrid::Steps { .. } => encode_steps(grid, metric, target),
    }
}

/// A block that is one group with its own 16-bit scale.
#[inline(always)]
fn encode_free<const L: usize>(
    grid: &Grid,
    metric: &Metric<L>,
    target: &BlockTarget<'_>,
) -> BlockResult {
    let target = group_target(target.weights, target.feedback, 0);
    let (pair, _) = fit_group(grid, metric, &target);
    let mut rounded = round(&grid.codebook, metric, &target, pair);
    polish(&grid.codebook, metric, &target, pair, &mut rounded, SWEEPS);
    let mut result =
        BlockResult { parts: Parts::default(), errors: [0.0; MAX_BLOCK], cost: rounded.cost };
    (result.parts.scale, result.parts.min) = pair;
    result.parts.scale_steps[0] = 1;
    put_group(&mut result, 0, &rounded);
    result
}

/// A block whose groups share their floats.
#[inline(always)]
fn encode_steps<const L: usize>(
    grid: &Grid,
    metric: &BlockMetric<'_, L>,
    target: &BlockTarget<'_>,
) -> BlockResult {
    let mut fitted = [(0.0, 0.0); MAX_GROUPS];
    for (g, metric) in metric.groups.iter().enumerate() {
        let target = group_target(target.weights, target.feedback, g * L);
        fitted[g] = fit_group(grid, metric, &target).0;
    }
    let fitted = &fitted[..metric.groups.len()];
    let (scale, min) = shared_floats(grid, fitted);
    let mut best = steps_for(grid, metric, target, fitted, to_half(scale), to_half(min));
    for factor in &SHARED_FACTORS[1..] {
        let shared = to_half(scale * factor);
        let other = steps_for(grid, metric, target, fitted, shared, to_half(min));
        if other.cost < best.cost {
            best = other;
        }
    }
    if grid.offset != OffsetGrid::None {
        for factor in &SHARED_FACTORS[1..] {
            let shared = to_half(min * factor);
            let other = steps_for(grid, metric, target, fitted, best.parts.scale, shared);
            if other.cost < best.cost {
                best = other;
            }
        }
    }
    best
}

/// The integers and codes of all groups for given shared floats.
#[inline(always)]
fn steps_for<const L: usize>(
    grid: &Grid,
    metric: &BlockMetric<'_, L>,
    target: &BlockTarget<'_>,
    fitted: &[Pair],
    scale: f32,
    min: f32,
) -> BlockResult {
    let mut result = BlockResult {
        parts: Parts { scale, min, ..Parts::default() },
        errors: [0.0; MAX_BLOCK],
        cost: 0.0,
    };
    let mut feedback = [0.0; MAX_BLOCK];
    feedback[..target.feedback.len()].copy_from_slice(target.feedback);
    for (g, group_metric) in metric.groups.iter().enumerate() {
        let start = g * L;
        let group = group_target(target.weights, &feedback, start);
        let steps = nearest_steps(grid, fitted[g], scale, min);
        result.parts.scale_steps[g] = steps.0;
        result.parts.min_steps[g] = steps.1;
        let rounded = best_steps(grid, group_metric, &group, &mut result.parts, g);
        result.cost += rounded.cost;
        put_group(&mut result, start, &rounded);
        // Adds the effect of this group's errors to the feedback of the later groups.
        for j in start + L..target.weights.len() {
            let row =
                &metric.across[(metric.first + j) * metric.stride..][metric.first + start..][..L];
            let mut sum = 0.0;
            for i in 0..L {
                sum += row[i] * rounded.errors[i];
            }
            feedback[j] += sum;
        }
    }
    result
}

/// Replaces a group's integers by the best of the 16 pairs around them, and rounds.
#[inline(always)]
pub(super) fn best_steps<const L: usize>(
    grid: &Grid,
    metric: &Metric<L>,
    target: &Target<L>,
    parts: &mut Parts,
    group: usize,
) -> Rounded<L> {
    let around = neighbours(grid, parts, group);
    let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
    for (lane, &(s, m)) in around.iter().enumerate() {
        a[lane] = parts.scale * f32::from(s);
        b[lane] = -(parts.min * f32::from(m));
    }
    let lane = least(&costs(&grid.codebook, metric, target, &a, &b));
    (parts.scale_steps[group], parts.min_steps[group]) = around[lane];
    let pair = grid.affine(parts, group);
    let mut rounded = round(&grid.codebook, metric, target, pair);
    polish(&grid.codebook, metric, target, pair, &mut rounded, SWEEPS);
    rounded
}

/// The best of 16-bit scales (and offsets) around a free group's own, and its rounding.
#[inline(always)]
pub(super) fn best_free<const L: usize>(
    grid: &Grid,
    metric: &Metric<L>,
    target: &Target<L>,
    pair: Pair,
    values: &[f32; L],
) -> (Pair, Rounded<L>) {
    let with_offset = grid.offset != OffsetGrid::None;
    let center = fit(metric, target, values, with_offset).unwrap_or(pair);
    let (pair, _) = best_around(grid, metric, target, center, 1.0 / grid.codebook.len() as f32);
    let mut rounded = round(&grid.codebook, metric, target, pair);
    polish(&grid.codebook, metric, target, pair, &mut rounded, SWEEPS);
    (pair, rounded)
}

/// The pair for a group whose scale and offset may be any numbers (16-bit ones if they are stored
/// as such), and its `J` before polishing.
#[inline(always)]
fn fit_group<const L: usize>(grid: &Grid, metric: &Metric<L>, target: &Target<L>) -> (Pair, f32) {
    let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
    shrunken_pairs(grid, target, &mut a, &mut b);
    let all = costs(&grid.codebook, metric, target, &a, &b);
    let lane = least(&all);
    let coarse = (a[lane], b[lane]);
    let rounded = round(&grid.codebook, metric, target, coarse);
    let mut values = [0.0; L];
    for j in 0..L {
        values[j] = grid.codebook.value(rounded.codes[j]);
    }
    let with_offset = grid.offset != OffsetGrid::None;
    let center = fit(metric, target, &values, with_offset).unwrap_or(coarse);
    let (pair, cost) = best_around(grid, metric, target, center, 2.0 / grid.codebook.len() as f32);
    if cost < all[lane] { (pair, cost) } else { (coarse, all[lane]) }
}

/// The pairs of the first round.
#[inline(always)]
fn shrunken_pairs<const L: usize>(grid: &Grid, target: &Target<L>, a: &mut Lanes, b: &mut Lanes) {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for j in 0..L {
        let wanted = target.weights[j] - target.feedback[j];
        low = lesser(low, wanted);
        high = greater(high, wanted);
    }
    let (lowest, highest) = grid.codebook.ends();
    let codes = grid.codebook.len() as f32;
    if grid.offset == OffsetGrid::None {
        // Both signs: the longer side of the codes may cover the positive or the negative weights.
        let reach = greater(low.abs(), high.abs()) / lowest.abs();
        let shortest = (1.0 - 3.6 / codes).max(0.45);
        for lane in 0..LANES {
            let share = (lane / 2) as f32 / (LANES / 2 - 1) as f32;
            let size = reach * (1.04 - (1.04 - shortest) * share);
            a[lane] = storable(grid, if lane % 2 == 0 { size } else { -size });
            b[lane] = 0.0;
        }
        return;
    }
    if grid.offset != OffsetGrid::Free {
        low = lesser(low, 0.0);
    }
    let shrink = (1.2 / codes).min(0.14);
    for lane in 0..LANES {
        let (l, h) = ((lane % 4) as f32, (lane / 4) as f32);
        let middle = 0.5 * (low + high);
        let from = low + (middle - low) * shrink * 2.0 * l / 1.5;
        let to = high - (high - middle) * shrink * 2.0 * h / 1.5;
        let from = if grid.offset == OffsetGrid::Free { from } else { lesser(from, 0.0) };
        a[lane] = storable(grid, greater((to - from) / (highest - lowest), 0.0));
        b[lane] = storable(grid, from);
    }
}

/// The best of 16 pairs around `center`; `reach` is the range of the scales, relative to their own.
#[inline(always)]
fn best_around<const L: usize>(
    grid: &Grid,
    metric: &Metric<L>,
    target: &Target<L>,
    center: Pair,
    reach: f32,
) -> (Pair, f32) {
    let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        if grid.offset == OffsetGrid::None {
            // Lane 8 is the center.
            let factor = 1.0 + reach * (lane as f32 - 8.0) / 8.0;
            a[lane] = storable(grid, center.0 * factor);
            continue;
        }
        let (s, m) = ((lane % 4) as f32 - 1.0, (lane / 4) as f32 - 1.0);
        let (_, highest) = grid.codebook.ends();
        let offset = center.1 + 0.5 * m * reach * center.0 * highest * 0.5;
        a[lane] = storable(grid, greater(center.0 * (1.0 + 0.5 * s * reach), 0.0));
        b[lane] = storable(
            grid,
            if grid.offset == OffsetGrid::Free { offset } else { lesser(offset, 0.0) },
        );
    }
    let all = costs(&grid.codebook, metric, target, &a, &b);
    let lane = least(&all);
    ((a[lane], b[lane]), all[lane])
}

/// The lesser number, the first if neither is. `f32::min` leaves open which of two zeros it returns,
/// so it may differ between instruction sets, and the sign of a zero is stored.
#[inline(always)]
fn lesser(x: f32, y: f32) -> f32 {
    if y < x { y } else { x }
}

/// The greater number, the first if neither is.
#[inline(always)]
fn greater(x: f32, y: f32) -> f32 {
    if y > x { y } else { x }
}

/// A scale or offset with the value that is read back, if it is stored separately.
#[inline(always)]
fn storable(grid: &Grid, x: f32) -> f32 {
    if grid.scale == ScaleGrid::Free { to_half(x) } else { x }
}

/// The shared floats for the groups' pairs: the scale with the largest magnitude gets the integer
/// with the largest magnitude, and likewise for offsets.
#[inline(always)]
fn shared_floats(grid: &Grid, fitted: &[Pair]) -> Pair {
    let ScaleGrid::Steps { lowest, highest } = grid.scale else { return (0.0, 0.0) };
    let mut outermost = 0.0_f32;
    let mut deepest = 0.0_f32;
    for &(a, b) in fitted {
        outermost = if a.abs() > outermost.abs() { a } else { outermost };
        deepest = greater(deepest, -b);
    }
    // Signed integers reach one step further below zero.
    let most = if lowest < 0 { lowest } else { highest };
    let min = match grid.offset {
        OffsetGrid::Steps { highest } => deepest / highest as f32,
        _ => 0.0,
    };
    (outermost / most as f32, min)
}

/// The integers nearest to a pair.
#[inline(always)]
fn nearest_steps(grid: &Grid, (a, b): Pair, scale: f32, min: f32) -> (i16, i16) {
    let ratio = |x: f32, unit: f32| if unit == 0.0 { 0.0 } else { (x / unit).round() };
    within(grid, ratio(a, scale) as i32, ratio(-b, min) as i32)
}

/// The pair of integers, clamped to the format's range.
#[inline(always)]
fn within(grid: &Grid, s: i32, m: i32) -> (i16, i16) {
    let s = match grid.scale {
        ScaleGrid::Steps { lowest, highest } => s.clamp(lowest, highest),
        ScaleGrid::Free => 1,
    };
    let m = match grid.offset {
        OffsetGrid::Steps { highest } => m.clamp(0, highest),
        _ => 0,
    };
    (s as i16, m as i16)
}

/// Steps from a pair of integers to the 16 pairs around it, including itself. A larger scale needs
/// a lower offset, so the far corners are those where both increase.
const AROUND: [(i32, i32); LANES] = [
    (0, 0),
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (-1, -1),
    (1, -1),
    (-1, 1),
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
    (2, 2),
    (-2, -2),
    (3, 1),
];

/// The integers of a group and 15 pairs around them.
#[inline(always)]
fn neighbours(grid: &Grid, parts: &Parts, group: usize) -> [(i16, i16); LANES] {
    let (s, m) = (i32::from(parts.scale_steps[group]), i32::from(parts.min_steps[group]));
    let mut out = [(0, 0); LANES];
    for lane in 0..LANES {
        out[lane] = match grid.offset {
            OffsetGrid::None => within(grid, s + lane as i32 - 8, 0),
            _ => within(grid, s + AROUND[lane].0, m + AROUND[lane].1),
        };
    }
    out
}

/// The lane with the least cost, the first of equals; a NaN never wins.
#[inline(always)]
fn least(costs: &Lanes) -> usize {
    let (mut best, mut lowest) = (0, f32::INFINITY);
    for lane in 0..LANES {
        if costs[lane] < lowest {
            (best, lowest) = (lane, costs[lane]);
        }
    }
    best
}

/// The group that starts at `start`.
#[inline(always)]
fn group_target<const L: usize>(weights: &[f32], feedback: &[f32], start: usize) -> Target<L> {
    let mut target = Target { weights: [0.0; L], feedback: [0.0; L] };
    target.weights.copy_from_slice(&weights[start..start + L]);
    target.feedback.copy_from_slice(&feedback[start..start + L]);
    target
}

#[inline(always)]
fn put_group<const L: usize>(result: &mut BlockResult, start: usize, rounded: &Rounded<L>) {
    result.parts.codes[start..start + L].copy_from_slice(&rounded.codes);
    result.errors[start..start + L].copy_from_slice(&rounded.errors);
}
