//! What training minimises.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `train.objective`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The cross-entropy of the next token, of texts or of the answers of conversations.
    NextToken,
    /// Direct preference optimization (Rafailov et al., 2023): of two answers, one becomes likelier
    /// than the other, compared with the model that training starts from.
    Dpo,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::RunFile;

    fn refusal(text: &str) -> String {
        RunFile::parse(Path::new("a.toml"), text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn pairs_that_cannot_be_are_refused_with_the_way_out() {
        let dpo = "[train]\nobjective = \"dpo\"\ninit_from = \"base\"\n";
        RunFile::parse(Path::new("a.toml"), &format!("{dpo}[data]\nformat = \"chat\""), &[])
            .unwrap();
        let chat = "[data]\nformat = \"chat\"\n";
        for (text, expected) in [
            (dpo.to_owned(), "train.objective = dpo: expected data.format = \"chat\""),
            (
                format!("{dpo}{chat}chat_format = \"messages\""),
                "data.chat_format = messages: expected preference",
            ),
            (
                format!("{chat}chat_format = \"preference\"\n[train]\nobjective = \"next-token\""),
                "train.objective = next-token: expected dpo",
            ),
            (
                format!("{chat}[train]\nobjective = \"dpo\""),
                "train.init_from = (nothing): expected the model whose answers are compared",
            ),
            (
                format!("{dpo}{chat}train_on = \"all\""),
                "data.train_on = (something): expected nothing",
            ),
            (
                format!("{dpo}{chat}documents = \"packed\""),
                "data.documents = (something): expected nothing",
            ),
            (
                format!("{dpo}dpo_beta = 0.0\n{chat}"),
                "train.dpo_beta = 0: expected a finite number above 0",
            ),
            (
                format!("{dpo}dpo_label_smoothing = 0.5\n{chat}"),
                "train.dpo_label_smoothing = 0.5: expected from 0 to below 0.5",
            ),
        ] {
            let error = refusal(&text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let error = refusal("[train]\nobjective = \"ppo\"");
        assert!(error.contains("expected `next-token` or `dpo`"), "{error}");
    }
}
