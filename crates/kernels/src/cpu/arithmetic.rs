//! One trait for the two number formats of matrix products, so that each operation is written only
//! once.

use gemm::Parallelism;
use rayon::prelude::*;

use super::limited;
use super::matmul::pack::{Matrix, Packed};
use super::matmul::split::{Split, is_exact};
use super::matmul::{OutputMode, multiply, outputs, product_once};
use isa::{Isa, Level};

/// How products of matrices are computed: a number format on an instruction set.
pub trait Arithmetic: Copy + Send + Sync + 'static {
    /// A prepared operand, which can be multiplied any number of times.
    type Operand<'a>: Sync;

    /// The instruction set of the products, and of everything around them.
    fn isa(self) -> Isa;

    /// Prepares the left operand `[M, K]`.
    fn left(self, a: Matrix<'_>) -> Self::Operand<'_>;

    /// Prepares the right operand `[K, N]`.
    fn right(self, b: Matrix<'_>) -> Self::Operand<'_>;

    /// `a b`, `[M, N]`, for operands that are used only once: cheaper than preparing them.
    fn product_once(self, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32>;

    /// `out [M, N] = a b`, or `+=`.
    fn multiply(
        self,
        a: &Self::Operand<'_>,
        b: &Self::Operand<'_>,
        out: &mut [f32],
        into: OutputMode,
    );
}

/// Operands in bf16, sums in f32: what mixed-precision training computes.
#[derive(Debug, Clone, Copy)]
pub struct Bf16(pub Isa);

impl Arithmetic for Bf16 {
    type Operand<'a> = Packed<1>;

    fn isa(self) -> Isa {
        self.0
    }

    fn left(self, a: Matrix<'_>) -> Packed<1> {
        Packed::left(self.0, a)
    }

    fn right(self, b: Matrix<'_>) -> Packed<1> {
        Packed::right(self.0, b)
    }

    fn product_once(self, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
        product_once(self.0, &self.left(a), b).0
    }

    fn multiply(self, a: &Packed<1>, b: &Packed<1>, out: &mut [f32], into: OutputMode) {
        multiply(self.0, a, b, out, into);
    }
}

/// Operands and sums in f32: in bf16 parts on tile registers ([`split`](super::matmul::split)),
/// elsewhere with the `gemm` crate, which detects the instructions itself; where fewer are to be
/// used than it would find (`isa::VARIABLE`), with a loop of this crate.
#[derive(Debug, Clone, Copy)]
pub struct F32(pub Isa);

/// A borrowed f32 operand, and its bf16 parts where products of these are as exact.
#[derive(Debug, Clone)]
pub struct F32Operand<'a> {
    matrix: Matrix<'a>,
    parts: Option<Split>,
}

impl F32 {
    fn operand<'a>(self, matrix: Matrix<'a>, pack: fn(Isa, Matrix<'_>) -> Split) -> F32Operand<'a> {
        let parts = (self.0.level() == Level::Amx).then(|| pack(self.0, matrix));
        F32Operand { matrix, parts: parts.filter(|parts| is_exact(parts.largest)) }
    }
}

impl Arithmetic for F32 {
    type Operand<'a> = F32Operand<'a>;

    fn isa(self) -> Isa {
        self.0
    }

    fn left(self, a: Matrix<'_>) -> F32Operand<'_> {
        self.operand(a, Split::left)
    }

    fn right(self, b: Matrix<'_>) -> F32Operand<'_> {
        self.operand(b, Split::right)
    }

    fn product_once(self, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
        if let Some(parts) = self.left(a).parts {
            let (out, largest) = product_once(self.0, &parts, b);
            // Whether the parts of B were exact is known only now; they nearly always are.
            if is_exact(largest) {
                return out;
            }
        }
        gemm_product(&a, &b)
    }

    fn multiply(self, a: &F32Operand<'_>, b: &F32Operand<'_>, out: &mut [f32], into: OutputMode) {
        if let (Some(a), Some(b)) = (&a.parts, &b.parts) {
            return multiply(self.0, a, b, out, into);
        }
        let len = outputs(a.matrix.rows(), b.matrix.columns());
        assert_eq!(out.len(), len, "an output of [M, N]");
        // SAFETY: the slice is [M, N].
        unsafe { gemm_raw(&a.matrix, &b.matrix, out.as_mut_ptr(), into) };
    }
}

/// Multiplications below which one thread is faster than several.
const WORTH_SHARING: usize = 1 << 20;

/// Lines whose starts are a multiple of this many numbers apart share few sets of the first-level
/// cache.
const ROUND_DISTANCE: usize = 256;
/// Numbers that are inserted between such lines: one cache line.
const SPREAD: usize = 16;
/// Size of the largest matrix that is copied for this, in numbers: 16 MiB.
const MOST_SPREAD: usize = 1 << 22;

/// A copy of B with larger gaps between its contiguous columns, where their distance is a multiple
/// of `ROUND_DISTANCE`. `gemm` packs across the columns, and without the copy each would leave the
/// cache before one line of it is read (512 x 3072 x 768 on two cores of a Zen 4: 138 GFLOP/s, with
/// the copy 193).
fn spread(b: &Matrix<'_>) -> Option<Vec<f32>> {
    let (along, distance) = b.strides();
    let (depth, columns) = (b.rows(), b.columns());
    let is_round = along == 1 && columns > 1 && distance.is_multiple_of(ROUND_DISTANCE);
    if !is_round || depth.saturating_mul(columns) > MOST_SPREAD {
        return None;
    }
    let mut lines = vec![0.0; columns * (depth + SPREAD)];
    let copies = lines.par_chunks_mut(depth + SPREAD).zip(b.data().par_chunks(distance));
    copies
        .with_min_len(16)
        .for_each(|(line, column)| line[..depth].copy_from_slice(&column[..depth]));
    Some(lines)
}

fn gemm_product(a: &Matrix<'_>, b: &Matrix<'_>) -> Vec<f32> {
    let spread = spread(b);
    let far = spread.as_ref().map(|lines| {
        let (depth, columns) = (b.rows(), b.columns());
        Matrix::strided(lines, columns, depth, depth + SPREAD).transpose()
    });
    let b = far.as_ref().unwrap_or(b);
    let len = outputs(a.rows(), b.columns());
    let mut out = Vec::with_capacity(len);
    // SAFETY: the capacity is [M, N], and every number is written and not read.
    unsafe {
        gemm_raw(a, b, out.as_mut_ptr(), OutputMode::Replace);
        out.set_len(len);
    }
    out
}

/// # Safety
/// `out` must be the start of `[M, N]` numbers that may be written, and read too if `into` adds.
unsafe fn gemm_raw(a: &Matrix<'_>, b: &Matrix<'_>, out: *mut f32, into: OutputMode) {
    let (m, k, n) = (a.rows(), a.columns(), b.columns());
    assert_eq!(k, b.rows(), "the operands' inner lengths");
    let (a_row, a_column) = a.strides();
    let (b_row, b_column) = b.strides();
    if isa::is_limited() {
        // SAFETY: guaranteed by the caller.
        let out = unsafe {
            if into == OutputMode::Replace {
                out.write_bytes(0, m * n);
            }
            std::slice::from_raw_parts_mut(out, m * n)
        };
        return limited::add_product(Isa::vectors(), a, b, out);
    }
    let threads = if m.saturating_mul(k).saturating_mul(n) <= WORTH_SHARING {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    };
    // SAFETY: the matrices checked their strides against their slices, and the output is
    // [M, N] row by row.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            into == OutputMode::Add,
            a.data().as_ptr(),
            a_column as isize,
            a_row as isize,
            b.data().as_ptr(),
            b_column as isize,
            b_row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, noise};
    use super::*;

    /// Only columns at a multiple of `ROUND_DISTANCE` are copied, and the product is the same.
    #[test]
    fn columns_at_a_round_distance_give_the_product() {
        for (m, k, n, distance) in [(3, 256, 17, 256), (33, 250, 40, 512), (17, 300, 33, 300)] {
            let (a, lines) = (noise(m * k, 1), noise(n * distance, 2));
            let left = Matrix::new(&a, m, k);
            let right = Matrix::strided(&lines, n, k, distance).transpose();
            assert_eq!(spread(&right).is_some(), distance % ROUND_DISTANCE == 0);
            let exact: Vec<f64> = (0..m * n)
                .map(|at| {
                    let (row, line) = (&a[at / n * k..][..k], &lines[at % n * distance..][..k]);
                    row.iter().zip(line).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
                })
                .collect();
            for &isa in Isa::available() {
                assert_close(&F32(isa).product_once(left, right), &exact, 1e-5);
            }
        }
    }
}
