//! Breaks and their ends, health, rotation, with a clock that is told.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

use super::*;
use crate::flow::{DropReason, EventKind, Flow, L4, TcpFlags, Verdict};
use crate::names::NodeName;
use crate::pipeline::Fold;
use crate::source::relay::ConnectErrorKind::{Refused, Unreachable};
use crate::source::relay::{ConnectError, FlowTimes, NodeVitals};
use crate::source::unknown::UnknownValues;
use crate::source::{NodeState, NodeStatus};

/// The first moment of every test.
fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A dropped flow of this node, so many seconds after the start.
pub(super) fn flow(node: &str, uuid: &str, second: i64) -> Flow {
    Flow {
        time: Some(start() + Duration::from_secs(second.unsigned_abs())),
        uuid: uuid.into(),
        node: NodeName::lossy(node),
        verdict: Verdict::Dropped,
        event: EventKind::PolicyVerdict,
        drop_reason: DropReason::POLICY_DENIED,
        direction: Some(crate::flow::Direction::Egress),
        is_reply: None,
        ip: Some(("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())),
        l4: L4::Tcp {
            source: 40_000,
            destination: 80,
            flags: Some(TcpFlags { syn: true, ..TcpFlags::default() }),
        },
        source: None,
        destination: None,
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    }
}

/// What one stream does after the other.
#[derive(Debug, Clone)]
enum Act {
    /// Says something, lives so many seconds, and ends.
    Lives(u64, EndKind),
    /// Cannot be opened.
    Fails(ConnectErrorKind),
    /// Stays for ever without a word.
    Silent,
    /// Says that n1 is connected, then has these flows of it at these seconds after the start of the test, then
    /// lives until that second.
    Flows(Vec<(u64, &'static str)>, u64),
}

struct Acting {
    now: VecDeque<Item>,
    later: VecDeque<(Instant, Item)>,
    end: Option<(Instant, EndKind)>,
    sleep: Pin<Box<Sleep>>,
}

/// What is recorded of a run.
#[derive(Debug, Default)]
struct Record {
    /// When it was tried to connect again.
    tries: Vec<u64>,
    /// When a stream was opened, and from which second on it was asked for.
    opened: Vec<(u64, Option<i64>)>,
    asked: Vec<u64>,
}

type Answers = Box<dyn Fn(u64, Question) -> Answer + Send>;

struct Script {
    acts: Mutex<VecDeque<Act>>,
    record: Arc<Mutex<Record>>,
    start: Instant,
    answers: Answers,
}

impl Acting {
    fn new(act: Act, start: Instant) -> Self {
        let now = Instant::now();
        let mut acting = Self {
            now: VecDeque::new(),
            later: VecDeque::new(),
            end: None,
            sleep: Box::pin(sleep_until(now)),
        };
        match act {
            Act::Lives(seconds, kind) => {
                acting.now.push_back(Item::Other);
                acting.end = Some((now + Duration::from_secs(seconds), kind));
            }
            Act::Silent | Act::Fails(_) => {}
            Act::Flows(flows, until) => {
                acting.now.push_back(Item::NodeStatus(NodeStatus {
                    state: NodeState::Connected,
                    nodes: vec![NodeName::lossy("n1")],
                    message: "".into(),
                }));
                for (second, uuid) in flows {
                    let flow = Item::Flow(flow("n1", uuid, second as i64));
                    acting.later.push_back(((start + Duration::from_secs(second)).max(now), flow));
                }
                acting.end = Some((start + Duration::from_secs(until), EndKind::Unavailable));
            }
        }
        acting
    }
}

impl Stream for Acting {
    type Item = Result<Item, StreamEnd>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(item) = this.now.pop_front() {
            return Poll::Ready(Some(Ok(item)));
        }
        let next = this.later.front().map(|(when, _)| *when).or(this.end.map(|(when, _)| when));
        let Some(next) = next else { return Poll::Pending };
        if this.sleep.deadline() != next {
            this.sleep.as_mut().reset(next);
        }
        std::task::ready!(this.sleep.as_mut().poll(cx));
        Poll::Ready(Some(match (this.later.pop_front(), this.end) {
            (Some((_, item)), _) => Ok(item),
            (None, Some((_, kind))) => Err(StreamEnd { status: "over".into(), kind }),
            (None, None) => unreachable!(),
        }))
    }
}

impl FlowStream for Acting {
    fn take_unknown(&mut self) -> UnknownValues {
        UnknownValues::default()
    }
}

impl Reopen for Script {
    type Flows = Acting;

    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        self.record.lock().unwrap().tries.push(self.start.elapsed().as_secs());
        let mut acts = self.acts.lock().unwrap();
        match acts.front().expect("one more try than the script has") {
            Act::Fails(kind) => {
                let kind = *kind;
                acts.pop_front();
                Err(ConnectError { kind, message: "nobody there".into() })
            }
            _ => Ok(()),
        }
    }

    fn open(&self, from: Start) -> Acting {
        let since = match from {
            Start::Since(time) => Some(time.as_second() - start().as_second()),
            _ => None,
        };
        self.record.lock().unwrap().opened.push((self.start.elapsed().as_secs(), since));
        let act = self.acts.lock().unwrap().pop_front().expect("one more stream than the script has");
        Acting::new(act, self.start)
    }

    fn ask(&self, question: Question) -> Asking {
        let second = self.start.elapsed().as_secs();
        self.record.lock().unwrap().asked.push(second);
        let answer = (self.answers)(second, question);
        Box::pin(async move { answer })
    }
}

/// What a run left.
struct Played {
    end: FeedEnd,
    record: Record,
    counters: crate::pipeline::Counters,
    watch: SharedWatch,
}

/// Plays the acts, and asks to stop after so many seconds.
async fn play(acts: &[Act], stop_after: u64, lasting: Lasting, answers: Answers) -> Played {
    let (first, rest) = acts.split_first().unwrap();
    let record = Arc::new(Mutex::new(Record::default()));
    let begin = Instant::now();
    let script = Script {
        acts: Mutex::new(rest.iter().cloned().collect()),
        record: Arc::clone(&record),
        start: begin,
        answers,
    };
    let watch = Arc::new(Mutex::new(Watch::new(start())));
    let live = Live {
        flows: Acting::new(first.clone(), begin),
        reopen: Some(script),
        watch: Arc::clone(&watch),
        lasting,
        since: None,
        floor: None,
        wall: Wall::Told(start(), begin),
        tap: None,
    };
    let fold = Arc::new(Mutex::new(Fold::new(Arc::default())));
    let stop = Stop::default();
    let asks = async {
        sleep(Duration::from_secs(stop_after)).await;
        stop.stop();
        std::future::pending().await
    };
    let end = tokio::select! { end = live.run(Arc::clone(&fold), stop.clone()) => end, () = asks => unreachable!() };
    let counters = lock(&fold).take().1;
    let record = std::mem::take(&mut *record.lock().unwrap());
    Played { end, record, counters, watch }
}

/// [`play`] with a relay that lives, and when it was tried again.
async fn played(acts: &[Act], stop_after: u64) -> (FeedEnd, Vec<u64>) {
    let played = play(acts, stop_after, Lasting::default(), Box::new(|_, _| Answer::default())).await;
    (played.end, played.record.tries)
}

#[tokio::test(start_paused = true)]
async fn a_break_is_over_when_the_stream_speaks_or_stands() {
    use Act::{Fails, Lives, Silent};
    let ends = [EndKind::Ended, EndKind::Unavailable, EndKind::Other];
    for kind in ends {
        let (end, tries) =
            played(&[Lives(5, kind), Fails(Unreachable), Fails(Unreachable), Lives(9000, kind)], 1200).await;
        assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
        assert_eq!(tries.len(), 3);
    }
    let (end, _) = played(&[Lives(5, EndKind::Ended), Silent], 1200).await;
    assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_break_of_more_than_a_minute_at_the_end_is_told() {
    let mut acts = vec![Act::Lives(5, EndKind::Unavailable)];
    acts.extend(vec![Act::Fails(Unreachable); 100]);
    let (end, _) = played(&acts, 60).await;
    assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
    let (end, tries) = played(&acts, 600).await;
    let FeedEnd::Gone { lasted, why } = end else { panic!("{end:?}") };
    assert_eq!((lasted.as_secs(), why.as_str()), (595, "nobody there"));
    // 1, 2, 4, … seconds apart, then a minute; a quarter more or less.
    assert!((12..=20).contains(&tries.len()), "{tries:?}");
    // Streams that end at once do not count as being there.
    let mut acts = vec![Act::Lives(5, EndKind::Unavailable)];
    acts.extend(vec![Act::Lives(0, EndKind::Unavailable); 100]);
    let (_, tries) = played(&acts, 600).await;
    assert!(tries.len() <= 20, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_healthy_minute_the_waits_begin_anew() {
    let mut acts = vec![Act::Lives(1, EndKind::Ended)];
    acts.extend(vec![Act::Fails(Unreachable); 8]);
    acts.extend([Act::Lives(61, EndKind::Ended), Act::Silent]);
    let (_, tries) = played(&acts, 1200).await;
    let last = tries.len() - 1;
    assert!(tries[last] - tries[last - 1] <= 63, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again() {
    let (end, tries) = played(&[Act::Lives(5, EndKind::Refused)], 3600).await;
    assert!(matches!(end, FeedEnd::Stream(_)) && tries.is_empty(), "{end:?}");
    let (end, tries) = played(&[Act::Lives(5, EndKind::Ended), Act::Fails(Refused)], 3600).await;
    assert!(matches!(end, FeedEnd::Stream(_)) && tries.len() == 1, "{end:?}");
    let lasting = Lasting { reconnect: false, ..Lasting::default() };
    let played =
        play(&[Act::Lives(5, EndKind::Ended)], 3600, lasting, Box::new(|_, _| Answer::default())).await;
    assert!(matches!(played.end, FeedEnd::Stream(_)) && played.record.tries.is_empty());
}

/// Answers that tell of n1 as connected, up since long before the start, with a ring that reaches back to
/// second `reach`.
fn reaching(reach: i64) -> Answers {
    Box::new(move |second, question| Answer {
        nodes: Some((
            Instant::now(),
            vec![NodeVitals {
                name: NodeName::lossy("n1"),
                state: NodeState::Connected,
                uptime: Duration::from_secs(100_000 + second),
                num_flows: 4095,
                max_flows: 4095,
                seen_flows: 9_999,
            }],
        )),
        oldest: question.reach.then(|| {
            let time = start() + jiff::SignedDuration::from_secs(reach);
            [(NodeName::lossy("n1"), time)].into()
        }),
        ..Answer::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_where_it_was_and_what_comes_twice_counts_once() {
    let acts = [
        Act::Flows(vec![(20, "a"), (40, "b")], 41),
        Act::Fails(Unreachable),
        Act::Flows(vec![(40, "b"), (42, "c"), (60, "d")], 9_999),
    ];
    let played = play(&acts, 100, Lasting::default(), reaching(-50)).await;
    let [(_, since)] = played.record.opened[..] else { panic!("{:?}", played.record) };
    assert_eq!(since, Some(30), "the high-water mark, less the overlap");
    let counters = played.counters;
    assert_eq!((counters.flows(), counters.repeated, counters.reconnects), (4, 1, 1));
    let coverage = watch(&played.watch).coverage(start() + Duration::from_secs(100));
    assert!(coverage.gaps.is_empty(), "the ring reached back: {coverage:?}");
    assert_eq!((coverage.nodes.len(), coverage.least()), (1, 100.0));

    // The same, but the ring does not reach back to the end of the first stream.
    let acts = [Act::Flows(vec![(40, "b")], 41), Act::Flows(vec![(60, "d")], 9_999)];
    let played = play(&acts, 100, Lasting::default(), reaching(55)).await;
    let coverage = watch(&played.watch).coverage(start() + Duration::from_secs(100));
    let gaps: Vec<_> = coverage.gaps.iter().collect();
    let reconnect: Vec<_> = gaps.iter().filter(|g| g.reason == crate::coverage::Reason::Reconnect).collect();
    let [gap] = reconnect[..] else { panic!("{gaps:?}") };
    let second = |time: Timestamp| time.as_second() - start().as_second();
    assert_eq!((second(gap.from), second(gap.to)), (40, 55));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_answers_nothing_is_left_one_that_is_only_silent_is_not() {
    let silent = |_: u64, _: Question| Answer::default();
    let played = play(&[Act::Silent], 1_000, Lasting::default(), Box::new(silent)).await;
    assert!(matches!(played.end, FeedEnd::Stopped) && played.record.tries.is_empty());

    let dead = |second: u64, _: Question| Answer {
        dead: (100..170)
            .contains(&second)
            .then(|| StreamEnd { status: "frozen".into(), kind: EndKind::Unavailable }),
        ..Answer::default()
    };
    let played = play(&[Act::Silent, Act::Silent], 250, Lasting::default(), Box::new(dead)).await;
    // Asked each 30 s; the second failure in a row is the end.
    let [first] = played.record.tries[..] else { panic!("{:?}", played.record) };
    assert!((124..=160).contains(&first), "{:?}", played.record);
    // A flow between them is a sign of life.
    let flows = (0..30).map(|i| (90 + 4 * i, "x")).collect();
    let played = play(&[Act::Flows(flows, 9_999)], 200, Lasting::default(), Box::new(dead)).await;
    assert!(played.record.tries.is_empty(), "{:?}", played.record);
}

#[tokio::test(start_paused = true)]
async fn another_stream_takes_over_without_a_gap_and_without_counting_as_a_break() {
    let acts = [
        Act::Flows(vec![(10, "a"), (1_795, "b")], 9_999),
        Act::Flows(vec![(1_795, "b"), (1_801, "c")], 9_999),
    ];
    let played = play(&acts, 2_000, Lasting::default(), reaching(-50)).await;
    assert_eq!(played.record.opened, [(1_800, Some(1_785))]);
    let counters = played.counters;
    assert_eq!((counters.rotations, counters.reconnects, counters.repeated, counters.flows()), (1, 0, 1, 3));
    let coverage = watch(&played.watch).coverage(start() + Duration::from_secs(2_000));
    assert!(coverage.gaps.is_empty(), "{coverage:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_what_did_not_come_makes_another_stream_take_over() {
    let answers = |second: u64, question: Question| {
        let mut answer = reaching(-50)(second, question);
        for node in answer.nodes.iter_mut().flat_map(|(_, nodes)| nodes) {
            node.seen_flows = second;
        }
        // From second 70 on the node has a flow of second 65 that the stream does not bring.
        answer.first = question.since.map(|since| {
            let time = start() + Duration::from_secs(65);
            (
                since,
                if second >= 70 && since <= time {
                    [(NodeName::lossy("n1"), time)].into()
                } else {
                    FlowTimes::new()
                },
            )
        });
        answer
    };
    let acts = [Act::Flows(vec![(10, "a")], 9_999), Act::Flows(vec![(65, "b")], 9_999)];
    let played = play(&acts, 300, Lasting::default(), Box::new(answers)).await;
    let [(second, since)] = played.record.opened[..] else { panic!("{:?}", played.record) };
    assert!((70..=130).contains(&second) && since == Some(0), "{:?}", played.record);
    assert_eq!((played.counters.rotations, played.counters.flows()), (1, 2));
    let coverage = watch(&played.watch).coverage(start() + Duration::from_secs(300));
    assert!(coverage.gaps.is_empty(), "the ring gave everything: {coverage:?}");
}
