//! `steadfast status`: how sets are, and what they wait for.

mod follow;
mod portrait;
mod print;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;

pub use follow::Views;
pub use portrait::{Portrait, portray};

use crate::arguments::{Format, SetName, Status};
use crate::colour::Palette;
use crate::connect::{Server, connect};
use crate::failure::Failure;
use crate::foresee::Surroundings;
use crate::output::{say, structured};
use crate::stop::Stop;

/// Moves to the upper left corner and clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Shows the sets once, or as long as the user wants.
pub async fn run(arguments: Status) -> Result<ExitCode, Failure> {
    let server = connect(&arguments.connection).await?;
    let sets = fetch(&server, arguments.set.as_ref()).await?;
    if arguments.watch {
        return watch(&server, &arguments).await;
    }
    let surroundings = if sets.is_empty() { Surroundings::default() } else { Surroundings::fetch(&server, &server.namespace).await? };
    let portraits = portraits(sets, &surroundings);
    match arguments.output {
        Format::Text if portraits.is_empty() => eprintln!("there are no StatefulSets in namespace {}", server.namespace),
        Format::Text => {
            say(&page(&portraits, Palette::of_standard_output()));
        }
        format => {
            say(&structured(&portraits, format)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The sets that are meant.
async fn fetch(server: &Server, name: Option<&SetName>) -> Result<Vec<Arc<StatefulSet>>, Failure> {
    match name {
        None => Ok(server.list(Some(&server.namespace)).await?.into_iter().map(Arc::new).collect()),
        Some(SetName(name)) => match server.find(&server.namespace, name).await? {
            Some(set) => Ok(vec![Arc::new(set)]),
            None => Err(Failure::NoSuchSet { namespace: server.namespace.clone(), name: name.clone() }),
        },
    }
}

fn portraits(sets: Vec<Arc<StatefulSet>>, surroundings: &Surroundings) -> Vec<Portrait> {
    let now = Timestamp::now();
    sets.into_iter().map(|set| portray(&surroundings.observed(set), now)).collect()
}

fn page(portraits: &[Portrait], palette: Palette) -> String {
    portraits.iter().map(|portrait| print::text(portrait, palette)).collect::<Vec<_>>().join("\n")
}

/// Shows the sets anew at every change.
async fn watch(server: &Server, arguments: &Status) -> Result<ExitCode, Failure> {
    let views = Views::open(server).await?;
    let mut changes = views.changes();
    // Once for all looks: what comes during one must not be lost.
    let mut stop = Stop::new()?;
    let mut screen = Screen::new(arguments.output);
    loop {
        let is_meant = |set: &Arc<StatefulSet>| arguments.set.as_ref().is_none_or(|name| set.metadata.name.as_ref() == Some(&name.0));
        let sets = views.sets().into_iter().filter(is_meant).collect();
        if !screen.show(portraits(sets, &views.surroundings()))? {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = changes.next() => {}
            () = stop.wait() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What the user sees.
struct Screen {
    shown: Option<Vec<Portrait>>,
    format: Format,
    redraws: bool,
}

impl Screen {
    fn new(format: Format) -> Self {
        Self { shown: None, format, redraws: std::io::stdout().is_terminal() }
    }

    /// Shows what is new; whether anybody still looks.
    fn show(&mut self, portraits: Vec<Portrait>) -> Result<bool, Failure> {
        if self.shown.as_ref() == Some(&portraits) {
            return Ok(true);
        }
        let text = match self.format {
            Format::Text if self.redraws => format!("{CLEAR}{}", page(&portraits, Palette::of_standard_output())),
            Format::Text => self.news(&portraits),
            Format::Json => format!("{}\n", serde_json::json!(portraits)),
            Format::Yaml => format!("---\n{}", structured(&portraits, Format::Yaml)?),
        };
        self.shown = Some(portraits);
        Ok(say(&text))
    }

    fn news(&self, portraits: &[Portrait]) -> String {
        let shown = self.shown.as_deref().unwrap_or_default();
        let before = |portrait: &Portrait| shown.iter().find(|other| other.name == portrait.name);
        let gone = shown.iter().filter(|portrait| portraits.iter().all(|other| other.name != portrait.name));
        let mut lines: Vec<_> = gone.map(|portrait| format!("{}/{} gone", portrait.namespace, portrait.name)).collect();
        lines.extend(portraits.iter().flat_map(|portrait| print::news(before(portrait), portrait)));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
