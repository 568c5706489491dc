//! Rotary positions (Su et al., 2021): queries and keys are rotated so that their products depend
//! on their distance.

use config::{ModelConfig, RopePairs, RopeShape, Rotation};

/// The rotation per position of each pair of channels.
///
/// Pair `i` of a head rotates by `base^(-2i / R)` radians per position; models with an extended
/// context divide this by a factor for each pair. `R` is the number of channels of a head that are
/// rotated, all of them in most models. All angles are computed in f64, and only their cosines and
/// sines are rounded. The other implementations round earlier: llama.cpp multiplies from pair to
/// pair in f32 (`ggml_rope_cache_init`), transformers rounds the frequencies to f32 before it
/// multiplies by the position. At position 2,047 (base 10,000, `D` = 64) their errors are 2.2e-4
/// and 3.0e-5 radians, and they differ by 2.4e-4 from each other, so the exact angle is nearer to
/// each of them than either is to the other.
pub(crate) struct Rope {
    pairs: RopePairs,
    /// Width of a head, `D`.
    head_width: usize,
    /// Radians per position, `[R / 2]`.
    speeds: Vec<f64>,
    /// Factor on cosines and sines.
    magnitude: f64,
}

impl Rope {
    /// One rotation of a model, for a pass that ends after `positions` positions; `None` if
    /// positions are learned, or no layer uses this rotation.
    pub fn new(config: &ModelConfig, rotation: Rotation, positions: usize) -> Option<Self> {
        let shape = config.rope(rotation, positions)?;
        let RopeShape { pairs, head_width, width, base, magnitude, .. } = shape;
        let base = f64::from(base);
        let speed = |i: usize| libm::pow(base, -2.0 * i as f64 / width as f64) / shape.factor(i);
        let speeds = (0..width / 2).map(speed).collect();
        Some(Rope { pairs, head_width, speeds, magnitude: f64::from(magnitude) })
    }

    /// The rotations of `count` positions from `first` on.
    pub fn at(&self, first: usize, count: usize) -> Rotations {
        let turns = (first..first + count)
            .flat_map(|position| self.speeds.iter().map(move |speed| position as f64 * speed))
            .map(|angle| [libm::cos(angle), libm::sin(angle)].map(|x| (x * self.magnitude) as f32))
            .collect();
        let (pairs, head_width) = (self.pairs, self.head_width);
        Rotations { pairs, head_width, half: self.speeds.len(), turns }
    }
}

/// All rotations of a model for consecutive positions.
pub(crate) struct AllRotations {
    global: Option<Rotations>,
    local: Option<Rotations>,
}

impl AllRotations {
    /// The rotations of `config` for `count` positions from `first` on, which are the last of a
    /// pass.
    pub fn new(config: &ModelConfig, first: usize, count: usize) -> Self {
        let at = |rotation| {
            let rope = Rope::new(config, rotation, first + count)?;
            Some(rope.at(first, count))
        };
        AllRotations { global: at(Rotation::Global), local: at(Rotation::Local) }
    }

    /// The rotation of a layer, if it has one.
    pub fn of(&self, rotation: Option<Rotation>) -> Option<&Rotations> {
        match rotation? {
            Rotation::Global => self.global.as_ref(),
            Rotation::Local => self.local.as_ref(),
        }
    }
}

/// Cosines and sines for consecutive positions.
pub(crate) struct Rotations {
    pairs: RopePairs,
    /// `D`
    head_width: usize,
    /// `R / 2`
    half: usize,
    /// `[T, R / 2]`: cosine and sine.
    turns: Vec<[f32; 2]>,
}

impl Rotations {
    /// Rotates all heads of the `i`th of these positions, `[heads, D]`, in place:
    ///
    /// ```text
    /// (a, b) -> (a cos - b sin, a sin + b cos)
    /// ```
    pub fn turn(&self, i: usize, heads: &mut [f32]) {
        let half = self.half;
        let turns = &self.turns[i * half..(i + 1) * half];
        for head in heads.chunks_exact_mut(self.head_width) {
            for (pair, [cos, sin]) in turns.iter().enumerate() {
                let (a, b) = match self.pairs {
                    RopePairs::Adjacent => (2 * pair, 2 * pair + 1),
                    RopePairs::Halves => (pair, pair + half),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }

    /// Rotates the rows of `x`, `[T, heads * D]`, each by its own position.
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

    /// A rotation of heads of width 4: pair 0 rotates by 1 radian per position, pair 1 by 1/100.
    fn rope(architecture: Architecture) -> Rope {
        let config = ModelConfig {
            architecture,
            n_embd: 8,
            n_head: 2,
            n_kv_head: 2,
            ..ModelConfig::gpt2_124m()
        };
        Rope::new(&config, Rotation::Global, 9).unwrap()
    }

    #[test]
    fn learned_positions_rotate_nothing() {
        assert!(Rope::new(&ModelConfig::gpt2_124m(), Rotation::Global, 9).is_none());
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
