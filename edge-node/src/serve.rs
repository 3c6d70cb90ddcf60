//! The request path: authority → route → code → admit → instantiate → run → respond → account.
//!
//! Accepting, TLS and framing come before it ([`crate::front`]); it knows no protocol. Answers of its own are
//! [`Failure`]s.

use std::sync::Arc;

use artifact::HostName;
use http::{Request, Response, StatusCode, request};

use crate::{
    account::Account,
    code::Urgency,
    exchange::{Exchange, RequestId, Responder},
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
        let request = Request::from_parts(head, body);
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
    use super::*;

    #[test]
    fn a_refused_head_has_one_status_whoever_answers() {
        for why in limits::BadHead::ALL {
            assert_eq!(head_failure(why).status(), why.status(), "{why}");
        }
    }
}
