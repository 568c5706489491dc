//! The smallest problem of the search: one group of 16 or 32 weights, with everything else fixed.
//!
//! With the weights `w`, the stored values `w'` and `e = w' - w`, the outputs of a matrix change by
//! `e X`, so the error to minimise is `e H eᵀ` with `H = X Xᵀ`. For one group, the rest of the row
//! adds a linear term. With the group's own `H = M Mᵀ`, `M` upper triangular, the error becomes a
//! sum over columns, in which each column depends on the errors before it:
//!
//! ```text
//! J = Σ_j D_j (e_j + f_j)²     f_j = ζ_j + Σ_{i<j} e_i U_ij     U_ij = M_ij / M_jj,  D_j = M_jj²
//! ```
//!
//! `ζ` is the linear term from the rest of the row. Rounding column after column, each to the code
//! nearest to `w_j - f_j`, is the LDLQ of Chee et al., "QuIP" (2023), which they show to be the
//! update of Frantar et al., "GPTQ" (2022). Here it is done for 16 pairs of scale and offset at
//! once, one in each lane of a vector, and `J` selects the best pair. Scales are thus chosen for
//! the error of the rounding that follows them, not for that of a rounding to nearest.

#![allow(clippy::needless_range_loop, reason = "indices are those of the formulas")]

use gguf::grid::Codebook;

/// Pairs of scale and offset that are tried at a time.
pub(super) const LANES: usize = 16;

/// One number for each pair.
pub(super) type Lanes = [f32; LANES];

/// The weights of a group's errors: `H = M Mᵀ` in the form that rounding needs.
#[derive(Debug, Clone)]
pub(super) struct Metric<const L: usize> {
    /// `U`, unit upper triangular; elements that are not above the diagonal are 0.
    pub unit: [[f32; L]; L],
    /// `D`, positive.
    pub weight: [f32; L],
    /// `D Uᵀ`, with the unit diagonal of `U`: row `j` is column `j` of `U`, times `D_j`.
    pub columns: [[f32; L]; L],
    /// `H = U D Uᵀ`
    pub h: [[f32; L]; L],
}

/// The target of one group of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<const L: usize> {
    /// `w`
    pub weights: [f32; L],
    /// `ζ`
    pub feedback: [f32; L],
}

/// An encoded group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounded<const L: usize> {
    /// The code of each weight.
    pub codes: [u8; L],
    /// `e`
    pub errors: [f32; L],
    /// `J`
    pub cost: f32,
}

impl<const L: usize> Metric<L> {
    /// From a factor of `H = M Mᵀ`, upper triangular.
    pub fn new(m: impl Fn(usize, usize) -> f64) -> Self {
        let zeros = [[0.0; L]; L];
        let mut metric = Metric { unit: zeros, weight: [0.0; L], columns: zeros, h: zeros };
        for j in 0..L {
            metric.weight[j] = (m(j, j) * m(j, j)) as f32;
            for i in 0..=j {
                metric.columns[j][i] = (m(i, j) * m(j, j)) as f32;
                metric.h[i][j] = (j..L).map(|k| m(i, k) * m(j, k)).sum::<f64>() as f32;
                metric.h[j][i] = metric.h[i][j];
            }
            for i in 0..j {
                metric.unit[i][j] = (m(i, j) / m(j, j)) as f32;
            }
        }
        metric
    }

    /// `ζ` for a group whose errors `e` cost `e H eᵀ + 2 e·h`: the solution of `ζ D Uᵀ = h`,
    /// computed from the last column back.
    #[inline(always)]
    pub fn feedback(&self, h: &[f32; L]) -> [f32; L] {
        let (mut rest, mut out) = (*h, [0.0; L]);
        for k in (0..L).rev() {
            out[k] = rest[k] / self.weight[k];
            for j in 0..L {
                rest[j] -= out[k] * self.columns[k][j];
            }
        }
        out
    }

    /// Half of the derivative of `J` by each error: `g = e H + ζ D Uᵀ`.
    #[inline(always)]
    fn slopes(&self, target: &Target<L>, errors: &[f32; L]) -> [f32; L] {
        let mut g = [0.0; L];
        for i in 0..L {
            for j in 0..L {
                g[j] += errors[i] * self.h[i][j] + target.feedback[i] * self.columns[i][j];
            }
        }
        g
    }

