//! From a file and `--set` arguments to a valid [`RunFile`], and back to text.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{ConfigError, Paths, RunFile};

impl RunFile {
    /// Reads `path`, applies each `key=value` of `overrides` in order, and validates.
    ///
    /// # Errors
    /// [`ConfigError`], with the line of the file or the override at fault.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = plain_file::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text, overrides)
    }

    /// [`RunFile::load`] on text that is already in memory; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut run_file: RunFile =
            toml::from_str(text).map_err(|error| parse_error(path, text, &error))?;
        if !overrides.is_empty() {
            let table = text.parse().map_err(|error| parse_error(path, text, &error))?;
            run_file = apply_overrides(table, overrides)?;
        }
        run_file.validate()?;
        Ok(run_file)
    }

    /// The whole run file as TOML, defaults included: what the run folder's `config.toml` holds.
    ///
    /// # Errors
    /// Only if a value has no TOML form, which no field's type allows.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

impl RunFile {
    /// The same run file for others to read: of each path the last name, since the rest says how
    /// this machine is set up and who uses it.
    pub fn without_folders(&self) -> Self {
        let mut shown = self.clone();
        let teacher = shown.train.teacher.as_mut();
        let teacher = teacher
            .map(|teacher| [teacher.model.as_mut(), teacher.recorded.as_mut()])
            .into_iter()
            .flatten();
        let data = &mut shown.data;
        let sources = data.source.iter_mut().map(|source| &mut source.path);
        let texts = std::iter::once(&mut data.path).chain(sources).flat_map(Paths::as_mut_slice);
        let always = std::iter::once(&mut shown.run.dir).chain(texts);
        let maybe = [
            data.tokenizer_path.as_mut(),
            shown.train.init_from.as_mut(),
            shown.bundle.license_file.as_mut(),
        ];
        let tasks = shown.eval.task.iter_mut();
        let tasks =
            tasks.flat_map(|task| std::iter::once(&mut task.path).chain(&mut task.shots_from));
        for path in
            always.into_iter().chain(maybe.into_iter().chain(teacher).flatten()).chain(tasks)
        {
            *path = path.file_name().map(PathBuf::from).unwrap_or_default();
        }
        shown
    }
}

fn apply_overrides(mut table: Table, overrides: &[String]) -> Result<RunFile, ConfigError> {
    let mut run_file = RunFile::default();
    for assignment in overrides {
        let refuse = |message: String| ConfigError::Override {
            assignment: assignment.clone(),
            message: message.trim_end().to_owned(),
        };
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| refuse("expected key=value, for example train.batch_size=4".into()))?;
        set(&mut table, key.trim(), parse_value(value.trim())).map_err(&refuse)?;
        // Once per override, so that an error names the one that brought it in.
        run_file = RunFile::deserialize(Value::Table(table.clone()))
            .map_err(|error| refuse(error.message().to_owned()))?;
    }
    Ok(run_file)
}

