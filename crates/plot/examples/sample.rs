//! Draws one page with each kind of chart: `cargo run --release -p pocketgpt-plot --example sample -- out.pdf`

use plot::{
    BarChart, BarSeries, Figure, LineChart, Scale, ScatterChart, ScatterPoint, ScatterSeries,
    Series,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: sample OUT.pdf")?;
    let train = |step: u32| 1.3 + 9.5 * (-f64::from(step) / 90.0).exp();
    let wobble = |step: u32| 0.25 * (f64::from(step) * 1.7).sin() * (f64::from(step) * 0.37).cos();
    let losses = |y_scale| LineChart {
        title: format!("Loss, {}", if y_scale == Scale::Log { "log" } else { "linear" }),
        x_label: "tokens seen".into(),
        y_label: "cross-entropy (nats)".into(),
        y_scale,
        series: vec![
            Series {
                name: "train".into(),
                points: (0..600).map(|s| (f64::from(s) * 512.0, train(s) + wobble(s))).collect(),
            },
            Series {
                name: "validation".into(),
                points: (0..13)
                    .map(|s| (f64::from(s * 50) * 512.0, 6.1 + train(s * 50) * 0.4))
                    .collect(),
            },
        ],
    };
    let groups = [" forward", " toward", " closer", "\n", " in", " é", " 中", " inches"];
    let logits = [6.7, 4.5, 6.2, -1.0, 0.9, 0.3, 5.1, 2.8];
    let at = |temperature: f64| {
        let total: f64 = logits.iter().map(|l| f64::exp(l / temperature)).sum();
        logits.iter().map(|l| f64::exp(l / temperature) / total).collect::<Vec<_>>()
    };
    let bars = BarChart {
        title: "Next token after \"Every effort moves you\"".into(),
        x_label: "token".into(),
        y_label: "probability".into(),
        groups: groups.iter().map(|&g| g.into()).collect(),
        series: [0.1, 1.0, 5.0]
            .map(|t| BarSeries { name: format!("temperature {t}"), values: at(t) })
            .to_vec(),
    };
    let point = |&(x, y, name): &(f64, f64, &str)| ScatterPoint { x, y, name: name.into() };
    let files = [(130.0, 2e-4, "Q8_0"), (88.0, 8e-3, "Q4_K_M"), (80.0, 3e-2, "Q4_0")];
    let points = ScatterChart {
        title: "Divergence over size".into(),
        x_label: "file, MB".into(),
        y_label: "nats".into(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![ScatterSeries {
            name: "variants".into(),
            points: files.iter().map(point).collect(),
        }],
        line: files.iter().map(|&(x, y, _)| (x, y)).collect(),
    };
    let figures: Vec<Figure> =
        vec![losses(Scale::Linear).into(), losses(Scale::Log).into(), bars.into(), points.into()];
    std::fs::write(path, plot::render_pdf(&figures)?)?;
    Ok(())
}
