//! A report for people.

use std::collections::BTreeSet;
use std::fmt::Display;

use plan::forecast::{ClaimOutlook, Fate, Forecast, NewPods, Step, Verdict};

use super::{ObjectAction, ObjectReport, Report};
use crate::colour::{Palette, Tone};

/// So many steps of a set are shown; of more, the first and the last.
const MOST_STEPS: usize = 120;
const LAST_STEPS: usize = 12;
/// So many claims with one fate are named.
const MOST_CLAIMS: usize = 4;

/// Picks claims by what becomes of them.
type IsFate = fn(&Fate) -> bool;

/// The whole report.
pub(super) fn text(report: &Report, palette: Palette) -> String {
    let mut page = Page { text: String::new(), palette };
    for object in &report.objects {
        page.object(object);
        let forecast = report.sets.iter().find(|set| {
            object.kind == "StatefulSet"
                && object.action != ObjectAction::Refuse
                && (&set.namespace, &set.name) == (&object.namespace, &object.name)
        });
        forecast.into_iter().for_each(|forecast| page.forecast(forecast));
    }
    page.assumptions(report);
    page.summary(report);
    page.text
}

struct Page {
    text: String,
    palette: Palette,
}

impl Page {
    fn line(&mut self, tone: Tone, line: impl Display) {
        self.text.push_str(&self.palette.paint(tone, line));
        self.text.push('\n');
    }

    fn object(&mut self, object: &ObjectReport) {
        let place = if object.namespace.is_empty() { String::new() } else { format!("{}/", object.namespace) };
        let title = self.palette.paint(Tone::Title, format!("{} {place}{}", object.kind, object.name));
        let (tone, what) = match object.action {
            ObjectAction::Create => (Tone::Good, "is created"),
            ObjectAction::Change => (Tone::Change, "changes"),
            ObjectAction::Keep => (Tone::Faint, "stays as it is"),
            ObjectAction::Refuse => (Tone::Bad, "is refused by the API server"),
        };
        let what = self.palette.paint(tone, what);
        self.text.push_str(&format!("{title} {what}\n"));
        for change in &object.changes {
            self.line(Tone::Plain, format!("  {change}"));
        }
        for refusal in &object.refusals {
            let field = if refusal.field.is_empty() { String::new() } else { format!("{}: ", refusal.field) };
            self.line(Tone::Bad, format!("  {field}{}", refusal.message));
        }
    }

    fn forecast(&mut self, forecast: &Forecast) {
        let steps = shown(&forecast.steps);
        let hidden = steps.len().saturating_sub(MOST_STEPS);
        for (index, step) in steps.iter().enumerate() {
            if hidden > 0 && index == MOST_STEPS - LAST_STEPS {
                self.line(Tone::Faint, format!("       ... {hidden} more steps; --output yaml has all"));
            }
            let is_hidden = hidden > 0 && (MOST_STEPS - LAST_STEPS..steps.len() - LAST_STEPS).contains(&index);
            if !is_hidden {
                self.line(tone(step), format!("  {:>3}. {step}", index + 1));
            }
        }
        if !steps.is_empty() || !matches!(forecast.verdict, Verdict::Completes) {
            let tone = if forecast.verdict.is_good() { Tone::Good } else { Tone::Bad };
            self.line(tone, format!("       {}", forecast.verdict));
        }
        self.claims(&forecast.claims);
        for budget in &forecast.budgets {
            let (name, now, least) = (&budget.name, budget.allowed_now, budget.allowed_least);
            self.line(Tone::Plain, format!("  budget {name} allows {now} evictions now, and {least} at the worst moment on the way"));
            if !budget.exceeded_by.is_empty() {
                let pods = few(budget.exceeded_by.iter().map(String::as_str));
                let warning =
                    format!("  budget {name} would not allow it: {pods} more than it has left (a StatefulSet's updates don't ask)");
                self.text.push_str(&self.palette.paint(Tone::Bad, warning));
                self.text.push('\n');
            }
        }
    }

    fn claims(&mut self, claims: &[ClaimOutlook]) {
        let of = |wanted: IsFate| claims.iter().filter(move |outlook| wanted(&outlook.fate));
        let groups: [(Tone, &str, IsFate); 4] = [
            (Tone::Good, "created", |fate| matches!(fate, Fate::Created { .. })),
            (Tone::Faint, "kept", |fate| *fate == Fate::Kept),
            (Tone::Change, "kept without a pod", |fate| *fate == Fate::Unused),
            (Tone::Bad, "deleted, with what their volumes' reclaim policy says", |fate| *fate == Fate::Lost),
        ];
        for (tone, what, wanted) in groups {
            let names: Vec<_> = of(wanted).map(|outlook| outlook.claim.as_str()).collect();
            if !names.is_empty() {
                self.line(tone, format!("  claims {what}: {}", few(names.into_iter())));
            }
        }
        for grown in of(|fate| matches!(fate, Fate::Grown { .. })) {
            self.line(Tone::Good, format!("  claim {grown}"));
        }
    }

    fn assumptions(&mut self, report: &Report) {
        let creates = report.sets.iter().any(|set| set.steps.iter().any(|step| matches!(step, Step::CreatePod { .. })));
        let mut assumed = Vec::new();
        if creates {
            assumed.push(match report.sets.iter().all(|set| set.new_pods == NewPods::BecomeReady) {
                true => "new pods become Ready; --assume-broken tells what happens if they don't".to_owned(),
                false => "pods of new revisions never become Ready".to_owned(),
            });
        }
        let unready: BTreeSet<&str> = report.sets.iter().flat_map(|set| set.presumed_unready.iter().map(String::as_str)).collect();
        if !unready.is_empty() {
            assumed.push(format!("{} stay unready, as they are", few(unready.into_iter())));
        }
        assumed.extend(report.blind_spots.iter().cloned());
        for assumption in assumed {
            self.line(Tone::Faint, format!("Assumed: {assumption}."));
        }
    }

