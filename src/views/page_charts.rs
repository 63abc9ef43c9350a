//! Drawings of HTML pages as SVG: figures, areas over time, a heat map of hours, a treemap, tables with bars. The
//! colours are those of `page_charts.css`.

use crate::ui::chart::{as_length, format_share};
use codex_manager_core::conversations::html::escape::escape_html;
use codex_manager_core::usage::figures::format_count;
use std::fmt::Write as _;

/// The style of the drawings, for [`codex_manager_core::conversations::html::format_page_start`].
pub(crate) const CHART_STYLE: &str = include_str!("page_charts.css");

/// The number of colours of areas and rectangles; the last one is grey.
pub(crate) const MAX_COLORS: usize = 7;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[derive(Debug, Clone)]
pub(crate) struct AreaLayer {
    pub name: String,
    /// The height of the layer in percent at equal time steps.
    pub heights: Vec<f64>,
}

/// Stacked areas, from 0 to 100 %.
pub(crate) struct AreaChart {
    /// At most [`MAX_COLORS`] layers, the lowest first.
    pub layers: Vec<AreaLayer>,
    /// The number of steps on the axis of time. The layers may have fewer.
    pub steps: usize,
    /// Marks on the axis of time: positions from 0 to 1, and their texts.
    pub marks: Vec<(f64, String)>,
    /// A dashed line between two points, each with its position from 0 to 1 and its percentage.
    pub forecast: Option<[(f64, f64); 2]>,
}

// The size of an area chart, and the space for its labels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 20.0;
/// The space above an area chart, and on its right.
const MARGIN: f64 = 10.0;

const TREEMAP_HEIGHT: f64 = 420.0;

/// Returns the HTML of figures in large type, each below its name.
pub(crate) fn format_figures(figures: &[(&str, String)]) -> String {
    let mut html = String::from("<dl class=\"figures\">\n");
    for (name, value) in figures {
        let value = escape_html(value);
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html + "</dl>\n"
}

impl AreaChart {
    /// Returns the HTML of the chart: the drawing as SVG, and its legend.
    pub(crate) fn draw(&self) -> String {
        let mut html = format_chart_start(WIDTH, HEIGHT, "Use of the window");
        for percent in [0.0, 50.0, 100.0] {
            let (x0, x1, y) = (to_x(0.0), to_x(1.0), to_y(percent));
            // A baseline below the line centres the text on it.
            let baseline = y + 4.0;
            let _ = writeln!(
                html,
                "<path class=\"axis\" d=\"M{x0:.1} {y:.1}H{x1:.1}\"/><text x=\"0\" y=\"{baseline:.1}\">{percent} %</text>"
            );
        }

        self.push_areas(&mut html);
        if let Some([(x0, y0), (x1, y1)]) = self.forecast {
            let (x0, y0, x1, y1) = (to_x(x0), to_y(y0), to_x(x1), to_y(y1));
            let _ = writeln!(
                html,
                "<path class=\"pace\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>"
            );
        }

        for (at, text) in &self.marks {
            let text = escape_html(text);
            let _ = writeln!(
                html,
                "<text x=\"{:.1}\" y=\"{HEIGHT}\">{text}</text>",
                to_x(*at)
            );
        }

        html.push_str("</svg></div>\n<ul class=\"legend\">\n");
        for (index, layer) in self.layers.iter().enumerate() {
            let name = escape_html(&layer.name);
            let _ = writeln!(
                html,
                "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"a{index}\" width=\"10\" height=\"10\" \
                rx=\"2\"/></svg>{name}</li>"
            );
        }
        html + "</ul>\n"
    }

    fn push_areas(&self, svg: &mut String) {
        let height_count = self.layers.iter().map(|layer| layer.heights.len()).max();
        let mut tops = vec![0.0; height_count.unwrap_or(0)];
        let last_step = as_length(self.steps.max(1) as u64);
        let format_point = |step: usize, height: f64| {
            let x = to_x(as_length(step as u64) / last_step);
            format!("{x:.1} {:.1} ", to_y(height))
        };

        for (index, layer) in self.layers.iter().enumerate() {
            let mut path = String::new();
            // The outline goes back along the top of the layers below, then forward along the top of this one.
            for (step, height) in tops.iter().enumerate().rev() {
                path.push_str(&format_point(step, *height));
            }
            for (step, height) in layer.heights.iter().enumerate() {
                tops[step] += height;
                path.push_str(&format_point(step, tops[step]));
            }

            let name = escape_html(&layer.name);
            let _ = writeln!(
                svg,
                "<path class=\"a{index}\" d=\"M{path}Z\"><title>{name}</title></path>"
            );
        }
    }
}

/// Returns the position in an area chart of a time from 0 to 1.
fn to_x(at: f64) -> f64 {
    LEFT + at * (WIDTH - LEFT - MARGIN)
}

fn to_y(percent: f64) -> f64 {
    let plot_height = HEIGHT - BOTTOM - MARGIN;
    MARGIN + (100.0 - percent.min(100.0)) * plot_height / 100.0
}

/// Draws the tokens of each hour of each day of the week, from Monday. Each of the four shades is a quarter of the
/// largest number.
pub(crate) fn draw_hours(tokens: &[[u64; 24]; 7]) -> String {
    const NAMES_WIDTH: usize = 44;
    const CELL_WIDTH: usize = 28;
    const CELL_HEIGHT: usize = 22;
    /// The space between two cells.
    const GAP: usize = 2;

    let most_tokens = tokens.iter().flatten().max().copied().unwrap_or(0);
    let (cell_width, cell_height) = (CELL_WIDTH - GAP, CELL_HEIGHT - GAP);
    // The width of the names and 24 cells, and the height of 7 cells and the line of hours below them.
    let mut svg = format_chart_start(714.0, 176.0, "Tokens by hour");
    for (row, (weekday, hours)) in WEEKDAYS.into_iter().zip(tokens).enumerate() {
        let y = row * CELL_HEIGHT;
        // A baseline at two thirds of the row centres the name in it.
        let baseline = y + 15;
        let _ = writeln!(svg, "<text x=\"0\" y=\"{baseline}\">{weekday}</text>");

        for (hour, tokens) in hours.iter().enumerate() {
            let x = NAMES_WIDTH + hour * CELL_WIDTH;
            let level = (as_length(*tokens) / as_length(most_tokens.max(1)) * 4.0).ceil();
            let _ = writeln!(
                svg,
                "<rect class=\"h{level:.0}\" x=\"{x}\" y=\"{y}\" width=\"{cell_width}\" height=\"{cell_height}\" rx=\"2\">\
                 <title>{weekday} {hour:02}:00: {} tokens</title></rect>",
                format_count(*tokens)
            );
        }
    }

    for hour in (0..24).step_by(6) {
        let x = NAMES_WIDTH + hour * CELL_WIDTH;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"172\">{hour:02}:00</text>");
    }
    svg + "</svg></div>\n"
}

