//! A portrait for people.

use super::portrait::{ClaimTile, Portrait, Revision, State, Tile};
use crate::colour::{Palette, Tone};

/// So many next actions are named.
const MOST_NEXT: usize = 3;

/// The set with a line for each ordinal.
pub(super) fn text(portrait: &Portrait, palette: Palette) -> String {
    let mut lines = vec![title(portrait, palette)];
    let rows: Vec<[String; 7]> = portrait.tiles.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..7).map(width).collect();
    for (row, tile) in rows.iter().zip(&portrait.tiles) {
        let padded: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let line = padded.iter().filter(|cell| !cell.is_empty()).cloned().collect::<Vec<_>>().join("  ");
        lines.push(palette.paint(tone(tile), format!("  {}", line.trim_end())));
        lines.extend(tile.trouble.iter().map(|trouble| palette.paint(Tone::Bad, format!("      {trouble}"))));
    }
    lines.push(ending(portrait, palette));
    lines.join("\n") + "\n"
}

fn title(portrait: &Portrait, palette: Palette) -> String {
    let Portrait { namespace, name, ready, replicas, update_revision, current_revision, .. } = portrait;
    let rollout = match current_revision {
        Some(current) => format!("from revision {current} to {update_revision}"),
        None => format!("revision {update_revision}"),
    };
    let rest = palette.paint(Tone::Plain, format!("{ready} of {replicas} ready, {rollout}"));
    format!("{} {rest}", palette.paint(Tone::Title, format!("{namespace}/{name}")))
}

/// What is waited for, or done next.
pub(super) fn ending(portrait: &Portrait, palette: Palette) -> String {
    let more = portrait.next.len().saturating_sub(MOST_NEXT);
    let next = portrait.next.iter().take(MOST_NEXT).cloned().collect::<Vec<_>>().join(", ");
    match &portrait.waiting_on {
        _ if more > 0 => palette.paint(Tone::Change, format!("  next: {next} and {more} more")),
        _ if !next.is_empty() => palette.paint(Tone::Change, format!("  next: {next}")),
        Some(waiting) => palette.paint(Tone::Change, format!("  {waiting}")),
        None => palette.paint(Tone::Good, "  as desired"),
    }
}

fn cells(tile: &Tile) -> [String; 7] {
    let age = match tile.age {
        Revision::Update => "",
        Revision::Current => " (current)",
        Revision::Older => " (older)",
        Revision::None => "-",
    };
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let restarts = if tile.restarts == 0 { String::new() } else { format!("{} restarts", tile.restarts) };
    [
        tile.pod.clone(),
        word(tile.state).to_owned(),
        format!("{}{age}", tile.revision),
        optional(&tile.address),
        optional(&tile.node),
        restarts,
        tile.claims.iter().map(claim).collect::<Vec<_>>().join(", "),
    ]
}

fn claim(claim: &ClaimTile) -> String {
    let size = claim.size.as_ref().map(|size| format!(" {size}")).unwrap_or_default();
    let phase = if claim.phase == "Bound" { String::new() } else { format!(" {}", claim.phase) };
    format!("{}{size}{phase}", claim.name)
}

fn word(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::NotReady => "not ready",
        State::Pending => "pending",
        State::Terminating => "terminating",
        State::Ended => "ended",
        State::Missing => "missing",
    }
}

fn tone(tile: &Tile) -> Tone {
    match tile.state {
        State::Ready if tile.age == Revision::Update => Tone::Good,
        State::Ready | State::Pending | State::Terminating => Tone::Change,
        State::NotReady | State::Ended => Tone::Bad,
        State::Missing => Tone::Faint,
    }
}

/// What is new since the last look, a line for each: for those who can't redraw.
pub(super) fn news(before: Option<&Portrait>, now: &Portrait) -> Vec<String> {
    let known = |tile: &Tile| before.is_some_and(|before| before.tiles.contains(tile));
    let place = format!("{}/{}", now.namespace, now.name);
    let line = |tile: &Tile| {
        let cells = cells(tile).into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  ");
        Palette::none().paint(Tone::Plain, format!("{}/{cells}", now.namespace))
    };
    let gone = before.into_iter().flat_map(|before| &before.tiles).filter(|tile| now.tiles.iter().all(|other| other.pod != tile.pod));
    let mut lines: Vec<_> = gone.map(|tile| format!("{}/{}  gone", now.namespace, tile.pod)).collect();
    lines.extend(now.tiles.iter().filter(|tile| !known(tile)).map(line));
    let said = |portrait: &Portrait| ending(portrait, Palette::none());
    if before.map(said) != Some(said(now)) {
        lines.push(format!("{place} {}", said(now).trim()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use plan::statefulset::WaitingOn;

    use super::*;

    fn tile(ordinal: u32, state: State, age: Revision) -> Tile {
        Tile {
            pod: format!("web-{ordinal}"),
            ordinal,
            state,
            revision: if state == State::Missing { String::new() } else { "5d6".into() },
            age,
            restarts: 0,
            address: (state == State::Ready).then(|| "10.0.0.1".into()),
            node: (state == State::Ready).then(|| "a".into()),
            claims: vec![ClaimTile { name: format!("data-web-{ordinal}"), phase: "Bound".into(), size: Some("1Gi".into()) }],
            trouble: None,
        }
    }

    fn portrait() -> Portrait {
        Portrait {
            namespace: "default".into(),
            name: "web".into(),
            replicas: 2,
            ready: 1,
            update_revision: "web-5d7".into(),
            current_revision: Some("web-5d6".into()),
            waiting_on: Some(WaitingOn::PodGone { pod: "web-1".into() }),
            next: Vec::new(),
            tiles: vec![tile(0, State::Ready, Revision::Current), tile(1, State::Missing, Revision::None)],
        }
    }

    #[test]
    fn a_set_is_shown_with_a_line_for_each_ordinal() {
        let expected = "\
default/web 1 of 2 ready, from revision web-5d6 to web-5d7
  web-0  ready    5d6 (current)  10.0.0.1  a  data-web-0 1Gi
  web-1  missing  -              -         -  data-web-1 1Gi
  waits for web-1 to be gone
";
        assert_eq!(text(&portrait(), Palette::none()), expected);
    }

    #[test]
    fn only_what_is_new_is_told_again() {
        let before = portrait();
        assert_eq!(news(Some(&before), &before), [""; 0]);
        let mut now = portrait();
        (now.tiles[1].state, now.waiting_on) = (State::Pending, None);
        now.tiles.remove(0);
        let expected = ["default/web-0  gone", "default/web-1  pending  -  -  -  data-web-1 1Gi", "default/web as desired"];
        assert_eq!(news(Some(&before), &now), expected);
        assert_eq!(news(None, &before).len(), 3);
    }
}
