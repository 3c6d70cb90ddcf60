//! Requests that guests send, over real sockets to a backend on loopback.

use std::time::Duration;

use http::Request;

use super::{
    get,
    origin::Origin,
    run_in,
    script::{
        Arg::{self, At, N, T, To},
        Memory, Out, Script,
    },
};
use crate::{
    failure::Failure,
    front::{BodyError, InboundBody},
    guest::fastly::abi::Status,
    host::{
        door::{Door, Event, Source},
        tape::Tape,
    },
    testing::{self, ask_in, local},
};

const REQ: &str = "fastly_http_req";
const INVALID: u32 = u32::MAX - 1;
/// What is set in an error's struct for a guest that knows all of it.
const ALL_DETAILS: u32 = 0b1_1111;

/// A request for a path of the origin.
fn request(guest: &mut Script, method: &str, path: &str) -> Out {
    let request = guest.gives("fastly_http_req.new", vec![]);
    guest.call("fastly_http_req.method_set", &[At(request), T(method)]);
    guest.call("fastly_http_req.uri_set", &[At(request), T(&format!("http://app.example{path}"))]);
    request
}

fn body(guest: &mut Script, text: &str) -> Out {
    let body = guest.gives("fastly_http_body.new", vec![]);
    write(guest, body, text);
    body
}

fn write(guest: &mut Script, body: Out, text: &str) {
    guest.gives("fastly_http_body.write", vec![At(body), T(text), N(0)]);
}

/// The struct of an error, 20 bytes.
fn detail(guest: &mut Script) -> Out {
    guest.fields(&[0, ALL_DETAILS, 0, 0, 0])
}

/// Where a response's handles are.
#[derive(Clone, Copy)]
struct Response {
    head: Out,
    body: Out,
}

fn response(guest: &mut Script) -> Response {
    Response { head: guest.out(4), body: guest.out(4) }
}

/// Starts a request without waiting for it.
fn send_async(guest: &mut Script, method: &str, path: &str, text: &str) -> Out {
    let (request, body) = (request(guest, method, path), body(guest, text));
    guest.gives("fastly_http_req.send_async", vec![At(request), At(body), T("origin")])
}

/// What is read of a response.
struct Read {
    status: Out,
    text: (Out, Out),
    method: (Out, Out),
    host: (Out, Out),
}

impl Read {
    fn all(guest: &mut Script, response: Response) -> Read {
        let status = guest.gives("fastly_http_resp.status_get", vec![At(response.head)]);
        let mut header = |name| {
            let (value, length) = (guest.out(64), guest.out(4));
            let arguments = [At(response.head), T(name), To(value), N(64), To(length)];
            guest.call("fastly_http_resp.header_value_get", &arguments);
            (value, length)
        };
        let (method, host) = (header("x-method"), header("x-host"));
        let text = read_body(guest, response.body);
        Read { status, text, method, host }
    }

    fn seen<'a>(&self, memory: &'a Memory) -> (u32, &'a str, &'a str, &'a str) {
        let text = |(at, length)| memory.text(at, length);
        (memory.u32(self.status) & 0xffff, text(self.text), text(self.method), text(self.host))
    }
}

fn read_body(guest: &mut Script, body: Out) -> (Out, Out) {
    let (text, length, end) = (guest.out(64), guest.out(4), guest.out(4));
    guest.call("fastly_http_body.read", &[At(body), To(text), N(64), To(length)]);
    let after = guest.out(8);
    guest.call("fastly_http_body.read", &[At(body), To(after), N(8), To(end)]);
    (text, length)
}

const GREETING: &str = "hello from the origin";

