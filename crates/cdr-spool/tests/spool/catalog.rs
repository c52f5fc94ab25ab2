//! The catalog: it tells what the log tells, and is made again whenever it is no good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cdr_spool::disk::{Directory, File, FileId, Lock};
use cdr_spool::{
    DeadLetter, LaneLife, Life, NewLane, Open, Outcome, Position, Query, Search, Spool, Start, StoredPush,
    StoredQuarantine, Terms, Told,
};
use rusqlite::Connection;

use crate::disk::Chance;
use crate::harness::*;
use crate::lanes::{DELIVERED, dead};
use crate::seals::seal_of;

/// What the pushes of these tests are found by: their UUID, and a customer who calls again and again.
pub fn terms(push: &StoredPush, terms: &mut Terms<'_>) {
    terms.add("uuid", push.key.uuid.as_deref().unwrap_or_default());
    let n: u64 = std::str::from_utf8(&push.facts).unwrap()[6..].parse().unwrap();
    terms.add("customer", &customer(n));
}

pub fn customer(n: u64) -> String {
    format!("customer-{}", n % 7)
}

/// Everything that a query asks for, in pages of three.
pub fn all(search: &mut Search, mut query: Query) -> Vec<Life> {
    let mut found = Vec::new();
    loop {
        let page = search.find(&query, 3).unwrap();
        let Some(last) = page.last() else { return found };
        query.after = last.push.position;
        found.extend(page);
    }
}

/// Compares what is found with the catalog to what the log alone tells. Both must look at the same log, and outcomes that nobody
/// waited for are written whenever the writer comes to it: what was compared while the log grew is no answer.
pub fn assert_tells_what_the_log_tells(world: &World, catalog: &Path) {
    let open = |path: &Path| Search::open_on(world.disk.directory(), path, terms).unwrap();
    loop {
        let before = world.disk.changes();
        let with = everything(&mut open(catalog));
        let mut alone = open(Path::new("/nowhere/at all"));
        assert!(alone.without_catalog().is_some());
        let without = everything(&mut alone);
        if world.disk.changes() == before {
            return assert_eq!(with, without);
        }
    }
}

type Everything = (Vec<Life>, Vec<Vec<Life>>, Vec<(DeadLetter, Vec<Told>)>, Vec<StoredQuarantine>);

fn everything(search: &mut Search) -> Everything {
    let of_customer = |n| {
        let customer = customer(n);
        all(search, Query { term: Some(("customer", &customer)), ..Query::default() })
    };
    let of_customers = (0..7).map(of_customer).collect();
    let lives = all(search, Query::default());
    let letters = search.dead_letters(None, None, 1000).unwrap().into_iter();
    let letters = letters
        .map(|letter| {
            let story = search.story(&letter.lane, letter.position).unwrap();
            (letter, story)
        })
        .collect();
    (lives, of_customers, letters, search.quarantined(Position(0), 1000).unwrap())
}

struct Kept {
    world: World,
    folder: tempfile::TempDir,
    spool: Spool<u64>,
}

impl Kept {
    fn start(lanes: &[&str]) -> Kept {
        Kept::start_in(World::new(), lanes)
    }

    fn start_in(world: World, lanes: &[&str]) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = world.open(lanes);
        let kept = Kept { world, folder, spool };
        kept.spool.keep_catalog_at(kept.path(), terms).unwrap();
        kept
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("catalog.sqlite")
    }

    fn reopen(&mut self, lanes: &[&str]) {
        self.spool = self.world.open(lanes).0;
        self.spool.keep_catalog_at(self.path(), terms).unwrap();
        self.catch_up();
    }

    fn catch_up(&self) {
        wait(self.spool.catalog_caught_up());
        assert_eq!(self.spool.stats().catalog_behind, 0);
    }

    fn check(&self) {
        assert_tells_what_the_log_tells(&self.world, &self.path());
    }

    fn search(&self) -> Search {
        let search = Search::open_on(self.world.disk.directory(), &self.path(), terms).unwrap();
        assert_eq!(search.without_catalog(), None);
        search
    }

    fn record(&self, lane: &str, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let outcomes = outcomes.into_iter().map(|(position, outcome)| (Position(position), outcome));
        wait(self.spool.record(lane, outcomes.collect()));
    }

    /// A number from the file itself.
    fn count(&self, sql: &str) -> i64 {
        Connection::open(self.path()).unwrap().query_row(sql, (), |row| row.get(0)).unwrap()
    }
}

