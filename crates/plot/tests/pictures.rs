//! Tests of whole pages: their content, that equal input gives equal bytes, and that unusual input
//! is either drawn correctly or refused.

use plot::{
    BarChart, BarSeries, Figure, LineChart, PlotError, Scale, ScatterChart, ScatterPoint,
    ScatterSeries, Series,
};

fn line(y_scale: Scale, points: Vec<(f64, f64)>) -> Figure {
    let series = vec![Series { name: "train <loss> & \"more\"".into(), points }];
    LineChart {
        title: "Loss".into(),
        x_label: "tokens".into(),
        y_label: "nats".into(),
        y_scale,
        series,
    }
    .into()
}

fn bars(groups: &[&str], values: Vec<f64>) -> Figure {
    BarChart {
        title: "Next token".into(),
        x_label: "token".into(),
        y_label: "probability".into(),
        groups: groups.iter().map(|&g| g.into()).collect(),
        series: vec![BarSeries { name: "t = 1".into(), values }],
    }
    .into()
}

fn points(points: &[(f64, f64, &str)], line: Vec<(f64, f64)>) -> Figure {
    let points = points.iter().map(|&(x, y, name)| ScatterPoint { x, y, name: name.into() });
    ScatterChart {
        title: "Quality over size".into(),
        x_label: "MB".into(),
        y_label: "nats".into(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![ScatterSeries { name: "variants".into(), points: points.collect() }],
        line,
    }
    .into()
}

fn count(haystack: &str, needle: &str) -> usize {
    haystack.matches(needle).count()
}

#[test]
fn a_page_is_one_pdf_with_its_own_font() {
    let figures = [
        line(Scale::Linear, vec![(0.0, 11.0), (1e5, 3.0), (2e5, 1.3)]),
        line(Scale::Log, vec![(0.0, 11.0), (1e5, 3.0), (2e5, 1.3)]),
        bars(&["a", "b"], vec![0.4, 0.6]),
    ];
    let pdf = plot::render_pdf(&figures).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(&pdf);
    assert_eq!(count(&text, "/Type /Page\n"), 1);
    assert!(text.contains("Ubuntu-Light"), "the font is embedded");
    assert!(text.contains("/MediaBox [0 0 600 1080]"), "600 pt wide, 360 pt for each figure");
    assert!(!text.contains("CreationDate") && !text.contains("ModDate"));
}

#[test]
fn equal_figures_give_equal_bytes() {
    let figures =
        [line(Scale::Log, vec![(0.0, 1.0), (1.0, 2.0)]), bars(&["中", "b"], vec![0.4, 0.6])];
    let first = plot::render_pdf(&figures).unwrap();
    for _ in 0..8 {
        assert!(plot::render_pdf(&figures).unwrap() == first);
    }
}

#[test]
fn text_is_escaped_and_control_characters_are_spelled_out() {
    let svg = plot::render_svg(&[
        line(Scale::Linear, vec![(0.0, 1.0), (1.0, 2.0)]),
        bars(&["\n", "\0\u{1b}[31m"], vec![0.4, 0.6]),
        points(&[(1.0, 1.0, "a<b\u{7}")], vec![]),
    ])
    .unwrap();
    assert!(svg.contains("train &lt;loss&gt; &amp; &quot;more&quot;"));
    assert!(svg.contains("a&lt;b\\u{7}"));
    assert!(svg.contains("\\n") && svg.contains("\\u{0}\\u{1b}[31m"));
    assert!(!svg.contains('\0') && !svg.contains('\u{1b}'));
}

#[test]
fn nothing_to_draw_says_so() {
    let empty = [
        line(Scale::Linear, vec![]),
        line(Scale::Linear, vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]),
        line(Scale::Log, vec![(0.0, 0.0), (1.0, -5.0)]),
        bars(&["a"], vec![f64::NAN]),
        bars(&[], vec![]),
        points(&[], vec![]),
        points(&[(1.0, 0.0, "no logarithm"), (f64::NAN, 1.0, "no number")], vec![(1.0, 1.0)]),
    ];
    for figure in empty {
        let svg = plot::render_svg(std::slice::from_ref(&figure)).unwrap();
        assert_eq!(count(&svg, "no data"), 1, "{figure:?}");
        plot::render_pdf(&[figure]).unwrap();
    }
}

