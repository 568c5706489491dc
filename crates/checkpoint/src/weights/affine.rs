//! Matrices that MLX has quantized, read as floats.
//!
//! ```text
//! NAME.weight   u32 [rows, columns * bits / 32]       codes, the first one in the lowest bits
//! NAME.scales   f16, bf16 or f32 [rows, columns / group]
//! NAME.biases   as the scales
//! ```
//!
//! A weight is `scale * code + bias`, computed in f32, where a group of neighbours in a row shares
//! scale and bias. Bits and group size are in `config.json` under `quantization`, for some matrices
//! under their own names.
//!
//! Source: `affine_dequantize` in `mlx/backend/cpu/quantized.cpp` of MLX; `utils.py` of mlx-lm for
//! `config.json`.

use std::path::Path;

use ::safetensors::Dtype;
use serde_json::Value;

use super::data_file::DataFile;
use super::place::{Place, Values};
use super::{Weights, pickle::Shown};
use crate::CheckpointError;

/// The sizes of a code in MLX.
const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];

/// Largest group that is read: MLX has 32, 64 and 128.
const MOST_IN_GROUP: u64 = 1 << 12;

/// Number of weights that are decoded at a time.
const PIECE: usize = 1 << 20;

/// A quantized matrix.
#[derive(Debug, Clone)]
pub(super) struct Affine {
    codes: Place,
    scales: Place,
    biases: Place,
    bits: usize,
    group: usize,
}

impl Affine {
    /// Weights in a row.
    fn columns(&self) -> usize {
        self.codes.shape[1] * 32 / self.bits
    }

    /// Fills `out` with the weights from position `first` of the row-major order on.
    pub fn read(
        &self,
        files: &[DataFile],
        first: usize,
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let columns = self.columns();
        let end = first + out.len();
        let rows_at_once = (PIECE / columns).max(1);
        let mut row = first / columns;
        while row * columns < end {
            let rows = rows_at_once.min(end.div_ceil(columns) - row);
            let values = self.read_rows(files, row, rows)?;
            let (from, to) = ((row * columns).max(first), ((row + rows) * columns).min(end));
            let wanted = &values[from - row * columns..to - row * columns];
            out[from - first..to - first].copy_from_slice(wanted);
            row += rows;
        }
        Ok(())
    }

    /// [`Affine::read`] of the bytes of the floats.
    pub fn read_bytes(
        &self,
        files: &[DataFile],
        first: usize,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let mut values = vec![0.0_f32; PIECE.min(out.len() / size_of::<f32>())];
        for (piece, out) in out.chunks_mut(PIECE * size_of::<f32>()).enumerate() {
            let values = &mut values[..out.len() / size_of::<f32>()];
            self.read(files, first + piece * PIECE, values)?;
            out.copy_from_slice(bytemuck::cast_slice(values));
        }
        Ok(())
    }

    /// `rows` whole rows from row `first` on.
    fn read_rows(
        &self,
        files: &[DataFile],
        first: usize,
        rows: usize,
    ) -> Result<Vec<f32>, CheckpointError> {
        let columns = self.columns();
        let row_bytes = self.codes.shape[1] * 4;
        let mut codes = vec![0; rows * row_bytes];
        self.codes.read(files, first * self.codes.shape[1], &mut codes)?;
        let groups = columns / self.group;
        let mut factors = [vec![0.0; rows * groups], vec![0.0; rows * groups]];
        for (place, factors) in [&self.scales, &self.biases].into_iter().zip(&mut factors) {
            place.read_f32(files, first * groups, factors)?;
        }
        let [scales, biases] = factors;
        let mut values = Vec::with_capacity(rows * columns);
        for (row, codes) in codes.chunks_exact(row_bytes).enumerate() {
            for column in 0..columns {
                let group = row * groups + column / self.group;
                let code = code(codes, column * self.bits, self.bits);
                values.push(scales[group] * code + biases[group]);
            }
        }
        Ok(values)
    }
}

/// The code of `bits` bits that begins at bit `at`; it may extend into the next byte.
fn code(bytes: &[u8], at: usize, bits: usize) -> f32 {
    let low = u16::from(bytes[at / 8]);
    let high = bytes.get(at / 8 + 1).map_or(0, |&byte| u16::from(byte));
    let code = ((high << 8 | low) >> (at % 8)) & ((1 << bits) - 1);
    f32::from(code)
}

/// Replaces quantized matrices by the floats that they represent. `settings` is `quantization` of
/// the `config.json` at `config_path`; if it is `null`, nothing is done.
///
/// # Errors
/// When a matrix is quantized in another way than described above, or its parts do not match.
pub(crate) fn dequantize(
    weights: &mut Weights,
    settings: &Value,
    config_path: &Path,
) -> Result<(), CheckpointError> {
    if settings.is_null() {
        return Ok(());
    }
    let matrices: Vec<String> = weights
        .names()
        .filter_map(|name| name.strip_suffix(".scales"))
        .map(str::to_owned)
        .collect();
    for matrix in matrices {
        let (bits, group) = format_of(settings, &matrix, config_path)?;
        let [name, scales, biases] =
            ["weight", "scales", "biases"].map(|part| format!("{matrix}.{part}"));
        let place = |name: &str| weights.place(name).cloned();
        let affine = Affine {
            codes: place(&name)?,
            scales: place(&scales)?,
            biases: place(&biases)?,
            bits,
            group,
        };
        let shape = check(&affine).map_err(|reason| CheckpointError::Content {
            path: weights.path().to_owned(),
            reason: format!("the quantized matrix {}: {reason}", Shown(&matrix)),
        })?;
        weights.remove(&scales);
        weights.remove(&biases);
        let values = Values::Affine(Box::new(affine));
        // The parts store their own file indices.
        weights.tensors.insert(name, Place { file: 0, dtype: Dtype::F32, shape, values });
    }
    Ok(())
}