pub fn a_request_is_sent_and_its_response_read() {
    let origin = Origin::start();
    for function in ["send", "send_v2", "send_v3"] {
        let mut guest = Script::new();
        let (request, body) = (request(&mut guest, "PUT", "/echo"), body(&mut guest, "what was sent"));
        let (response, detail) = (response(&mut guest), detail(&mut guest));
        let mut arguments = vec![At(request), At(body), T("origin")];
        if function != "send" {
            arguments.push(To(detail));
        }
        arguments.extend([To(response.head), To(response.body)]);
        guest.call(&format!("{REQ}.{function}"), &arguments);
        guest.answers(Status::BadHandle, "fastly_http_req.close", &[At(request)]);
        guest.answers(Status::BadHandle, "fastly_http_body.close", &[At(body)]);
        let read = Read::all(&mut guest, response);
        let (octets, length) = (guest.out(16), guest.out(4));
        let ip = [At(response.head), To(octets), To(length)];
        guest.call("fastly_http_resp.get_addr_dest_ip", &ip);
        let port = guest.gives("fastly_http_resp.get_addr_dest_port", vec![At(response.head)]);
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!(read.seen(&memory), (200, "what was sent", "PUT", "app.example"), "{function}");
        assert_eq!(memory.bytes(octets, memory.u32(length)), [127, 0, 0, 1]);
        assert_eq!(memory.u32(port) & 0xffff, u32::from(origin.address.port()));
        let told = (memory.u32(detail), memory.u32(detail.plus(4)));
        assert_eq!(told, if function == "send" { (0, ALL_DETAILS) } else { (1, 0) });
    }
}

pub fn requests_under_way_are_waited_for() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let [first, second] = ["one", "two"].map(|text| send_async(&mut guest, "POST", "/echo", text));
    let responses = [response(&mut guest), response(&mut guest)];
    let detail = detail(&mut guest);
    let [a, b] = responses;
    guest.call("fastly_http_req.pending_req_wait", &[At(second), To(b.head), To(b.body)]);
    guest.call("fastly_http_req.pending_req_wait_v2", &[At(first), To(detail), To(a.head), To(a.body)]);
    let reads = responses.map(|response| Read::all(&mut guest, response));
    let again = response(&mut guest);
    let arguments = [At(first), To(again.head), To(again.body)];
    guest.answers(Status::BadHandle, "fastly_http_req.pending_req_wait", &arguments);
    let memory = guest.run_in(origin.exchange(), get("/"));
    assert_eq!(reads[0].seen(&memory), (200, "one", "POST", "app.example"));
    assert_eq!(reads[1].seen(&memory), (200, "two", "POST", "app.example"));
}

pub fn requests_under_way_are_polled() {
    let origin = Origin::start();
    for version in ["", "_v2"] {
        let mut guest = Script::new();
        let slow = send_async(&mut guest, "GET", "/slow", "");
        let (out, detail, early, done) =
            (response(&mut guest), detail(&mut guest), guest.out(4), guest.out(4));
        let poll = |done| -> Vec<Arg<'_>> {
            let detail = (version == "_v2").then_some(To(detail));
            let rest = [To(done), To(out.head), To(out.body)];
            [At(slow)].into_iter().chain(detail).chain(rest).collect()
        };
        let function = format!("fastly_http_req.pending_req_poll{version}");
        guest.call(&function, &poll(early));
        let ready = guest.gives("fastly_async_io.is_ready", vec![At(slow)]);
        let index = guest.gives("fastly_async_io.select", vec![To(slow), N(1), N(0)]);
        guest.call(&function, &poll(done));
        let again = guest.out(4);
        guest.answers(Status::BadHandle, &function, &poll(again));
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!([early, ready, index, done].map(|at| memory.u32(at)), [0, 0, 0, 1]);
        assert_ne!(memory.u32(out.head), INVALID);
    }
}

pub fn the_first_of_several_is_selected() {
    let origin = Origin::start();
    for version in ["", "_v2"] {
        let mut guest = Script::new();
        let slow = send_async(&mut guest, "GET", "/slow", "");
        let quick = send_async(&mut guest, "GET", "/hello", "");
        let handles = guest.out(8);
        // Two handles side by side, as a guest would have them.
        guest.copy(slow, handles);
        guest.copy(quick, handles.plus(4));
        let (out, detail, index) = (response(&mut guest), detail(&mut guest), guest.out(4));
        let detail = (version == "_v2").then_some(To(detail));
        let arguments: Vec<_> = [To(handles), N(2)]
            .into_iter()
            .chain(detail)
            .chain([To(index), To(out.head), To(out.body)])
            .collect();
        guest.call(&format!("fastly_http_req.pending_req_select{version}"), &arguments);
        let read = Read::all(&mut guest, out);
        let timed_out = guest.gives("fastly_async_io.select", vec![To(slow), N(1), N(1)]);
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!(memory.u32(index), 1);
        assert_eq!(read.seen(&memory), (200, GREETING, "GET", "app.example"));
        assert_eq!(memory.u32(timed_out), u32::MAX, "the slow one is still under way");
    }
}