fn told<'a>(life: &'a Life, lane: &str) -> &'a Told {
    let LaneLife { told, .. } = life.lanes.iter().find(|told| told.lane == lane).unwrap();
    told
}

fn retry() -> Outcome {
    Outcome::Retry { attempts: 2, spent: Duration::from_secs(3), due_ms: 9, answer: "503".into() }
}

#[test]
fn a_push_is_found_by_its_terms_with_what_became_of_it() {
    let kept = Kept::start(&["crm", "mail"]);
    append(&kept.spool, 1..=40);
    wait(kept.spool.seal("mail", seal_of([1, 2]))).unwrap();
    kept.record("mail", [(1, DELIVERED), (2, DELIVERED)]);
    kept.record(
        "crm",
        [(1, Outcome::Delivered { receipt: Some("201".into()) }), (8, dead("422")), (15, retry())],
    );
    kept.record("crm", [(22, Outcome::Passed)]);
    kept.catch_up();
    // Behind what the catalog knows.
    append(&kept.spool, [43]);
    kept.record("crm", [(29, Outcome::Discarded)]);

    let mut search = kept.search();
    let query = Query { term: Some(("customer", "customer-1")), ..Query::default() };
    let lives = all(&mut search, query);
    let positions: Vec<u64> = lives.iter().map(|life| life.push.position.0).collect();
    assert_eq!(positions, [1, 8, 15, 22, 29, 36, 41]);
    let told: Vec<&Told> = lives.iter().map(|life| told(life, "crm")).collect();
    let outcome = |told: &Told| match told {
        Told::Outcome(_, outcome) => outcome.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome(told[0]), Outcome::Delivered { receipt: Some("201".into()) });
    assert_eq!(outcome(told[1]), dead("422"));
    assert_eq!(outcome(told[2]), retry());
    assert_eq!(outcome(told[3]), Outcome::Passed);
    assert_eq!(outcome(told[4]), Outcome::Discarded);
    assert!(matches!(told[6], Told::Waiting(_)), "{:?}", told[6]);
    let sealed = Outcome::Delivered { receipt: Some(seal_of([1, 2]).key) };
    assert_eq!(outcome(self::told(&lives[0], "mail")), sealed);
    kept.check();
}

#[test]
fn pushes_are_found_by_their_time() {
    let kept = Kept::start(&[]);
    for n in 0..60 {
        wait(kept.spool.append(push_at(n, 1_000 * n as i64))).unwrap();
    }
    kept.catch_up();
    let query = Query { since_ms: Some(50_000), until_ms: Some(55_000), ..Query::default() };
    let found: Vec<u64> = all(&mut kept.search(), query).iter().map(|life| life.push.position.0).collect();
    assert_eq!(found, [51, 52, 53, 54, 55]);
}

#[test]
fn a_dead_letter_leaves_the_list_when_someone_decides() {
    let kept = Kept::start(&["crm", "mail"]);
    append(&kept.spool, 1..=6);
    kept.record("crm", [(1, dead("a")), (2, dead("b")), (3, dead("c"))]);
    kept.record("mail", [(1, dead("d"))]);
    kept.catch_up();
    wait(kept.spool.reopen("crm", &[Position(1)])).unwrap();
    wait(kept.spool.discard("crm", &[Position(3)])).unwrap();
    let listed = |lane, after| {
        let listed = kept.search().dead_letters(lane, after, 1).unwrap();
        listed.into_iter().map(|dead| (dead.lane, dead.position.0, dead.reason)).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, None), [("crm".into(), 2, "b".into())]);
    assert_eq!(listed(None, Some(("crm", Position(2)))), [("mail".into(), 1, "d".into())]);
    assert_eq!(listed(Some("crm"), Some(("crm", Position(2)))), []);
    kept.check();
}

