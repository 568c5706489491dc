//! A plan on disk: which tensor gets which type, for `--plan FILE`.
//!
//! ```toml
//! # KL divergence expected: 0.0123 nats
//! format = 1
//!
//! [tensors]
//! "blk.0.attn_qkv.weight" = "Q4_K"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gguf::{TensorInfo, TensorType};
use serde::{Deserialize, Serialize};

/// The version that this program writes, and the only one it reads.
const FORMAT: u32 = 1;

/// Largest file that is read: room for far more tensors than any model has.
const LIMIT: u64 = 64 << 20;

/// Which tensor gets which type. Tensors that are not named keep theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    format: u32,
    /// Type by tensor.
    tensors: BTreeMap<String, String>,
}

impl PlanFile {
    /// A plan of these types.
    pub fn new<'a>(types: impl IntoIterator<Item = (&'a str, TensorType)>) -> Self {
        let tensors = types.into_iter().map(|(name, t)| (name.to_owned(), t.name().to_owned()));
        PlanFile { format: FORMAT, tensors: tensors.collect() }
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When there is no such file, or it is no plan of this version.
    pub fn read(path: &Path) -> Result<Self> {
        let place = || format!("cannot read the plan {}", path.display());
        let size = std::fs::metadata(path).with_context(place)?.len();
        ensure!(
            size <= LIMIT,
            "{}: a plan of {size} bytes: expected at most {LIMIT}",
            path.display()
        );
        let text = plain_file::read_to_string(path).with_context(place)?;
        let plan: PlanFile = toml::from_str(&text).with_context(place)?;
        ensure!(
            plan.format == FORMAT,
            "{}: plan format {}, this program reads {FORMAT}",
            path.display(),
            plan.format
        );
        Ok(plan)
    }

    /// The plan as text; `note` comes first, as a comment.
    ///
    /// # Errors
    /// Never, as far as is known: names and types are plain text.
    pub fn to_text(&self, note: &str) -> Result<String> {
        Ok(format!("# {note}\n{}", toml::to_string(self)?))
    }

    /// The type that most tensors get, the first by name of equals; none if there are no tensors.
    pub fn most_frequent(&self) -> Option<TensorType> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.tensors.values().for_each(|name| *counts.entry(name).or_default() += 1);
        let most = counts.iter().rev().max_by_key(|(_, count)| **count)?;
        most.0.parse().ok()
    }

    /// The type for each of `tensors`, in their order; `None` where the plan names none.
    ///
    /// # Errors
    /// For a tensor that is not there, a type that is not known or does not fit its rows, each by
    /// name.
    pub fn types(&self, tensors: &[TensorInfo]) -> Result<Vec<Option<TensorType>>> {
        let mut left: BTreeMap<&str, &str> =
            self.tensors.iter().map(|(name, t)| (name.as_str(), t.as_str())).collect();
        let types = tensors
            .iter()
            .map(|tensor| {
                let Some(name) = left.remove(tensor.name.as_str()) else { return Ok(None) };
                let tensor_type: TensorType =
                    name.parse().with_context(|| format!("tensor {}", tensor.name))?;
                ensure!(
                    tensor.row_len().is_multiple_of(tensor_type.block_len()),
                    "tensor {}: rows of {} weights cannot be {tensor_type}, whose blocks have {}",
                    tensor.name,
                    tensor.row_len(),
                    tensor_type.block_len()
                );
                Ok(Some(tensor_type))
            })
            .collect::<Result<_>>()?;
        match left.keys().next() {
            None => Ok(types),
            Some(name) => bail!("the plan names tensor {name}, which this model does not have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, row: u64) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            shape: vec![row, 4],
            tensor_type: TensorType::F32,
            offset: 0,
            size: 0,
        }
    }

    #[test]
    fn a_plan_reads_back_and_names_its_tensors() {
        let plan =
            PlanFile::new([("a.weight", TensorType::Q4_K), ("b.weight", TensorType::IQ4_NL)]);
        let text = plan.to_text("two tensors").unwrap();
        assert!(text.starts_with("# two tensors\nformat = 1\n"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.toml");
        std::fs::write(&path, text).unwrap();
        let read = PlanFile::read(&path).unwrap();
        assert_eq!(read, plan);
        assert_eq!(plan.most_frequent(), Some(TensorType::IQ4_NL));
        let tensors = [tensor("b.weight", 32), tensor("c.weight", 5), tensor("a.weight", 256)];
        assert_eq!(
            read.types(&tensors).unwrap(),
            [Some(TensorType::IQ4_NL), None, Some(TensorType::Q4_K)]
        );
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        let plan = PlanFile::new([("a.weight", TensorType::Q4_K)]);
        let refused = |tensors: &[TensorInfo]| format!("{:#}", plan.types(tensors).unwrap_err());
        assert!(refused(&[tensor("a.weight", 96)]).contains("rows of 96 weights cannot be Q4_K"));
        assert!(refused(&[tensor("b.weight", 256)]).contains("names tensor a.weight"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.toml");
        for (text, why) in [
            ("format = 2\n[tensors]\n", "plan format 2"),
            ("format = 1\n[tensors]\n\"a.weight\" = \"Q9\"\n", "Q9"),
            ("format = 1\ntypes = 3\n", "unknown field"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = PlanFile::read(&path).and_then(|p| p.types(&[tensor("a.weight", 256)]));
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        assert!(PlanFile::read(&folder.path().join("none")).is_err());
    }
}
