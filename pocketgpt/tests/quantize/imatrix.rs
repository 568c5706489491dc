//! Importance data from a text, through the library and the command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::models::{GPT2, LLAMA, Model};
use config::Architecture;
use gguf::{GgufFile, TensorSource, Value};
use quantize::{Calibration, ImatrixFile, ImatrixJob, Importance, collect};
use reference::{Blockwise, ReferenceError};
use tempfile::TempDir;

/// A GPT-2 that the reference pass runs in an instant.
const SMALL: Model = Model { layers: 2, width: 64, inner: 96, ..GPT2 };

/// Its context, in [`models`].
const CONTEXT: usize = 16;

/// A model and a text in a folder of their own.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new(model: Model) -> Self {
        let fixture = Fixture { dir: TempDir::new().unwrap() };
        model.write(&fixture.path("model.gguf"), 5);
        let text: String = (0..40).map(|i| format!("the {i}th word of them all. ")).collect();
        std::fs::write(fixture.path("text.txt"), text).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn job(&self, output: &str) -> ImatrixJob {
        ImatrixJob {
            input: self.path("model.gguf"),
            text: self.path("text.txt"),
            output: self.path(output),
            context: CONTEXT,
            tokens: None,
            process_output: false,
            overwrite: false,
            interrupt: cli::Interrupt::default(),
        }
    }

    fn windows(&self, context: usize, tokens: Option<usize>) -> Vec<Vec<u32>> {
        let model = GgufFile::open(&self.path("model.gguf")).unwrap();
        let text = self.path("text.txt");
        Calibration::read(&text, model.metadata(), None, context, tokens).unwrap().windows
    }

    /// Runs the `quantize` command in the fixture's folder.
    fn quantize(&self, args: &[&str]) -> Output {
        crate::program::stage("quantize")
            .args(args.iter().map(OsStr::new))
            .current_dir(self.dir.path())
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }
}

/// Σ x² of every matrix over all windows, from the pass of the whole model.
fn expected(model: &Path, windows: &[Vec<u32>]) -> BTreeMap<String, Vec<f64>> {
    let model = reference::Model::load(&GgufFile::open(model).unwrap()).unwrap();
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for window in windows {
        let observed = model.observe(window, &mut |tensors, x| {
            let width = x.len() / window.len();
            for tensor in tensors {
                let sums = sums.entry((*tensor).to_owned()).or_insert(vec![0.0; width]);
                for (i, x) in x.iter().enumerate() {
                    sums[i % width] += f64::from(*x).powi(2);
                }
            }
        });
        observed.unwrap();
    }
    sums
}

#[test]
fn the_sums_are_those_of_the_inputs() {
    let qwen2 = Model { architecture: Architecture::Qwen2, ..LLAMA };
    let [gemma3, phi3] = [Architecture::Gemma3, Architecture::Phi3].map(|architecture| Model {
        architecture,
        layers: 2,
        ..LLAMA
    });
    let llama = Model { layers: 2, ..LLAMA };
    for model in [SMALL, llama, Model { layers: 2, tied: true, ..qwen2 }, gemma3, phi3] {
        let fixture = Fixture::new(model);
        let windows = fixture.windows(CONTEXT, None);
        assert!(windows.len() > 40, "more than go through the blocks together");
        for process_output in [false, true] {
            let name = format!("{process_output}.gguf");
            let job = ImatrixJob { process_output, ..fixture.job(&name) };
            let report = collect(&job).unwrap();
            let mut expected = expected(&job.input, &windows);
            if !process_output {
                expected.remove(if model.tied { "token_embd.weight" } else { "output.weight" });
            }
            let found = ImatrixFile::open(&job.output).unwrap();
            assert_eq!(found.datasets, [job.text.to_str().unwrap()]);
            assert_eq!((found.chunks, found.chunk_size), (windows.len() as u64, CONTEXT as u64));
            assert_eq!((report.chunks, report.matrices), (windows.len(), expected.len()));
            assert!(found.entries.keys().eq(expected.keys()));
            for (tensor, sums) in found.entries {
                assert_eq!(sums.counts, [(windows.len() * CONTEXT) as f32], "{tensor}");
                for (found, expected) in sums.squares.iter().zip(&expected[&tensor]) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error <= 1e-5 * expected, "{tensor}: {found} {expected}");
                }
            }
        }
    }
}

