//! The models: who does what at the same time, over which line, within which bounds.

use crate::config::{QueueSettings, WhenFull};
use crate::kernel::{Line, Peer};
use crate::redial::{self, Loss, Touch};
use crate::scenario::{Last, MESSAGE, Script, Step};
use Step::{Acknowledge, Close, Cut, Decrypt, Deliver, LetGo, Open, Ping, Pong, Reply, Tick};

/// A named set of scripts.
pub struct Model {
    pub name: &'static str,
    scripts: Scripts,
}

enum Scripts {
    /// Of a client.
    Client(Vec<Script>),
    /// Of a connection that is dialled, lost and replaced.
    Redial(Vec<redial::Script>),
}

impl Model {
    /// How many executions all its scripts have.
    pub fn explore(self) -> u64 {
        match self.scripts {
            Scripts::Client(scripts) => scripts.into_iter().map(Script::explore).sum(),
            Scripts::Redial(scripts) => scripts.into_iter().map(redial::Script::explore).sum(),
        }
    }
}

/// A line that takes whatever comes.
const WIDE: Line = Line {
    capacity: 1 << 16,
    most_a_call: usize::MAX,
    writable_from: 1,
    peer: Peer::Reads(1 << 16),
    refuses_watch: false,
    breaks_after: None,
};

/// One that takes part of a frame and then nothing until its peer, asked for, has read part of that.
const NARROW: Line = Line { capacity: 27, peer: Peer::Reads(25), ..WIDE };

/// One on which every frame takes several calls, though there is room.
const SIPPING: Line = Line { most_a_call: 13, ..WIDE };

/// Room for everything that a model offers.
const AMPLE: QueueSettings = QueueSettings { messages: 64, bytes: 4096, when_full: WhenFull::Disconnect };

/// Only so many messages.
const fn tight(messages: usize, when_full: WhenFull) -> QueueSettings {
    QueueSettings { messages, when_full, ..AMPLE }
}

/// Only the bytes of so many messages.
const fn tight_bytes(messages: usize, when_full: WhenFull) -> QueueSettings {
    QueueSettings { bytes: messages * MESSAGE + 2, when_full, ..AMPLE }
}

const POLICIES: [WhenFull; 3] = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Disconnect];

fn script(line: Line, bounds: QueueSettings, own: &[Step], others: &[&[Step]], last: Last) -> Script {
    let others = others.iter().map(|steps| steps.to_vec()).collect();
    Script { line, bounds, tls: false, own: own.to_vec(), others, flusher: true, last, preemptions: None }
}

impl Script {
    fn within(mut self, preemptions: usize) -> Script {
        self.preemptions = Some(preemptions);
        self
    }

    /// Without the flusher: nothing stalls in it.
    fn alone(mut self) -> Script {
        self.flusher = false;
        self
    }

    fn over_tls(mut self) -> Script {
        self.tls = true;
        self
    }
}

/// Connections that are lost, and one behind them that is not.
fn redial(losses: &[(Line, Loss)], bounds: QueueSettings, sends: &[u8], touches: &[Touch]) -> redial::Script {
    let (losses, sends, touches) = (losses.to_vec(), sends.to_vec(), touches.to_vec());
    redial::Script { losses, last: Some(NARROW), bounds, tls: false, sends, touches, preemptions: None }
}

impl redial::Script {
    fn within(mut self, preemptions: usize) -> redial::Script {
        self.preemptions = Some(preemptions);
        self
    }

    /// The last that is lost is not replaced.
    fn for_good(mut self) -> redial::Script {
        self.last = None;
        self
    }

    fn over_tls(mut self) -> redial::Script {
        self.tls = true;
        self
    }
}

