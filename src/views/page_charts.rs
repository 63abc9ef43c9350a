//! Drawings of HTML pages as SVG: figures, a treemap, tables with bars. The colours are those of
//! `page_charts.css`.

use crate::conversations::html::escape::escape_html;
use crate::ui::chart::{as_length, format_share};
use std::fmt::Write as _;

/// The style of the drawings, for [`crate::conversations::html::format_page_start`].
pub(crate) const CHART_STYLE: &str = include_str!("page_charts.css");

/// The number of colours of areas and rectangles; the last one is grey.
pub(crate) const MAX_COLORS: usize = 7;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;

/// Returns large figures with their names.
pub(crate) fn draw_figures(figures: &[(&str, String)]) -> String {
    let mut html = String::from("<dl class=\"figures\">\n");
    for (name, value) in figures {
        let value = escape_html(value);
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html + "</dl>\n"
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
    let mut svg = format!(
        "<div class=\"chart map\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Sizes\">\n"
    );
    let items: Vec<_> = items.iter().filter(|item| item.size > 0).collect();
    push_rectangles(&mut svg, &items, [0.0, 0.0, WIDTH, HEIGHT]);
    svg + "</svg></div>\n"
}

/// Divides an area recursively along its longer side into two parts of about equal size, until each part has one item.
fn push_rectangles(svg: &mut String, items: &[&TreemapItem], [x, y, width, height]: [f64; 4]) {
    let sum = |items: &[&TreemapItem]| as_length(items.iter().map(|item| item.size).sum());
    let (first, rest) = match items {
        [] => return,
        [one] => return push_rectangle(svg, one, [x, y, width, height]),
        several => {
            let half = sum(several) / 2.0;
            let end = (1..several.len()).find(|n| sum(&several[..*n]) >= half);
            several.split_at(end.unwrap_or(several.len() - 1))
        }
    };
    let part = sum(first) / sum(items);
    if width >= height {
        push_rectangles(svg, first, [x, y, width * part, height]);
        push_rectangles(
            svg,
            rest,
            [x + width * part, y, width * (1.0 - part), height],
        );
    } else {
        push_rectangles(svg, first, [x, y, width, height * part]);
        push_rectangles(
            svg,
            rest,
            [x, y + height * part, width, height * (1.0 - part)],
        );
    }
}

fn push_rectangle(svg: &mut String, item: &TreemapItem, [x, y, width, height]: [f64; 4]) {
    /// About the width of a character.
    const CHARACTER: f64 = 7.5;
    let (name, shown) = (escape_html(&item.name), escape_html(&item.shown));
    let color = item.color.min(MAX_COLORS - 1);
    let _ = writeln!(
        svg,
        "<svg x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><rect class=\"a{color}\" width=\"100%\" \
         height=\"100%\"><title>{name}: {shown}</title></rect>"
    );
    let fits = |text: &str| as_length(text.chars().count() as u64) * CHARACTER + 12.0 < width;
    let last = item.name.rsplit('/').next().unwrap_or_default();
    // The letters are larger on small screens; the inner `svg` cuts what does not fit.
    for (line, end, text) in [("1.5em", 30.0, last), ("2.8em", 60.0, &*item.shown)] {
        if fits(text) && height > end {
            let text = escape_html(text);
            let _ = writeln!(svg, "<text x=\"6\" dy=\"{line}\">{text}</text>");
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
    let mut push = |name: &str, part: f64, shown: &str| {
        let (name, shown) = (escape_html(name), escape_html(shown));
        let share = escape_html(&format_share(part, whole));
        let _ = writeln!(
            html,
            "<tr><td>{name}</td><td class=\"bar\">{}</td><td>{share}</td><td>{shown}</td></tr>",
            draw_bar(part, whole)
        );
    };
    for row in rows.iter().take(max_rows) {
        push(&row.name, row.part, &row.shown);
    }
    if let Some(others) = rows.get(max_rows..).filter(|others| !others.is_empty()) {
        let part = others.iter().map(|row| row.part).sum();
        push(&format!("{} others", others.len()), part, "");
    }
    html + "</tbody>\n</table>\n"
}

/// Draws a bar of a table. A `part` that equals `whole` fills the column.
pub(crate) fn draw_bar(part: f64, whole: f64) -> String {
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
    fn the_rectangles_of_a_treemap_fill_it() {
        let items = [item("<a>", 60), item("b", 30), item("c", 10), item("d", 0)];
        let svg = draw_treemap(&items);
        let number = |rect: &str, name: &str| -> f64 {
            let (_, rest) = rect.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let areas = svg.split("<svg x").skip(1);
        let areas: Vec<_> = areas
            .map(|rect| number(rect, "width") * number(rect, "height") / (WIDTH * HEIGHT))
            .collect();
        for (area, part) in areas.iter().zip([0.6, 0.3, 0.1]) {
            assert!((area - part).abs() < 0.01, "{areas:?}");
        }
        assert_eq!(areas.len(), 3);
        assert!(svg.contains("&lt;a&gt;"), "{svg}");
    }
}
