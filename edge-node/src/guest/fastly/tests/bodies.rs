//! Bodies that the guest writes and reads.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::script::{
    Arg::{At, N, T, To},
    Memory, Out, Script,
};
use crate::{
    exchange::{Exchange, Responder},
    front::InboundBody,
    guest::fastly::{FastlyState, abi::Status, body::HeldBody},
    host::{
        Host,
        held::{FREE_BYTES, GRANT_BYTES, NAME_BYTES, VALUE_BYTES},
    },
    limits::Limit,
    memory::Budget,
    testing,
};

const NEW: &str = "fastly_http_body.new";
const READ: &str = "fastly_http_body.read";
const APPEND: &str = "fastly_http_body.append";
const BACK: u32 = 0;
const FRONT: u32 = 1;

fn write(guest: &mut Script, body: Out, text: &str, end: u32) -> Out {
    guest.gives("fastly_http_body.write", vec![At(body), T(text), N(end)])
}

fn client_body(guest: &mut Script) -> Out {
    let (request, body) = (guest.out(4), guest.out(4));
    guest.call("fastly_http_req.body_downstream_get", &[To(request), To(body)]);
    body
}

fn post(text: &'static str) -> Request<InboundBody> {
    let request = Request::post("/").header("host", "test.localhost");
    request.body(InboundBody::Full(Bytes::from_static(text.as_bytes()))).unwrap()
}

pub fn a_body_is_written_joined_and_read() {
    let mut guest = Script::new();
    let client = client_body(&mut guest);
    let body = guest.gives(NEW, vec![]);
    let written = write(&mut guest, body, "middle ", BACK);
    write(&mut guest, body, "begin ", FRONT);
    guest.call(APPEND, &[At(body), At(client)]);
    guest.answers(Status::BadHandle, APPEND, &[At(body), At(client)]);
    let length = guest.out(8);
    guest.call("fastly_http_body.known_length", &[At(body), To(length)]);
    let (text, read, rest, more, end) =
        (guest.out(32), guest.out(4), guest.out(32), guest.out(4), guest.out(4));
    guest.call(READ, &[At(body), To(text), N(13), To(read)]);
    guest.call(READ, &[At(body), To(rest), N(32), To(more)]);
    guest.call(READ, &[At(body), To(rest), N(32), To(end)]);
    guest.call("fastly_http_body.close", &[At(body)]);
    let memory = guest.run_in(testing::exchange(super::config()), post("end"));
    assert_eq!((memory.u32(written), memory.u64(length)), (7, 16));
    assert_eq!(memory.text(text, read), "begin middle ");
    assert_eq!(memory.text(rest, more), "end");
    assert_eq!(memory.u32(end), 0);
}

pub fn trailers_are_there_when_the_body_was_read() {
    let mut guest = Script::new();
    let client = client_body(&mut guest);
    let (names, next, written) = (guest.out(32), guest.out(8), guest.out(4));
    let list = [At(client), To(names), N(32), N(0), To(next), To(written)];
    guest.answers(Status::Again, "fastly_http_body.trailer_names_get", &list);
    let body = guest.gives(NEW, vec![]);
    for value in ["1", "2"] {
        guest.call("fastly_http_body.trailer_append", &[At(body), T("x-sum"), T(value)]);
    }
    let list = [At(body), To(names), N(32), N(0), To(next), To(written)];
    guest.call("fastly_http_body.trailer_names_get", &list);
    let (value, length) = (guest.out(8), guest.out(4));
    guest.call("fastly_http_body.trailer_value_get", &[At(body), T("x-sum"), To(value), N(8), To(length)]);
    let (values, values_length) = (guest.out(8), guest.out(4));
    let list = [At(body), T("x-sum"), To(values), N(8), N(0), To(next), To(values_length)];
    guest.call("fastly_http_body.trailer_values_get", &list);
    let memory = guest.run_in(testing::exchange(super::config()), post("unread"));
    assert_eq!(memory.text(names, written), "x-sum\0");
    assert_eq!(memory.text(value, length), "1");
    assert_eq!(memory.bytes(values, memory.u32(values_length)), b"1\x002\x00");
}

pub fn a_wrong_use_of_a_body_is_refused() {
    let mut guest = Script::new();
    let body = guest.gives(NEW, vec![]);
    let out = guest.out(8);
    let write = "fastly_http_body.write";
    guest.answers(Status::Invalid, write, &[At(body), T("x"), N(2), To(out)]);
    guest.answers(Status::Invalid, write, &[At(body), N(u32::MAX), N(8), N(BACK), To(out)]);
    guest.answers(Status::Misaligned, write, &[At(body), T("x"), N(BACK), N(out.0 + 1)]);
    guest.answers(Status::BadHandle, write, &[N(u32::MAX), T("x"), N(BACK), To(out)]);
    guest.answers(Status::BadHandle, APPEND, &[At(body), At(body)]);
    guest.answers(Status::Invalid, READ, &[At(body), To(out), N(u32::MAX), To(out)]);
    guest.call("fastly_http_body.abandon", &[At(body)]);
    guest.answers(Status::BadHandle, "fastly_http_body.close", &[At(body)]);
    guest.run();
}

