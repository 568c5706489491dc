//! A model of every family, with its tokenizer, goes into a bundle and answers out of it.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use crate::common::{Fixture, variant};
use crate::tiny;
use bundle::{PackJob, pack, verify};
use quantize::{QuantizeJob, Recipe, quantize_file};

#[test]
fn every_family_is_packed_and_answers_as_packed() {
    for (name, config) in tiny::families() {
        let fixture = Fixture::new();
        let whole = tiny::write(&config, fixture.folder.path());
        let small = quantize_file(&QuantizeJob::new(&whole, Recipe::Q8_0)).unwrap().output;
        let variants = vec![variant("F32", whole), variant("Q8_0", small)];
        pack(&PackJob { variants, ..fixture.job() }).unwrap();

        let report = verify(&fixture.output()).unwrap();
        assert!(report.problems.is_empty(), "{name}: {report}");
        assert_eq!(report.self_test.len(), 2, "{name}");
        assert!(report.self_test.iter().all(|test| test.passed), "{name}: {report}");
        let manifest = bundle::read_manifest(&fixture.output()).unwrap();
        assert_eq!(manifest.architecture, config.architecture.name());
        assert_eq!(manifest.parameters, config.parameter_count(), "{name}");
        // The file's own tokenizer reads the prompt, and spells the answer.
        assert_eq!(manifest.self_test.prompt_tokens.len(), manifest.self_test.prompt.len());
        assert!(manifest.self_test.expected.iter().all(|answer| answer.text.is_some()), "{name}");
    }
}
