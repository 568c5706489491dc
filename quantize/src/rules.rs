//! Gives every tensor its type, from a recipe and the user's settings.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use gguf::{Metadata, TensorInfo, TensorType};
use regex::Regex;

use crate::recipe_types::{Seat, fits, fitting, wanted};
use crate::role::{Model, TensorRole, is_value, layer, role};
use crate::{PlanFile, Recipe};

/// Which tensor gets which type.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The mixture.
    pub recipe: Recipe,
    /// Whether the mixture is ignored, and every matrix gets the recipe's base type.
    pub pure: bool,
    /// Types for tensors by name, which override the mixture; the first that matches wins.
    pub overrides: Vec<Override>,
    /// The type of the tensor that computes the logits, which overrides everything else:
    /// `output.weight`, or `token_embd.weight` if the head is tied.
    pub output: Option<TensorType>,
    /// A type for each tensor by name, instead of all of the above.
    pub plan: Option<PlanFile>,
}

/// A type for every tensor whose name matches a regular expression.
#[derive(Debug, Clone)]
pub struct Override {
    pattern: Regex,
    tensor_type: TensorType,
}

/// The type for one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The type to store the tensor in.
    pub tensor_type: TensorType,
    /// The type that was wanted, if the tensor's rows are not a whole number of its blocks.
    pub instead_of: Option<TensorType>,
}

impl Rules {
    /// The recipe without changes.
    pub fn of(recipe: Recipe) -> Self {
        Rules { recipe, pure: false, overrides: Vec::new(), output: None, plan: None }
    }

    /// The types of a plan. Its recipe, which gives `general.file_type`, is the first whose base
    /// type is the plan's most frequent one.
    pub fn of_plan(plan: PlanFile) -> Self {
        let most = plan.most_frequent();
        let recipe = Recipe::ALL.into_iter().find(|recipe| Some(recipe.base_type()) == most);
        Rules { plan: Some(plan), ..Rules::of(recipe.unwrap_or(Recipe::Q8_0)) }
    }

    /// A type for every tensor, in the order of `tensors`; a tensor that is not quantized keeps its
    /// type. Some recipes choose other types if errors are `weighed`, which means weighted by
    /// column.
    ///
    /// # Errors
    /// When `block_count` exceeds the limit, or is smaller than the number of layers that the
    /// tensors belong to; for an architecture whose rules are not built in.
    pub fn choose(
        &self,
        metadata: &Metadata,
        tensors: &[TensorInfo],
        weighed: bool,
    ) -> anyhow::Result<Vec<Choice>> {
        if let Some(plan) = &self.plan {
            let types = plan.types(tensors)?;
            let choice = |(tensor, planned): (&TensorInfo, Option<TensorType>)| Choice {
                tensor_type: planned.unwrap_or(tensor.tensor_type),
                instead_of: None,
            };
            return Ok(tensors.iter().zip(types).map(choice).collect());
        }
        let model = Model::new(metadata, tensors)?;
        let tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
        let values = tensors.iter().filter(|tensor| is_value(&tensor.name)).count();
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by(|&a, &b| by_layer(&tensors[a], &tensors[b]));

        let mut choices: Vec<Choice> = tensors.iter().map(Choice::as_stored).collect();
        let mut before: HashMap<TensorRole, usize> = HashMap::new();
        for i in order {
            let tensor = &tensors[i];
            let role = role(tensor, tied);
            if role == TensorRole::Kept {
                continue;
            }
            let tensor_type = match self.by_hand(&tensor.name, role) {
                Some(tensor_type) => tensor_type,
                None if self.pure => self.recipe.base_type(),
                None => {
                    let count = before.entry(role).or_insert(0);
                    let place = place(tensor, role, *count, &model)?;
                    *count += 1;
                    let of = if role == TensorRole::AttentionValue { values } else { model.layers };
                    let seat = Seat { role, place, of, row_len: tensor.row_len() as u64 };
                    wanted(self.recipe, seat, &model, weighed)
                }
            };
            choices[i] = Choice::fitting(tensor_type, tensor);
        }
        Ok(choices)
    }

    /// The type that the user set for a tensor.
    fn by_hand(&self, name: &str, role: TensorRole) -> Option<TensorType> {
        if role == TensorRole::Output && self.output.is_some() {
            return self.output;
        }
        let rule = self.overrides.iter().find(|rule| rule.pattern.is_match(name));
        rule.map(|rule| rule.tensor_type)
    }
}