#[test]
fn a_single_point_is_a_dot_and_gaps_break_the_curve() {
    let svg = plot::render_svg(&[line(Scale::Log, vec![(5.0, 2.0)])]).unwrap();
    assert_eq!(count(&svg, "<circle"), 1);

    let blue_paths = |svg: &str| {
        svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("#0072B2")).count()
    };
    let whole = line(Scale::Log, vec![(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]);
    let broken = line(Scale::Log, vec![(0.0, 1.0), (1.0, 2.0), (1.5, 0.0), (2.0, 3.0), (3.0, 4.0)]);
    let legend = 1;
    assert_eq!(blue_paths(&plot::render_svg(&[whole]).unwrap()), legend + 1);
    assert_eq!(blue_paths(&plot::render_svg(&[broken]).unwrap()), legend + 2);
}

#[test]
fn points_have_names_where_there_is_room_and_a_line_behind_them() {
    let apart = [(1.0, 1e-3, "Q8_0"), (2.0, 1e-2, "Q4_0"), (3.0, 0.0, "left out")];
    let svg = plot::render_svg(&[points(&apart, vec![(1.0, 1e-3), (2.0, 1e-2)])]).unwrap();
    let legend = 1;
    assert_eq!(count(&svg, "<circle"), legend + 2);
    assert!(svg.contains("Q8_0") && svg.contains("Q4_0") && !svg.contains("left out"));
    let plain = plot::render_svg(&[points(&apart, vec![])]).unwrap();
    assert!(count(&svg, "<polyline") > count(&plain, "<polyline"), "the line is dashes");

    // Of twenty points in one place, four can have a name: right, left, above and below.
    let names: Vec<String> = (0..20).map(|i| format!("twin {i:02}")).collect();
    let twins: Vec<(f64, f64, &str)> = names.iter().map(|name| (2.0, 2.0, name.as_str())).collect();
    let svg = plot::render_svg(&[points(&twins, vec![])]).unwrap();
    assert_eq!(count(&svg, "<circle"), legend + 20);
    assert_eq!(count(&svg, "twin "), 4);
}

#[test]
fn huge_ranges_and_long_runs_stay_small() {
    let huge = vec![(0.0, -1e300), (1e300, 1e300), (2.0, 1e308), (3.0, -f64::MAX)];
    plot::render_pdf(&[line(Scale::Linear, huge)]).unwrap();
    plot::render_pdf(&[line(Scale::Log, vec![(0.0, 1e-300), (1.0, 1e300)])]).unwrap();
    let far = [(1e308, 1e-308, "beyond"), (-1e300, 1e300, "here"), (1e300, 1e-300, "there")];
    plot::render_pdf(&[points(&far, vec![(f64::NAN, 1.0), (1e300, 1e300)])]).unwrap();

    let million = (0..1_000_000).map(|i| (f64::from(i), f64::from(i * 7919 % 1000))).collect();
    let svg = plot::render_svg(&[line(Scale::Linear, million)]).unwrap();
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
}

#[test]
fn contradictions_are_refused_by_name() {
    let error = plot::render_pdf(&[bars(&["a", "b"], vec![1.0])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bar chart \"Next token\": series \"t = 1\" has 1 values for 2 groups: give one value \
         for each group, NaN where there is none"
    );
    assert!(matches!(plot::render_svg(&[]), Err(PlotError::NoFigures)));
    let many = vec![bars(&["a"], vec![1.0]); 17];
    assert!(matches!(
        plot::render_svg(&many),
        Err(PlotError::TooManyFigures { found: 17, limit: 16 })
    ));
}
