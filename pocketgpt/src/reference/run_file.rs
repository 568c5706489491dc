//! The keys of a run file as a page of Markdown, from its JSON Schema.

use std::fmt::Write;

use serde_json::Value;

use super::escaped;

const HEAD: &str = "\
# Run file

<!-- Written by `pocketgpt reference run-file`; change the comments in `crates/config/src` instead. -->

A run file is TOML and drives every stage. Every key has a default, so an empty file is a valid one.
Unknown keys, wrong types and values out of range are refused with the file, the line and what was
expected. `--set train.batch_size=4` overrides one value. The whole run file, defaults included, is saved
as `RUN/config.toml`.

Editors that know JSON Schema (Even Better TOML, taplo) complete and check a run file with
`docs/run-file.schema.json`: write `#:schema` and the path or address of that file into its first line.
`pocketgpt reference schema` prints it.

A dash as default means that the key may be left out; its text says what happens then.
";

/// One table for each section, in the order of [`config::RunFile`].
pub fn page(schema: &Value) -> String {
    let page = Page { schema };
    let mut text = HEAD.to_owned();
    let (sections, keys): (Vec<_>, Vec<_>) =
        page.properties(schema).into_iter().partition(|(_, key)| page.is_section(key));
    let _ = writeln!(text, "\n## Keys before the first section\n\n{}", page.table(&keys));
    for (name, section) in sections {
        page.section(&format!("[{name}]"), page.resolved(section), &mut text);
    }
    text
}

struct Page<'a> {
    schema: &'a Value,
}

impl<'a> Page<'a> {
    fn section(&self, name: &str, section: &'a Value, text: &mut String) {
        let about = description(section);
        // `[train]: the loop` in the types; the name stands in the heading here.
        let about = about.split_once("`: ").map_or(about.as_str(), |(_, about)| about);
        let mut letters = about.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string());
        // Writing to a `String` does not fail.
        let _ =
            writeln!(text, "\n## `{name}`\n\n{}{}", first.unwrap_or_default(), letters.as_str());
        let (inner, keys): (Vec<_>, Vec<_>) =
            self.properties(section).into_iter().partition(|(_, key)| self.is_section(key));
        let _ = writeln!(text, "\n{}", self.table(&keys));
        let path = name.trim_matches(['[', ']']);
        for (key, node) in inner {
            let (open, close) = if node["type"] == "array" { ("[[", "]]") } else { ("[", "]") };
            let below = self.resolved(if open == "[[" { &node["items"] } else { node });
            self.section(&format!("{open}{path}.{key}{close}"), below, text);
        }
    }

    /// The keys below `node`, in the order of the fields.
    fn properties(&self, node: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let keys = self.resolved(node)["properties"].as_object();
        keys.into_iter().flatten().map(|(name, key)| (name.as_str(), key)).collect()
    }

    /// What `node` refers to, or itself.
    fn resolved(&self, node: &'a Value) -> &'a Value {
        let link = node["$ref"].as_str().or(node["allOf"][0]["$ref"].as_str());
        let name = link.and_then(|link| link.strip_prefix("#/definitions/"));
        name.map_or(node, |name| &self.schema["definitions"][name])
    }

    fn is_section(&self, node: &'a Value) -> bool {
        let node = if node["type"] == "array" { &node["items"] } else { node };
        self.resolved(node)["properties"].is_object()
    }

    fn table(&self, keys: &[(&'a str, &'a Value)]) -> String {
        let mut table = "| key | type | default | meaning |\n|---|---|---|---|".to_owned();
        for (name, key) in keys {
            let meaning = format!("{}{}", description(key), self.choices(self.resolved(key)));
            let meaning = meaning.replace('|', "\\|");
            let _ =
                write!(table, "\n| `{name}` | {} | {} | {meaning} |", self.kind(key), default(key));
        }
        table
    }

    /// The type of a key as people who write TOML call it.
    fn kind(&self, node: &'a Value) -> String {
        let node = self.resolved(node);
        if variants(node).is_some_and(|all| all.iter().all(|one| one["const"].is_string())) {
            return "one of these strings".to_owned();
        }
        if let Some(all) = variants(node) {
            if all.iter().all(|one| one["properties"].is_object()) {
                return "table".to_owned();
            }
            let kinds: Vec<String> = all.iter().map(|one| self.kind(one)).collect();
            return kinds.join(" or ");
        }
        match node["type"].as_str() {
            Some("array") => match node["items"]["type"].as_str() {
                Some(_) => format!("list of {}s", self.kind(&node["items"])),
                None => "list of these strings".to_owned(),
            },
            Some("object") => "table of numbers".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            other => other.unwrap_or("string").to_owned(),
        }
    }

    /// The values that a key can have, with what each means.
    fn choices(&self, node: &'a Value) -> String {
        let node = if node["type"] == "array" { self.resolved(&node["items"]) } else { node };
        let all = variants(node).map(Vec::as_slice).unwrap_or_default();
        let choice = |one: &Value| {
            let tagged = &one["properties"]["type"]["const"];
            let name = one["const"].as_str().or(tagged.as_str())?;
            let keys = one["properties"].as_object();
            let keys = keys.into_iter().flatten().filter(|(key, _)| *key != "type");
            let keys: String = keys
                .map(|(key, node)| {
                    let about = description(node);
                    format!("; `{key}`: {}", about.trim_end_matches('.'))
                })
                .collect();
            Some(format!("<br>`{name}`: {}{keys}", description(one)))
        };
        all.iter().filter_map(choice).collect()
    }
}

fn variants(node: &Value) -> Option<&Vec<Value>> {
    node["oneOf"].as_array().or(node["anyOf"].as_array())
}

/// The comment of a key, without the links of Rust's documentation.
fn description(node: &Value) -> String {
    let text = node["description"].as_str().unwrap_or_default();
    let paragraphs = text.split("\n\n").map(escaped).collect::<Vec<_>>();
    paragraphs.join("<br>").replace("[`", "`").replace("`]", "`")
}

fn default(node: &Value) -> String {
    match &node["default"] {
        Value::Null => "-".to_owned(),
        Value::Object(values) => {
            let values: Vec<String> =
                values.iter().map(|(name, value)| format!("`{name} = {value}`")).collect();
            values.join("<br>")
        }
        value => format!("`{value}`"),
    }
}
