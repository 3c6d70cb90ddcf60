//! The request path: authority → route → method → (file, or) code → admit → instantiate → run → respond → account.
//!
//! Accepting, TLS and framing come before it ([`crate::front`]); it knows no protocol. Answers of its own are
//! [`Failure`]s.

use std::sync::Arc;

use artifact::HostName;
use http::{HeaderValue, Request, Response, StatusCode, header, request};

use crate::{
    account::Account,
    assets::{Answer, Asked, Site},
    code::Urgency,
    exchange::{Bill, Exchange, RequestId, Responder},
    failure::Failure,
    front::{Connection, Handler, InboundBody, OutboundBody, Refusal, authority::Target, limits},
    generation::Deployment,
    guest::drive::{Wall, drive},
    host::outbound,
    lane::{Lanes, Start},
    node::Node,
};

/// Answers the requests of one worker.
pub struct Server {
    node: Arc<Node>,
    worker: usize,
    lanes: Option<Lanes>,
}

impl Server {
    /// A server over the process's node, for the worker of this number. Without lanes every guest stays on the serving
    /// thread.
    pub fn new(node: Arc<Node>, worker: usize, lanes: Option<Lanes>) -> Server {
        Server { node, worker, lanes }
    }

    /// A request that belongs to no app: answered and accounted here.
    fn unrouted(
        &self,
        head: &request::Parts,
        connection: &Connection,
        failure: Failure,
    ) -> Response<OutboundBody> {
        self.node.metrics.unrouted(failure);
        let id = RequestId::new();
        let account = Account::open(head, None, connection, id, None, &self.node.access_log);
        account.responded(failure.status());
        account.ended(Some(failure));
        failure.response(id)
    }

    /// A request of an app that does not answer its method: the app's to account, and no guest runs.
    fn not_allowed(
        &self,
        head: &request::Parts,
        host: HostName,
        deployment: &Arc<Deployment>,
        connection: &Connection,
    ) -> Response<OutboundBody> {
        let (failure, id) = (Failure::MethodNotAllowed, RequestId::new());
        let run = Some((deployment.clone(), Arc::new(Bill::default())));
        let account = Account::open(head, Some(host), connection, id, run, &self.node.access_log);
        account.responded(failure.status());
        account.ended(Some(failure));
        let mut response = failure.response(id);
        if let Some(allowed) = &deployment.allow {
            response.headers_mut().insert(header::ALLOW, allowed.clone());
        }
        response
    }

    async fn execute(
        &self,
        request: Request<InboundBody>,
        host: HostName,
        deployment: &Arc<Deployment>,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        let mut exchange = Exchange::begin(deployment.clone(), connection.clone(), self.node.host.clone());
        let (id, bill) = (exchange.id, exchange.bill.clone());
        let (mut head, body) = request.into_parts();
        let is_inherited = outbound::inherit(&mut exchange, &mut head.headers, &host);
        let run = Some((deployment.clone(), bill.clone()));
        let account = Account::open(&head, Some(host), connection, id, run, &self.node.access_log);
        let refuse = |failure: Failure| {
            account.responded(failure.status());
            account.ended(Some(failure));
            failure.response(id)
        };

        // code: in memory, or loaded now. That wait has its own bound and is not the guest's.
        let left = exchange.fetches.deadline().saturating_duration_since(exchange.started);
        let loaded = match self.node.code.get(deployment, self.worker, Urgency::Request).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(app = %deployment.id, version = deployment.version, "{}", crate::load::chain(&error));
                return refuse(Failure::CodeUnavailable);
            }
        };
        // admit: only now, so that nobody holds room while code is on its way
        let permit = match self.node.executions.admit(self.worker, &deployment.id, loaded.weight) {
            Ok(permit) => permit,
            Err(failure) => return refuse(failure),
        };
        // instantiate, run, respond
        if loaded.is_first() {
            bill.is_first();
        }
        let begins_slow =
            self.lanes.as_ref().is_some_and(|lanes| lanes.start(&deployment.standing) == Start::Slow);
        let (responder, response) = Responder::new();
        let run = loaded.program().run(exchange, Request::from_parts(head, body), responder);
        let run = match self.node.code.held(loaded, run, begins_slow) {
            Ok(run) => run,
            Err(_too_much_held) => return refuse(Failure::CodeUnavailable),
        };
        let run = Box::pin(async move {
            let _room = permit; // given back when the instance is gone
            run.await
        });
        let driven =
            drive(run, response, bill, Wall { left, is_inherited }, account.clone(), self.lanes.as_ref())
                .await;
        driven.unwrap_or_else(refuse)
    }

    /// The same for an app that has static files: they answer first, and its program, if it has one, the rest.
    async fn files_first(
        &self,
        request: Request<InboundBody>,
        host: HostName,
        deployment: &Arc<Deployment>,
        site: &Site,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        let (head, body) = request.into_parts();
        let (files, has_program) = (&self.node.files, deployment.state.version.has_program());
        let asked = Asked {
            head: &head,
            id: &deployment.id,
            prefix: &deployment.config.path_prefix,
            worker: self.worker,
        };
        let answer = files.find(site, &asked, has_program).await;
        if matches!(answer, Answer::Program) {
            return self.execute(Request::from_parts(head, body), host, deployment, connection).await;
        }
        let (id, run) = (RequestId::new(), Some((deployment.clone(), Arc::new(Bill::default()))));
        let account = Account::open(&head, Some(host), connection, id, run, &self.node.access_log);
        let response = match answer {
            Answer::File(index, found) => files.respond(site, &asked, (&index, found), &account).await,
            Answer::Moved(to) => Ok(moved(to, &account)),
            Answer::Failed(failure) => Err(failure),
            Answer::Program => unreachable!("it was asked above"),
        };
        response.unwrap_or_else(|failure| {
            account.responded(failure.status());
            account.ended(Some(failure));
            failure.response(id)
        })
    }
}

