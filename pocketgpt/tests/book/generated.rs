//! Pages that the program writes are what it writes now.

use std::fs;

use super::root;

#[test]
fn the_reference_is_what_the_program_says() {
    let mut old = Vec::new();
    for (page, file) in [
        ("commands", "docs/book/src/reference/commands.md"),
        ("run-file", "docs/book/src/reference/run-file.md"),
        ("schema", "docs/run-file.schema.json"),
    ] {
        let output = crate::program::stage("reference").arg(page).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Git may write line ends of its own on Windows.
        let found = fs::read_to_string(root().join(file)).unwrap_or_default().replace('\r', "");
        if found != String::from_utf8(output.stdout).unwrap() {
            old.push(format!("target/release/pocketgpt reference {page} > {file}"));
        }
    }
    assert!(old.is_empty(), "out of date; after a build, run\n{}", old.join("\n"));
}

/// The key of a gate and of a task, the default of a number in 32 bits, and a choice.
#[test]
fn the_reference_names_keys_with_defaults_and_choices() {
    let output = crate::program::stage("reference").arg("run-file").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "\n## `[eval.gates]`\n",
        "\n## `[[eval.task]]`\n",
        "\n## `[train.qat]`\n",
        "| `norm_epsilon` | number | `0.00001` |",
        "| `batch_size` | integer | `2` |",
        "<br>`cosine`: Half a cosine",
        "`Q8_0 = 0.01`",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