    /// `J` of given errors.
    #[inline(always)]
    pub fn cost(&self, target: &Target<L>, errors: &[f32; L]) -> f32 {
        let mut f = target.feedback;
        let mut cost = 0.0;
        for j in 0..L {
            let error = errors[j];
            let total = error + f[j];
            cost += self.weight[j] * total * total;
            for k in 0..L {
                f[k] += error * self.unit[j][k];
            }
        }
        cost
    }
}

/// Rounds to the nearest value.
#[inline(always)]
fn nearest_value(codebook: &Codebook, x: f32) -> f32 {
    match codebook {
        Codebook::Integers { lowest, highest } => {
            // Adding 1.5 * 2^23 rounds the fraction away; codes are far below 2^22.
            const ROUND: f32 = 12_582_912.0;
            let clamped = x.max(*lowest as f32).min(*highest as f32);
            (clamped + ROUND) - ROUND
        }
        Codebook::Table(values) => {
            let mut nearest = values[0];
            for k in 1..values.len() {
                let middle = 0.5 * (values[k - 1] + values[k]);
                nearest = if x > middle { values[k] } else { nearest };
            }
            nearest
        }
    }
}

/// The code of a value of the codebook.
#[inline(always)]
fn code_of(codebook: &Codebook, value: f32) -> u8 {
    match codebook {
        Codebook::Integers { lowest, .. } => (value as i32 - lowest) as u8,
        Codebook::Table(values) => values.iter().filter(|&&v| v < value).count() as u8,
    }
}

/// `J` of the rounding with each pair, `w' = a v(q) + b`.
#[inline(always)]
pub(super) fn costs<const L: usize>(
    codebook: &Codebook,
    metric: &Metric<L>,
    target: &Target<L>,
    a: &Lanes,
    b: &Lanes,
) -> Lanes {
    let mut inverse = [0.0; LANES];
    for lane in 0..LANES {
        inverse[lane] = if a[lane] == 0.0 { 0.0 } else { 1.0 / a[lane] };
    }
    let mut f = [[0.0; LANES]; L];
    for j in 0..L {
        f[j] = [target.feedback[j]; LANES];
    }
    let mut cost = [0.0; LANES];
    for j in 0..L {
        let (w, d) = (target.weights[j], metric.weight[j]);
        let mut error = [0.0; LANES];
        for lane in 0..LANES {
            let wanted = (w - f[j][lane] - b[lane]) * inverse[lane];
            error[lane] = a[lane] * nearest_value(codebook, wanted) + b[lane] - w;
            let total = error[lane] + f[j][lane];
            cost[lane] += d * total * total;
        }
        for k in j + 1..L {
            let u = metric.unit[j][k];
            for lane in 0..LANES {
                f[k][lane] += u * error[lane];
            }
        }
    }
    cost
}

/// The rounding with one pair, column after column.
#[inline(always)]
pub(super) fn round<const L: usize>(
    codebook: &Codebook,
    metric: &Metric<L>,
    target: &Target<L>,
    (a, b): (f32, f32),
) -> Rounded<L> {
    let inverse = if a == 0.0 { 0.0 } else { 1.0 / a };
    let mut f = target.feedback;
    let mut rounded = Rounded { codes: [0; L], errors: [0.0; L], cost: 0.0 };
    for j in 0..L {
        let w = target.weights[j];
        let value = nearest_value(codebook, (w - f[j] - b) * inverse);
        let error = a * value + b - w;
        rounded.codes[j] = code_of(codebook, value);
        rounded.errors[j] = error;
        let total = error + f[j];
        rounded.cost += metric.weight[j] * total * total;
        for k in 0..L {
            f[k] += error * metric.unit[j][k];
        }
    }
    rounded
}

