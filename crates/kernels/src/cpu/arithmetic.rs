//! The two number formats of matrix products, behind one trait, so that each operation is written
//! once.

use gemm::Parallelism;

use super::isa::{Isa, Level};
use super::matmul::pack::{Matrix, Packed};
use super::matmul::split::{Split, is_exact};
use super::matmul::{Into, multiply, outputs, product_once};

/// How products of matrices are computed: a number format on an instruction set.
pub trait Arithmetic: Copy + Send + Sync + 'static {
    /// An operand, ready to be multiplied any number of times.
    type Operand<'a>: Sync;

    /// The instruction set of the products, and of everything around them.
    fn isa(self) -> Isa;

    /// Prepares the left operand `[M, K]`.
    fn left(self, a: Matrix<'_>) -> Self::Operand<'_>;

    /// Prepares the right operand `[K, N]`.
    fn right(self, b: Matrix<'_>) -> Self::Operand<'_>;

    /// `a b`, `[M, N]`, of operands that are used only here: cheaper than to prepare them.
    fn product_once(self, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32>;

    /// `out [M, N] = a b`, or `+=`.
    fn multiply(self, a: &Self::Operand<'_>, b: &Self::Operand<'_>, out: &mut [f32], into: Into);
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

    fn multiply(self, a: &Packed<1>, b: &Packed<1>, out: &mut [f32], into: Into) {
        multiply(self.0, a, b, out, into);
    }
}

/// All in f32: on tile registers in parts ([`split`](super::matmul::split)), elsewhere by the
/// `gemm` crate, which detects its instructions itself.
#[derive(Debug, Clone, Copy)]
pub struct F32(pub Isa);

/// An operand in f32 where it lies, and in parts where those are as exact.
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
            // Only now is it known whether the parts of B were exact; they nearly always are.
            if is_exact(largest) {
                return out;
            }
        }
        gemm_product(&a, &b)
    }

    fn multiply(self, a: &F32Operand<'_>, b: &F32Operand<'_>, out: &mut [f32], into: Into) {
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

fn gemm_product(a: &Matrix<'_>, b: &Matrix<'_>) -> Vec<f32> {
    let len = outputs(a.rows(), b.columns());
    let mut out = Vec::with_capacity(len);
    // SAFETY: the capacity is [M, N], and every number is written, none read.
    unsafe {
        gemm_raw(a, b, out.as_mut_ptr(), Into::Replace);
        out.set_len(len);
    }
    out
}

/// # Safety
/// `out` must be the start of `[M, N]` numbers that may be written, and read too if `into` adds.
unsafe fn gemm_raw(a: &Matrix<'_>, b: &Matrix<'_>, out: *mut f32, into: Into) {
    let (m, k, n) = (a.rows(), a.columns(), b.columns());
    assert_eq!(k, b.rows(), "the operands' inner lengths");
    let (a_row, a_column) = a.strides();
    let (b_row, b_column) = b.strides();
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
            into == Into::Add,
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