pub fn a_body_is_written_while_it_is_sent() {
    let origin = Origin::start();
    for (function, flag) in
        [("send_async_streaming", None), ("send_async_v2", Some(1)), ("send_async_v2", Some(0))]
    {
        let mut guest = Script::new();
        let (request, sent) = (request(&mut guest, "POST", "/echo"), body(&mut guest, "begin "));
        let flag_argument = flag.map(N);
        let arguments = [At(request), At(sent), T("origin")].into_iter().chain(flag_argument).collect();
        let pending = guest.gives(&format!("{REQ}.{function}"), arguments);
        let expected = if flag == Some(0) {
            "begin "
        } else {
            let added = body(&mut guest, "middle ");
            guest.call("fastly_http_body.append", &[At(sent), At(added)]);
            write(&mut guest, sent, "end");
            guest.call("fastly_http_body.close", &[At(sent)]);
            "begin middle end"
        };
        let out = response(&mut guest);
        guest.call("fastly_http_req.pending_req_wait", &[At(pending), To(out.head), To(out.body)]);
        let read = Read::all(&mut guest, out);
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!(read.seen(&memory), (200, expected, "POST", "app.example"), "{function} {flag:?}");
    }
}

pub fn a_body_that_is_given_up_ends_its_request() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let (request, sent) = (request(&mut guest, "POST", "/echo"), body(&mut guest, "begin "));
    let arguments = vec![At(request), At(sent), T("origin")];
    let pending = guest.gives("fastly_http_req.send_async_streaming", arguments);
    guest.call("fastly_http_body.abandon", &[At(sent)]);
    let (out, detail, index) = (response(&mut guest), detail(&mut guest), guest.out(4));
    // Selecting goes well; that the request did not is in the struct, and the handles are none.
    let arguments = [To(pending), N(1), To(detail), To(index), To(out.head), To(out.body)];
    guest.call("fastly_http_req.pending_req_select_v2", &arguments);
    let memory = guest.run_in(origin.exchange(), get("/"));
    assert_eq!((memory.u32(out.head), memory.u32(out.body)), (INVALID, INVALID));
    assert!(memory.u32(detail) > 1, "{}", memory.u32(detail));
}

pub fn a_response_passes_through_unread() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let (request, empty) = (request(&mut guest, "GET", "/hello"), body(&mut guest, ""));
    let out = response(&mut guest);
    let arguments = [At(request), At(empty), T("origin"), To(out.head), To(out.body)];
    guest.call("fastly_http_req.send", &arguments);
    guest.call("fastly_http_resp.send_downstream", &[At(out.head), At(out.body), N(0)]);
    guest.responds();
    let seen = guest.seen_in(origin.exchange(), get("/"));
    assert_eq!((seen.head.status.as_u16(), seen.error), (200, None));
    assert_eq!(seen.head.headers["x-method"], "GET");
    assert_eq!(seen.body, GREETING.as_bytes());
}

pub fn a_response_is_joined_to_a_stream_unread() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let head = guest.gives("fastly_http_resp.new", vec![]);
    let stream = body(&mut guest, "<");
    guest.call("fastly_http_resp.send_downstream", &[At(head), At(stream), N(1)]);
    let (request, empty) = (request(&mut guest, "GET", "/hello"), body(&mut guest, ""));
    let out = response(&mut guest);
    let arguments = [At(request), At(empty), T("origin"), To(out.head), To(out.body)];
    guest.call("fastly_http_req.send", &arguments);
    guest.call("fastly_http_body.append", &[At(stream), At(out.body)]);
    write(&mut guest, stream, ">");
    guest.call("fastly_http_body.close", &[At(stream)]);
    guest.responds();
    let seen = guest.seen_in(origin.exchange(), get("/"));
    assert_eq!((String::from_utf8(seen.body).unwrap(), seen.error), (format!("<{GREETING}>"), None));
}

pub fn a_request_that_fails_tells_why() {
    let origin = Origin::start();
    for (backend, path, status, tag) in
        [("unknown", "/", Status::Invalid, 4), ("nobody", "/", Status::Error, 7)]
    {
        let mut guest = Script::new();
        let (request, empty) = (request(&mut guest, "GET", path), body(&mut guest, ""));
        let (out, detail) = (response(&mut guest), detail(&mut guest));
        let arguments = [At(request), At(empty), T(backend), To(detail), To(out.head), To(out.body)];
        guest.answers(status, "fastly_http_req.send_v2", &arguments);
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!((memory.u32(detail), memory.u32(detail.plus(4))), (tag, 0), "{backend}");
        assert_eq!((memory.u32(out.head), memory.u32(out.body)), (INVALID, INVALID));
    }
}

