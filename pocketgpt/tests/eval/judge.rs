//! The `eval` command on a tiny model with random weights: passing gates, missed gates, and refused
//! input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the sweep's tests use the rest of the fixture")]
use super::common::{CONTEXT, Fixture, WINDOWS, config, eval, stderr, stdout};
use config::{Architecture, Attention, ModelConfig, Window};
use eval::{Engine, Report, TextTokens};
use gguf::{TensorSource, TensorType};

#[test]
fn three_passes_agree_on_the_f32_file() {
    let fixture = Fixture::new();
    let output =
        eval(&[&"--checkpoint", &fixture.checkpoint(), &"--f32", &fixture.f32(), &"--json"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stderr(&output), "", "llama.cpp's log stays away");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.passed());
    assert_eq!((report.tokens.windows, report.tokens.context), (WINDOWS, CONTEXT));
    let [burn, llama] = &report.pairs[..] else { panic!("{} pairs", report.pairs.len()) };
    assert_eq!(
        (burn.base.engine, burn.candidate.engine, llama.base.engine, llama.candidate.engine),
        (Engine::Burn, Engine::Reference, Engine::Reference, Engine::LlamaCpp)
    );
    // The golden logits of this fixture were computed by the reference itself.
    assert_eq!(burn.metrics.as_ref().unwrap().max_difference, 0.0);
    let llama = llama.metrics.as_ref().unwrap();
    assert_eq!(llama.agreement.positions, WINDOWS * CONTEXT);
    assert!(llama.agreement.kl.mean <= 1e-7, "mean KL {}", llama.agreement.kl.mean);
    assert!(llama.relative_rms > 0.0, "two engines, two orders of addition");
}

#[test]
fn one_changed_weight_fails_with_exit_code_1_and_says_by_how_much() {
    let fixture = Fixture::new();
    let broken = fixture.changed("broken-F32.gguf", |name, weights| {
        if name == "blk.1.ffn_up.weight" {
            weights[7] += 0.1;
        }
    });
    let output = eval(&[&"--checkpoint", &fixture.checkpoint(), &"--f32", &broken]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(
        error.contains("gate failed: F32 reference : F32 Burn, relative RMS")
            && error.contains("at most 2.0e-6, missed:")
            && error.contains("times the limit"),
        "{error}"
    );
    let table = stdout(&output);
    assert!(table.contains("FAIL F32 reference : F32 Burn"), "the report is printed: {table}");
    assert!(table.contains("1 of 3 gates missed"), "{table}");
}

#[test]
fn quantized_files_are_held_against_their_gates() {
    let fixture = Fixture::new();
    let q8 = fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let q4 = fixture.quantized("tiny-Q4_0.gguf", TensorType::Q4_0);
    let saved = fixture.path("out/report.json");
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 8] = [
        &"--f32",
        &fixture.f32(),
        &"--checkpoint",
        &fixture.path(""),
        &"--quantized",
        &q8,
        &q4,
        &"--output",
    ];
    let mut arguments = arguments.to_vec();
    arguments.push(&saved);

    let output = eval(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Report = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert!(report.gates.iter().any(|gate| gate.name.contains("Q4_0 ") && gate.passed));
    let kl = |recipe: &str| report.quality(recipe).unwrap().agreement.kl;
    let (q8, q4) = (kl("Q8_0"), kl("Q4_0"));
    assert!(0.0 < q8.mean && q8.mean < q4.mean, "{} {}", q8.mean, q4.mean);
    assert!(report.files[1].bits_per_weight < 12.0 && report.files[2].bits_per_weight < 8.0);
    let pairs: Vec<String> = report.pairs.iter().map(eval::Pair::name).collect();
    assert_eq!(
        pairs,
        [
            "F32 reference : F32 Burn",
            "F32 llama.cpp : F32 reference",
            "Q8_0 reference : F32 reference",
            "Q8_0 llama.cpp : F32 reference",
            "Q4_0 reference : F32 reference",
            "Q4_0 llama.cpp : F32 reference",
        ]
    );

    let again = eval(&arguments);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("report.json exists: --force replaces it"),
        "{}",
        stderr(&again)
    );

    let tight = "eval.gates.mean_kl.Q4_0=1e-9";
    arguments.extend([&"--set" as &dyn AsRef<std::ffi::OsStr>, &tight, &"--force"]);
    let output = eval(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("gate failed: Q4_0 reference : F32 reference, mean KL"),
        "{}",
        stderr(&output)
    );
    let report: Report = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert!(!report.passed(), "the report of a missed gate is saved");
}