/// The keys and tensors that `llama-imatrix` and `llama-quantize` look for in the file.
#[test]
fn the_file_has_llama_cpps_keys_and_tensors() {
    let fixture = Fixture::new(SMALL);
    let job = fixture.job("imatrix.gguf");
    collect(&job).unwrap();
    let file = GgufFile::open(&job.output).unwrap();
    let keys: Vec<&str> = file.metadata().iter().map(|(key, _)| key).collect();
    let expected =
        ["general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"];
    assert_eq!(keys, expected);
    assert_eq!(file.metadata().get("general.type"), Some(&Value::String("imatrix".to_owned())));
    let shape = |name: &str| file.tensor(name).unwrap().shape.clone();
    assert_eq!(shape("blk.1.ffn_down.weight.in_sum2"), [96, 1]);
    assert_eq!(shape("blk.1.ffn_down.weight.counts"), [1, 1]);
    assert_eq!(file.tensors().len(), 2 * 2 * 4);
    assert!(file.is_canonical());
    assert_eq!(Importance::open(&job.output).unwrap().len(), 2 * 4);
}

#[test]
fn windows_are_cut_as_llama_imatrix_cuts_them() {
    let plain = Fixture::new(SMALL);
    let begun = Fixture::new(Model { begins: true, ..SMALL });
    let all = plain.windows(8, None).concat();
    let with_begin = begun.windows(8, None);
    // The token that begins a text shifts all others by one, and is the first of each window.
    assert_eq!(with_begin[0][1..], all[..7]);
    assert_eq!(with_begin[1][1..], all[8..15]);
    assert!(with_begin.iter().all(|window| window[0] == 0));
    assert_eq!(plain.windows(8, Some(31)).concat(), all[..24]);
    assert_eq!(plain.windows(1000, None)[0].len(), CONTEXT, "no more than the model can read");
}

#[test]
fn a_text_that_fills_no_window_is_refused() {
    let fixture = Fixture::new(SMALL);
    let job = ImatrixJob { tokens: Some(15), ..fixture.job("x") };
    let refused = cli::one_line(&collect(&job).unwrap_err());
    assert!(refused.contains("15 tokens do not fill a window of 16"), "{refused}");
    let job = ImatrixJob { text: fixture.path("none.txt"), ..fixture.job("x") };
    let refused = cli::one_line(&collect(&job).unwrap_err());
    assert!(refused.contains("none.txt"), "{refused}");
    assert!(!fixture.path("x").exists());
}

#[test]
fn what_the_reference_cannot_run_is_refused_by_name() {
    let fixture = Fixture::new(Model { foreign: Some("falcon"), ..SMALL });
    let refused = cli::one_line(&collect(&fixture.job("x")).unwrap_err());
    assert!(refused.contains("falcon") && refused.contains("model.gguf"), "{refused}");
    let model = GgufFile::open(&fixture.path("model.gguf")).unwrap();
    assert!(matches!(Blockwise::new(&model), Err(ReferenceError::Metadata(_))));
}

#[test]
fn a_run_that_is_asked_to_stop_writes_nothing() {
    let fixture = Fixture::new(SMALL);
    let job = fixture.job("x");
    job.interrupt.request();
    assert!(collect(&job).unwrap_err().is::<cli::Interrupted>());
    assert!(!job.output.exists());
}

#[test]
fn only_the_beginning_of_the_same_job_is_gone_on_from() {
    let fixture = Fixture::new(SMALL);
    let path = |name: &str| fixture.path(name);
    collect(&fixture.job("whole.gguf")).unwrap();
    let whole = std::fs::read(path("whole.gguf")).unwrap();
    // A file of another kind with this name is not taken for a partial result, and stays.
    std::fs::copy(path("whole.gguf"), path("b.gguf.partial")).unwrap();
    assert_eq!(collect(&fixture.job("b.gguf")).unwrap().resumed, 0);
    assert!(std::fs::read(path("b.gguf")).unwrap() == whole);
    assert!(path("b.gguf.partial").exists());

    let refused = cli::one_line(&collect(&fixture.job("b.gguf")).unwrap_err());
    assert!(refused.contains("exists already; use --force"), "{refused}");
    collect(&ImatrixJob { overwrite: true, ..fixture.job("b.gguf") }).unwrap();
}

