//! What was measured, as tables for a terminal and for a page, and what it means for the targets.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use comfy_table::{
    CellAlignment, Table,
    presets::{ASCII_MARKDOWN, NOTHING},
};

use crate::{
    backlog::Backlog,
    command::Settings,
    crowd::{self, Crowd},
    machine::Machine,
    run::{Candidate, Measured},
    schedule::{Beside, GATEWAYS, Part},
    spread::Spread,
};

/// Around what `--write` replaces.
const BEGIN: &str = "<!-- written by just bench: begin -->";
const END: &str = "<!-- written by just bench: end -->";

/// Everything.
pub struct Report {
    /// What it was measured on.
    pub machine: Machine,
    /// A part for each number of connections.
    pub throughput: Vec<Part>,
    /// When it was not left out.
    pub backlog: Option<Backlog>,
    /// When it was not left out.
    pub crowd: Option<Crowd>,
}

impl Report {
    /// For a terminal.
    pub fn text(&self, settings: &Settings) -> String {
        self.written(settings, Style { table: NOTHING, heading: "" })
    }

    /// For a page.
    pub fn markdown(&self, settings: &Settings) -> String {
        self.written(settings, Style { table: ASCII_MARKDOWN, heading: "### " })
    }

    fn written(&self, settings: &Settings, style: Style) -> String {
        let mut text = String::new();
        for (title, mut table) in self.tables(settings) {
            table.load_style(style.table);
            // Writing into a String cannot fail.
            let _ = write!(text, "{}{title}\n\n{}\n\n", style.heading, table.trim_fmt());
        }
        text
    }

    fn tables(&self, settings: &Settings) -> Vec<(String, Table)> {
        let mut tables = vec![("Targets".to_owned(), targets(&self.targets()))];
        for part in &self.throughput {
            tables.push((format!("{} connections", part.connections), costs(part)));
            tables.push((format!("{} connections, gateway ÷ reference", part.connections), ratios(part)));
        }
        if let Some(backlog) = &self.backlog {
            let title = format!("Backlog of {} pushes, {} connections", backlog.pushes, backlog.connections);
            tables.push((title, costs_of_backlog(backlog)));
        }
        if let Some(crowd) = &self.crowd {
            let title = format!("{}, {} connections", crowd::name(crowd.idle), crowd.connections);
            tables.push((title, costs_of_crowd(crowd)));
        }
        tables.push(("Machine and settings".to_owned(), self.circumstances(settings)));
        tables
    }

    fn circumstances(&self, settings: &Settings) -> Table {
        let mut table = table(&["", ""]);
        for (name, value) in &self.machine {
            table.add_row([*name, value]);
        }
        let doors = self.throughput.iter().flat_map(|part| &part.door);
        let gateways = self.backlog.iter().flat_map(|backlog| &backlog.without);
        let crowds = self.crowd.iter().flat_map(|crowd| &crowd.without);
        let all: Vec<&Measured> = doors.chain(gateways).chain(crowds).collect();
        let body = Spread::of(all.iter().map(|run| run.body)).median;
        let share = if all.iter().all(|run| run.is_favoured) {
            "each measured process has a scheduling group of its own at nice -10"
        } else {
            "measured processes share the processor with load and receivers as equals"
        };
        table.add_row([
            "Runs",
            &format!("{} rounds of {} pushes of {body:.0} bytes", settings.rounds, settings.pushes),
        ]);
        table
            .add_row(["Gateway", &format!("release build, log.level {}, all else as shipped", settings.log)]);
        table.add_row(["Share", share]);
        table
    }

    /// The targets that were measured.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = self.throughput.iter().flat_map(targets_of_part).collect();
        targets.extend(self.backlog.iter().flat_map(targets_of_backlog));
        targets.extend(self.crowd.iter().map(target_of_crowd));
        targets
    }
}

struct Style {
    table: comfy_table::TableStyle,
    heading: &'static str,
}

/// What was promised about a number.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Promise {
    AtLeast(f64),
    AtMost(f64),
}

/// A promise, and what became of it.
pub struct Target {
    what: String,
    promise: Promise,
    found: Spread,
}