#[test]
fn a_run_folder_needs_no_further_word() {
    let fixture = Fixture::new();
    fixture.quantized("gguf/tiny-Q8_0.gguf", TensorType::Q8_0);
    let pieces = fixture.path("fragments/Q8_0");
    std::fs::create_dir_all(pieces.parent().unwrap()).unwrap();
    fragment::split(&fragment::SplitJob {
        input: fixture.path("gguf/tiny-Q8_0.gguf"),
        output: pieces,
        max_bytes: 64 << 10,
        force: false,
    })
    .unwrap();
    for _ in 0..2 {
        let output = eval(&[&"--run", &fixture.path("")]);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    }
    let text = std::fs::read_to_string(fixture.path("report.json")).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(report.pairs.len(), 4);
    assert_eq!(report.files[1].name, "Q8_0", "the reference reads the pieces");
    assert!(text.ends_with("}\n"));
    let keys: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys["format"], "pocketgpt.report");
    assert_eq!(keys["version"], 1);
    assert_eq!(keys["pairs"][2]["candidate"]["engine"], "reference");
    assert_eq!(keys["pairs"][3]["candidate"]["engine"], "llama.cpp");
    assert_eq!(keys["pairs"][3]["candidate"]["recipe"], "Q8_0");
    for measure in ["mean", "mean_error", "median", "p99", "p999", "max"] {
        assert!(keys["pairs"][3]["metrics"]["kl"][measure].is_f64(), "{measure}");
    }
    assert_eq!(keys["gates"][0]["bound"], "at_most");
    assert_eq!(keys["gates"][0]["passed"], true);
}

#[test]
fn a_weight_that_is_not_finite_fails_by_name() {
    let fixture = Fixture::new();
    for bad in [f32::NAN, f32::INFINITY] {
        let broken = fixture.path("broken-F32.gguf");
        write_raw(&fixture, &broken, bad);
        let output = eval(&[&"--checkpoint", &fixture.checkpoint(), &"--f32", &broken]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains("F32 reference, window 0: logit NaN at position 0, token 0"),
            "{error}"
        );
    }
}

