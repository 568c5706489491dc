//! Products of f32 matrices on bf16 instructions (Henry, Tang and Heinecke, "Leveraging the
//! bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019).
//!
//! A number of 24 binary digits is the sum of three of 8: its nearest bf16 `h`, the nearest bf16
//! `m` to the remainder, and the rest `l`. So
//!
//! ```text
//! x y = h h' + (h m' + m h') + (h l' + m m' + l h') + (m l' + l m' + l l')
//! weight   1         2^-8              2^-16                 2^-24
//! ```
//!
//! Each product of two parts is exact in f32, and the last group is below the rounding error of the
//! result: six products of parts, summed in f32, are as exact as a product in f32. Tile registers
//! multiply bf16 about fourteen times as fast as vectors multiply f32, so this is faster on tile
//! registers, and only there: on one core of a Xeon, 240 to 275 GFLOP/s for the shapes of GPT-2;
//! the `gemm` crate reaches 175, and its limit is 246
//! (`cargo run --release --workspace --example products`).
//!
//! Largest error, relative to `sum |x| |y|`, in units of 2^-24, and that of the `gemm` crate; the
//! test below fails if ours is more than twice as large:
//!
//! | numbers | K = 64 | K = 768 | K = 3072 |
//! |---|---|---|---|
//! | between -1 and 1 | 0.70 (gemm 1.24) | 0.38 (0.47) | 0.44 (0.29) |
//! | of sizes 2^-20 to 2^20 | 3.02 (3.90) | 2.61 (2.90) | 2.95 (1.71) |
//! | that cancel to a millionth | 0.49 (0.98) | 0.20 (0.57) | 0.35 (0.30) |
//!
//! **Range.** The instructions treat denormal numbers as zero, and a part can be 2^-16 of its
//! number. So an operand is accepted if its largest number is in [2^-40, 2^56]. Then no sum
//! overflows, and the error by denormals is below 2^-45 of the largest product. Other operands
//! (infinities, NaN) are multiplied in f32; [`is_exact`] decides.

use super::pack::Packed;

/// An operand whose numbers are in three parts.
pub type Split = Packed<3>;

/// Whether products of parts are as exact as products in f32, given an operand's largest absolute
/// value (`Packed::largest`).
pub fn is_exact(largest: f32) -> bool {
    const SMALLEST: f32 = 1.0 / (1_u64 << 40) as f32;
    const LARGEST: f32 = (1_u64 << 56) as f32;
    largest == 0.0 || (SMALLEST..=LARGEST).contains(&largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::arithmetic::{Arithmetic, F32};
    use crate::cpu::matmul::pack::Matrix;
    use crate::cpu::matmul::{OutputMode, multiply};
    use crate::cpu::testing::noise;
    use isa::{Isa, Level};

    const WIDTH: usize = 40;

    /// The largest error of a product `[40, K] [K, 40]`, relative to the sum of absolute values,
    /// in units of 2^-24.
    fn error(a: &[f32], b: &[f32], c: &[f32]) -> f64 {
        let depth = a.len() / WIDTH;
        let mut worst = 0.0_f64;
        for (at, &c) in c.iter().enumerate() {
            let terms = (0..depth).map(|d| {
                f64::from(a[at / WIDTH * depth + d]) * f64::from(b[d * WIDTH + at % WIDTH])
            });
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            worst = worst.max((f64::from(c) - sum).abs() / size);
        }
        worst * f64::from(1 << 24)
    }

    /// Numbers of all sizes from 2^-20 to 2^20.
    fn wide(len: usize, seed: u32) -> Vec<f32> {
        let sizes = noise(len, seed + 7);
        noise(len, seed).iter().zip(sizes).map(|(x, size)| x * (20.0 * size).exp2()).collect()
    }

    /// Rows `[WIDTH, K]` whose second half cancels the first, up to a millionth.
    fn cancelling(len: usize, seed: u32) -> Vec<f32> {
        let depth = len / WIDTH;
        let mut x = noise(len, seed);
        for row in x.chunks_exact_mut(depth) {
            let (first, second) = row.split_at_mut(depth / 2);
            second.iter_mut().zip(first).for_each(|(y, x)| *y = -*x * (1.0 + 1e-6 * *y));
        }
        x
    }

    #[test]
    fn a_split_product_is_as_exact_as_one_in_f32() {
        type Draw = fn(usize, u32) -> Vec<f32>;
        let kinds: [(&str, Draw); 3] =
            [("between -1 and 1", noise), ("wide", wide), ("cancelling", cancelling)];
        // Vector instructions also round between the two products of a pair, so parts are used on
        // tiles only.
        let tiles: Vec<Isa> =
            Isa::available().iter().copied().filter(|isa| isa.level() == Level::Amx).collect();
        if tiles.is_empty() {
            eprintln!("a_split_product_is_as_exact_as_one_in_f32 skipped: no tile registers");
        }
        for (kind, draw) in kinds {
            for depth in [64, 768, 3072] {
                let (a, mut b) = (draw(WIDTH * depth, 1), noise(WIDTH * depth, 2));
                if kind == "cancelling" {
                    b.copy_within(..WIDTH * depth / 2, WIDTH * depth / 2);
                }
                let (left, right) = (Matrix::new(&a, WIDTH, depth), Matrix::new(&b, depth, WIDTH));
                let plain = Isa::available()[0];
                let by_gemm = F32(plain).product_once(left, right);
                let by_gemm = error(&a, &b, &by_gemm);
                for &isa in &tiles {
                    let parts = (Split::left(isa, left), Split::right(isa, right));
                    assert!(is_exact(parts.0.largest) && is_exact(parts.1.largest));
                    let mut ours = vec![f32::NAN; WIDTH * WIDTH];
                    multiply(isa, &parts.0, &parts.1, &mut ours, OutputMode::Replace);
                    let ours = error(&a, &b, &ours);
                    assert!(
                        ours <= 2.0 * by_gemm,
                        "{kind}, K = {depth}, {isa:?}: {ours:.2}, gemm {by_gemm:.2}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_parts_cannot_hold_is_left_to_f32() {
        let exact = |x: f32| {
            Isa::available().iter().all(|&isa| {
                let mut a = vec![0.0; 32 * 32];
                a[77] = x;
                is_exact(Split::left(isa, Matrix::new(&a, 32, 32)).largest)
            })
        };
        for x in [0.0, 1.0, -3e16, 1e-12] {
            assert!(exact(x), "{x}");
        }
        for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-38, -1e17] {
            assert!(!exact(x), "{x}");
        }
        // The product as a whole handles infinities and NaN as f32 does.
        for &isa in Isa::available() {
            for (x, expected) in [(f32::INFINITY, f32::INFINITY), (f32::MAX, f32::MAX)] {
                let (a, b) = ([x, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]);
                let math = F32(isa);
                let (a, b) = (Matrix::new(&a, 2, 2), Matrix::new(&b, 2, 2));
                let mut ready = vec![f32::NAN; 4];
                math.multiply(&math.left(a), &math.right(b), &mut ready, OutputMode::Replace);
                for c in [ready, math.product_once(a, b), math.product_once(b, a)] {
                    assert_eq!((c[0], c[3]), (expected, 1.0));
                }
            }
            let (a, b) = ([f32::NAN], [1.0]);
            let (a, b) = (Matrix::new(&a, 1, 1), Matrix::new(&b, 1, 1));
            assert!(F32(isa).product_once(a, b)[0].is_nan());
        }
    }
}