/// The `a` and `b` with the least `J` for given values `v` of the codes, by the normal equations of
/// `Σ_j D_j (a p_j + b o_j - t_j)²`, where
///
/// ```text
/// p = v U    o = 1 U    t = w U - ζ        (U with its unit diagonal)
/// ```
///
/// `None` where the values do not determine them. Without an offset, `b` is 0.
#[inline(always)]
pub(super) fn fit<const L: usize>(
    metric: &Metric<L>,
    target: &Target<L>,
    values: &[f32; L],
    with_offset: bool,
) -> Option<(f32, f32)> {
    let (mut p, mut o, mut t) = (*values, [1.0; L], target.weights);
    for j in 0..L {
        for k in j + 1..L {
            let u = metric.unit[j][k];
            p[k] += values[j] * u;
            o[k] += u;
            t[k] += target.weights[j] * u;
        }
    }
    let (mut pp, mut po, mut oo, mut pt, mut ot) = (0.0_f32, 0.0, 0.0, 0.0, 0.0);
    for j in 0..L {
        let (d, t) = (metric.weight[j], t[j] - target.feedback[j]);
        pp += d * p[j] * p[j];
        po += d * p[j] * o[j];
        oo += d * o[j] * o[j];
        pt += d * p[j] * t;
        ot += d * o[j] * t;
    }
    if !with_offset {
        return (pp > 0.0).then(|| (pt / pp, 0.0));
    }
    let determinant = pp * oo - po * po;
    // If all codes are equal, scale and offset are undetermined.
    (determinant > 1e-6 * pp * oo)
        .then(|| ((pt * oo - ot * po) / determinant, (ot * pp - pt * po) / determinant))
}