impl Target {
    /// `reached`, or by how much it was missed; the median decides.
    fn verdict(&self) -> String {
        let found = self.found.median;
        let over = match self.promise {
            Promise::AtLeast(least) => 1.0 - found / least,
            Promise::AtMost(most) => found / most - 1.0,
        };
        match over {
            over if over.is_nan() => "not measured".to_owned(),
            over if over <= 0.0 => "reached".to_owned(),
            over => format!("missed by {:.0} %", over * 100.0),
        }
    }
}

fn targets_of_part(part: &Part) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |what: String, promise, runs: &[Beside], number: &dyn Fn(&Beside) -> f64| {
        let found = Spread::of(runs.iter().map(number));
        targets.push(Target { what: format!("{what}, {} connections", part.connections), promise, found });
    };
    for (lanes, runs) in GATEWAYS.iter().zip(&part.gateways) {
        let name = lanes.name();
        // Three HTTP lanes are there for the spool's bytes alone.
        if lanes.count() == 3 && !lanes.archive {
            let per_body = |run: &Beside| run.gateway.written / run.gateway.body;
            add(format!("spool's bytes to the device ÷ body, {name}"), Promise::AtMost(1.6), runs, &per_body);
            continue;
        }
        let accepted = |run: &Beside| run.over_door(|run| run.accepted);
        add(format!("accepted ÷ door, {name}"), Promise::AtLeast(1.0), runs, &accepted);
        add(format!("p99 ÷ door, {name}"), Promise::AtMost(1.3), runs, &|run| {
            run.over_door(|run| run.p99_ms)
        });
        if lanes.count() == 2 && lanes.archive {
            let cpu = |run: &Beside| run.over_pipe(|run| run.cpu);
            add(format!("CPU ÷ pipe, {name}"), Promise::AtMost(1.2), runs, &cpu);
        }
    }
    targets
}

fn targets_of_backlog(backlog: &Backlog) -> Vec<Target> {
    let ratios =
        backlog.with.iter().zip(&backlog.without).map(|(with, without)| with.accepted / without.accepted);
    let rss = backlog.with.iter().map(|run| run.peak_rss);
    let target = |what: &str, promise, found| Target {
        what: format!("{what}, backlog of {}", backlog.pushes),
        promise,
        found,
    };
    vec![
        target("accepted ÷ without", Promise::AtLeast(0.95), Spread::of(ratios)),
        target("ready after start, s", Promise::AtMost(1.0), Spread::of(backlog.ready.iter().copied())),
        target("peak RSS under full load, MiB", Promise::AtMost(48.0), Spread::of(rss)),
    ]
}

fn target_of_crowd(crowd: &Crowd) -> Target {
    let ratios = crowd.with.iter().zip(&crowd.without).map(|(with, without)| with.p99_ms / without.p99_ms);
    let what = format!("p99 ÷ without, {}", crowd::name(crowd.idle));
    Target { what, promise: Promise::AtMost(2.0), found: Spread::of(ratios) }
}

fn costs_of_crowd(crowd: &Crowd) -> Table {
    let mut table = table(&COSTS);
    table.add_row(cost_row("nobody else".to_owned(), &crowd.without));
    table.add_row(cost_row("with the crowd".to_owned(), &crowd.with));
    numbers_to_the_right(&mut table);
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(header);
    table
}

/// Numbers stand to the right, names to the left.
fn numbers_to_the_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn targets(targets: &[Target]) -> Table {
    let mut table = table(&["target", "promised", "found: median (min–max)", ""]);
    for target in targets {
        let promised = match target.promise {
            Promise::AtLeast(least) => format!("≥ {least}"),
            Promise::AtMost(most) => format!("≤ {most}"),
        };
        table.add_row([target.what.clone(), promised, format!("{:.2}", target.found), target.verdict()]);
    }
    table
}

const COSTS: [&str; 8] = [
    "",
    "accepted /s",
    "p50 ms",
    "p99 ms",
    "delivered /s",
    "CPU s per 10,000",
    "KB to the device per push",
    "peak RSS MiB",
];

fn cost_row(name: String, runs: &[Measured]) -> Vec<String> {
    let spread = |number: fn(&Measured) -> f64| Spread::of(runs.iter().map(number));
    vec![
        name,
        format!("{:.0}", spread(|run| run.accepted)),
        format!("{:.1}", spread(|run| run.p50_ms)),
        format!("{:.1}", spread(|run| run.p99_ms)),
        format!("{:.0}", spread(|run| run.delivered)),
        format!("{:.2}", spread(|run| run.cpu)),
        format!("{:.1}", spread(|run| run.written / 1e3)),
        format!("{:.1}", spread(|run| run.peak_rss)),
    ]
}

