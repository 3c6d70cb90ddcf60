//! A fleet in a loop, from a seed: one log, several nodes, and a network that loses, repeats, reorders and cuts. Every node
//! must end on the log's chain, and no node may ever go back. On a failure the seed is in the message; run it again with
//! `SKERRY_SIM_SEED=<seed> cargo test -p fleet-sync-proto --test simulation`.

use std::collections::{BTreeMap, VecDeque};

use artifact::{
    keys::{Release, SecretKey, Trusted},
    record::{Body, RawRecord, Record, Rev},
};
use fleet_sync_proto::{
    FleetView, Hello, Position, ToNode, ToOrigin,
    follower::{self, Batch, Follower, Identity},
    logs::{Follow, Followed},
    publisher::{self, Publisher, follow},
};

const SEEDS: u64 = 300;
const NODES: usize = 3;
const RECORDS: Rev = 120;
const STEP_MS: u64 = 50;
/// Virtual time in which a fleet must converge after the network has healed: two slowest delays and some heartbeats.
const HEALED_MS: u64 = 400_000;
/// Steps of a healed network in which a node at least hears a heartbeat.
const SILENCE_STEPS: usize = 60;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// One direction of a bad network.
struct Pipe<T> {
    queued: VecDeque<T>,
}

impl<T: Clone> Pipe<T> {
    fn push(&mut self, random: &mut Random, bad: bool, message: T) {
        if bad && random.one_in(12) {
            return; // lost
        }
        if bad && random.one_in(12) {
            self.queued.push_back(message.clone()); // repeated
        }
        self.queued.push_back(message);
        if bad && random.one_in(8) && self.queued.len() > 1 {
            let last = self.queued.len() - 1;
            self.queued.swap(last, last - 1); // reordered
        }
    }
}

struct Node {
    follower: Follower,
    publisher: Option<Publisher>,
    up: Pipe<ToOrigin>,
    down: Pipe<ToNode>,
    applying: VecDeque<Batch>,
    /// What a disk would hold.
    view: FleetView,
    highest: Option<artifact::checkpoint::Checkpoint>,
    dialling: bool,
    is_followed: bool,
    lines_taken: u64,
}

struct World {
    random: Random,
    now_ms: u64,
    bad: bool,
    log: Vec<RawRecord>,
    /// Position after each prefix of the log.
    positions: Vec<Position>,
    key: SecretKey<Release>,
    epoch: u64,
    nodes: Vec<Node>,
}

