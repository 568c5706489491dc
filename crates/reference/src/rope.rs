//! Rotary positions (Su et al., 2021): the angle between a query and a key says how far apart
//! they stand.

use config::{ModelConfig, RopePairs};

/// How fast each pair of channels turns.
///
/// Pair `i` of a head turns by `base^(-2i / D)` radians per position. All angles are computed in
/// f64 and only their cosines and sines are rounded. The peers round on the way, each in its own
/// manner: llama.cpp multiplies from pair to pair in f32 (`ggml_rope_cache_init`), transformers
/// rounds the frequencies to f32 before it multiplies by the position. At position 2,047 (base
/// 10,000, `D` = 64) they are 2.2e-4 and 3.0e-5 radians off and 2.4e-4 from each other, so the
/// exact angle is nearer to each of them than either is to the other.
pub(crate) struct Rope {
    pairs: RopePairs,
    /// Radians per position, `[D / 2]`.
    speeds: Vec<f64>,
}

impl Rope {
    /// The rotation of a model; none where positions are learned.
    pub fn new(config: &ModelConfig) -> Option<Self> {
        let pairs = config.architecture.rope_pairs()?;
        let (base, d) = (f64::from(config.rope_base), config.head_width());
        let speed = |i: usize| base.powf(-2.0 * i as f64 / d as f64);
        Some(Rope { pairs, speeds: (0..d / 2).map(speed).collect() })
    }

    /// The rotations of `count` positions from `first` on.
    pub fn at(&self, first: usize, count: usize) -> Rotations {
        let turns = (first..first + count)
            .flat_map(|position| self.speeds.iter().map(move |speed| position as f64 * speed))
            .map(|angle| [angle.cos() as f32, angle.sin() as f32])
            .collect();
        Rotations { pairs: self.pairs, half: self.speeds.len(), turns }
    }
}

/// Cosines and sines for a run of positions.
pub(crate) struct Rotations {
    pairs: RopePairs,
    /// `D / 2`
    half: usize,
    /// `[T, D / 2]`: cosine and sine.
    turns: Vec<[f32; 2]>,
}

impl Rotations {
    /// Turns all heads of the `i`th position of the run, `[heads, D]`, in place:
    ///
    /// ```text
    /// (a, b) -> (a cos - b sin, a sin + b cos)
    /// ```
    pub fn turn(&self, i: usize, heads: &mut [f32]) {
        let half = self.half;
        let turns = &self.turns[i * half..(i + 1) * half];
        for head in heads.chunks_exact_mut(2 * half) {
            for (pair, [cos, sin]) in turns.iter().enumerate() {
                let (a, b) = match self.pairs {
                    RopePairs::Adjacent => (2 * pair, 2 * pair + 1),
                    RopePairs::Halves => (pair, pair + half),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }

    /// Turns the rows of `x`, `[T, heads * D]`, each by its own position.
    pub fn turn_rows(&self, x: &mut [f32]) {
        let positions = self.turns.len() / self.half;
        let width = x.len() / positions;
        x.chunks_exact_mut(width).enumerate().for_each(|(i, row)| self.turn(i, row));
    }
}

#[cfg(test)]
mod tests {
    use config::Architecture;

    use super::*;

    /// A rotation of heads of width 4: pair 0 turns by 1 radian per position, pair 1 by 1/100.
    fn rope(architecture: Architecture) -> Rope {
        let config = ModelConfig {
            architecture,
            n_embd: 8,
            n_head: 2,
            n_kv_head: 2,
            ..ModelConfig::gpt2_124m()
        };
        Rope::new(&config).unwrap()
    }

    #[test]
    fn learned_positions_rotate_nothing() {
        assert!(Rope::new(&ModelConfig::gpt2_124m()).is_none());
    }

    #[test]
    fn neighbours_or_halves_turn_together() {
        let (sin, cos) = 3.0_f32.sin_cos();
        let (slow_sin, slow_cos) = 0.03_f32.sin_cos();
        let mut x = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0]; // [heads = 2, D = 4]
        rope(Architecture::Llama).at(3, 1).turn(0, &mut x);
        let expected = [cos, sin, -slow_sin, slow_cos, -2.0 * sin, 2.0 * cos, 0.0, 0.0];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{x:?}");

        let mut x = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0];
        rope(Architecture::Qwen2).at(3, 1).turn(0, &mut x);
        let expected = [cos, -slow_sin, sin, slow_cos, 0.0, 2.0 * slow_cos, 0.0, 2.0 * slow_sin];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn only_the_distance_counts() {
        let rope = rope(Architecture::GptNeox);
        let product = |i: usize, j: usize| -> f32 {
            let (mut q, mut k) = ([0.3, -1.2, 0.8, 2.0], [1.5, 0.2, -0.7, 0.4]);
            rope.at(i, 1).turn(0, &mut q);
            rope.at(j, 1).turn(0, &mut k);
            q.iter().zip(k).map(|(q, k)| q * k).sum()
        };
        for far in [1, 100, 30_000] {
            assert!((product(7, 2) - product(far + 7, far + 2)).abs() < 1e-5, "{far}");
        }
    }

    #[test]
    fn a_run_is_its_positions_one_by_one() {
        let rope = rope(Architecture::Llama);
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut together = x.clone();
        rope.at(5, 3).turn_rows(&mut together);
        for (i, row) in x.chunks_exact(8).enumerate() {
            let mut alone = row.to_vec();
            rope.at(5 + i, 1).turn(0, &mut alone);
            assert_eq!(alone, together[i * 8..(i + 1) * 8]);
        }
    }
}
