//! The report as comma-separated values (RFC 4180).

use crate::commands::usage::grouping::Grouping;
use crate::commands::usage::rows::RowKey;
use crate::context::Context;
use crate::io::ansi::printable;
use crate::ui::table::not_computed;
use crate::usage::report::Report;

/// Prints one line for each row and model.
pub(super) fn print(report: &Report<RowKey>, by: Grouping, context: &Context) {
    let mut text = format!(
        "{},model,requests,input_tokens,cached_input_tokens,output_tokens,reasoning_output_tokens,\
         total_tokens,cost_usd\r\n",
        by.name()
    );
    for row in &report.rows {
        for model in &row.models {
            let sum = &model.sum;
            let numbers = [
                sum.requests,
                sum.input_tokens,
                sum.cached_input_tokens,
                sum.output_tokens,
                sum.reasoning_output_tokens,
                sum.total_tokens,
            ];
            text.push_str(&quoted(&row.key.key));
            text.push(',');
            text.push_str(&quoted(&model.model));
            for number in numbers {
                text.push(',');
                text.push_str(&number.to_string());
            }
            let cost = sum
                .cost_usd
                .map_or_else(String::new, |cost| format!("{cost:.6}"));
            text.push(',');
            text.push_str(&cost);
            text.push_str("\r\n");
        }
    }
    context.ui.raw(text.as_bytes());
}

/// Quotes a field if it needs it. A field that a spreadsheet would compute becomes text.
fn quoted(field: &str) -> String {
    let field = not_computed(field);
    let field = printable(&field);
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn fields_are_quoted_and_never_computed() {
        assert_eq!(quoted("/code/site"), "/code/site");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        for field in ["=1+1", "+A1", "-cmd", "@SUM(A1)"] {
            assert_eq!(quoted(field), format!("'{field}"));
        }
        assert_eq!(quoted("\t=1"), "'\t=1");
    }
}
