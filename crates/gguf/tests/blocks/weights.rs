//! Weights to quantize: random ones from a seed, and real ones.

use std::path::{Path, PathBuf};

/// Normally distributed numbers (Box and Muller) from a 64-bit xorshift generator.
pub struct Normal(u64);

impl Normal {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Normal(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 random bits, the lower ones dropped.
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u32
    }

    /// `count` weights with standard deviation `sigma`.
    pub fn take(&mut self, sigma: f32, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next(sigma)).collect()
    }

    fn next(&mut self, sigma: f32) -> f32 {
        let uniform = |bits: u32| (f64::from(bits) + 0.5) / f64::from(u32::MAX);
        let (a, b) = (uniform(self.bits()), uniform(self.bits()));
        let normal = (-2.0 * a.ln()).max(0.0).sqrt() * (std::f64::consts::TAU * b).cos();
        normal as f32 * sigma
    }
}

/// Weights whose magnitudes change within a block, with zeros, repeats and denormals among them.
pub fn mixed_magnitudes(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Normal::new(seed + 1000);
    let mut last = 0.0;
    (0..count)
        .map(|_| {
            let bits = random.bits();
            last = match bits % 16 {
                0 => 0.0,
                1 => -0.0,
                2 => last,
                3 => -last,
                4 => f32::from_bits(bits >> 12),
                5..8 => random.next(10.0_f32.powi((bits >> 8) as i32 % 12 - 8)),
                _ => random.next(1.0),
            };
            last
        })
        .collect()
}

/// Importances of `columns` columns, each kind with its name: as of activations, with some zeros,
/// only zeros, one column much larger than the others, and very small.
pub fn importances(columns: usize) -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Normal::new(columns as u64);
    let squares: Vec<f32> = random.take(1.0, columns).into_iter().map(|x| x * x).collect();
    let some_zeros = squares.iter().map(|&p| if p < 0.5 { 0.0 } else { p }).collect();
    let mut one_huge = squares.clone();
    one_huge[columns / 3] = 1e30;
    let tiny = squares.iter().map(|p| p * 1e-38).collect();
    vec![
        ("importance", squares),
        ("importance with zeros", some_zeros),
        ("importance of zero", vec![0.0; columns]),
        ("one huge importance", one_huge),
        ("tiny importance", tiny),
    ]
}

/// The matrices of GPT-2 124M, each with its name and row length, with rows as in GGUF. `None`, and
/// a line that says so, if the data do not exist.
pub fn gpt2_matrices(test: &str) -> Option<Vec<(String, usize, Vec<f32>)>> {
    let path = test_data().join("gpt2-tensors/gpt2-small-five.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("{test} skipped: {} not found", path.display());
        return None;
    };
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let data = &bytes[8 + header_len..];
    let matrices = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    Some(matrices.map(|(name, info)| read_matrix(name, info, data)).collect())
}

/// Conv1D weights are `[in, out]` and are transposed; embeddings already have these rows.
fn read_matrix(name: &str, info: &serde_json::Value, data: &[u8]) -> (String, usize, Vec<f32>) {
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let offsets = info["data_offsets"].as_array().unwrap();
    let bytes = data[number(&offsets[0])..number(&offsets[1])].as_chunks::<4>().0;
    let weights: Vec<f32> = bytes.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let shape: Vec<usize> = info["shape"].as_array().unwrap().iter().map(number).collect();
    let [rows, columns] = shape[..] else { panic!("{name} is no matrix: {shape:?}") };
    if name.contains("wte") || name.contains("wpe") {
        return (name.to_owned(), columns, weights);
    }
    let transposed = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| row * columns + column))
        .map(|i| weights[i])
        .collect();
    (name.to_owned(), rows, transposed)
}

fn test_data() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    std::env::var_os("POCKETGPT_TEST_DATA").map_or_else(|| Path::new(default).into(), PathBuf::from)
}
