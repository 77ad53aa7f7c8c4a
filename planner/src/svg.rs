//! A forecast as a picture: trust and leaves over time above, requests for leaves below. Lines differ by their dashes and are
//! named where they are, so that it reads without color.

use std::fmt::Write as _;

use crate::forecast::Forecast;
use crate::watcher::Moment;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 70.0;
/// The upper panel: leaves on the left axis, the share that trusts the new root on the right one.
const UPPER: [f64; 2] = [70.0, 330.0];
/// The lower panel: requests a second.
const LOWER: [f64; 2] = [390.0, 520.0];
const HEIGHT: f64 = 600.0;

/// Where values are drawn.
struct Scale {
    from: f64,
    to: f64,
    most: f64,
    panel: [f64; 2],
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds - self.from) / (self.to - self.from).max(1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let [top, bottom] = self.panel;
        bottom - value / self.most.max(1e-9) * (bottom - top)
    }

    fn line(&self, moments: &[Moment], value: impl Fn(&Moment) -> f64) -> String {
        let points = moments.iter().map(|moment| {
            format!("{:.1},{:.1}", self.x(as_f64(moment.seconds)), self.y(value(moment)))
        });
        points.collect::<Vec<_>>().join(" ")
    }
}

/// Draws it.
pub fn draw(forecast: &Forecast) -> String {
    let moments = &forecast.timeline;
    let (from, to) = match (moments.first(), moments.last()) {
        (Some(first), Some(last)) => (as_f64(first.seconds), as_f64(last.seconds)),
        _ => (0.0, 1.0),
    };
    let most = |value: &dyn Fn(&Moment) -> f64| moments.iter().map(value).fold(1.0, f64::max);
    let leaves = most(&|moment| count(moment.leaves));
    let rate = most(&|moment| moment.csr_per_second);
    let upper = Scale { from, to, most: round_up(leaves), panel: UPPER };
    let share = Scale { from, to, most: 100.0, panel: UPPER };
    let lower = Scale { from, to, most: round_up(rate), panel: LOWER };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Forecast of a rotation: trust and leaves over time</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let title = title(forecast);
    text(&mut svg, [LEFT, 24.0], "start", &title);
    phases(&mut svg, forecast, &upper);
    axes(&mut svg, &upper, "leaves that live", [LEFT, 16.0], "end");
    axes(
        &mut svg,
        &share,
        "leaves whose holders trust the new root, %",
        [WIDTH - RIGHT, WIDTH - 12.0],
        "start",
    );
    axes(&mut svg, &lower, "CSRs a second", [LEFT, 16.0], "end");
    time(&mut svg, &lower);
    let drawn = [
        (upper.line(moments, |m| count(m.old)), "#b03a00", "", "leaves of the old root: solid"),
        (upper.line(moments, |m| count(m.new)), "#0055aa", "9 4", "leaves of the new root: dashed"),
        (
            share.line(moments, trusting),
            "#222222",
            "2 3",
            "trust in the new root (right axis): dotted",
        ),
    ];
    for (at, (points, color, dashes, name)) in drawn.iter().enumerate() {
        line(&mut svg, points, color, dashes);
        legend(&mut svg, at, color, dashes, name);
    }
    line(&mut svg, &lower.line(moments, |m| m.csr_per_second), "#444444", "");
    svg.push_str("</svg>\n");
    svg
}

fn title(forecast: &Forecast) -> String {
    let asked = &forecast.question;
    let took = match forecast.answer.seconds {
        Some(seconds) => format!("over after {seconds} s"),
        None => "does not end by itself".to_owned(),
    };
    format!(
        "{} members, leaves of {} s, {} early renewals a second: {took}",
        asked.agents, asked.leaf_ttl_seconds, asked.budget_per_second
    )
}

/// A line where each phase begins, with its name; of phases that are too short for a name, the line alone.
fn phases(svg: &mut String, forecast: &Forecast, scale: &Scale) {
    let mut free_from = 0.0;
    for phase in &forecast.phases {
        let x = scale.x(phase.from);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#999999\" stroke-dasharray=\"1 3\"/>",
            UPPER[0], LOWER[1]
        );
        if x >= free_from {
            let long = phase.seconds.is_none_or(|seconds| scale.x(phase.from + seconds) - x > 70.0);
            if long {
                text(svg, [x + 4.0, UPPER[0] - 8.0], "start", phase.phase);
                free_from = x + 80.0;
            }
        }
    }
}

/// A vertical axis at one place, its label turned at another.
fn axes(svg: &mut String, scale: &Scale, label: &str, [at, label_at]: [f64; 2], anchor: &str) {
    let [top, bottom] = scale.panel;
    let _ = writeln!(
        svg,
        "<line x1=\"{at}\" y1=\"{top}\" x2=\"{at}\" y2=\"{bottom}\" stroke=\"#000000\"/>\n\
         <line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\" stroke=\"#000000\"/>",
        WIDTH - RIGHT
    );
    for step in 0..=4 {
        let value = scale.most * f64::from(step) / 4.0;
        let beside = if anchor == "end" { at - 6.0 } else { at + 6.0 };
        text(svg, [beside, scale.y(value) + 4.0], anchor, &short(value));
    }
    let middle = f64::midpoint(top, bottom);
    let _ = writeln!(
        svg,
        "<text x=\"{label_at}\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 {label_at} {middle})\">{label}</text>"
    );
}

fn time(svg: &mut String, scale: &Scale) {
    for step in 0..=6 {
        let seconds = scale.from + (scale.to - scale.from) * f64::from(step) / 6.0;
        text(svg, [scale.x(seconds), LOWER[1] + 18.0], "middle", &format!("{seconds:.0}"));
    }
    text(
        svg,
        [f64::midpoint(LEFT, WIDTH - RIGHT), LOWER[1] + 36.0],
        "middle",
        "seconds since the rotation was asked for",
    );
}

fn line(svg: &mut String, points: &str, color: &str, dashes: &str) {
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>"
    );
}

fn legend(svg: &mut String, at: usize, color: &str, dashes: &str, name: &str) {
    let x = LEFT + f64::from(u32::try_from(at).unwrap_or(0)) * 270.0;
    let y = HEIGHT - 18.0;
    line(svg, &format!("{x},{y} {},{y}", x + 32.0), color, dashes);
    text(svg, [x + 38.0, y + 4.0], "start", name);
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, said: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>");
}

/// Of a hundred.
fn trusting(moment: &Moment) -> f64 {
    count(moment.trusting) * 100.0 / count(moment.leaves.max(1))
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 10_000.0 => format!("{:.0}k", value / 1e3),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// The next number above that is easy to read, with a quarter that is, too.
fn round_up(value: f64) -> f64 {
    let size = 10_f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * size).find(|most| *most >= value).unwrap_or(value)
}

const fn count(count: u64) -> f64 {
    count as f64
}

const fn as_f64(seconds: i64) -> f64 {
    seconds as f64
}