fn costs(part: &Part) -> Table {
    let mut table = table(&COSTS);
    table.add_row(cost_row(Candidate::Door.name(), &part.door));
    table.add_row(cost_row(Candidate::Pipe.name(), &part.pipe));
    for (lanes, runs) in GATEWAYS.iter().zip(&part.gateways) {
        let runs: Vec<Measured> = runs.iter().map(|run| run.gateway).collect();
        table.add_row(cost_row(Candidate::Gateway(*lanes).name(), &runs));
    }
    numbers_to_the_right(&mut table);
    table
}

fn ratios(part: &Part) -> Table {
    let mut table =
        table(&["", "accepted ÷ door", "p99 ÷ door", "CPU ÷ door", "CPU ÷ pipe", "device ÷ body"]);
    for (lanes, runs) in GATEWAYS.iter().zip(&part.gateways) {
        let spread = |number: fn(&Beside) -> f64| format!("{:.2}", Spread::of(runs.iter().map(number)));
        table.add_row([
            Candidate::Gateway(*lanes).name(),
            spread(|run| run.over_door(|run| run.accepted)),
            spread(|run| run.over_door(|run| run.p99_ms)),
            spread(|run| run.over_door(|run| run.cpu)),
            spread(|run| run.over_pipe(|run| run.cpu)),
            spread(|run| run.gateway.written / run.gateway.body),
        ]);
    }
    numbers_to_the_right(&mut table);
    table
}

fn costs_of_backlog(backlog: &Backlog) -> Table {
    let mut table = table(&COSTS);
    table.add_row(cost_row("one sink away, no backlog yet".to_owned(), &backlog.without));
    table.add_row(cost_row("one sink away, with its backlog".to_owned(), &backlog.with));
    let drain = &backlog.drain;
    table.add_row([
        format!("the sink is back: {} delivered", drain.pushes),
        String::new(),
        String::new(),
        String::new(),
        format!("{:.0}", drain.rate),
        format!("{:.2}", drain.cpu),
        String::new(),
        format!("{:.1}", drain.peak_rss),
    ]);
    numbers_to_the_right(&mut table);
    table
}

/// A page with a place for the tables.
pub struct Page {
    path: PathBuf,
    before: String,
    after: String,
}

impl Page {
    /// Finds the place, before an hour is spent on what goes there.
    ///
    /// # Errors
    /// The page cannot be read, or has no such place.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, after) = split(&text).with_context(|| {
            format!("{} has no line \"{BEGIN}\" with a line \"{END}\" behind it", path.display())
        })?;
        Ok(Self { path: path.canonicalize()?, before: before.to_owned(), after: after.to_owned() })
    }

    /// Writes the tables there.
    ///
    /// # Errors
    /// The page cannot be written.
    pub fn write(&self, tables: &str) -> anyhow::Result<()> {
        let Self { path, before, after } = self;
        let text = format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", tables.trim());
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(promise: Promise, found: f64) -> String {
        Target { what: String::new(), promise, found: Spread::of([found]) }.verdict()
    }

    #[test]
    fn a_target_is_missed_on_its_own_side_only() {
        assert_eq!(target(Promise::AtLeast(1.0), 1.2), "reached");
        assert_eq!(target(Promise::AtLeast(1.0), 1.0), "reached");
        assert_eq!(target(Promise::AtLeast(1.0), 0.9), "missed by 10 %");
        assert_eq!(target(Promise::AtMost(1.2), 0.3), "reached");
        assert_eq!(target(Promise::AtMost(1.2), 1.8), "missed by 50 %");
        assert_eq!(target(Promise::AtMost(1.2), f64::NAN), "not measured");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        Page::open(&page).unwrap().write("new\n").unwrap();
        Page::open(&page).unwrap().write("newer\n").unwrap();
        let written = fs::read_to_string(&page).unwrap();
        assert_eq!(written, format!("before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"));
    }

    #[test]
    fn a_page_without_the_marks_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        fs::write(&page, format!("{END}\n{BEGIN}\n")).unwrap();
        assert!(Page::open(&page).is_err());
    }
}