/// All of them.
pub fn all() -> Vec<Model> {
    let one: &[&[Step]] = &[&[Deliver(1), Deliver(1)]];
    let two: &[&[Step]] = &[&[Deliver(1), Deliver(1)], &[Deliver(1)]];
    let lines = [WIDE, NARROW, SIPPING];
    let stalled = Line { peer: Peer::Stalled, ..NARROW };
    let read = Line { peer: Peer::Thread, ..NARROW };
    let refused = Line { refuses_watch: true, ..NARROW };
    let broken = |bytes| Line { breaks_after: Some(bytes), ..NARROW };
    let models = |name, scripts: Vec<Script>| Model { name, scripts: Scripts::Client(scripts) };
    let redials = |name, scripts: Vec<redial::Script>| Model { name, scripts: Scripts::Redial(scripts) };
    let one_at_a_time = tight(1, WhenFull::DropNewest);
    vec![
        models(
            "two at a time, in every interleaving there is",
            vec![
                script(WIDE, AMPLE, &[], &[&[Deliver(1)], &[Deliver(1)]], Last::CloseBehindAll).alone(),
                script(WIDE, AMPLE, &[], &[&[Deliver(1)]], Last::Close).alone(),
                script(WIDE, AMPLE, &[Pong], &[&[Deliver(1)]], Last::Finish).alone(),
                script(WIDE, AMPLE, &[], &[&[Deliver(1)], &[Cut]], Last::Finish).alone(),
                script(WIDE, AMPLE, &[], &[&[Deliver(1)], &[Close(1008)]], Last::Close).alone(),
                script(NARROW, AMPLE, &[Reply, Reply], &[], Last::Finish),
                script(NARROW, tight(1, WhenFull::DropOldest), &[Reply, Reply], &[], Last::Close),
            ],
        ),
        models(
            "two deliverers and the flusher",
            lines.map(|line| script(line, AMPLE, &[], two, Last::CloseBehindAll).within(3)).into(),
        ),
        models(
            "two deliverers at the bounds, every policy",
            POLICIES
                .iter()
                .flat_map(|policy| [tight(2, *policy), tight_bytes(2, *policy)])
                .map(|bounds| {
                    let others: &[&[Step]] = &[&[Deliver(1), Deliver(1), Deliver(1)], &[Deliver(2)]];
                    script(NARROW, bounds, &[], others, Last::CloseBehindAll).within(2)
                })
                .collect(),
        ),
        models(
            "a deliverer, the client's replies, and a peer that reads when it likes",
            [1, 2]
                .map(|room| {
                    let bounds = tight(room, WhenFull::DropOldest);
                    script(read, bounds, &[Reply, Reply], &[&[Deliver(1)]], Last::Close).within(room)
                })
                .into(),
        ),
        models(
            "a deliverer, the client's replies, and a peer that stalls",
            POLICIES.map(|policy| script(NARROW, tight(1, policy), &[Reply, Reply], one, Last::Close).within(3)).into(),
        ),
        models(
            "deliverers and two that close",
            lines
                .map(|line| {
                    script(line, AMPLE, &[], &[&[Deliver(1), Deliver(1)], &[Close(1008)]], Last::Close).within(3)
                })
                .into(),
        ),
        models(
            "a deliverer and a cut, while a reply waits",
            [stalled, NARROW, WIDE]
                .map(|line| {
                    script(
                        line,
                        tight(1, WhenFull::DropOldest),
                        &[Reply, Reply],
                        &[&[Deliver(1)], &[Cut]],
                        Last::Finish,
                    )
                    .within(2)
                })
                .into(),
        ),
        models(
            "a Close, while a reply waits",
            [stalled, NARROW]
                .map(|line| {
                    let bounds = tight(1, WhenFull::DropOldest);
                    // The line holds one, half of the second waits, and the third has no room.
                    script(line, bounds, &[Reply, Reply, Reply], &[&[Close(1008)]], Last::CloseUntilTick).within(1)
                })
                .into(),
        ),
        models(
            "a deliverer and a cut, while the Close waits",
            [stalled, NARROW]
                .map(|line| script(line, AMPLE, &[], &[&[Deliver(1)], &[Cut]], Last::Close).within(2))
                .into(),
        ),
        models(
            "a client that ends while others deliver",
            [stalled, NARROW, SIPPING, WIDE].map(|line| script(line, AMPLE, &[], two, Last::Finish).within(3)).into(),
        ),
        models(
            "pongs, pings and messages in parts",
            [NARROW, SIPPING]
                .map(|line| {
                    script(line, AMPLE, &[Pong, Pong], &[&[Deliver(1), Deliver(1)], &[Ping]], Last::Close).within(2)
                })
                .into(),
        ),
        models(
            "acknowledgements beside a pong and messages in parts",
            [NARROW, SIPPING]
                .map(|line| {
                    let others: &[&[_]] = &[&[Deliver(1), Deliver(1)], &[Acknowledge(1), Acknowledge(2)]];
                    script(line, AMPLE, &[Pong], others, Last::CloseBehindAll).within(2)
                })
                .into(),
        ),
        models(
            "acknowledgements and a Close, plain and over TLS",
            lines
                .into_iter()
                .flat_map(|line| {
                    let others: &[&[_]] = &[&[Acknowledge(1), Acknowledge(2)], &[Deliver(1)]];
                    let script = script(line, AMPLE, &[], others, Last::Close).within(2);
                    [script.clone(), script.over_tls()]
                })
                .collect(),
        ),
        models(
            "over TLS, a session that speaks",
            lines.map(|line| script(line, AMPLE, &[Decrypt, Reply], one, Last::Close).within(3).over_tls()).into(),
        ),
        models(
            "a peer that has ended its direction",
            lines.map(|line| script(line, AMPLE, &[Reply, LetGo], one, Last::Close).within(2)).into(),
        ),
        models(
            "over TLS, a session that speaks after the Close",
            lines
                .map(|line| {
                    script(line, AMPLE, &[Close(1000), Decrypt], &[&[Deliver(1)]], Last::Close).within(3).over_tls()
                })
                .into(),
        ),
        models(
            "over TLS at the bounds, every policy",
            POLICIES
                .map(|policy| script(NARROW, tight(2, policy), &[Pong, Reply], two, Last::Close).within(2).over_tls())
                .into(),
        ),
        models(
            "over TLS, a cut",
            [stalled, NARROW]
                .map(|line| {
                    script(line, AMPLE, &[Decrypt, Reply], &[&[Deliver(1)], &[Cut]], Last::Finish).within(2).over_tls()
                })
                .into(),
        ),
        models(
            "the heartbeat and a socket that takes nothing",
            [stalled, NARROW]
                .map(|line| {
                    script(line, tight(1, WhenFull::DropNewest), &[Reply], &[&[Deliver(1)], &[Tick]], Last::Finish)
                        .within(3)
                })
                .into(),
        ),
        models(
            "only the heartbeat ends the wait for a Close",
            [stalled, NARROW].map(|line| script(line, AMPLE, &[], one, Last::CloseUntilTick).within(3)).into(),
        ),
        models(
            "the opening, while the room delivers",
            lines.map(|line| script(line, AMPLE, &[Open], one, Last::Close).within(3)).into(),
        ),
        models(
            "a line that breaks",
            [5, 20, 30]
                .map(|bytes| {
                    script(broken(bytes), tight(1, WhenFull::DropOldest), &[Reply, Reply, Reply], one, Last::Close)
                        .within(3)
                })
                .into(),
        ),
        models(
            "a system that refuses to watch the socket",
            vec![script(refused, tight(1, WhenFull::DropOldest), &[Reply, Reply, Reply], one, Last::Close).within(3)],
        ),
        redials(
            "a sender, while its connection is replaced",
            [WIDE, NARROW, SIPPING, stalled]
                .map(|line| redial(&[(line, Loss::Broken)], AMPLE, &[1, 1], &[]).within(2))
                .into(),
        ),
        redials(
            "a sender that waits for room, while its connection is replaced",
            // The third waits for room while the flusher writes the second.
            vec![redial(&[(NARROW, Loss::Broken)], one_at_a_time, &[1, 1, 1], &[]).within(3)],
        ),
        redials(
            "joined messages of which some are out when the connection is lost",
            [NARROW, SIPPING, stalled]
                .map(|line| redial(&[(line, Loss::Broken)], AMPLE, &[3, 1], &[]).within(2))
                .into(),
        ),
        redials(
            "two connections that are lost",
            [(stalled, NARROW), (SIPPING, stalled)]
                .map(|(first, second)| {
                    redial(&[(first, Loss::Broken), (second, Loss::Broken)], one_at_a_time, &[1, 1, 1], &[]).within(2)
                })
                .into(),
        ),
        redials(
            "a line that breaks under a sender",
            [5, 9, 20, 30]
                .map(|bytes| redial(&[(broken(bytes), Loss::Cut)], one_at_a_time, &[1, 1, 1], &[]).within(2))
                .into(),
        ),
        redials(
            "a sender and a cut",
            [stalled, NARROW]
                .map(|line| redial(&[(line, Loss::Cut)], one_at_a_time, &[1, 1, 1], &[Touch::Cut]).within(1))
                .into(),
        ),
        redials(
            "a sender, while the server closes",
            [Loss::Closed, Loss::HungUp]
                .into_iter()
                .flat_map(|loss| [NARROW, SIPPING].map(|line| (line, loss)))
                .map(|lost| redial(&[lost], one_at_a_time, &[1, 1], &[]).within(2))
                .collect(),
        ),
        redials(
            "pings and texts, which are not sent again",
            [NARROW, SIPPING]
                .map(|line| {
                    redial(&[(line, Loss::Broken)], one_at_a_time, &[1, 1], &[Touch::Text, Touch::Ping]).within(1)
                })
                .into(),
        ),
        redials(
            "a connection that is replaced, while all of it ends",
            [NARROW, WIDE]
                .map(|line| redial(&[(line, Loss::Broken)], one_at_a_time, &[1, 1], &[Touch::End]).within(2))
                .into(),
        ),
        redials(
            "a connection that is lost for good, under its sender",
            [NARROW, WIDE, stalled]
                .map(|line| redial(&[(line, Loss::Broken)], one_at_a_time, &[1, 1, 1], &[]).within(2).for_good())
                .into(),
        ),
        redials(
            "over TLS, a connection that is replaced",
            [NARROW, SIPPING, stalled]
                .map(|line| redial(&[(line, Loss::Broken)], AMPLE, &[2, 1], &[]).within(2).over_tls())
                .into(),
        ),
    ]
}
