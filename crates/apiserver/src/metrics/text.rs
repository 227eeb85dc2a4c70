//! The text format that Prometheus reads.

use std::fmt::Write;

/// A page in the making: families of samples.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Begins the samples of a name.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the current family; `suffix` is added to its name.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.family);
    }

    /// A family of one sample.
    pub fn single(&mut self, name: &'static str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample("", &[], value);
    }

    /// The page.
    pub fn text(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_the_name_and_type_of_their_family() {
        let mut page = Page::default();
        page.family("things", "histogram", "Things.");
        page.sample("_bucket", &[("le", "0.5"), ("what", "a\"b\\")], 3.0);
        page.single("seconds", "gauge", "Seconds.", 0.25);
        assert_eq!(
            page.text(),
            "# HELP things Things.\n# TYPE things histogram\nthings_bucket{le=\"0.5\",what=\"a\\\"b\\\\\"} 3\n\
             # HELP seconds Seconds.\n# TYPE seconds gauge\nseconds 0.25\n"
        );
    }
}