impl Choice {
    fn as_stored(tensor: &TensorInfo) -> Self {
        Choice { tensor_type: tensor.tensor_type, instead_of: None }
    }

    fn fitting(wanted: TensorType, tensor: &TensorInfo) -> Self {
        let row_len = tensor.row_len() as u64;
        let instead_of = (!fits(wanted, row_len)).then_some(wanted);
        Choice { tensor_type: fitting(wanted, row_len), instead_of }
    }
}

/// The order of llama.cpp: layers by number, and the tensors of a layer by name; tensors outside of
/// the layers come first.
fn by_layer(a: &TensorInfo, b: &TensorInfo) -> Ordering {
    (layer(&a.name), &a.name).cmp(&(layer(&b.name), &b.name))
}

/// How many tensors of the role come before a tensor. A layer has many experts, so for them it is
/// the layer's number.
fn place(
    tensor: &TensorInfo,
    role: TensorRole,
    before: usize,
    model: &Model,
) -> anyhow::Result<usize> {
    if role != TensorRole::FeedForwardDown || model.experts <= 1 {
        return Ok(before);
    }
    let name = &tensor.name;
    let layer = layer(name).with_context(|| format!("tensor {name} is in no layer"))? as usize;
    ensure!(
        layer < model.layers,
        "tensor {name} is in layer {layer} of {}: expected a number below",
        model.layers
    );
    Ok(layer)
}

impl Override {
    /// A rule for every tensor whose name matches `pattern`.
    ///
    /// # Errors
    /// When `pattern` is not a regular expression.
    pub fn new(pattern: &str, tensor_type: TensorType) -> anyhow::Result<Self> {
        let pattern = Regex::new(pattern)
            .with_context(|| format!("{pattern} is no regular expression for tensor names"))?;
        Ok(Override { pattern, tensor_type })
    }

    /// The regular expression, as it was given.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// The type of the tensors that match.
    pub fn tensor_type(&self) -> TensorType {
        self.tensor_type
    }
}

impl PartialEq for Override {
    fn eq(&self, other: &Self) -> bool {
        (self.pattern(), self.tensor_type) == (other.pattern(), other.tensor_type)
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern(), self.tensor_type)
    }
}

impl FromStr for Override {
    type Err = anyhow::Error;