pub fn nothing_is_used_up_by_a_call_that_is_refused() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let (request, empty) = (request(&mut guest, "GET", "/hello"), body(&mut guest, ""));
    let out = response(&mut guest);
    let send = "fastly_http_req.send_v2";
    let none = [At(request), At(empty), T("origin"), N(u32::MAX - 7), To(out.head), To(out.body)];
    guest.answers(Status::Invalid, send, &none);
    let detail = detail(&mut guest);
    let no_name = [At(request), At(empty), T(""), To(detail), To(out.head), To(out.body)];
    guest.answers(Status::Invalid, send, &no_name);
    let no_body = [At(request), N(u32::MAX), T("origin"), To(detail), To(out.head), To(out.body)];
    guest.answers(Status::BadHandle, send, &no_body);
    let good = [At(request), At(empty), T("origin"), To(detail), To(out.head), To(out.body)];
    guest.call(send, &good);
    guest.run_in(origin.exchange(), get("/"));
}

pub fn one_execution_sends_so_many_requests() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let out = response(&mut guest);
    for number in 0..33 {
        let (request, empty) = (request(&mut guest, "GET", "/hello"), body(&mut guest, ""));
        let arguments = [At(request), At(empty), T("origin"), To(out.head), To(out.body)];
        if number < 32 {
            guest.call("fastly_http_req.send", &arguments);
            read_body(&mut guest, out.body);
            guest.call("fastly_http_body.close", &[At(out.body)]);
        } else {
            guest.answers(Status::LimitExceeded, "fastly_http_req.send", &arguments);
        }
    }
    guest.run_in(origin.exchange(), get("/"));
}

pub fn changes_wait_for_their_response() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let pending = send_async(&mut guest, "GET", "/hello", "");
    let change = |guest: &mut Script, what: &str, name, value, of| {
        let function = format!("fastly_http_req.pending_req_header_{what}");
        guest.call(&function, &[At(pending), T(name), T(value), N(of)]);
    };
    for what in ["insert", "append"] {
        let function = format!("fastly_http_req.pending_req_header_{what}");
        let too_large = [At(pending), T("x-large"), N(0), N((64 << 10) + 1), N(0)];
        guest.answers(Status::HttpHeadTooLarge, &function, &too_large);
    }
    change(&mut guest, "insert", "x-method", "changed", 0);
    change(&mut guest, "append", "x-new", "1", 1);
    change(&mut guest, "append", "x-new", "2", 2);
    guest.call("fastly_http_req.pending_req_header_remove", &[At(pending), T("x-host"), N(1)]);
    let wrong = [At(pending), T("x-host"), N(3)];
    guest.answers(Status::Invalid, "fastly_http_req.pending_req_header_remove", &wrong);
    guest.call("fastly_http_resp.send_downstream_pending", &[At(pending)]);
    guest.answers(Status::BadHandle, "fastly_http_resp.send_downstream_pending", &[At(pending)]);
    guest.responds();
    let seen = guest.seen_in(origin.exchange(), get("/"));
    assert_eq!((seen.head.status.as_u16(), seen.body.as_slice()), (200, GREETING.as_bytes()));
    assert_eq!(seen.head.headers["x-method"], "changed");
    assert_eq!(seen.head.headers.get_all("x-new").iter().collect::<Vec<_>>(), ["1"]);
    assert!(!seen.head.headers.contains_key("x-host"));
}

pub fn a_failed_request_that_is_passed_on_is_a_5xx() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let (request, empty) = (request(&mut guest, "GET", "/"), body(&mut guest, ""));
    let pending = guest.gives("fastly_http_req.send_async", vec![At(request), At(empty), T("nobody")]);
    let insert = "fastly_http_req.pending_req_header_insert";
    guest.call(insert, &[At(pending), T("x-failed"), T("yes"), N(2)]);
    guest.call(insert, &[At(pending), T("x-worked"), T("yes"), N(1)]);
    guest.call("fastly_http_resp.send_downstream_pending", &[At(pending)]);
    guest.responds();
    let seen = guest.seen_in(origin.exchange(), get("/"));
    assert_eq!((seen.head.status.as_u16(), seen.error), (502, None::<BodyError>));
    assert_eq!(seen.head.headers["x-failed"], "yes");
    assert!(!seen.head.headers.contains_key("x-worked"));
}

