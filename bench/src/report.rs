//! The table of figures.

/// Measured values of one thing, in one unit.
#[derive(Clone, Debug)]
pub struct Sample {
    values: Vec<f64>,
    unit: &'static str,
}

impl Sample {
    pub fn new(mut values: Vec<f64>, unit: &'static str) -> Self {
        values.sort_by(f64::total_cmp);
        Self { values, unit }
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    fn at(&self, share: f64) -> f64 {
        let index = (self.values.len().saturating_sub(1)) as f64 * share;
        self.values.get(index.round() as usize).copied().unwrap_or(f64::NAN)
    }

    fn text(&self) -> String {
        let Self { unit, .. } = self;
        match self.values.len() {
            1 => format!("{:.2} {unit}", self.median()),
            count => format!("{:.2} {unit} ({:.2} to {:.2}, n={count})", self.median(), self.at(0.1), self.at(0.9)),
        }
    }
}

/// All figures of one run.
#[derive(Debug)]
pub struct Report {
    rows: Vec<[String; 4]>,
}

impl Report {
    pub fn new() -> Self {
        Self { rows: vec![["figure", "median (10 % to 90 %)", "target", "beside it, in the same run"].map(str::to_owned)] }
    }

    /// A figure with its target.
    pub fn add(&mut self, figure: &str, sample: &Sample, target: &str) {
        self.row(figure, sample, target, String::new());
    }

    /// A figure with its target and what a rival, or the floor, takes. The ratio is ours to theirs.
    pub fn compare(&mut self, figure: &str, sample: &Sample, target: &str, rival: &str, theirs: &Sample) {
        let ratio = sample.median() / theirs.median();
        self.row(figure, sample, target, format!("{rival}: {}; ratio {ratio:.2}", theirs.text()));
    }

    fn row(&mut self, figure: &str, sample: &Sample, target: &str, beside: String) {
        let row = [figure.to_owned(), sample.text(), target.to_owned(), beside];
        println!("{}", row.join(" | "));
        self.rows.push(row);
    }

    /// Prints all rows as a table in Markdown.
    pub fn print(&self) {
        let width = |column: usize| self.rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..4).map(width).collect();
        println!();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
                println!("|-{}-|", rule.join("-|-"));
            }
        }
    }
}