/// Bits of a code and weights in a group, of `matrix` or of all.
fn format_of(
    settings: &Value,
    matrix: &str,
    config_path: &Path,
) -> Result<(usize, usize), CheckpointError> {
    let own = settings.get(matrix).filter(|own| own.is_object());
    let (settings, key) = match own {
        Some(own) => (own, format!("quantization.{}", Shown(matrix))),
        None => (settings, "quantization".to_owned()),
    };
    let refuse = |name: &str, expected: &str| CheckpointError::Setting {
        place: config_path.to_owned(),
        key: format!("{key}.{name}"),
        value: settings[name].to_string(),
        expected: format!("{expected}; or take the model from before it was quantized"),
    };
    if settings.get("mode").is_some_and(|mode| mode != "affine") {
        return Err(refuse("mode", "\"affine\""));
    }
    let bits = settings["bits"].as_u64().and_then(|bits| usize::try_from(bits).ok());
    let bits = bits.filter(|bits| BITS.contains(bits));
    let bits = bits.ok_or_else(|| refuse("bits", "2, 3, 4, 5, 6 or 8"))?;
    let group = settings["group_size"].as_u64().filter(|size| (1..=MOST_IN_GROUP).contains(size));
    let group = group.ok_or_else(|| refuse("group_size", "32, 64 or 128"))?;
    Ok((bits, group as usize))
}

/// The shape of the matrix that the parts form, if they match.
fn check(affine: &Affine) -> Result<Vec<usize>, String> {
    let Affine { codes, scales, biases, bits, group } = affine;
    let &[rows, words] = codes.shape.as_slice() else {
        return Err(format!("codes of shape {:?}, expected two dimensions", codes.shape));
    };
    if codes.dtype != Dtype::U32 {
        return Err(format!("codes are stored as {}, expected U32", codes.dtype));
    }
    // The file holds all of them, so this does not overflow.
    let in_row = words * 32;
    let columns = in_row / bits;
    if columns == 0 || !in_row.is_multiple_of(*bits) || !columns.is_multiple_of(*group) {
        return Err(format!(
            "rows of {words} words, expected whole groups of {group} codes of {bits} bits"
        ));
    }
    for factors in [scales, biases] {
        let expected = [rows, columns / group];
        if factors.shape != expected {
            return Err(format!(
                "scales or biases of shape {:?}, expected {expected:?}",
                factors.shape
            ));
        }
        if !matches!(factors.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32) {
            return Err(format!("scales or biases are stored as {}", factors.dtype));
        }
    }
    Ok(vec![rows, columns])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The floats that MLX itself decodes, from `tests/golden/make_mlx.py`, are the same.
    #[test]
    fn matrices_of_every_width_are_what_mlx_says() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mlx");
        let text = std::fs::read_to_string(dir.join("values.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let matrices = golden["matrices"].as_object().unwrap();
        assert_eq!(matrices.len(), BITS.len());
        for (name, values) in matrices {
            let (bits, group) = name.split_once('-').unwrap();
            let number = |text: &str| text.parse::<usize>().unwrap();
            let settings = json!({ "bits": number(bits), "group_size": number(group) });
            let mut weights = Weights::open(&dir.join(format!("{name}.safetensors"))).unwrap();
            dequantize(&mut weights, &settings, Path::new("config.json")).unwrap();
            let expected: Vec<f32> =
                values.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            assert_eq!(weights.names().collect::<Vec<_>>(), ["a.weight"]);
            assert_eq!(weights.shape("a.weight").unwrap(), [3, expected.len() / 3]);
            assert_eq!(weights.read_f32("a.weight").unwrap(), expected, "{name}");
            for first in 0..expected.len() {
                let mut part = vec![0.0; (expected.len() - first).min(70)];
                weights.read_f32_at("a.weight", first, &mut part).unwrap();
                assert_eq!(part, expected[first..first + part.len()], "{name}: {first}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_the_key() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mlx/4-64.safetensors");
        for (settings, expected) in [
            (
                json!({ "bits": 4, "group_size": 64, "mode": "mxfp4" }),
                "quantization.mode = \"mxfp4\"",
            ),
            (json!({ "bits": 7, "group_size": 64 }), "quantization.bits = 7"),
            (json!({ "group_size": 64 }), "quantization.bits = null"),
            (json!({ "bits": 4, "group_size": 0 }), "quantization.group_size = 0"),
            (json!({ "bits": 4, "group_size": 32 }), "expected [3, 4]"),
            (json!({ "bits": 3, "group_size": 64 }), "whole groups of 64 codes of 3 bits"),
            (
                json!({ "bits": 4, "group_size": 64, "a": { "bits": 9, "group_size": 64 } }),
                "quantization.a.bits = 9",
            ),
        ] {
            let mut weights = Weights::open(&file).unwrap();
            let error = dequantize(&mut weights, &settings, Path::new("config.json")).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
        let own = json!({ "bits": 2, "group_size": 32, "a": { "bits": 4, "group_size": 64 } });
        dequantize(&mut Weights::open(&file).unwrap(), &own, Path::new("config.json")).unwrap();
    }
}
