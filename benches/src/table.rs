//! Figures of several rounds, and how they are shown.

use std::fmt::Write;

use serde::Serialize;

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Unit {
    /// MiB per second.
    #[serde(rename = "MiB/s")]
    MibPerSecond,
    /// Things per second.
    #[serde(rename = "/s")]
    PerSecond,
    /// Microseconds: less is better.
    #[serde(rename = "us")]
    Microseconds,
    /// Milliseconds: less is better.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds: less is better.
    #[serde(rename = "s")]
    Seconds,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::MibPerSecond => "MiB/s",
            Self::PerSecond => "/s",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }

    const fn less_is_better(self) -> bool {
        matches!(self, Self::Microseconds | Self::Milliseconds | Self::Seconds)
    }
}

/// One kind of work.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What is done.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// Who did it, in the order of the first round.
    pub cells: Vec<Cell>,
}

/// The figures of one system.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Its name.
    pub system: String,
    /// One figure for each round.
    pub figures: Vec<f64>,
}

impl Cell {
    fn sorted(&self) -> Vec<f64> {
        let mut figures = self.figures.clone();
        figures.sort_by(f64::total_cmp);
        figures
    }

    fn spread(&self) -> Option<f64> {
        let figures = self.sorted();
        let (first, last) = (figures.first()?, figures.last()?);
        (figures.len() > 1).then(|| (last - first) / self.median())
    }

    /// The middle figure.
    #[must_use]
    pub fn median(&self) -> f64 {
        let figures = self.sorted();
        let middle = figures.len() / 2;
        match (figures.get(middle), middle.checked_sub(1).and_then(|below| figures.get(below))) {
            (Some(above), Some(below)) if figures.len().is_multiple_of(2) => {
                f64::midpoint(*above, *below)
            }
            (Some(figure), _) => *figure,
            (None, _) => f64::NAN,
        }
    }

    /// The best figure.
    #[must_use]
    pub fn best(&self, unit: Unit) -> f64 {
        let figures = self.sorted();
        let best = if unit.less_is_better() { figures.first() } else { figures.last() };
        best.copied().unwrap_or(f64::NAN)
    }
}

impl Line {
    /// How many times as fast as `base` a cell is; `None` for `base` itself and without one.
    fn ratio(&self, cell: &Cell, base: &str) -> Option<f64> {
        let other = self.cells.iter().find(|cell| cell.system == base)?;
        if cell.system == base {
            return None;
        }
        let ratio = cell.median() / other.median();
        Some(if self.unit.less_is_better() { 1.0 / ratio } else { ratio })
    }
}

/// All lines.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// In the order in which they were measured.
    pub lines: Vec<Line>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

impl Table {
    /// Takes a figure in.
    pub fn add(&mut self, line: &str, unit: Unit, system: &str, figure: f64) {
        let index = self.lines.iter().position(|known| known.name == line).unwrap_or_else(|| {
            self.lines.push(Line { name: line.to_owned(), unit, cells: Vec::new() });
            self.lines.len() - 1
        });
        let cells = &mut self.lines[index].cells;
        match cells.iter_mut().find(|cell| cell.system == system) {
            Some(cell) => cell.figures.push(figure),
            None => cells.push(Cell { system: system.to_owned(), figures: vec![figure] }),
        }
    }

    /// Takes note of something that was not measured, once.
    pub fn skip(&mut self, what: String) {
        if !self.skipped.contains(&what) {
            self.skipped.push(what);
        }
    }

    /// Markdown: one table for each group of systems, "best (median)" in each cell.
    #[must_use]
    pub fn markdown(&self) -> String {
        self.markdown_beside(None)
    }

    /// The same; behind the median stands how many times as fast as `base` that is.
    #[must_use]
    pub fn markdown_beside(&self, base: Option<&str>) -> String {
        let mut text = String::new();
        let mut header: Vec<&str> = Vec::new();
        for line in &self.lines {
            let systems: Vec<&str> = line.cells.iter().map(|cell| cell.system.as_str()).collect();
            let is_new = systems.iter().any(|system| !header.contains(system));
            if is_new {
                let gap = if text.is_empty() { "" } else { "\n" };
                header = systems;
                let _ = writeln!(text, "{gap}| best (median) | {} |", header.join(" | "));
                let _ = writeln!(text, "|---|{}", "---:|".repeat(header.len()));
            }
            let _ = write!(text, "| {}, {} |", line.name, line.unit.name());
            for system in &header {
                match line.cells.iter().find(|cell| cell.system == *system) {
                    Some(cell) => {
                        let (best, median) = (cell.best(line.unit), cell.median());
                        let _ = write!(text, " {} ({})", short(best), short(median));
                        if let Some(ratio) = base.and_then(|base| line.ratio(cell, base)) {
                            let _ = write!(text, " ×{}", short(ratio));
                        }
                        text.push_str(" |");
                    }
                    None => text.push_str(" - |"),
                }
            }
            text.push('\n');
        }
        for what in &self.skipped {
            let _ = write!(text, "\nnot measured: {what}");
        }
        text
    }

    /// How far the figures of one cell lie apart, in parts of its median: the median of all cells,
    /// and the most. `None` after a single round.
    #[must_use]
    pub fn spread(&self) -> Option<(f64, f64)> {
        let cells = self.lines.iter().flat_map(|line| &line.cells);
        let mut spreads: Vec<f64> = cells.filter_map(Cell::spread).collect();
        spreads.sort_by(f64::total_cmp);
        Some((*spreads.get(spreads.len() / 2)?, *spreads.last()?))
    }
}

/// Three digits are more than the noise allows.
fn short(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else if figure >= 1.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_and_median_follow_the_unit() {
        let mut table = Table::default();
        for figure in [3.0, 1.0, 2.0] {
            table.add("read", Unit::MibPerSecond, "ours", figure);
            table.add("open", Unit::Microseconds, "ours", figure);
        }
        let text = table.markdown();
        assert!(text.contains("| read, MiB/s | 3.00 (2.00) |"), "{text}");
        assert!(text.contains("| open, µs | 1.00 (2.00) |"), "{text}");
    }

    #[test]
    fn a_ratio_above_one_is_faster_whatever_is_counted() {
        let mut table = Table::default();
        for (system, figure) in [("ours", 2.0), ("theirs", 4.0)] {
            table.add("read", Unit::MibPerSecond, system, figure);
            table.add("open", Unit::Microseconds, system, figure);
        }
        let text = table.markdown_beside(Some("ours"));
        assert!(text.contains("| 2.00 (2.00) | 4.00 (4.00) ×2.00 |"), "{text}");
        assert!(text.contains("| 2.00 (2.00) | 4.00 (4.00) ×0.500 |"), "{text}");
        assert_eq!(table.spread(), None);
        table.add("read", Unit::MibPerSecond, "ours", 6.0);
        assert_eq!(table.spread(), Some((1.0, 1.0)));
    }

    #[test]
    fn who_was_not_measured_has_a_dash() {
        let mut table = Table::default();
        table.add("a", Unit::PerSecond, "ours", 1.0);
        table.add("a", Unit::PerSecond, "theirs", 1.0);
        table.add("b", Unit::PerSecond, "ours", 1.0);
        assert!(table.markdown().contains("| b, /s | 1.00 (1.00) | - |"));
    }
}