/// The quantizer refuses such weights, so they are written into the file afterwards.
fn write_raw(fixture: &Fixture, path: &std::path::Path, value: f32) {
    use gguf::TensorSource;
    let file = gguf::GgufFile::open(&fixture.f32()).unwrap();
    let tensor = file.tensor("blk.0.ffn_up.weight").unwrap();
    let place = (file.layout().data_start + tensor.offset) as usize;
    let mut bytes = std::fs::read(fixture.f32()).unwrap();
    bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let fixture = Fixture::new();
    let f32_file = fixture.f32();
    let cut = fixture.path("cut-F32.gguf");
    let whole = std::fs::read(&f32_file).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let missing = fixture.path("missing.gguf");
    let no_run = fixture.path("no-such-run");
    let checkpoint = fixture.checkpoint();

    let refusals: [(&[&dyn AsRef<std::ffi::OsStr>], &str); 7] = [
        (&[&"--f32", &cut, &"--checkpoint", &checkpoint], "cut-F32.gguf"),
        (
            &[&"--f32", &f32_file, &"--checkpoint", &checkpoint, &"--quantized", &cut],
            "cut-F32.gguf",
        ),
        (&[&"--f32", &missing, &"--checkpoint", &checkpoint], "missing.gguf: no such file"),
        (&[&"--run", &no_run], "no such run folder"),
        (&[&"--f32", &f32_file], "no tokens to read"),
        (&[&"--f32", &f32_file, &"--set", &"eval.gates.foo=1"], "--set eval.gates.foo=1: unknown"),
        (&[&"--f32", &f32_file, &"--tokens-from", &missing], "missing.gguf"),
    ];
    for (arguments, expected) in refusals {
        let output = eval(arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "expected \"{expected}\" in: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(stdout(&output), "");
    }
    let both: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--run", &no_run, &"--f32", &f32_file];
    assert_eq!(eval(&both).status.code(), Some(2));
    assert_eq!(eval(&[]).status.code(), Some(2));
}

#[test]
fn a_gguf_without_a_checkpoint_reads_a_text() {
    let fixture = Fixture::new();
    let text = fixture.path("text.txt");
    std::fs::write(&text, "the cat sat on a mat, and a dog looked at the other one. ".repeat(4))
        .unwrap();
    let q8 = fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
    let output = eval(&[
        &"--f32",
        &fixture.f32(),
        &"--quantized",
        &q8,
        &"--tokens-from",
        &text,
        &"--context",
        &"16",
        &"--windows",
        &"2",
        &"--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.tokens.windows, report.tokens.context), (2, 16));
    assert_eq!(report.tokens.source, "text.txt");
    assert_eq!(report.pairs.len(), 3, "no golden logits, no comparison with Burn");
    assert!(report.notes.iter().any(|note| note.contains("Burn is not compared")));

    let long: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--f32", &fixture.f32(), &"--tokens-from", &text, &"--context", &"33"];
    let output = eval(&long);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--context 33: expected from 1 to the model's context of 32"));

    std::fs::write(&text, "x").unwrap();
    let output = eval(&[&"--f32", &fixture.f32(), &"--tokens-from", &text]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("1 tokens are too few"), "{}", stderr(&output));
}

#[test]
fn a_text_can_replace_the_golden_windows_but_not_their_comparison() {
    let fixture = Fixture::new();
    let text = fixture.path("text.txt");
    std::fs::write(&text, "a text with nothing special in it, twice. ".repeat(2)).unwrap();
    let output = eval(&[
        &"--f32",
        &fixture.f32(),
        &"--checkpoint",
        &fixture.checkpoint(),
        &"--tokens-from",
        &text,
        &"--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    let positions: Vec<usize> = report
        .pairs
        .iter()
        .map(|pair| pair.metrics.as_ref().unwrap().agreement.positions)
        .collect();
    assert_eq!(positions, [WINDOWS * CONTEXT, report.tokens.windows * report.tokens.context]);
}

#[test]
fn every_family_meets_its_gates() {
    let gptneox = ModelConfig { architecture: Architecture::GptNeox, ..config() };
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        n_kv_head: 2,
        qkv_bias: false,
        tie_embeddings: false,
        ..config()
    };
    let qwen2 = ModelConfig { architecture: Architecture::Qwen2, n_kv_head: 1, ..config() };
    let qwen3 = ModelConfig {
        architecture: Architecture::Qwen3,
        attention: Attention { head_width: Some(24), ..Attention::PLAIN },
        ..llama.clone()
    };
    let smollm3 = ModelConfig { architecture: Architecture::SmolLm3, n_layer: 4, ..llama.clone() };
    let olmo2 = ModelConfig { architecture: Architecture::Olmo2, ..llama.clone() };
    let window = Window { size: 7, global_every: 2, rope_base: Some(100.0) };
    let gemma3 = ModelConfig {
        architecture: Architecture::Gemma3,
        n_layer: 3,
        attention: Attention { head_width: Some(24), window: Some(window), ..Attention::PLAIN },
        ..llama.clone()
    };
    let phi3 = ModelConfig {
        architecture: Architecture::Phi3,
        attention: Attention { rotated_width: Some(10), ..Attention::PLAIN },
        ..llama.clone()
    };
    for config in [gptneox, llama, qwen2, qwen3, smollm3, olmo2, gemma3, phi3] {
        let fixture = Fixture::of(&config);
        let q8 = fixture.quantized("tiny-Q8_0.gguf", TensorType::Q8_0);
        // llama.cpp looks GELU up in a table of 16-bit floats.
        let limit = if config.architecture == Architecture::Gemma3 { 1e-6 } else { 1e-7 };
        let gate = format!("eval.gates.llama_vs_reference_mean_kl={limit:e}");
        let output = eval(&[
            &"--checkpoint",
            &fixture.checkpoint(),
            &"--f32",
            &fixture.f32(),
            &"--quantized",
            &q8,
            &"--set",
            &gate,
            &"--json",
        ]);
        let name = config.architecture.name();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        let report: Report = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report.pairs.len(), 4, "{name}");
        for pair in &report.pairs[..2] {
            let metrics = pair.metrics.as_ref().unwrap();
            assert!(
                metrics.agreement.kl.mean <= limit,
                "{name}: mean KL {}",
                metrics.agreement.kl.mean
            );
        }
    }
}

#[test]
fn windows_begin_as_the_model_was_trained() {
    let fixture = Fixture::new();
    let path = fixture.path("text.txt");
    std::fs::write(&path, "the cat sat on a mat, and a dog looked at it. ".repeat(4)).unwrap();
    let file = gguf::GgufFile::open(&fixture.f32()).unwrap();
    let windows = |begins: bool| {
        let mut metadata = file.metadata().clone();
        metadata.set("tokenizer.ggml.add_bos_token", gguf::Value::Bool(begins));
        let tokenizer = data::Tokenizer::from_gguf(&metadata).unwrap();
        let text = TextTokens { path: path.clone(), context: Some(16), windows: 3 };
        (text.read(&tokenizer, 32).unwrap(), tokenizer.begin_of_text())
    };
    let (plain, none) = windows(false);
    let (marked, begin) = windows(true);
    assert_eq!((none, plain.len(), marked.len()), (None, 3, 3));
    assert!(marked.iter().all(|window| window.len() == 16 && Some(window[0]) == begin));
    let text: Vec<u32> = marked.iter().flat_map(|window| &window[1..]).copied().collect();
    assert_eq!(text, plain.concat()[..text.len()]);
}

#[test]
fn another_vocabulary_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.checkpoint().join(checkpoint::GOLDEN_FILE);
    let mut golden = checkpoint::Golden::load(&path).unwrap();
    golden.vocab_size -= 10;
    golden.tokens.iter_mut().for_each(|token| *token %= 250);
    golden.logits.truncate(WINDOWS * CONTEXT * golden.vocab_size);
    std::fs::remove_file(&path).unwrap();
    golden.save(&path).unwrap();
    let output = eval(&[&"--checkpoint", &fixture.checkpoint(), &"--f32", &fixture.f32()]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("250") && error.contains("260"), "{error}");
}