#[test]
fn a_story_is_all_that_one_lane_said_of_a_push_in_order() {
    let kept = Kept::start(&["crm", "mail"]);
    append(&kept.spool, 1..=3);
    kept.record("crm", [(1, DELIVERED), (2, retry()), (3, retry())]);
    kept.record("mail", [(2, dead("full"))]);
    kept.record("crm", [(2, dead("422"))]);
    wait(kept.spool.reopen("crm", &[Position(2)])).unwrap();
    kept.catch_up();
    // Behind what the catalog knows.
    kept.record("crm", [(2, dead("again"))]);
    let said = |told: Told| match told {
        Told::Outcome(_, outcome) => Some(outcome),
        Told::Reopened(_) => None,
        other => panic!("{other:?}"),
    };
    let story = |lane: &str| -> Vec<Option<Outcome>> {
        let story = kept.search().story(lane, Position(2)).unwrap();
        story.into_iter().map(said).collect()
    };
    assert_eq!(story("crm"), [Some(retry()), Some(dead("422")), None, Some(dead("again"))]);
    assert_eq!(story("mail"), [Some(dead("full"))]);
    assert_eq!(story("nobody"), []);
    let lives = all(&mut kept.search(), Query::default());
    assert_eq!(said(told(&lives[1], "crm").clone()), Some(dead("again")), "the last word counts");
    kept.check();
}

#[test]
fn no_name_and_no_number_stands_in_the_file() {
    let kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=200);
    kept.catch_up();
    for file in ["catalog.sqlite", "catalog.sqlite-journal"] {
        let path = kept.folder.path().join(file);
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"customer" || window == b"uuid-1"), "{file}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

/// With little traffic each push comes alone, and a search asks every run.
#[test]
fn the_small_runs_of_a_closed_segment_become_one() {
    let kept = Kept::start(&["crm"]);
    let of_first = "SELECT count(*) FROM run WHERE segment = (SELECT min(segment) FROM run)";
    for n in 1.. {
        append(&kept.spool, [n]);
        kept.catch_up();
        if kept.count("SELECT count(*) FROM segment") > 1 {
            assert!(n > 20, "only {n} runs");
            break;
        }
    }
    assert_eq!(kept.count(of_first), 1);
    kept.check();
}

#[test]
fn what_went_from_the_log_goes_from_the_catalog() {
    let kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=100);
    kept.record("crm", (1..=100).map(|p| (p, if p == 3 { dead("422") } else { DELIVERED })));
    kept.catch_up();
    let before = kept.count("SELECT count(*) FROM term");
    kept.world.clock.pass(Duration::from_secs(9 * 24 * 3600));
    poke(&kept.spool);
    kept.catch_up();
    // The dead letter's push was carried.
    assert_eq!(kept.count("SELECT count(DISTINCT position) FROM term"), 1, "of {before}");
    assert_eq!(kept.count("SELECT count(*) FROM frame"), 0);
    assert_eq!(kept.count("SELECT count(*) FROM dead"), 1);
    kept.check();
    let life = &all(&mut kept.search(), Query::default())[0];
    assert!(matches!(told(life, "crm"), Told::Outcome(_, Outcome::Dead { .. })), "{life:?}");
}