#[derive(Debug, Clone)]
pub(crate) struct TreemapItem {
    pub name: String,
    pub size: u64,
    /// The size as printed.
    pub shown: String,
    /// The number of the colour, below [`MAX_COLORS`].
    pub color: usize,
}

/// Draws rectangles in the proportion of their sizes. `items` begin with the largest.
pub(crate) fn draw_treemap(items: &[TreemapItem]) -> String {
    let start = format_chart_start(WIDTH, TREEMAP_HEIGHT, "Sizes");
    let mut svg = start.replacen("class=\"chart\"", "class=\"chart map\"", 1);
    let items: Vec<_> = items.iter().filter(|item| item.size > 0).collect();
    push_rectangles(&mut svg, &items, [0.0, 0.0, WIDTH, TREEMAP_HEIGHT]);
    svg + "</svg></div>\n"
}

/// Divides an area recursively along its longer side into two parts of about equal size, until each part has one item.
fn push_rectangles(svg: &mut String, items: &[&TreemapItem], [x, y, width, height]: [f64; 4]) {
    let total_size = |items: &[&TreemapItem]| as_length(items.iter().map(|item| item.size).sum());
    let (first_half, second_half) = match items {
        [] => return,
        [item] => return push_rectangle(svg, item, [x, y, width, height]),
        several => {
            let half = total_size(several) / 2.0;
            // The first part ends with the item that reaches half of the size, but never has all items.
            let split_index = (1..several.len()).find(|n| total_size(&several[..*n]) >= half);
            several.split_at(split_index.unwrap_or(several.len() - 1))
        }
    };

    let share = total_size(first_half) / total_size(items);
    let (first_area, second_area) = if width >= height {
        let first_width = width * share;
        let second_area = [x + first_width, y, width * (1.0 - share), height];
        ([x, y, first_width, height], second_area)
    } else {
        let first_height = height * share;
        let second_area = [x, y + first_height, width, height * (1.0 - share)];
        ([x, y, width, first_height], second_area)
    };
    push_rectangles(svg, first_half, first_area);
    push_rectangles(svg, second_half, second_area);
}