#[test]
fn the_command_makes_data_and_uses_it() {
    let fixture = Fixture::new(SMALL);
    let made = fixture.quantize(&[
        "imatrix",
        "--input",
        "model.gguf",
        "--text",
        "text.txt",
        "--context",
        "16",
        "--json",
    ]);
    assert!(made.status.success(), "{made:?}");
    let report: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&report["matrices"], &report["context"]), (&8.into(), &16.into()));

    let args = ["--input", "model.gguf", "--type", "q4_0", "--imatrix", "imatrix.gguf"];
    let output = fixture.quantize(&args);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("recipe   Q4_0"), "{table}");
    assert!(table.contains("imatrix  imatrix.gguf with 8 tensors"), "{table}");
    assert!(fixture.path("model-Q4_0.gguf").exists());
}

#[test]
fn usage_errors_say_what_is_expected() {
    let fixture = Fixture::new(SMALL);
    for (args, expected) in [
        (&["--input", "model.gguf"][..], "--bits <2|3|4|5|6|8>"),
        (&["--bits", "4"], "--input <PATH>"),
        (&["--input", "model.gguf", "--bits", "7"], "expected 2, 3, 4, 5, 6 or 8"),
        (&["--input", "model.gguf", "--type", "Q9"], "unknown recipe Q9: expected one of Q8_0"),
        (&["--input", "model.gguf", "--bits", "4", "--type", "Q8_0"], "cannot be used with"),
        (&["--input", "model.gguf", "--bits", "4", "--override", "attn"], "PATTERN=TYPE"),
        (&["--input", "model.gguf", "--bits", "4", "--keep-output", "F8"], "unknown tensor type"),
        (&["--input", "model.gguf", "--bits", "4", "--plan", "a.toml"], "cannot be used with"),
        (&["--input", "model.gguf", "--plan", "none.toml"], "none.toml"),
        // The older name of the flag.
        (&["--input", "model.gguf", "--recipe", "none.toml"], "none.toml"),
        (&["imatrix", "--input", "model.gguf"], "--text <FILE>"),
        (
            &["--input", "model.gguf", "--type", "Q8_0", "--calibration", "text.txt"],
            "--calibration is for a search or a target size",
        ),
        (&["--input", "model.gguf", "--bits", "4", "--imatrix", "text.txt"], "text.txt: it is nei"),
    ] {
        let output = fixture.quantize(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
    let help = fixture.quantize(&["--help"]).stdout;
    let help = String::from_utf8(help).unwrap();
    for recipe in quantize::Recipe::ALL {
        assert!(help.contains(recipe.name()), "{recipe} is not in {help}");
    }
}

#[test]
fn what_is_read_is_never_written_over() {
    let fixture = Fixture::new(SMALL);
    for read in ["model.gguf", "text.txt"] {
        let before = std::fs::read(fixture.path(read)).unwrap();
        let job = ImatrixJob { overwrite: true, ..fixture.job(read) };
        let error = collect(&job).unwrap_err().to_string();
        assert!(error.contains("name another --output"), "{error}");
        assert!(std::fs::read(fixture.path(read)).unwrap() == before);
    }
}

/// For every choice, the file has at most the size that was asked for, also if the data of a tensor
/// is padded more than usual; the choice is saved once the file exists.
#[test]
fn a_target_size_is_kept() {
    let fixture = Fixture::new(Model { layers: 2, ..GPT2 });
    let input = GgufFile::open(&fixture.path("model.gguf")).unwrap();
    let mut metadata = input.metadata().clone();
    metadata.set("general.alignment", gguf::Value::U32(4096));
    let described: Vec<_> =
        input.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let mut bytes = Vec::new();
    let mut writer = gguf::Writer::new(&mut bytes, &metadata, &described).unwrap();
    for tensor in input.tensors() {
        writer.write_part(&tensor.name, &input.read(tensor).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    std::fs::write(fixture.path("model-F32.gguf"), &bytes).unwrap();
    let size = |name: &str| std::fs::metadata(fixture.path(name)).unwrap().len();
    for share in [0.2, 0.25, 0.3] {
        let most = (bytes.len() as f64 * share) as u64;
        let output = fixture.quantize(&[
            "--input",
            "model-F32.gguf",
            "--target-size",
            &most.to_string(),
            "--no-search",
            "--calibration",
            "text.txt",
            "--output",
            "planned.gguf",
            "--force",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(size("planned.gguf") <= most, "{} of {most}", size("planned.gguf"));
        assert!(size("planned.gguf") > most / 2, "{} of {most}", size("planned.gguf"));
    }
    let before = std::fs::read(fixture.path("planned.recipe.toml")).unwrap();
    std::fs::remove_file(fixture.path("planned.gguf")).unwrap();
    let output = fixture.quantize(&[
        "--input",
        "model-F32.gguf",
        "--target-bits",
        "6",
        "--calibration",
        "text.txt",
        "--output",
        "planned.gguf",
    ]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("planned.recipe.toml exists already; use --force"), "{error}");
    assert!(std::fs::read(fixture.path("planned.recipe.toml")).unwrap() == before);
    assert!(!fixture.path("planned.gguf").exists());
}

#[test]
fn options_reach_the_file() {
    let fixture = Fixture::new(Model { layers: 2, ..GPT2 });
    let output = fixture.quantize(&[
        "--input",
        "model.gguf",
        "--output",
        "out.gguf",
        "--type",
        "Q4_K",
        "--pure",
        "--override",
        r"blk\.1\.ffn=Q8_0",
        "--override",
        "ffn_up=IQ4_NL",
        "--keep-output",
        "f16",
    ]);
    assert!(output.status.success(), "{output:?}");
    let file = GgufFile::open(&fixture.path("out.gguf")).unwrap();
    for (name, expected) in [
        ("token_embd", "F16"),
        ("blk.0.attn_qkv", "Q4_K"),
        ("blk.0.ffn_up", "IQ4_NL"),
        ("blk.1.ffn_up", "Q8_0"),
        ("blk.0.ffn_down", "Q4_K"),
    ] {
        let tensor = file.tensor(&format!("{name}.weight")).unwrap();
        assert_eq!(tensor.tensor_type.name(), expected, "{name}");
    }
    assert_eq!(file.metadata().unsigned("general.file_type").unwrap(), 15);

    let again = ["--input", "out.gguf", "--output", "again.gguf", "--bits", "8"];
    let refused = fixture.quantize(&again);
    assert_eq!(refused.status.code(), Some(2));
    let output = fixture.quantize(&[&again[..], &["--requantize"]].concat());
    assert!(output.status.success(), "{output:?}");
}

/// Letters with certain next letters. The last ones of the windows that are held back are followed
/// by uncertain ones: the search has not read any like these, so it moves its errors to them. A
/// matrix and a block are evaluated on all tokens, and there the many others outweigh these.
fn unsure_where_it_is_judged(name: &str, weights: &mut [f32]) {
    let width = SURE.width as usize;
    let rows = weights.chunks_mut(width).enumerate();
    match name {
        "token_embd.weight" => rows.for_each(|(token, row)| {
            row.iter_mut().for_each(|w| *w *= 16.0);
            row[0] = if RARE.contains(&letter_of(token)) { -2.0 } else { 2.0 };
        }),
        // The first channel determines the first token.
        "output.weight" => rows.for_each(|(token, row)| {
            row.iter_mut().for_each(|w| *w *= if token == 0 { 0.0 } else { 4.0 });
            row[0] = if token == 0 { 20.0 } else { 0.0 };
        }),
        _ if name.ends_with("norm.weight") => weights.fill(1.0),
        _ if name.ends_with("attn_output.weight") => (),
        _ => weights.iter_mut().for_each(|w| *w *= 4.0),
    }
}

const SURE: Model = Model { layers: 1, width: 64, inner: 128, ..LLAMA };

/// The letters that occur only in windows that are held back.
const RARE: [char; 4] = ['w', 'x', 'y', 'z'];

/// The token of a printable ASCII letter, in [`models`].
fn letter_of(token: usize) -> char {
    char::from_u32(token as u32 + u32::from('!')).unwrap_or_default()
}

/// 64 windows, of which every sixteenth is held back.
fn sure_text() -> String {
    let common: Vec<char> = ('A'..='Z').chain('a'..='f').collect();
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        common[(state >> 40) as usize % common.len()]
    };
    let part = |rare: &char| (1..16 * CONTEXT).map(|_| next()).chain([*rare]).collect::<String>();
    RARE.iter().map(part).collect()
}

#[test]
fn a_search_that_is_worse_as_a_whole_leaves_what_importance_data_gives() {
    let fixture = Fixture::new(SURE);
    SURE.write_with(&fixture.path("model.gguf"), 2, unsure_where_it_is_judged);
    std::fs::write(fixture.path("text.txt"), sure_text()).unwrap();
    let quantize = |output: &str, more: &[&str]| {
        let rules = ["--type", "Q4_0", "--override", "token_embd=F32", "--keep-output", "F32"];
        let files = ["--input", "model.gguf", "--output", output, "--json"];
        fixture.quantize(&[&files[..], &rules, more].concat())
    };
    let output = quantize("searched.gguf", &["--search", "--calibration", "text.txt"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("the file holds rounded weights"), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let search = &report["search"];
    assert_eq!(search["used"], false, "{search}");
    let number = |key: &str| search[key].as_f64().unwrap();
    assert!(number("divergence") > number("rounded_divergence"), "{search}");
    // The file was rejected as a whole, not its matrices one by one.
    assert_eq!(search["rounded"], serde_json::json!([]));

    collect(&fixture.job("imatrix.gguf")).unwrap();
    let output = quantize("rounded.gguf", &["--imatrix", "imatrix.gguf"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let open = |name: &str| GgufFile::open(&fixture.path(name)).unwrap();
    let (searched, rounded) = (open("searched.gguf"), open("rounded.gguf"));
    assert_eq!(searched.tensors(), rounded.tensors());
    for tensor in searched.tensors() {
        let same = searched.read(tensor).unwrap() == rounded.read(tensor).unwrap();
        assert!(same, "{}", tensor.name);
    }
}

/// The names of the instruction sets that the program offers on this machine.
fn instruction_sets(fixture: &Fixture) -> Vec<String> {
    let output = crate::program::stage("quantize")
        .args(["imatrix", "--input", "model.gguf", "--text", "text.txt"])
        .current_dir(fixture.dir.path())
        .env("POCKETGPT_ISA", "mmx")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(!fixture.path("imatrix.gguf").exists());
    let (_, names) = message
        .split_once("POCKETGPT_ISA is \"mmx\", which is unknown: expected one of ")
        .unwrap_or_else(|| panic!("{message}"));
    let (names, _) = names.split_once(", or unset it").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

/// Importance data and searched weights depend on many sums; one that is added up in another order
/// on another machine would show in the files.
#[test]
fn every_instruction_set_gives_the_same_files() {
    let wide = Model { width: 256, inner: 512, layers: 2, ..LLAMA };
    for (model, recipes) in [(SMALL, ["Q4_0", "Q5_1"]), (wide, ["Q3_K_S", "Q4_K_M"])] {
        let fixture = Fixture::new(model);
        let names = instruction_sets(&fixture);
        assert_eq!(names[0], "scalar");
        if names.len() == 1 {
            eprintln!("skipped: this machine has one instruction set");
        }
        let outputs = |isa: &str| -> Vec<Vec<u8>> {
            let run = |arguments: &[&str]| {
                let output = crate::program::stage("quantize")
                    .args(arguments)
                    .args(["--output", "out.gguf", "--force"])
                    .current_dir(fixture.dir.path())
                    .env("POCKETGPT_ISA", isa)
                    .output()
                    .unwrap();
                let message = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{isa}: {message}");
                std::fs::read(fixture.path("out.gguf")).unwrap()
            };
            let imatrix = run(&[
                "imatrix",
                "--input",
                "model.gguf",
                "--text",
                "text.txt",
                "--process-output",
            ]);
            let searched = recipes.map(|recipe| {
                let input = ["--input", "model.gguf", "--type", recipe];
                run(&[&input[..], &["--search", "--calibration", "text.txt"]].concat())
            });
            std::iter::once(imatrix).chain(searched).collect()
        };
        let expected = outputs(&names[0]);
        for name in &names[1..] {
            for (file, (found, expected)) in outputs(name).iter().zip(&expected).enumerate() {
                assert!(found == expected, "file {file}: {name} and scalar differ");
            }
        }
    }
}