/// The view of a search is taken when it is opened; retention comes after that.
#[test]
fn what_is_carried_elsewhere_after_a_search_was_opened_is_found_all_the_same() {
    for (knows_of_it, has_catalog) in [(false, true), (true, true), (false, false)] {
        let kept = Kept::start(&["crm"]);
        let held = wait(kept.spool.quarantine(found(900))).unwrap().position;
        append(&kept.spool, 1..=100);
        kept.record("crm", (1..=101).map(|p| (p, if p == 4 { dead("422") } else { DELIVERED })));
        kept.catch_up();
        let path = if has_catalog { kept.path() } else { "/nowhere/at all".into() };
        let search = |_| Search::open_on(kept.world.disk.directory(), &path, terms).unwrap();
        // One for each question: an answer must not live on what another one has taken in.
        let mut searches: Vec<Search> = (0..7).map(search).collect();
        let mut next = || searches.pop().unwrap();
        kept.world.clock.pass(Duration::from_secs(9 * 24 * 3600));
        poke(&kept.spool);
        assert!(kept.spool.stats().carried >= 2, "{:?}", kept.spool.stats());
        if knows_of_it {
            kept.catch_up();
        }
        let case = format!("the catalog knows of it: {knows_of_it}, is there: {has_catalog}");
        let letters = next().dead_letters(None, None, 9).unwrap();
        assert_eq!((letters[0].position, letters[0].excerpt.is_empty()), (Position(4), false), "{case}");
        assert_eq!(next().story("crm", Position(4)).unwrap().len(), 1, "{case}");
        let quarantined = next().quarantined(Position(0), 9).unwrap();
        assert_eq!(quarantined.iter().map(|held| held.position).collect::<Vec<_>>(), [held], "{case}");
        assert!(next().get(Position(4)).unwrap().is_some(), "{case}");
        assert_eq!(next().get(Position(5)).unwrap(), None, "{case}");
        let customer = customer(3);
        let of_customer = Query { term: Some(("customer", &customer)), ..Query::default() };
        for query in [Query::default(), of_customer] {
            let mut search = next();
            let lives = all(&mut search, query);
            assert_eq!(search.take_damaged(), [], "{case}");
            assert_eq!(lives.iter().map(|life| life.push.position.0).collect::<Vec<_>>(), [4], "{case}");
            assert!(matches!(told(&lives[0], "crm"), Told::Outcome(_, Outcome::Dead { .. })), "{case}");
        }
    }
}

/// A disk from which the oldest segment goes whenever its directory was listed three times: twice for a view, and once to see
/// whether that still holds.
struct Restless {
    disk: Arc<dyn Directory>,
    gone: AtomicUsize,
}

impl Directory for Restless {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = self.disk.list()?;
        names.retain(|(name, _)| name.ends_with(".log"));
        names.sort_unstable();
        Ok(names.split_off(self.gone.fetch_add(1, Ordering::Relaxed) / 3))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(name)
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        self.disk.id_of(name)
    }

    fn lock(&self) -> io::Result<Lock> {
        unimplemented!("a search takes no lock")
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        unimplemented!("a search writes nothing")
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        unimplemented!("a search writes nothing")
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        unimplemented!("a search writes nothing")
    }

    fn sync(&self) -> io::Result<()> {
        unimplemented!("a search writes nothing")
    }
}

#[test]
fn a_log_out_of_which_segments_go_again_and_again_gives_no_answer_that_lacks_some() {
    let mut world = World::new();
    world.settings.max_size = 64 * SEGMENT;
    let kept = Kept::start_in(world, &["crm"]);
    append(&kept.spool, 1..=400);
    kept.catch_up();
    let restless = Restless { disk: kept.world.disk.directory(), gone: AtomicUsize::new(0) };
    let mut search = Search::open_on(Arc::new(restless), &kept.path(), terms).unwrap();
    let error = search.find(&Query::default(), 1).unwrap_err().to_string();
    assert!(error.contains("8 times") && error.contains("ask again"), "{error}");
}

#[test]
fn what_came_after_a_search_was_opened_is_not_called_damaged() {
    let kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=3);
    kept.catch_up();
    let mut search = kept.search();
    append(&kept.spool, 4..=60);
    kept.catch_up();
    assert_eq!(all(&mut search, Query::default()).len(), 3);
    assert_eq!(search.get(Position(60)).unwrap(), None);
    assert_eq!(search.take_damaged(), []);
}

#[test]
fn a_catalog_that_is_removed_is_built_again_while_pushes_come() {
    let kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=60);
    kept.catch_up();
    fs::remove_file(kept.path()).unwrap();
    append(&kept.spool, 61..=90);
    until("it is built again", || kept.spool.stats().catalog_rebuilds == 1);
    append(&kept.spool, 91..=99);
    kept.catch_up();
    assert_eq!(kept.count("SELECT count(DISTINCT position) FROM term"), 99);
    kept.check();
}