/// Draws an item with its name and its size, as far as they fit into the rectangle. Lengths are in units of the
/// drawing, which is [`WIDTH`] wide.
fn push_rectangle(svg: &mut String, item: &TreemapItem, [x, y, width, height]: [f64; 4]) {
    /// About the width of a character.
    const CHARACTER_WIDTH: f64 = 7.5;
    // With the space on both sides.
    let text_width = |text: &str| as_length(text.chars().count() as u64) * CHARACTER_WIDTH + 12.0;
    let (name, shown) = (escape_html(&item.name), escape_html(&item.shown));
    let color = item.color;

    let _ = writeln!(
        svg,
        "<svg x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><rect class=\"a{color}\" width=\"100%\" \
         height=\"100%\"><title>{name}: {shown}</title></rect>"
    );

    let short_name = item.name.rsplit('/').next().unwrap_or_default();
    // The baselines are in em, because the letters are larger on small screens. The inner `svg` cuts what does not fit.
    let lines = [("1.5em", 30.0, short_name), ("2.8em", 60.0, &*item.shown)];
    for (baseline, min_height, text) in lines {
        if text_width(text) < width && height > min_height {
            let text = escape_html(text);
            let _ = writeln!(svg, "<text x=\"6\" dy=\"{baseline}\">{text}</text>");
        }
    }
    svg.push_str("</svg>\n");
}

#[derive(Debug, Clone)]
pub(crate) struct ShareRow {
    pub name: String,
    pub part: f64,
    /// The figure as printed.
    pub shown: String,
}

/// Returns a table with the share of each row in `whole`. The first `max_rows` rows have a line each, the others have
/// one line together.
pub(crate) fn format_shares(
    head: [&str; 2],
    rows: &[ShareRow],
    whole: f64,
    max_rows: usize,
) -> String {
    let [name, figure] = head;
    let mut html = format!(
        "<table class=\"share\">\n<thead><tr><th>{name}</th><th class=\"bar\"></th><th>Share</th><th>{figure}</th></tr>\
         </thead>\n<tbody>\n"
    );

    let mut push_row = |name: &str, part: f64, shown: &str| {
        let (name, shown) = (escape_html(name), escape_html(shown));
        let share = escape_html(&format_share(part, whole));
        let _ = writeln!(
            html,
            "<tr><td>{name}</td><td class=\"bar\">{}</td><td>{share}</td><td>{shown}</td></tr>",
            draw_bar(part, whole)
        );
    };

    for row in rows.iter().take(max_rows) {
        push_row(&row.name, row.part, &row.shown);
    }
    if let Some(others) = rows.get(max_rows..).filter(|others| !others.is_empty()) {
        let part = others.iter().map(|row| row.part).sum();
        push_row(&format!("{} others", others.len()), part, "");
    }
    html + "</tbody>\n</table>\n"
}

/// Draws a bar of a table. A `part` that equals `whole` fills the column.
pub(crate) fn draw_bar(part: f64, whole: f64) -> String {
    // In units of the view box.
    let length = if whole > 0.0 {
        part / whole * 1000.0
    } else {
        0.0
    };
    format!(
        "<svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\"><rect class=\"a0\" width=\"{length:.1}\" \
         height=\"10\"/></svg>"
    )
}

fn format_chart_start(width: f64, height: f64, label: &str) -> String {
    format!(
        "<div class=\"chart\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, size: u64) -> TreemapItem {
        TreemapItem {
            name: name.to_owned(),
            size,
            shown: size.to_string(),
            color: 0,
        }
    }

    #[test]
    fn a_treemap_divides_its_area_in_proportion_and_escapes_names() {
        let items = [item("<a>", 60), item("b", 30), item("c", 10), item("d", 0)];
        let svg = draw_treemap(&items);
        let number = |rect: &str, name: &str| -> f64 {
            let (_, rest) = rect.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let areas = svg.split("<svg x").skip(1);
        let areas: Vec<_> = areas
            .map(|rect| number(rect, "width") * number(rect, "height") / (WIDTH * 420.0))
            .collect();
        for (area, part) in areas.iter().zip([0.6, 0.3, 0.1]) {
            assert!((area - part).abs() < 0.01, "{areas:?}");
        }
        assert_eq!(areas.len(), 3);
        assert!(svg.contains("&lt;a&gt;"), "{svg}");
    }

    #[test]
    fn the_layers_of_an_area_chart_are_stacked() {
        let layer = |name: &str, heights: &[f64]| AreaLayer {
            name: name.to_owned(),
            heights: heights.to_vec(),
        };
        let chart = AreaChart {
            layers: vec![layer("a", &[0.0, 50.0]), layer("b", &[0.0, 50.0])],
            steps: 1,
            marks: vec![(0.0, "Mon".to_owned())],
            forecast: None,
        };
        // The upper area ends at 100 %, which is 10 below the edge.
        assert!(chart.draw().contains("710.0 10.0 Z"), "{}", chart.draw());
    }
}