/// A request whose head gives another length than its streamed body has: in the automatic mode the head does not count.
pub fn a_length_that_the_program_gives_counts_if_it_wants_it_to() {
    let origin = Origin::start();
    for (mode, length, status) in
        [(0, "3", Status::Ok), (1, "5", Status::Ok), (1, "3", Status::HttpUser), (1, "7", Status::HttpUser)]
    {
        let mut guest = Script::new();
        let (sent, streamed) = (request(&mut guest, "POST", "/length"), body(&mut guest, ""));
        guest.call("fastly_http_req.header_insert", &[At(sent), T("content-length"), T(length)]);
        guest.call("fastly_http_req.framing_headers_mode_set", &[At(sent), N(mode)]);
        let pending =
            guest.gives("fastly_http_req.send_async_streaming", vec![At(sent), At(streamed), T("origin")]);
        write(&mut guest, streamed, "12345");
        guest.call("fastly_http_body.close", &[At(streamed)]);
        let out = response(&mut guest);
        let wait = [At(pending), To(out.head), To(out.body)];
        guest.answers(status, "fastly_http_req.pending_req_wait", &wait);
        if status != Status::Ok {
            guest.run_in(origin.exchange(), get("/"));
            continue;
        }
        let text = read_body(&mut guest, out.body);
        let memory = guest.run_in(origin.exchange(), get("/"));
        // A body that was whole before it was asked for has a length of its own.
        let told: &[&str] = if mode == 0 { &["chunked, 5 bytes", "5, 5 bytes"] } else { &["5, 5 bytes"] };
        assert!(told.contains(&memory.text(text.0, text.1)), "{}", memory.text(text.0, text.1));
    }
}

/// The same for responses.
pub fn a_responses_length_counts_if_the_program_wants_it_to() {
    let respond = |mode, length: &str, method: &str| {
        let mut guest = Script::new();
        let (head, streamed) = (guest.gives("fastly_http_resp.new", vec![]), body(&mut guest, "12"));
        guest.call("fastly_http_resp.header_insert", &[At(head), T("content-length"), T(length)]);
        guest.call("fastly_http_resp.framing_headers_mode_set", &[At(head), N(mode)]);
        guest.call("fastly_http_resp.send_downstream", &[At(head), At(streamed), N(1)]);
        write(&mut guest, streamed, "345");
        guest.call("fastly_http_body.close", &[At(streamed)]);
        guest.responds();
        let request = Request::builder().method(method).header("host", "test.localhost");
        let seen =
            guest.seen_in(testing::exchange(super::config()), request.body(InboundBody::Empty).unwrap());
        let length = seen.head.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
        (length, seen.body)
    };
    let whole = b"12345".to_vec();
    assert_eq!(respond(0, "3", "GET"), (None, whole.clone()));
    assert_eq!(respond(1, "5", "GET"), (Some("5".into()), whole.clone()));
    assert_eq!(respond(0, "3", "HEAD").0, Some("3".into()), "the length of what GET would get");
}