#[test]
fn a_catalog_that_is_damaged_cut_or_of_another_spool_is_built_again() {
    let mut kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=99);
    kept.catch_up();
    wait(kept.spool.close());
    let whole = fs::read(kept.path()).unwrap();
    let foreign = {
        let other = Kept::start(&["crm"]);
        append(&other.spool, 1..=3);
        other.catch_up();
        wait(other.spool.close());
        fs::read(other.path()).unwrap()
    };
    let cut = whole[..whole.len() / 2].to_vec();
    let mut damaged = whole.clone();
    damaged[8192..].iter_mut().for_each(|byte| *byte ^= 0x55);
    let no_database = b"no database at all".to_vec();
    for (what, bytes) in
        [("cut", cut), ("damaged", damaged), ("foreign", foreign), ("no database", no_database)]
    {
        fs::write(kept.path(), bytes).unwrap();
        kept.reopen(&["crm"]);
        assert_eq!(kept.spool.stats().catalog_rebuilds, 1, "{what}");
        kept.check();
        wait(kept.spool.close());
    }
}

#[test]
fn damage_that_nothing_touches_is_found_after_a_kill() {
    let mut world = World::new();
    world.settings.max_size = 8 * 1024 * 1024;
    let mut kept = Kept::start_in(world, &["crm"]);
    append(&kept.spool, 1..=600);
    kept.catch_up();
    kept.world.disk.kill();
    let mut bytes = fs::read(kept.path()).unwrap();
    // A leaf in the middle of the terms: new ones go elsewhere.
    bytes[16 * 4096..17 * 4096].fill(0x55);
    kept.spool = kept.world.open(&["crm"]).0;
    fs::write(kept.path(), bytes).unwrap();
    kept.spool.keep_catalog_at(kept.path(), terms).unwrap();
    kept.catch_up();
    assert_eq!(kept.spool.stats().catalog_rebuilds, 1);
    kept.check();
}

#[test]
fn a_catalog_that_cannot_be_written_holds_nobody_up_and_comes_when_it_can() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not yet/catalog.sqlite");
    let (spool, _) = world.open(&["crm"]);
    spool.keep_catalog_at(path.clone(), terms).unwrap();
    append(&spool, 1..=9);
    assert_tells_what_the_log_tells(&world, &path);
    fs::create_dir(path.parent().unwrap()).unwrap();
    wait(spool.catalog_caught_up());
    assert!(Search::open_on(world.disk.directory(), &path, terms).unwrap().without_catalog().is_none());
    assert_tells_what_the_log_tells(&world, &path);
}

/// The end of a log that was not proven to be synced is written again, elsewhere: what was read there must not count twice.
#[test]
fn a_kill_leaves_a_catalog_that_goes_on() {
    let mut kept = Kept::start(&["crm"]);
    for n in 1..=30 {
        append(&kept.spool, [n]);
        kept.record("crm", [(n, retry())]);
        if n % 10 == 0 {
            kept.catch_up();
            kept.world.disk.kill();
            kept.reopen(&["crm"]);
            assert_eq!(kept.spool.stats().catalog_rebuilds, 0);
            kept.check();
        }
    }
}

