use super::*;

/// The error of a file with these records.
fn refused(records: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.jsonl");
    std::fs::write(&path, records).unwrap();
    let error = cli::one_line(&read(&path, None).unwrap_err());
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn brackets_go_as_python_s_expression_takes_them() {
    // CPython's `re.sub("\\[.*?\\]", "", text)`.
    for (text, expected) in [
        ("a [b] c", "a  c"),
        ("a [b\nc] d", "a [b\nc] d"),
        ("[[a]b]", "b]"),
        ("[a [b\n[c]", "[a [b\n"),
        ("a]b[", "a]b["),
    ] {
        assert_eq!(without_brackets(text), expected);
    }
    assert_eq!(without_artifacts("  Do [title] it  [step] now   "), "Do. it  now");
}

#[test]
fn a_record_that_is_not_a_question_is_refused_with_its_line() {
    let good = r#"{"query": "q", "choices": ["a", "b"], "gold": 1}"#;
    for (record, expected) in [
        (r#"{"query": "q", "choices": [], "gold": 0}"#, "0 choices; expected at least 2"),
        (r#"{"query": "q", "choices": ["a", "b"], "gold": 2}"#, "`gold` is 2; expected 0 to 1"),
        (r#"{"query": "q", "choices": ["a", "b"], "gold": -1}"#, "`gold` is -1; expected 0 to 1"),
        (r#"{"query": "q", "choices": ["a", "b"], "gold": 0.5}"#, "`gold` is 0.5; expected 0 to 1"),
        (r#"{"query": "q", "choices": ["a", ""], "gold": 0}"#, "choice 1 (from 0) is empty"),
        (r#"{"query": "q", "choices": "a b", "gold": 0}"#, "`choices` is a text; expected a list"),
        (r#"{"query": "q", "choices": ["a", 3], "gold": 0}"#, "`choices` holds a number"),
        (r#"{"query": 7, "choices": ["a", "b"], "gold": 0}"#, "`query` holds a number"),
        (r#"{"choices": ["a", "b"], "gold": 0}"#, "no field `query`; found choices, gold"),
        (r#"["a"]"#, "an array; expected an object"),
        (r#"{"query": "q""#, r#""{\"query\": \"q\"": not JSON"#),
    ] {
        let error = refused(&format!("{good}\n\n{record}\n"));
        assert!(error.starts_with(&format!("q.jsonl: line 3: {expected}")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn too_many_choices_are_refused_before_they_are_read() {
    let choices = vec!["a"; 100_000];
    let record = serde_json::json!({"query": "q", "choices": choices, "gold": 0});
    assert_eq!(
        refused(&record.to_string()),
        "q.jsonl: line 1: `choices` has 100000 entries; expected at most 1024"
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused(&deep).starts_with("q.jsonl: line 1: "), "nested too deep");
}

#[test]
fn every_layout_has_its_own_errors() {
    for (record, expected) in [
        (
            r#"{"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"}"#,
            "2 texts in `choices.text` and 1 in `choices.label`",
        ),
        (
            r#"{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"}"#,
            "`answerKey` is \"C\"; expected one of A, B",
        ),
        (r#"{"question": "q", "choices": ["a"], "answerKey": "A"}"#, "no field `choices.text`"),
        (
            r#"{"goal": "g", "sol1": "a", "sol2": "b", "label": -1}"#,
            "`label` is -1; expected 0 to 1",
        ),
        (r#"{"question": "q", "choices": ["a", "b", "c"], "answer": 0}"#, "3 choices; expected 4"),
        (
            r#"{"ctx_a": "a", "ctx_b": "b", "activity_label": "c", "endings": ["[x]", "y"], "label": "0"}"#,
            "choice 0 (from 0) is empty",
        ),
        (r#"{"question": "q", "answer": "7"}"#, "`answer` has no `#### ` before its number"),
        (r#"{"messages": [], "answer": "7"}"#, "`messages` is empty"),
        (
            r#"{"messages": [{"role": "assistant", "content": "x"}], "answer": "7"}"#,
            "`messages` ends with the role Assistant",
        ),
        (
            r#"{"messages": [{"role": "tool", "content": "x"}], "answer": "7"}"#,
            "`messages` is a list; expected role and content of each",
        ),
        (r#"{"prompt": "p", "answer": "a", "pattern": "("}"#, "the pattern \"(\" is not a regular"),
        (
            r#"{"text": "p"}"#,
            "the fields text are of no known task (hellaswag: ctx_a endings; arc:",
        ),
    ] {
        let error = refused(record);
        assert!(error.starts_with(&format!("q.jsonl: line 1: {expected}")), "{error}");
    }
    assert_eq!(refused("\n \n"), "q.jsonl: no records; expected questions");
    let mixed = "{\"prompt\": \"p\", \"answer\": \"a\"}\n\
                 {\"prompt\": \"p\", \"answer\": \"a\", \"pattern\": \"a\"}";
    assert_eq!(
        refused(mixed),
        "q.jsonl: line 2: `answer` and `pattern` here and `answer` without `pattern` in q.jsonl: line 1; divide \
         the file"
    );
}