pub fn what_the_host_holds_is_bounded() {
    let mut guest = Script::new();
    let body = guest.gives(NEW, vec![]);
    let written = guest.out(4);
    // 256 KiB of memory, 256 times over, the last less by what all pieces cost: 64 MiB.
    let piece = HeldBody::cost_front(1) as u32 - 1;
    for length in [256 << 10; 255].into_iter().chain([(256 << 10) - 256 * piece]) {
        guest.call("fastly_http_body.write", &[At(body), N(0), N(length), N(BACK), To(written)]);
    }
    let one_more = [At(body), N(0), N(1), N(BACK), To(written)];
    guest.answers(Status::LimitExceeded, "fastly_http_body.write", &one_more);
    let secret = guest.out(4);
    guest.answers(Status::LimitExceeded, "fastly_secret_store.from_bytes", &[T("x"), To(secret)]);
    guest.run();
}

/// Runs a script on a node without memory: the host may hold 64 KiB for it.
fn on_a_full_node(guest: &Script) -> Memory {
    let host = Arc::new(Host { memory: Budget::new(0, 0).unwrap(), ..testing::bare_host() });
    let deployment = Arc::new(testing::deployment("test", 1, super::config()));
    guest.run_in(Exchange::begin(deployment, testing::connection(), host), super::get("/"))
}

/// Does a call up to 2,000 times, until it answers that the limit is met; how often it was done.
fn until_refused(guest: &mut Script, call: &str) -> Out {
    let count = guest.out(4);
    guest.then(&format!(
        "(block $refused (loop $more
            (local.set $status (call {call}))
            (br_if $refused (i32.eq (local.get $status) (i32.const {})))
            (if (local.get $status) (then unreachable))
            (i32.store (i32.const {at}) (i32.add (i32.load (i32.const {at})) (i32.const 1)))
            (br_if $more (i32.lt_u (i32.load (i32.const {at})) (i32.const 2000)))))",
        Status::LimitExceeded as i32,
        at = count.0,
    ));
    count
}

pub fn every_piece_and_field_costs_what_it_takes() {
    let mut guest = Script::new();
    let (body, response, written) =
        (guest.gives(NEW, vec![]), guest.gives("fastly_http_resp.new", vec![]), guest.out(4));
    let text = guest.text("x");
    write(&mut guest, body, "", FRONT); // imports it
    let write = |length: u32, end: u32| {
        format!(
            "$fastly_http_body.write (i32.load (i32.const {})) (i32.const {}) (i32.const {length})
             (i32.const {end}) (i32.const {})",
            body.0, text.0, written.0
        )
    };
    let empty = [FRONT, BACK].map(|end| until_refused(&mut guest, &write(0, end)));
    guest.call("fastly_http_resp.header_insert", &[At(response), T("x"), T("")]);
    let insert = format!(
        "$fastly_http_resp.header_insert (i32.load (i32.const {})) (i32.const {text}) (i32.const 1)
         (i32.const {text}) (i32.const 0)",
        response.0,
        text = text.0
    );
    let fields = until_refused(&mut guest, &insert);
    let pieces = until_refused(&mut guest, &write(1, FRONT));
    let memory = on_a_full_node(&guest);
    assert_eq!(empty.map(|count| memory.u32(count)), [2_000; 2], "they cost nothing");
    let field = NAME_BYTES + VALUE_BYTES + 1;
    assert_eq!(memory.u32(fields) as usize, FREE_BYTES / field - 1);
    let left = FREE_BYTES % field;
    assert_eq!(memory.u32(pieces) as usize, left / HeldBody::cost_front(1));
}

#[test]
fn what_the_host_holds_is_the_nodes_memory_too() {
    let budget = Budget::new(2 * GRANT_BYTES as u64, 0).unwrap();
    let host = Arc::new(Host { memory: budget.clone(), ..testing::bare_host() });
    let deployment = Arc::new(testing::deployment("test", 1, super::config()));
    let exchange = Exchange::begin(deployment, testing::connection(), host);
    let mut state = FastlyState::new(exchange, super::get("/"), Responder::new().0).unwrap();
    state.hold(GRANT_BYTES).unwrap();
    assert_eq!(state.hold(2 * GRANT_BYTES), Err(Status::LimitExceeded));
    assert!(state.exchange.bill.limits_met().has(Limit::NodeMemory));
    state.hold(GRANT_BYTES).unwrap();
    assert_eq!(budget.bytes() as usize, 2 * GRANT_BYTES - FREE_BYTES);
    drop(state);
    assert_eq!(budget.bytes(), 0, "it comes back");
}
