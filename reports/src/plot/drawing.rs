//! A drawing as plain data: shapes in logical pixels, coloured by role.
//!
//! Whoever lays out a plot says what a shape means ([`Ink`]), never what colour it has; the
//! painter decides that per theme. Knows no backend.

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ink {
    Paper,
    Text,
    Muted,
    Grid,
    Ok,
    Fail,
    Unknown,
    Median,
    Tail,
    Kill,
    Pause,
    Stall,
    OtherFault,
    Detect,
    Elect,
    Commit,
    Client,
    Warning,
    WarningText,
}

impl Ink {
    pub(crate) const ALL: [Self; 19] = [
        Self::Paper,
        Self::Text,
        Self::Muted,
        Self::Grid,
        Self::Ok,
        Self::Fail,
        Self::Unknown,
        Self::Median,
        Self::Tail,
        Self::Kill,
        Self::Pause,
        Self::Stall,
        Self::OtherFault,
        Self::Detect,
        Self::Elect,
        Self::Commit,
        Self::Client,
        Self::Warning,
        Self::WarningText,
    ];

    /// Colour on light and on dark paper. The light ones differ from each other, for the painter
    /// finds a shape's role in an SVG by them.
    pub(crate) fn rgb(self) -> [u32; 2] {
        match self {
            Self::Paper => [0xFFFFFF, 0x11151A],
            Self::Text => [0x1B1F24, 0xE6EAEF],
            Self::Muted => [0x59636E, 0x9AA5B1],
            Self::Grid => [0xE3E7EB, 0x2A313A],
            Self::Ok => [0x2F6FB7, 0x6CABEF],
            Self::Fail => [0xC62F1F, 0xFF7B6B],
            Self::Unknown => [0xB07800, 0xF2B63C],
            Self::Median => [0x0A4C8C, 0xBFDDFF],
            Self::Tail => [0x8A2BA8, 0xD99AF0],
            Self::Kill => [0xD1495B, 0xF0788A],
            Self::Pause => [0x3D8B7D, 0x67C2B2],
            Self::Stall => [0x7B7F86, 0x8B9098],
            Self::OtherFault => [0xA0703C, 0xD3A06A],
            Self::Detect => [0x4477AA, 0x6FA3D8],
            Self::Elect => [0xE08E2B, 0xF0A94F],
            Self::Commit => [0x2E9461, 0x57C08B],
            Self::Client => [0x9467A8, 0xBE93D2],
            Self::Warning => [0xFFE08A, 0x6B4E00],
            Self::WarningText => [0x4A3800, 0xFFEBB0],
        }
    }

    /// The word in class names.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Text => "text",
            Self::Muted => "muted",
            Self::Grid => "grid",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
            Self::Median => "median",
            Self::Tail => "tail",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Stall => "stall",
            Self::OtherFault => "other-fault",
            Self::Detect => "detect",
            Self::Elect => "elect",
            Self::Commit => "commit",
            Self::Client => "client",
            Self::Warning => "warning",
            Self::WarningText => "warning-text",
        }
    }

    /// The colour of one of several nodes that stand beside each other.
    pub(crate) fn of_node(node: u64) -> Self {
        const NODES: [Ink; 9] = [
            Ink::Ok,
            Ink::Elect,
            Ink::Commit,
            Ink::Client,
            Ink::Kill,
            Ink::Median,
            Ink::Pause,
            Ink::OtherFault,
            Ink::Tail,
        ];
        let place = node.saturating_sub(1) % NODES.len() as u64;
        NODES[usize::try_from(place).unwrap_or(0)]
    }

    /// The colour of a fault of this kind.
    pub(crate) fn of_fault(kind: &str) -> Self {
        match kind {
            "kill" => Self::Kill,
            "pause" | "leave" => Self::Pause,
            "stall" => Self::Stall,
            _ => Self::OtherFault,
        }
    }
}

/// Where a text stands relative to its x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// One shape. `opacity` runs from 0 to 1; y grows downwards.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Box { from: (f64, f64), to: (f64, f64), ink: Ink, opacity: f64 },
    Area { corners: Vec<(f64, f64)>, ink: Ink, opacity: f64 },
    Path { points: Vec<(f64, f64)>, ink: Ink, width: f64 },
    Dot { at: (f64, f64), radius: f64, ink: Ink, opacity: f64 },
    Ring { at: (f64, f64), radius: f64, ink: Ink },
    Text { at: (f64, f64), text: String, ink: Ink, size: f64, bold: bool, anchor: Anchor },
}

/// Shapes on paper of a given size, painted in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawing {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) shapes: Vec<Shape>,
}

impl Drawing {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        let to = (width, height);
        let paper = Shape::Box { from: (0.0, 0.0), to, ink: Ink::Paper, opacity: 1.0 };
        Self { width, height, shapes: vec![paper] }
    }

    pub(crate) fn fill(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, opacity: f64) {
        self.shapes.push(Shape::Box { from, to, ink, opacity });
    }

    pub(crate) fn path(&mut self, points: Vec<(f64, f64)>, ink: Ink, width: f64) {
        self.shapes.push(Shape::Path { points, ink, width });
    }

    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink, opacity: f64) {
        self.shapes.push(Shape::Dot { at, radius, ink, opacity });
    }

    pub(crate) fn text(&mut self, at: (f64, f64), text: &str, ink: Ink, anchor: Anchor) {
        self.sized_text(at, text, ink, anchor, SMALL, false);
    }

    pub(crate) fn sized_text(
        &mut self,
        at: (f64, f64),
        text: &str,
        ink: Ink,
        anchor: Anchor,
        size: f64,
        bold: bool,
    ) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), ink, size, bold, anchor });
    }
}

/// About how wide a text is, a little too much rather than too little.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// The size of everything but titles.
pub(crate) const SMALL: f64 = 12.0;