#[test]
fn a_lane_that_was_handed_over_is_told_of_under_its_new_name_also_after_a_crash() {
    let mut kept = Kept::start(&["old"]);
    append(&kept.spool, 1..=4);
    kept.record("old", [(1, DELIVERED), (2, dead("422"))]);
    kept.catch_up();
    wait(kept.spool.register_lanes(&[NewLane { name: "new".into(), start: Start::Now }])).unwrap();
    append(&kept.spool, 5..=6);
    wait(kept.spool.hand_over_lane("old", "new", Position(0), Bytes::from_static(b"facts"))).unwrap();
    wait(kept.spool.seal("new~0", seal_of([3, 4]))).unwrap();
    kept.record("new~0", [(3, DELIVERED), (4, DELIVERED)]);
    let check = |kept: &Kept| {
        let lives = all(&mut kept.search(), Query::default());
        let names =
            |life: &Life| life.lanes.iter().map(|lane| lane.lane.clone()).collect::<Vec<_>>().join(" ");
        let names: Vec<String> = lives.iter().map(names).collect();
        assert_eq!(names[..4], ["new new~0"; 4]);
        assert_eq!(names[4..], ["new"; 2], "what is behind its end is nothing to the lane that ends");
        let became = |at: usize| match told(&lives[at], "new~0") {
            Told::Outcome(_, outcome) => outcome.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!([became(0), became(1)], [DELIVERED, dead("422")], "said when it was \"old\"");
        assert_eq!(became(2), Outcome::Delivered { receipt: Some(seal_of([3, 4]).key) });
        assert_eq!(told(&lives[0], "new"), &Told::Before);
        let errand = lives[0].lanes[1].errand.clone().unwrap();
        assert_eq!(
            (errand.sink.as_str(), errand.until, &errand.facts[..]),
            ("new", Position(5), &b"facts"[..])
        );
        let letters = kept.search().dead_letters(Some("new~0"), None, 9).unwrap();
        assert_eq!(letters[0].position, Position(2));
        let story = kept.search().story("new~0", Position(2)).unwrap();
        assert!(matches!(&story[..], [Told::Outcome(_, outcome)] if *outcome == dead("422")), "{story:?}");
        kept.check();
    };
    check(&kept);
    kept.catch_up();
    check(&kept);
    kept.world.disk.crash(&mut Chance::new(3));
    kept.reopen(&["new"]);
    check(&kept);
}

#[test]
fn what_is_set_aside_waits_in_its_errand_and_what_the_lane_has_read_waits_in_the_lane() {
    let mut kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=6);
    kept.record("crm", [(1, DELIVERED)]);
    kept.catch_up();
    // 2 is read and under way.
    wait(kept.spool.set_aside("crm", Position(3), Bytes::from_static(b"facts"))).unwrap();
    append(&kept.spool, [7]);
    kept.record("crm~1", [(3, DELIVERED), (4, dead("422"))]);
    let check = |kept: &Kept| {
        let lives = all(&mut kept.search(), Query::default());
        let is_waiting = |at: usize, lane: &str| *told(&lives[at], lane) == Told::Waiting(Open::default());
        let waiting: Vec<bool> = (0..7).map(|at| is_waiting(at, "crm")).collect();
        assert_eq!(waiting, [false, true, false, false, false, false, true]);
        assert!(matches!(told(&lives[0], "crm"), Told::Outcome(_, DELIVERED)));
        assert_eq!(told(&lives[2], "crm"), &Told::Forgotten);
        assert!(matches!(told(&lives[2], "crm~1"), Told::Outcome(_, DELIVERED)));
        assert!(is_waiting(4, "crm~1") && is_waiting(5, "crm~1"));
        for at in [0, 1, 6] {
            assert_eq!(lives[at].lanes.len(), 1, "nothing to the errand");
        }
        assert_eq!(kept.search().dead_letters(Some("crm~1"), None, 9).unwrap()[0].position, Position(4));
        kept.check();
    };
    check(&kept);
    kept.catch_up();
    check(&kept);
    kept.world.disk.crash(&mut Chance::new(3));
    kept.reopen(&["crm"]);
    check(&kept);
    wait(kept.spool.retire_lane("crm~1")).unwrap();
    let lives = all(&mut kept.search(), Query::default());
    assert!(matches!(told(&lives[2], "crm~1"), Told::Outcome(_, DELIVERED)), "what it said stays");
    assert_eq!(told(&lives[2], "crm"), &Told::Forgotten);
}

#[test]
fn a_replay_is_told_of_with_what_it_is_for_while_it_lasts() {
    let kept = Kept::start(&["crm"]);
    append(&kept.spool, 1..=3);
    kept.record("crm", (1..=3).map(|position| (position, DELIVERED)));
    let replay = wait(kept.spool.begin_errand("crm", (None, None), Bytes::from_static(b"why"))).unwrap();
    append(&kept.spool, [4]);
    kept.record(&replay, [(2, Outcome::Passed)]);
    let lives = all(&mut kept.search(), Query::default());
    assert!(matches!(told(&lives[0], &replay), Told::Waiting(_)));
    assert!(matches!(told(&lives[1], &replay), Told::Outcome(_, Outcome::Passed)));
    assert_eq!(lives[1].lanes[1].errand.as_ref().unwrap().facts, &b"why"[..]);
    assert_eq!(lives[3].lanes.len(), 1, "it came after the replay began");
    kept.catch_up();
    kept.check();
    wait(kept.spool.retire_lane(&replay)).unwrap();
    let lives = all(&mut kept.search(), Query::default());
    assert_eq!(lives[0].lanes.len(), 1);
    assert_eq!(lives[1].lanes[1].lane, replay, "what it said stays");
    assert_eq!(lives[1].lanes[1].errand, None);
    kept.check();
}
