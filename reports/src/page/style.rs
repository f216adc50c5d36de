//! The style sheet: the plots' colours as variables in both themes, and how the page is laid out.
//!
//! Invariant: it asks for nothing from elsewhere, no font and no image.

use crate::plot::Ink;
use std::fmt::Write as _;

/// Everything between the style tags.
pub(super) fn sheet() -> String {
    let mut sheet = String::new();
    for (theme, (open, close)) in
        [(":root{", "}"), ("@media (prefers-color-scheme:dark){:root{", "}}")].iter().enumerate()
    {
        sheet.push_str(open);
        for ink in Ink::ALL {
            let _ = write!(sheet, "--{}:#{:06x};", ink.class(), ink.rgb()[theme]);
        }
        sheet.push_str(close);
        sheet.push('\n');
    }
    for ink in Ink::ALL {
        let class = ink.class();
        let _ = write!(
            sheet,
            ".f-{class}{{fill:var(--{class})}}.s-{class}{{stroke:var(--{class})}}\
             .b-{class}{{background:var(--{class})}}.t-{class}{{color:var(--{class})}}"
        );
    }
    sheet.push('\n');
    sheet.push_str(LAYOUT);
    sheet
}

const LAYOUT: &str = include_str!("style.css");