    fn summary(&mut self, report: &Report) {
        let sum = |count: fn(&Forecast) -> usize| report.sets.iter().map(count).sum::<usize>();
        let pods = [
            (sum(|set| set.totals.restarts), "to restart"),
            (sum(|set| set.totals.created), "to create"),
            (sum(|set| set.totals.removed), "to remove"),
        ];
        let objects = [
            (report.count(ObjectAction::Create), "to create"),
            (report.count(ObjectAction::Change), "to change"),
            (report.count(ObjectAction::Keep), "unchanged"),
            (report.count(ObjectAction::Refuse), "refused"),
        ];
        let part = |counts: &[(usize, &str)]| {
            let told: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
            if told.is_empty() { "none".to_owned() } else { told.join(", ") }
        };
        self.line(Tone::Title, format!("Plan: pods {}; objects {}.", part(&pods), part(&objects)));
    }
}

fn tone(step: &Step) -> Tone {
    match step {
        Step::CreatePod { .. } => Tone::Good,
        Step::DeletePod { .. } | Step::LoseClaim { .. } => Tone::Bad,
        Step::AwaitReady { .. } | Step::AwaitTime { .. } | Step::AwaitGone { .. } => Tone::Faint,
        _ => Tone::Change,
    }
}

/// The steps that people want to see: not that a pod is gone that was deleted before, nor claims, which are summed up.
fn shown(steps: &[Step]) -> Vec<&Step> {
    let mut deleted = BTreeSet::new();
    let mut shown = Vec::new();
    for step in steps {
        match step {
            Step::DeletePod { pod, .. } => drop(deleted.insert(pod)),
            Step::AwaitGone { pod } if deleted.contains(pod) => continue,
            Step::CreateClaim { .. } => continue,
            _ => {}
        }
        shown.push(step);
    }
    shown
}

/// Names, or the first and the last of many.
fn few<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match names.as_slice() {
        [first, .., last] if names.len() > MOST_CLAIMS => format!("{first} ... {last} ({} in all)", names.len()),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use plan::forecast::{BudgetOutlook, Reason, Totals};

    use super::*;

    fn forecast() -> Forecast {
        let reason = Reason::Outdated { from: "web-a".into(), to: "web-b".into(), fields: vec!["image".into()] };
        let pod = || "web-2".to_owned();
        Forecast {
            namespace: "default".into(),
            name: "web".into(),
            is_new: false,
            changes: Vec::new(),
            steps: vec![
                Step::CreateRevision { revision: "web-b".into() },
                Step::DeletePod { pod: pod(), reason },
                Step::AwaitGone { pod: pod() },
                Step::CreatePod { pod: pod(), revision: "web-b".into() },
                Step::AwaitReady { pod: pod() },
            ],
            verdict: Verdict::Held { waiting_on: "keeps 2 pods below the partition at the current revision".into() },
            presumed_unready: Vec::new(),
            new_pods: NewPods::BecomeReady,
            claims: (0..6).map(|ordinal| ClaimOutlook { claim: format!("data-web-{ordinal}"), fate: Fate::Kept }).collect(),
            budgets: vec![BudgetOutlook { name: "web".into(), allowed_now: 0, allowed_least: 0, exceeded_by: vec![pod()] }],
            totals: Totals { restarts: 1, created: 0, removed: 0 },
        }
    }

    fn report() -> Report {
        let object = |kind: &str, action: ObjectAction| ObjectReport {
            api_version: String::new(),
            kind: kind.into(),
            namespace: "default".into(),
            name: "web".into(),
            action,
            changes: Vec::new(),
            refusals: Vec::new(),
        };
        let objects = vec![object("Service", ObjectAction::Keep), object("StatefulSet", ObjectAction::Change)];
        Report { sets: vec![forecast()], objects, blind_spots: Vec::new() }
    }

    #[test]
    fn a_report_reads_like_a_story() {
        let expected = "\
Service default/web stays as it is
StatefulSet default/web changes
    1. record revision web-b
    2. delete web-2: its image changes
    3. create web-2 at revision web-b
    4. wait for web-2 to become Ready
       then it keeps 2 pods below the partition at the current revision
  claims kept: data-web-0 ... data-web-5 (6 in all)
  budget web allows 0 evictions now, and 0 at the worst moment on the way
  budget web would not allow it: web-2 more than it has left (a StatefulSet's updates don't ask)
Assumed: new pods become Ready; --assume-broken tells what happens if they don't.
Plan: pods 1 to restart; objects 1 to change, 1 unchanged.
";
        assert_eq!(text(&report(), Palette::none()), expected);
    }

    #[test]
    fn of_many_steps_the_first_and_the_last_are_shown() {
        let mut report = report();
        report.sets[0].steps = (0..500).map(|ordinal| Step::AwaitReady { pod: format!("web-{ordinal}") }).collect();
        let text = text(&report, Palette::none());
        assert_eq!(text.lines().filter(|line| line.contains("to become Ready")).count(), MOST_STEPS);
        assert!(text.contains("... 380 more steps") && text.contains(" 500. wait for web-499"), "{text}");
    }
}