#[test]
fn every_seed_converges_without_going_back() {
    let seeds = match std::env::var("SKERRY_SIM_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 1..SEEDS + 1,
    };
    for seed in seeds {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    while (world.log.len() as Rev) < RECORDS {
        if world.random.one_in(6) {
            world.publish();
        }
        world.step();
    }
    world.bad = false;
    let deadline = world.now_ms + HEALED_MS;
    while !world.converged() {
        assert!(world.now_ms < deadline, "seed {seed}: not converged: {:?}", world.revs());
        world.step();
    }
    let before: Vec<u64> = world.nodes.iter().map(|node| node.lines_taken).collect();
    (0..4 * SILENCE_STEPS).for_each(|_| world.step());
    let told = |(node, before): (&Node, u64)| node.lines_taken > before;
    assert!(world.nodes.iter().zip(before).all(told), "seed {seed}: a node tells no lines any more");
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now_ms: 1_000,
            bad: true,
            log: Vec::new(),
            positions: vec![Position::START],
            key: SecretKey::from_seed([1; 32]),
            epoch: 1,
            nodes: Vec::new(),
        };
        for number in 0..NODES {
            let view = FleetView::new();
            let follower = world.boot(number, &view, None);
            let (up, down) = (Pipe { queued: VecDeque::new() }, Pipe { queued: VecDeque::new() });
            let applying = VecDeque::new();
            world.nodes.push(Node {
                follower,
                publisher: None,
                up,
                down,
                applying,
                view,
                highest: None,
                dialling: false,
                is_followed: false,
                lines_taken: 0,
            });
        }
        world
    }

    fn boot(
        &self,
        number: usize,
        view: &FleetView,
        highest: Option<artifact::checkpoint::Checkpoint>,
    ) -> Follower {
        let hello = Hello {
            protocol: 1,
            node: format!("sim-{number}").parse().unwrap(),
            pop: "sim".parse().unwrap(),
            position: Position::START,
            targets: vec![],
            serving: None,
            software: String::new(),
        };
        let trusted = Trusted::new([self.key.public()]);
        Follower::new(self.now_ms, Identity { hello, trusted }, view.position(), highest)
    }

    fn head(&self) -> Position {
        self.positions[self.log.len()]
    }

    fn publish(&mut self) {
        if self.random.one_in(40) {
            self.epoch += 1; // the control plane restarted
            for node in &mut self.nodes {
                node.hang_up(&mut self.random, self.now_ms);
            }
        }
        let rev = self.log.len() as Rev + 1;
        let body = Body::EpochStart { base_rev: rev - 1, compiler_keys: vec![] };
        let (epoch, time_ms) = (self.epoch, self.now_ms);
        let record =
            Record { rev, epoch, time_ms, actor: "sim".into(), request: None, critical: false, body };
        let raw = RawRecord::encode(&record).unwrap();
        self.positions.push(follow(self.head(), std::slice::from_ref(&raw)).unwrap());
        self.log.push(raw);
        let head = self.head();
        for number in 0..self.nodes.len() {
            self.publisher_handles(number, publisher::Input::Head(head));
        }
    }

    /// One step of everything.
    fn step(&mut self) {
        self.now_ms += if self.bad { STEP_MS } else { 500 };
        for number in 0..self.nodes.len() {
            if self.bad && self.random.one_in(300) {
                self.nodes[number].hang_up(&mut self.random, self.now_ms);
            }
            if self.bad && self.random.one_in(400) {
                self.kill(number);
            }
            if std::mem::take(&mut self.nodes[number].dialling) {
                self.dial(number);
            }
            self.publisher_handles(number, publisher::Input::Tick);
            self.follower_handles(number, follower::Input::Tick);
            // Somebody listens all the time, and every node has always something to tell.
            if self.nodes[number].is_followed {
                self.follower_handles(number, follower::Input::Logs(Vec::new()));
            }
            for _ in 0..3 {
                if let Some(message) = self.nodes[number].up.queued.pop_front() {
                    self.publisher_handles(number, publisher::Input::Message(message));
                }
                if let Some(message) = self.nodes[number].down.queued.pop_front() {
                    self.follower_handles(number, follower::Input::Message(message));
                }
            }
            if !self.random.one_in(3) {
                self.apply(number);
            }
        }
    }

    fn dial(&mut self, number: usize) {
        if self.bad && self.random.one_in(4) {
            return self.nodes[number].hang_up(&mut self.random, self.now_ms);
        }
        self.nodes[number].publisher = Some(Publisher::new(self.now_ms, self.head()));
        let id = artifact::AppId { tenant: "sim".parse().unwrap(), app: "sim".parse().unwrap() };
        let follow = Follow { apps: vec![Followed { id, asked: 1 }] };
        self.publisher_handles(number, publisher::Input::Follow(follow));
        self.follower_handles(number, follower::Input::Connected);
    }

    /// kill -9: everything that is not durable is gone.
    fn kill(&mut self, number: usize) {
        let (view, highest) = (self.nodes[number].view.clone(), self.nodes[number].highest);
        let follower = self.boot(number, &view, highest);
        let node = &mut self.nodes[number];
        node.follower = follower;
        node.applying.clear();
        node.drop_stream();
    }

    fn apply(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(batch) = node.applying.pop_front() else { return };
        let before = node.view.position();
        for raw in &batch.records {
            node.view.apply(raw).expect("a proven batch applies");
        }
        let after = node.view.position();
        assert_eq!(after, batch.end);
        assert!((after.epoch, after.rev) > (before.epoch, before.rev), "went back: {before:?} to {after:?}");
        assert_eq!(after, self.positions[after.rev as usize], "applied something that is not the log");
        self.follower_handles(number, follower::Input::Applied { position: after, failed: BTreeMap::new() });
    }

    fn follower_handles(&mut self, number: usize, input: follower::Input) {
        for output in self.nodes[number].follower.handle(self.now_ms, input) {
            let (node, random) = (&mut self.nodes[number], &mut self.random);
            match output {
                follower::Output::Connect => node.dialling = true,
                follower::Output::Disconnect => node.hang_up(random, self.now_ms),
                follower::Output::Send(message) if node.publisher.is_some() => {
                    node.up.push(random, self.bad, message)
                }
                follower::Output::Send(_) => {}
                follower::Output::Apply(batch) => node.applying.push_back(batch),
                follower::Output::Highest(checkpoint) => node.highest = Some(checkpoint),
                follower::Output::Alarm(_) => {}
                follower::Output::Follow(_) => node.is_followed = true,
                follower::Output::LogsTaken => node.lines_taken += 1,
                follower::Output::Inspect(_) => {}
            }
        }
    }

    fn publisher_handles(&mut self, number: usize, input: publisher::Input) {
        let Some(mut publisher) = self.nodes[number].publisher.take() else { return };
        let mut todo = VecDeque::from(publisher.handle(self.now_ms, input));
        let mut cut = false;
        while let Some(output) = todo.pop_front() {
            let message = match output {
                publisher::Output::Read { after } => {
                    let answer = self.read(after);
                    todo.extend(publisher.handle(self.now_ms, answer));
                    continue;
                }
                publisher::Output::Batch { records, checkpoint } => {
                    ToNode::Batch { records, checkpoint: checkpoint.sign(&self.key) }
                }
                publisher::Output::Heartbeat(checkpoint) => {
                    ToNode::Heartbeat { checkpoint: checkpoint.sign(&self.key) }
                }
                publisher::Output::Reset { .. } => panic!("a node of this log was told to reset"),
                publisher::Output::Cut(_) => {
                    cut = true;
                    continue;
                }
                publisher::Output::Told(logs) => {
                    todo.extend(publisher.handle(self.now_ms, publisher::Input::LogsTaken));
                    ToNode::LogsTaken { number: logs.number }
                }
                publisher::Output::Follow(follow) => ToNode::Follow(follow),
                publisher::Output::Inspect(inspect) => ToNode::Inspect(inspect),
                publisher::Output::Identified(_)
                | publisher::Output::Inspected(_)
                | publisher::Output::Acked(_)
                | publisher::Output::Reported(_) => continue,
            };
            self.nodes[number].down.push(&mut self.random, self.bad, message);
        }
        match cut {
            true => self.nodes[number].hang_up(&mut self.random, self.now_ms),
            false => self.nodes[number].publisher = Some(publisher),
        }
    }

    fn read(&mut self, after: Rev) -> publisher::Input {
        let chain = self.positions.get(after as usize).map(|position| position.chain);
        let most = 1 + (self.random.next() % 9) as usize;
        let records = self.log.iter().skip(after as usize).take(most).cloned().collect();
        publisher::Input::Records { after, chain, records }
    }

    fn converged(&self) -> bool {
        let head = self.head();
        self.nodes.iter().all(|node| node.view.position() == head)
    }

    fn revs(&self) -> Vec<Rev> {
        self.nodes.iter().map(|node| node.view.rev).collect()
    }
}

impl Node {
    fn hang_up(&mut self, random: &mut Random, now_ms: u64) {
        self.drop_stream();
        let outputs = self.follower.handle(now_ms, follower::Input::Disconnected { random: random.next() });
        assert_eq!(outputs, []);
    }

    fn drop_stream(&mut self) {
        self.publisher = None;
        self.dialling = false;
        self.up.queued.clear();
        self.down.queued.clear();
    }
}