/// The program goes on at once, and its end is not that of the response.
pub fn a_response_that_is_handed_over_holds_up_nobody() {
    let origin = Origin::start();
    let script = |then: &str| {
        let mut guest = Script::new();
        let pending = send_async(&mut guest, "GET", "/slow", "");
        let other = send_async(&mut guest, "GET", "/hello", "");
        let time = guest.out(8);
        let clock = [N(1), Arg::L(0), To(time)];
        guest.answers_number(0, "wasi_snapshot_preview1.clock_time_get", &clock);
        guest.call("fastly_http_resp.send_downstream_pending", &[At(pending)]);
        guest.answers_number(0, "wasi_snapshot_preview1.clock_time_get", &clock);
        guest.answers(Status::Error, "fastly_http_resp.send_downstream_pending", &[At(other)]);
        let out = response(&mut guest);
        guest.call("fastly_http_req.pending_req_wait", &[At(other), To(out.head), To(out.body)]);
        guest.then(then);
        guest.responds();
        guest
    };
    let run = |door: Door| {
        let mut exchange = origin.exchange();
        exchange.door = door;
        let seen = script("").seen_in(exchange, get("/"));
        assert_eq!((seen.head.status.as_u16(), seen.error), (200, None::<BodyError>));
        seen.body
    };
    let tape = Tape::record();
    assert_eq!(run(tape.door()), GREETING.as_bytes());
    let recording = tape.recording();
    let times: Vec<_> = recording.learned[&Source::Clock].iter().collect();
    let [Event::Number(before), Event::Number(after)] = times[..] else { panic!("two times: {times:?}") };
    assert!(after - before < 250_000_000, "it took {} ns, less than its origin's 300 ms", after - before);
    assert_eq!(run(Tape::play(recording).door()), GREETING.as_bytes());
    // Who fails before it is there has failed.
    let failed = run_in(&script("unreachable").program(), origin.exchange(), get("/"));
    assert_eq!(failed.unwrap_err(), Failure::GuestTrap);
}

#[test]
fn a_response_that_is_handed_over_holds_no_memory_of_its_guest() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let pending = send_async(&mut guest, "GET", "/slow", "");
    // 8 MiB: more than is set aside for every guest.
    guest.then("(if (i32.eq (memory.grow (i32.const 128)) (i32.const -1)) (then unreachable))");
    guest.call("fastly_http_resp.send_downstream_pending", &[At(pending)]);
    guest.responds();
    let (program, exchange) = (guest.program(), origin.exchange());
    let budget = exchange.host.memory.clone();
    let (before, mut while_waiting) = (budget.bytes(), None);
    local(async {
        let mut asked = std::pin::pin!(ask_in(&program, exchange, get("/")));
        let seen = loop {
            tokio::select! {
                biased;
                seen = &mut asked => break seen.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            while_waiting = Some(budget.bytes());
        };
        assert_eq!(seen.body, GREETING.as_bytes());
    });
    assert_eq!(while_waiting, Some(before), "the last look while its origin made it wait");
}

pub fn a_backend_that_the_program_made_is_reached() {
    let origin = Origin::start();
    let mut guest = Script::new();
    let host = guest.text("made.example");
    let mut settings = [0; 27];
    (settings[0], settings[1]) = (host.0, 12);
    let settings = guest.fields(&settings);
    let target = origin.address.to_string();
    let register = "fastly_http_req.register_dynamic_backend";
    guest.call(register, &[T("made"), T(&target), N(1 << 1), To(settings)]);
    guest.call(register, &[T("astray"), T("127.0.0.1:1"), N(0), To(settings)]);
    let (sent, empty) = (request(&mut guest, "GET", "/hello"), body(&mut guest, ""));
    let out = response(&mut guest);
    guest.call("fastly_http_req.send", &[At(sent), At(empty), T("made"), To(out.head), To(out.body)]);
    let read = Read::all(&mut guest, out);
    let (sent, empty, detail) = (request(&mut guest, "GET", "/"), body(&mut guest, ""), detail(&mut guest));
    let astray = [At(sent), At(empty), T("astray"), To(detail), To(out.head), To(out.body)];
    guest.answers(Status::HttpUser, "fastly_http_req.send_v2", &astray);
    let memory = guest.run_in(origin.exchange(), get("/"));
    assert_eq!(read.seen(&memory), (200, GREETING, "GET", "made.example"));
    assert_eq!(memory.u32(detail), 4, "not on the app's list");
}

pub fn a_response_is_decompressed_when_asked_to_be() {
    let origin = Origin::start();
    for (coding, length) in [(1, 8), (0, 28)] {
        let mut guest = Script::new();
        let (sent, empty) = (request(&mut guest, "GET", "/gzip"), body(&mut guest, ""));
        guest.call("fastly_http_req.auto_decompress_response_set", &[At(sent), N(coding)]);
        let out = response(&mut guest);
        let arguments = [At(sent), At(empty), T("origin"), To(out.head), To(out.body)];
        guest.call("fastly_http_req.send", &arguments);
        let text = read_body(&mut guest, out.body);
        let memory = guest.run_in(origin.exchange(), get("/"));
        assert_eq!(memory.u32(text.1), length, "bytes with coding {coding}");
        assert!(coding == 0 || memory.text(text.0, text.1) == "unpacked");
    }
}