/// A TOML value if it reads as one, otherwise the text itself: `runs/a` needs no quotes.
fn parse_value(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((section, rest)) => {
            let inner =
                table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => set(inner, rest, value),
                _ => Err(format!("{section} is a value, not a section")),
            }
        }
    }
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
    let message = error.message().trim_end().replace('\n', ", ");
    ConfigError::Parse { path: path.to_owned(), line, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: &[&str]) -> Result<RunFile, String> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        RunFile::parse(Path::new("a.toml"), text, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(load("", &[]), Ok(RunFile::default()));
    }

    #[test]
    fn what_is_saved_loads_as_the_same() {
        let mut run_file = RunFile::default();
        run_file.train.max_steps = Some(7);
        run_file.model.n_inner = Some(100);
        let text = run_file.to_toml().unwrap();
        assert_eq!(load(&text, &[]), Ok(run_file));
    }

    #[test]
    fn what_others_read_has_no_folders_in_it() {
        let mut run_file = RunFile::default();
        run_file.run.dir = "/home/me/runs/a".into();
        run_file.data.path = "../secret/text.txt".into();
        let source = "path = [\"/home/me/a.jsonl\", \"../b/c.jsonl\"]\nweight = 2";
        run_file.data.source = vec![toml::from_str(source).unwrap()];
        run_file.data.tokenizer_path = Some("/home/me/tok/tokenizer.json".into());
        run_file.train.init_from = Some("/home/me/models/base".into());
        let teacher = "model = \"/home/me/teacher\"\nrecorded = \"/home/me/predictions\"";
        run_file.train.teacher = Some(toml::from_str(teacher).unwrap());
        run_file.bundle.license_file = Some("/home/me/LICENSE".into());
        let task = "path = \"/home/me/arc.jsonl\"\nshots_from = \"/home/me/dev.jsonl\"";
        run_file.eval.task = vec![toml::from_str(task).unwrap()];
        let shown = run_file.without_folders();
        let text = shown.to_toml().unwrap();
        assert!(!text.contains('/'), "{text}");
        for name in [
            "\"a\"",
            "text.txt",
            "tokenizer.json",
            "base",
            "teacher\"",
            "predictions",
            "LICENSE",
            "a.jsonl",
            "arc.jsonl",
            "dev.jsonl",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
        let default = RunFile::default().without_folders();
        assert_eq!(default.data.path, RunFile::default().data.path);
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_choices() {
        let error = load("[train]\nbatch_size = 1\nbatchsize = 2\n", &[]).unwrap_err();
        assert!(
            error.starts_with("a.toml:3: unknown field `batchsize`, expected one of"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_file_line_and_expectation() {
        let error = load("[train]\n\nbatch_size = \"two\"\n", &[]).unwrap_err();
        assert!(
            error.starts_with("a.toml:3: invalid type: string \"two\", expected usize"),
            "{error}"
        );
    }

    #[test]
    fn a_path_is_a_string_or_a_list_and_stays_what_it_was() {
        for (text, paths) in [("\"a.txt\"", 1), ("[\n    \"a.jsonl\",\n    \"b.jsonl\",\n]", 2)] {
            let run_file = load(&format!("[data]\npath = {text}\n"), &[]).unwrap();
            assert_eq!(run_file.data.path.as_slice().len(), paths);
            let saved = run_file.to_toml().unwrap();
            assert!(saved.contains(&format!("path = {text}\n")), "{saved}");
            assert_eq!(load(&saved, &[]).unwrap(), run_file);
        }
        let error = load("[data]\npath = 7\n", &[]).unwrap_err();
        assert!(error.contains("a.toml:2: a string or a list of strings"), "{error}");
    }

    #[test]
    fn sources_are_saved_and_checked() {
        let text =
            "[[data.source]]\npath = \"a.jsonl\"\nweight = 3\n[[data.source]]\npath = [\"b\"]\n";
        let run_file = load(text, &[]).unwrap();
        let weights: Vec<u32> = run_file.data.source.iter().map(|source| source.weight).collect();
        assert_eq!(weights, [3, 1]);
        assert_eq!(load(&run_file.to_toml().unwrap(), &[]).unwrap(), run_file);
        for (text, expected) in [
            (
                "[[data.source]]\npath = \"a\"\nweight = 2\n",
                "data.source.weight = 2: expected 1 for the last",
            ),
            (
                "[[data.source]]\npath = \"a\"\nweight = 0\n",
                "data.source.weight = 0: expected 1 to 1000",
            ),
            (
                "[data]\npath = \"b\"\n[[data.source]]\npath = \"a\"\n",
                "data.path = b: expected nothing",
            ),
            ("[data]\npath = []\n", "data.path = []: expected at least one path"),
            ("[data]\ntext_field = \"\"\n", "data.text_field"),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_override_wins_and_needs_no_quotes() {
        let run_file = load(
            "[train]\nbatch_size = 1\n",
            &["train.batch_size=4", "run.dir=runs/a", "device=flex"],
        )
        .unwrap();
        assert_eq!(run_file.train.batch_size, 4);
        assert_eq!(run_file.run.dir, Path::new("runs/a"));
        assert_eq!(run_file.device, crate::Device::Flex);
    }

    #[test]
    fn a_bad_override_is_named() {
        let error = load("", &["train.batch_size=4", "train.batchsize=4"]).unwrap_err();
        assert!(error.starts_with("--set train.batchsize=4: unknown field"), "{error}");
        let error = load("", &["train"]).unwrap_err();
        assert!(error.contains("expected key=value"), "{error}");
        let error = load("", &["device.name=flex"]).unwrap_err();
        assert!(error.starts_with("--set device.name=flex:"), "{error}");
    }

    #[test]
    fn a_gate_that_is_set_leaves_the_others_in_place() {
        let text = "[eval.gates.mean_kl]\nQ8_0 = 5e-4\n";
        let gates = load(text, &["eval.gates.mean_kl.Q6_K=0.5"]).unwrap().eval.gates.mean_kl;
        assert_eq!((gates["Q8_0"], gates["Q6_K"], gates["Q4_K_M"]), (5e-4, 0.5, 0.1));
        // Another spelling would be a gate that nobody looks at; another program's recipe is none.
        for (other, name) in [("Q4_K", "Q4_K_M"), ("q8_0", "Q8_0")] {
            let error = load(&format!("[eval.gates.mean_kl]\n{other} = 1e-3\n"), &[]).unwrap_err();
            assert!(error.contains(&format!("mean_kl.{other}: write {name}")), "{error}");
        }
        load("[eval.gates.mean_kl]\nIQ2_XXS = 1.0\n", &[]).unwrap();
    }

    #[test]
    fn relations_between_keys_are_checked() {
        let error = load("[model]\nn_head = 7\n", &[]).unwrap_err();
        assert_eq!(
            error,
            "model.n_head = 7: expected a divisor of model.n_embd = 768, or model.attention.head_width"
        );
        let error = load("[data]\ncontext = 2048\n", &[]).unwrap_err();
        assert_eq!(error, "data.context = 2048: expected at most model.context_length = 1024");
        let error = load("[model]\nn_embd = 4611686018427387904\n", &[]).unwrap_err();
        assert_eq!(error, "model.n_embd = 4611686018427387904: expected 1 to 1048576");
        let error = load("[train]\nbatch_size = 0\n", &[]).unwrap_err();
        assert_eq!(error, "train.batch_size = 0: expected at least 1");
        let error = load("[bundle]\nself_test_tokens = 0\n", &[]).unwrap_err();
        assert_eq!(error, "bundle.self_test_tokens = 0: expected at least 1");
        let error = load("[bundle]\nrelease = 0\n", &[]).unwrap_err();
        assert_eq!(error, "bundle.release = 0: expected from 1 to 9007199254740991");
        let error = load("[bundle]\nexpires = \"2027-02-29\"\n", &[]).unwrap_err();
        assert_eq!(
            error,
            "bundle.expires = \"2027-02-29\": expected a day that exists, as YYYY-MM-DD"
        );
        load("[bundle]\nrelease = 1\nexpires = \"2028-02-29\"\n", &[]).unwrap();
        let error = load("[optimizer]\nepsilon = 0.0\n", &[]).unwrap_err();
        assert_eq!(error, "optimizer.epsilon = 0: expected a finite number above 0");
    }
}
