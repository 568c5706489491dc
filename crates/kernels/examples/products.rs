//! Measures the upper limit of the training speed that matrix products allow: how fast this machine
//! multiplies matrices of a GPT's shapes, and how many tokens per second that is if nothing else
//! takes time.
//!
//!     cargo run --release --workspace --example products -- [CHANNELS LAYERS VOCABULARY TOKENS]
//!
//! Without arguments: 768 12 50257 512, GPT-2's smallest model on two windows of 256 tokens. Prints
//! one line for each number format, number of threads and shape `M x K x N`, and one line with the
//! limit. The operands are packed before the measurement. The products inside attention are left
//! out.

use std::hint::black_box;
use std::time::{Duration, Instant};

use isa::Isa;
use kernels::cpu::arithmetic::{Arithmetic, Bf16, F32};
use kernels::cpu::matmul::OutputMode;
use kernels::cpu::matmul::pack::Matrix;

/// Each product is repeated for at least this time.
const TIME: Duration = Duration::from_millis(300);

/// `[M, K] [K, N]`, and how many times a training step computes it.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    k: usize,
    n: usize,
    times: usize,
}

/// The products of a step: each linear layer's output and the gradients of its input and weight.
fn products_of_a_step([channels, layers, vocabulary, tokens]: [usize; 4]) -> Vec<Product> {
    let linear = |input, output, times| {
        [(tokens, input, output), (tokens, output, input), (input, tokens, output)]
            .map(|(m, k, n)| Product { m, k, n, times })
    };
    [
        linear(channels, 3 * channels, layers),
        linear(channels, channels, layers),
        linear(channels, 4 * channels, layers),
        linear(4 * channels, channels, layers),
        linear(channels, vocabulary, 1),
    ]
    .concat()
}

/// Seconds that the fastest of several runs takes.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    while began.elapsed() < TIME {
        let at = Instant::now();
        run();
        best = best.min(at.elapsed().as_secs_f64());
    }
    best
}

/// Seconds that one product of packed operands takes.
fn measure<A: Arithmetic>(math: A, Product { m, k, n, .. }: Product) -> f64 {
    let numbers = |len| (0..len).map(|i| (i * 7919 % 1000) as f32 * 1e-3 - 0.5).collect::<Vec<_>>();
    let (a, b) = (numbers(m * k), numbers(k * n));
    let (left, right) = (math.left(Matrix::new(&a, m, k)), math.right(Matrix::new(&b, k, n)));
    let mut out = vec![0.0; m * n];
    fastest(|| math.multiply(&left, &right, black_box(&mut out), OutputMode::Replace))
}

/// Prints a line for each shape and one for the step.
fn report<A: Arithmetic>(name: &str, math: A, shape: [usize; 4]) {
    let threads = rayon::current_num_threads();
    let mut total = 0.0;
    for product in products_of_a_step(shape) {
        let Product { m, k, n, times } = product;
        let seconds = measure(math, product);
        let speed = 2e-9 * (m * k * n) as f64 / seconds;
        println!("{name} threads {threads} shape {m}x{k}x{n} GFLOP/s {speed:.0}");
        total += times as f64 * seconds;
    }
    println!("{name} threads {threads} limit tokens/s {:.0}", shape[3] as f64 / total);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Result<Vec<usize>, _> = std::env::args().skip(1).map(|x| x.parse()).collect();
    let shape = match numbers?[..] {
        [] => [768, 12, 50257, 512],
        [channels, layers, vocabulary, tokens] => [channels, layers, vocabulary, tokens],
        _ => return Err("usage: products [CHANNELS LAYERS VOCABULARY TOKENS]".into()),
    };
    let all = std::thread::available_parallelism()?.get();
    for threads in if all == 1 { vec![1] } else { vec![1, all] } {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| {
            report("bf16", Bf16(Isa::best()), shape);
            report("f32", F32(Isa::best()), shape);
        });
    }
    Ok(())
}