impl Handler for Server {
    async fn handle(
        &self,
        request: Request<InboundBody>,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        let (head, body) = request.into_parts();
        let authority = match Target::of(&head, connection).authority() {
            Ok(authority) => authority,
            Err(refusal) => return self.unrouted(&head, connection, authority_failure(refusal)),
        };
        // One generation for the whole request; the guard is let go before anything waits.
        let route = self.node.generation.load().route(&authority.host, head.uri.path()).cloned();
        let Some(deployment) = route else {
            return self.unrouted(&head, connection, Failure::NoRoute);
        };
        if !deployment.config.answers(head.method.as_str()) {
            return self.not_allowed(&head, authority.host, &deployment, connection);
        }
        let request = Request::from_parts(head, body);
        if let Some(site) = &deployment.site {
            // Boxed: apps without files do not carry its state.
            return Box::pin(self.files_first(request, authority.host, &deployment, site, connection)).await;
        }
        self.execute(request, authority.host, &deployment, connection).await
    }

    fn refuse(
        &self,
        head: &request::Parts,
        why: limits::BadHead,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        self.unrouted(head, connection, head_failure(why))
    }

    fn panicked(&self, connection: &Arc<Connection>) -> Response<OutboundBody> {
        let id = RequestId::new();
        tracing::error!(peer = %connection.peer, request = %id, "answering a request panicked; answered 500");
        self.node.metrics.unrouted(Failure::Internal);
        Failure::Internal.response(id)
    }
}

/// 308: the method stays, as everything else of the request. Caches ask again: a later version may have a file of that name.
fn moved(to: HeaderValue, account: &Account) -> Response<OutboundBody> {
    let mut response = Response::new(OutboundBody::Empty);
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    account.responded(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, to);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn head_failure(why: limits::BadHead) -> Failure {
    match why {
        limits::BadHead::Method => Failure::MethodTooLong,
        limits::BadHead::Url => Failure::UrlTooLong,
        limits::BadHead::HeaderBytes | limits::BadHead::HeaderFields => Failure::HeadersTooLarge,
        limits::BadHead::TransferEncoding | limits::BadHead::ConnectionFields => Failure::BadFraming,
    }
}

fn authority_failure(refusal: Refusal) -> Failure {
    match refusal.status() {
        StatusCode::MISDIRECTED_REQUEST => Failure::Misdirected,
        _ => Failure::BadAuthority,
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::testing::{self, ServingNode};

    #[test]
    fn another_method_than_the_apps_is_answered_405_and_runs_no_guest() {
        let traps = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;
        let config = AppConfig {
            hosts: vec!["test.localhost".parse().unwrap()],
            path_prefix: "/api".into(),
            methods: Some(vec!["GET".into(), "PURGE".into()]),
            ..AppConfig::default()
        };
        let serving = ServingNode::new(testing::bare_host(), config, traps);
        let server = Server::new(serving.node.clone(), 0, None);
        let counted = |what: &str| {
            let text = String::from_utf8(serving.node.metrics.render()).unwrap();
            let line = text.lines().find(|line| !line.starts_with('#') && line.contains(what));
            line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
        };
        testing::local(async {
            let ask = async |method: &str, path: &str| {
                let request = Request::builder().method(method).uri(path).header("host", "test.localhost");
                server.handle(request.body(InboundBody::Empty).unwrap(), &testing::connection()).await
            };
            for method in ["POST", "HEAD", "OPTIONS", "get"] {
                let response = ask(method, "/api/x").await;
                let allow = response.headers()["allow"].to_str().unwrap().to_owned();
                assert_eq!((response.status().as_u16(), allow.as_str()), (405, "GET, PURGE"), "{method}");
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(
                    body.starts_with(br#"{"error":{"code":"method_not_allowed","request_id":""#),
                    "{body:?}"
                );
            }
            assert_eq!(counted("skerry_instances_total"), "0");
            for method in ["GET", "PURGE"] {
                let response = ask(method, "/api/x").await;
                assert_eq!(
                    (response.status().as_u16(), response.headers().get("allow")),
                    (500, None),
                    "{method}"
                );
            }
            assert_eq!(counted("skerry_instances_total"), "2");
            assert_eq!(ask("POST", "/").await.status(), 404, "a route of nobody has no methods");
        });
        assert_eq!(counted("\"method_not_allowed\""), "4");
    }

    #[test]
    fn a_refused_head_has_one_status_whoever_answers() {
        for why in limits::BadHead::ALL {
            assert_eq!(head_failure(why).status(), why.status(), "{why}");
        }
    }
}
