use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn works() -> impl Strategy<Value = Works> {
    let ends = || {
        vec(1..80u64, 1..5).prop_map(|lengths| {
            lengths
                .iter()
                .scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                })
                .collect::<Vec<u64>>()
        })
    };
    (ends(), ends()).prop_map(|(to, from)| Works { to, from })
}

proptest! {
    #[test]
    fn shards_are_the_whole_in_order(works in works(), of in 1..9usize) {
        let all = points(Side::Server, &works, None);
        let parts: Vec<Point> =
            (1..=of).flat_map(|part| shard(&all, part, of).to_vec()).collect();
        prop_assert_eq!(parts, all);
    }

    #[test]
    fn every_byte_is_a_point_of_every_lane(works in works()) {
        let of = |ends: &[u64]| *ends.last().expect("one at least") as usize;
        let all = points(Side::Server, &works, None);
        let unique: BTreeSet<&Point> = all.iter().collect();
        prop_assert_eq!(unique.len(), all.len());
        prop_assert_eq!(all.len(), 10 * (of(&works.to) + 1 + of(&works.from)));
    }

    #[test]
    fn a_sample_holds_the_boundaries_and_a_byte_to_either_side(
        works in works(), shallow in 0..200usize,
    ) {
        let all = bytes(Side::Server, &works, None);
        let some = bytes(Side::Server, &works, Some(shallow));
        prop_assert!(some.is_subset(&all));
        let ways = [(Direction::ToServer, &works.to), (Direction::FromServer, &works.from)];
        let mut must = BTreeSet::new();
        for (way, ends) in ways {
            for end in [0].iter().chain(ends) {
                must.extend((end.saturating_sub(1)..=end + 1).map(|byte| (way, byte)));
            }
        }
        let must: BTreeSet<_> = must.intersection(&all).copied().collect();
        prop_assert!(must.is_subset(&some));
        prop_assert_eq!(some.len(), shallow.max(must.len()).min(all.len()));
    }

    #[test]
    fn folding_loses_nothing(outcomes in vec(0..3u8, 0..200)) {
        let given: Vec<(u64, u8)> = (0..).zip(outcomes).collect();
        let spans = fold(given.clone());
        let told: Vec<(u64, u8)> = spans
            .iter()
            .flat_map(|span| (span.first..=span.last).map(|byte| (byte, span.outcome)))
            .collect();
        prop_assert_eq!(told, given);
        prop_assert!(spans.windows(2).all(|two| two[0].outcome != two[1].outcome));
    }

    /// Whoever judges what is asked for, until nothing is, knows every edge.
    #[test]
    fn what_is_judged_finds_every_edge_of_few(
        edges in proptest::collection::btree_set(1..300usize, 0..3), run in 1..300usize,
    ) {
        let truth = |at: usize| edges.iter().filter(|edge| **edge <= at).count();
        let mut judged: Vec<(usize, Option<usize>)> = Vec::new();
        loop {
            let next = judge_next(run, &judged);
            if next.is_empty() {
                break;
            }
            prop_assert!(next.iter().all(|at| *at < run));
            for at in next {
                prop_assert!(judged.iter().all(|(known, _)| *known != at));
                judged.push((at, Some(truth(at))));
            }
            judged.sort_unstable();
        }
        prop_assert!(judged.len() >= run.min(LEAST_JUDGED));
        for pair in judged.windows(2) {
            if pair[0].1 == pair[1].1 {
                continue;
            }
            prop_assert_eq!(pair[0].0 + 1, pair[1].0);
        }
    }
}

#[test]
fn what_a_wire_does_survives_the_way_through_a_word() {
    let points = Lane::all(Side::Client).into_iter().map(|lane| Point { lane, byte: 152 });
    for wire in points.map(Wire::Cut).chain([Wire::Counted]) {
        assert_eq!(Wire::parse(&wire.word()), Some(wire));
    }
    assert_eq!(Wire::parse("wire:dies:to-client"), None);
}

#[test]
fn ids_name_fault_direction_and_byte() {
    let lane = Lane { direction: Direction::ToServer, fault: Fault::Dies, twice: false };
    let point = Point { lane, byte: 152 };
    assert_eq!(point.id(), "sweep/dies/to-server/152");
    let again = Lane { twice: true, fault: Fault::HalfCloses, ..lane };
    assert_eq!(again.id(), "sweep/half-closes-then-dies/to-server");
    assert!(is_in_range("sweep/dies/to-server/3..=152", &point));
    assert!(!is_in_range("sweep/dies/to-server/3..=151", &point));
}

/// One that turned out clean says nothing of its neighbours: all of them are judged.
#[test]
fn nothing_is_taken_to_be_clean() {
    let mut judged: Vec<(usize, Option<u8>)> = Vec::new();
    loop {
        let next = judge_next(20, &judged);
        if next.is_empty() {
            break;
        }
        judged.extend(next.into_iter().map(|at| (at, None)));
        judged.sort_unstable();
    }
    assert_eq!(judged.len(), 20);
}

#[test]
fn every_life_of_the_sweep_survives_the_way_through_a_file() {
    use crate::ledger::verdict::Verdict;
    use crate::lifecycle::scenario::{Expectation, Scenario, Subject, parse, render};
    let call = Step::new(Action::Request {
        method: "tools/list".into(),
        params: serde_json::Value::Null,
        wait: true,
    });
    for lane in Lane::all(Side::Server) {
        let scenario = Scenario {
            lifecycle: Point { lane, byte: 152 }.lifecycle(&call),
            subject: Subject::Command(vec!["server".into()]),
            expect: Expectation { verdict: Verdict::Clean, findings: Vec::new() },
        };
        let text = render(&scenario);
        match parse("kept.toml", &text) {
            Ok(read) => assert_eq!(read, scenario, "{text}"),
            Err(error) => panic!("{error:?}\n{text}"),
        }
    }
}

#[test]
fn every_life_of_an_http_server_survives_the_way_through_a_file() {
    use crate::ledger::verdict::Verdict;
    use crate::lifecycle::scenario::{
        Expectation, HttpServer, HttpStart, Scenario, Subject, parse, render,
    };
    use crate::lifecycle::step::Era;
    let call = Step::new(Action::Request {
        method: "tools/list".into(),
        params: serde_json::Value::Null,
        wait: true,
    });
    let lanes = Lane::all(Side::HttpServer);
    assert_eq!(lanes.len(), 18, "five faults each way, and a second one after four of them");
    for lane in lanes {
        let server = HttpServer {
            start: HttpStart::Command(vec!["server".into()]),
            url: "http://127.0.0.1:{port}/mcp".into(),
            session_ttl: None,
            headers: Vec::new(),
        };
        let scenario = Scenario {
            lifecycle: http::lifecycle(&Point { lane, byte: 152 }, &call, Era::Legacy),
            subject: Subject::Http(server),
            expect: Expectation { verdict: Verdict::Clean, findings: Vec::new() },
        };
        let text = render(&scenario);
        match parse("kept.toml", &text) {
            Ok(read) => assert_eq!(read, scenario, "{text}"),
            Err(error) => panic!("{error:?}\n{text}"),
        }
    }
}