    /// Reads `PATTERN=TYPE`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some((pattern, tensor_type)) = text.rsplit_once('=').filter(|(p, _)| !p.is_empty())
        else {
            bail!("{text}: expected PATTERN=TYPE, for example attn_v=Q6_K");
        };
        Override::new(pattern, tensor_type.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use gguf::Value;

    use super::*;

    fn tensor(name: &str, row_len: u64) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            shape: vec![row_len, 64],
            tensor_type: TensorType::F32,
            offset: 0,
            size: 0,
        }
    }

    fn metadata(architecture: &str, keys: &[(&str, u32)]) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", Value::String(architecture.to_owned()));
        for (key, value) in keys {
            metadata.set(format!("{architecture}.{key}"), Value::U32(*value));
        }
        metadata
    }

    fn types(rules: &Rules, metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<&'static str> {
        let choices = rules.choose(metadata, tensors, false).unwrap();
        choices.iter().map(|choice| choice.tensor_type.name()).collect()
    }

    /// Twelve layers, of which the mixture gives more bits to 0, 3, 6, 9, 10 and 11.
    fn values() -> (Metadata, Vec<TensorInfo>) {
        let tensors = (0..12).map(|i| tensor(&format!("blk.{i}.attn_v.weight"), 256)).collect();
        (metadata("llama", &[("block_count", 12)]), tensors)
    }

    #[test]
    fn places_follow_the_layers_and_not_the_file() {
        let (metadata, mut tensors) = values();
        let expected = types(&Rules::of(Recipe::Q4_K_M), &metadata, &tensors);
        assert_eq!(expected[..4], ["Q6_K", "Q4_K", "Q4_K", "Q6_K"]);
        tensors.reverse();
        let mut found = types(&Rules::of(Recipe::Q4_K_M), &metadata, &tensors);
        found.reverse();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_override_that_matches_wins_and_takes_no_place() {
        let (metadata, tensors) = values();
        let rules = Rules {
            overrides: vec![
                "blk\\.0\\.=F16".parse().unwrap(),
                "blk\\.[01]\\.attn_v=q8_0".parse().unwrap(),
            ],
            ..Rules::of(Recipe::Q4_K_M)
        };
        // The third tensor for the mixture is now in the fifth layer.
        assert_eq!(
            types(&rules, &metadata, &tensors)[..7],
            ["F16", "Q8_0", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K"]
        );
    }

    #[test]
    fn pure_files_have_one_type() {
        let (metadata, tensors) = values();
        let rules = Rules { pure: true, ..Rules::of(Recipe::Q4_K_M) };
        assert_eq!(types(&rules, &metadata, &tensors), ["Q4_K"; 12]);
    }

    #[test]
    fn the_output_is_kept_tied_or_not() {
        let kept = Rules {
            output: Some(TensorType::F16),
            overrides: vec![".=Q8_0".parse().unwrap()],
            ..Rules::of(Recipe::Q4_0)
        };
        let metadata = metadata("gpt2", &[("block_count", 0)]);
        let embedding = tensor("token_embd.weight", 256);
        let untied = [embedding.clone(), tensor("output.weight", 256)];
        assert_eq!(types(&kept, &metadata, &untied), ["Q8_0", "F16"]);
        assert_eq!(types(&kept, &metadata, &[embedding]), ["F16"]);
    }

    #[test]
    fn vectors_keep_their_type_whatever_is_asked() {
        let rules = Rules { overrides: vec![".=Q8_0".parse().unwrap()], ..Rules::of(Recipe::Q4_0) };
        let metadata = metadata("gpt2", &[("block_count", 1)]);
        let norm = tensor("blk.0.attn_norm.weight", 256);
        assert_eq!(types(&rules, &metadata, &[norm]), ["F32"]);
    }

    #[test]
    fn what_does_not_fit_says_what_was_wanted() {
        let choices = Rules::of(Recipe::Q3_K_S)
            .choose(&metadata("gpt2", &[]), &[tensor("blk.0.ffn_up.weight", 96)], false)
            .unwrap();
        let expected = Choice { tensor_type: TensorType::Q4_0, instead_of: Some(TensorType::Q3_K) };
        assert_eq!(choices, [expected]);
    }

    #[test]
    fn few_heads_of_values_are_kept_well() {
        let value = [tensor("blk.0.attn_v.weight", 256)];
        let of = |architecture: &str, layers, heads, kv| {
            let keys = [
                ("block_count", layers),
                ("attention.head_count", heads),
                ("attention.head_count_kv", kv),
            ];
            types(&Rules::of(Recipe::Q3_K_S), &metadata(architecture, &keys), &value)[0]
        };
        assert_eq!(of("llama", 80, 64, 8), "Q5_K");
        assert_eq!(of("llama", 80, 64, 64), "Q3_K");
        assert_eq!(of("llama", 79, 64, 8), "Q3_K");
        assert_eq!(of("qwen2", 80, 64, 64), "Q5_K");
        let shared =
            metadata("llama", &[("attention.head_count", 8), ("attention.head_count_kv", 2)]);
        assert_eq!(types(&Rules::of(Recipe::Q2_K), &shared, &value), ["Q4_K"]);
    }

    #[test]
    fn experts_are_placed_by_their_layer() {
        let keys = [("block_count", 16), ("expert_count", 8)];
        let metadata = metadata("llama", &keys);
        let down = |i| tensor(&format!("blk.{i}.ffn_down.3.weight"), 256);
        let rules = Rules::of(Recipe::Q4_K_M);
        assert_eq!(types(&rules, &metadata, &[down(2), down(4)]), ["Q4_K", "Q6_K"]);
        let refused =
            rules.choose(&metadata, &[tensor("ffn_down.weight", 256)], false).unwrap_err();
        assert_eq!(refused.to_string(), "tensor ffn_down.weight is in no layer");
    }

    #[test]
    fn what_is_no_override_is_refused() {
        let refused = |text: &str| format!("{:#}", text.parse::<Override>().unwrap_err());
        assert_eq!(refused("attn_v"), "attn_v: expected PATTERN=TYPE, for example attn_v=Q6_K");
        assert_eq!(refused("=Q6_K"), "=Q6_K: expected PATTERN=TYPE, for example attn_v=Q6_K");
        assert!(refused("attn_v=Q9").contains("unknown tensor type Q9"));
        assert!(refused("blk.(=Q6_K").contains("blk.( is no regular expression"));
        assert_eq!("a=b=F16".parse::<Override>().unwrap().to_string(), "a=b=F16");
    }

    #[test]
    fn an_architecture_with_other_rules_is_refused_by_name() {
        let refused =
            Rules::of(Recipe::Q4_0).choose(&metadata("glm5-next", &[]), &[], false).unwrap_err();
        assert!(refused.to_string().contains("glm5-next"), "{refused}");
    }
}