/// Changes single codes while that makes `J` smaller, at most `sweeps` times over the group: the
/// coordinate descent of Behdin et al., "QuantEase" (2023). Rounding in one direction cannot
/// correct the first columns afterwards; this can.
#[inline(always)]
pub(super) fn polish<const L: usize>(
    codebook: &Codebook,
    metric: &Metric<L>,
    target: &Target<L>,
    (a, b): (f32, f32),
    rounded: &mut Rounded<L>,
    sweeps: usize,
) {
    if a == 0.0 {
        return;
    }
    let mut g = metric.slopes(target, &rounded.errors);
    let inverse = 1.0 / a;
    for _ in 0..sweeps {
        let mut changed = false;
        for i in 0..L {
            let curvature = metric.h[i][i];
            let best = rounded.errors[i] - g[i] / curvature;
            let w = target.weights[i];
            let value = nearest_value(codebook, (w + best - b) * inverse);
            let error = a * value + b - w;
            let step = error - rounded.errors[i];
            // J changes by step (2 g_i + step H_ii).
            let change = step * (2.0 * g[i] + step * curvature);
            if step == 0.0 || change >= 0.0 {
                continue;
            }
            changed = true;
            rounded.codes[i] = code_of(codebook, value);
            rounded.errors[i] = error;
            rounded.cost += change;
            for j in 0..L {
                g[j] += step * metric.h[i][j];
            }
        }
        if !changed {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODES: Codebook = Codebook::Integers { lowest: -8, highest: 7 };

    /// A pseudo-random metric and target, from `seed`.
    fn problem(seed: u64) -> (Metric<16>, Target<16>) {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let mut target = Target { weights: [0.0; 16], feedback: [0.0; 16] };
        let mut m = [[0.0; 16]; 16];
        for j in 0..16 {
            m[j][j] = f64::from(0.05 + next().abs()).sqrt();
            target.weights[j] = next();
            target.feedback[j] = 0.1 * next();
            for i in 0..j {
                m[i][j] = m[j][j] * f64::from(0.5 * next());
            }
        }
        (Metric::new(|i, j| m[i][j]), target)
    }

    /// `H = U D Uᵀ` of a metric, with the unit diagonal.
    fn matrix(metric: &Metric<16>) -> [[f64; 16]; 16] {
        let u = |i: usize, j: usize| if i == j { 1.0 } else { f64::from(metric.unit[i][j]) };
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (i.max(j)..16).map(|k| u(i, k) * f64::from(metric.weight[k]) * u(j, k)).sum()
            })
        })
    }

    fn values(rounded: &Rounded<16>) -> [f32; 16] {
        rounded.codes.map(|code| CODES.value(code))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn sixteen_pairs_at_a_time_cost_what_each_costs_alone(seed in any::<u64>()) {
            let (metric, target) = problem(seed);
            let a: Lanes = std::array::from_fn(|lane| 0.02 * lane as f32 - 0.16);
            let b: Lanes = std::array::from_fn(|lane| 0.01 * (lane % 3) as f32);
            for (lane, cost) in costs(&CODES, &metric, &target, &a, &b).into_iter().enumerate() {
                let alone = round(&CODES, &metric, &target, (a[lane], b[lane]));
                prop_assert!((alone.cost - cost).abs() <= 1e-4 * cost, "{} {cost}", alone.cost);
                let again = metric.cost(&target, &alone.errors);
                prop_assert!((again - cost).abs() <= 1e-4 * cost, "{again} {cost}");
            }
        }

        /// `J` is the quadratic form plus the linear term that `feedback` was computed from, up to
        /// a constant that does not depend on the errors.
        #[test]
        fn the_cost_is_the_quadratic_form(seed in any::<u64>()) {
            let (metric, mut target) = problem(seed);
            let h = matrix(&metric);
            let slope: [f32; 16] = std::array::from_fn(|j| 0.3 * target.feedback[j]);
            target.feedback = metric.feedback(&slope);
            let form = |e: &[f32; 16]| -> f64 {
                let e = e.map(f64::from);
                let quadratic: f64 =
                    (0..16).map(|i| (0..16).map(|j| e[i] * h[i][j] * e[j]).sum::<f64>()).sum();
                quadratic + (0..16).map(|j| 2.0 * e[j] * f64::from(slope[j])).sum::<f64>()
            };
            let one = round(&CODES, &metric, &target, (0.1, 0.0)).errors;
            let zero = [0.0; 16];
            let ours = f64::from(metric.cost(&target, &one) - metric.cost(&target, &zero));
            prop_assert!((ours - form(&one)).abs() < 1e-3 * (1.0 + ours.abs()), "{ours}");
        }

        #[test]
        fn polishing_never_makes_it_worse(seed in any::<u64>()) {
            let (metric, target) = problem(seed);
            let mut rounded = round(&CODES, &metric, &target, (0.12, 0.0));
            let before = rounded.cost;
            polish(&CODES, &metric, &target, (0.12, 0.0), &mut rounded, 4);
            prop_assert!(rounded.cost <= before);
            let cost = metric.cost(&target, &rounded.errors);
            prop_assert!((cost - rounded.cost).abs() <= 1e-3 * (1e-3 + cost));
            for (value, (w, e)) in
                values(&rounded).iter().zip(target.weights.iter().zip(&rounded.errors))
            {
                prop_assert!((0.12 * value - w - e).abs() < 1e-5);
            }
        }

        /// No pair near the fitted one is better for the same codes.
        #[test]
        fn the_fitted_pair_is_the_best_for_its_codes(seed in any::<u64>()) {
            let (metric, target) = problem(seed);
            let values = values(&round(&CODES, &metric, &target, (0.12, 0.0)));
            let cost = |a: f32, b: f32| {
                let errors = std::array::from_fn(|j| a * values[j] + b - target.weights[j]);
                metric.cost(&target, &errors)
            };
            for with_offset in [false, true] {
                let Some((a, b)) = fit(&metric, &target, &values, with_offset) else { continue };
                let best = cost(a, b);
                for (da, db) in [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)] {
                    if db == 0.0 || with_offset {
                        prop_assert!(cost(a + da, b + db) >= best * (1.0 - 1e-4));
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_rounds_to_its_nearest_value() {
        const TABLE: [f32; 16] = [
            -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0,
            69.0, 89.0, 113.0,
        ];
        let table = Codebook::Table(&TABLE);
        for x in -1400..1300 {
            let x = x as f32 / 10.0 + 0.013;
            let value = nearest_value(&table, x);
            let nearest = TABLE.iter().map(|v| (v - x).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!((value - x).abs(), nearest, "{x}");
            assert_eq!(table.value(code_of(&table, value)), value);
        }
    }
}
