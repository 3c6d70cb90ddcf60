//! One request, from its checked parts to the head of its response: origin → connection → send → answer, and again
//! where that is safe.
//!
//! Runs as a task of its own, so that requests of a guest go on while it computes or waits for something else. Dropping
//! the task ends what is under way: hyper closes an HTTP/1.1 connection and resets an HTTP/2 stream.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use artifact::{
    TenantName,
    manifest::origin::{Origin, OriginHost, Scheme},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until};

use super::{
    FetchError, Shared,
    body::{Answer, OpenSlot, Sending, Upload},
    connect::{Secure, connect},
    fault::Fault,
    head::{Head, Outgoing},
    limits,
    made::Keeping,
    origins::Group,
    payer::Payer,
    pool::{Key, Lease, Sender},
    target::Times,
    tls::Tls,
};
use crate::front::BodyError;

/// A request that passed every check that needs no network.
pub struct Job {
    pub shared: Arc<Shared>,
    pub tenant: TenantName,
    pub origins: Vec<Origin>,
    /// For origins that speak TLS.
    pub tls: Option<Tls>,
    pub cert_host: Option<OriginHost>,
    /// How its connections are kept, if not as usual.
    pub keeping: Option<Keeping>,
    /// State of the origins, where there is a choice or a probe.
    pub group: Option<Arc<Group>>,
    pub head: Outgoing,
    pub body: Upload,
    pub times: Times,
    pub deadline: Instant,
    /// For the work on connections.
    pub payer: Payer,
    /// Taken by the response's body.
    pub slot: Option<OpenSlot>,
}

type Answered = (Head, UnsyncBoxBody<Bytes, BodyError>);

impl Job {
    /// Asks the origins in turn until one answers, within the limits of asking again.
    pub async fn run(mut self) -> Result<Answered, FetchError> {
        let order = self.group.as_ref().map_or_else(|| vec![0], |group| group.begin());
        let mut order = order.into_iter().take(limits::ATTEMPTS_MAX);
        let mut at = order.next().unwrap_or(0);
        loop {
            let fault = match self.attempt(at).await {
                Ok(answered) => {
                    self.tell(|group| group.answered(at));
                    return Ok(answered);
                }
                Err(fault) => fault,
            };
            if fault.is_the_origins() {
                self.tell(|group| group.failed(at));
            }
            match order.next() {
                Some(next) if self.may_try_again(&fault) => at = next,
                _ => return Err(fault.error),
            }
        }
    }

    fn tell(&self, news: impl FnOnce(&Group)) {
        self.group.as_deref().map(news).unwrap_or_default();
    }

    fn may_try_again(&self, fault: &Fault) -> bool {
        fault.is_the_origins()
            && self.may_repeat(fault)
            && Instant::now() < self.deadline
            && self.group.as_ref().is_some_and(|group| group.may_retry())
    }

    /// Would the origin see the same request, and at most one effect of it?
    fn may_repeat(&self, fault: &Fault) -> bool {
        self.body.is_whole() && (fault.is_untouched || self.head.is_idempotent())
    }

    /// Asks one origin: over a connection kept from before, and if that has died meanwhile, over a new one.
    async fn attempt(&mut self, at: usize) -> Result<Answered, Fault> {
        let Some(origin) = self.origins.get(at).cloned() else {
            return Err(Fault::untouched(FetchError::Internal));
        };
        let tls = self.tls.clone().filter(|_| origin.scheme == Scheme::Https);
        let identity = tls.as_ref().and_then(|tls| tls.identity);
        let key = Key::new(self.tenant.clone(), origin.clone(), self.cert_host.clone(), identity);
        let key = Arc::new(key.kept(self.keeping));
        if let Some(lease) = self.shared.pool.take(&key, &self.payer) {
            match self.exchange(lease).await {
                Err(fault) if fault.error == FetchError::ConnectionTerminated && self.may_repeat(&fault) => {}
                done => return done,
            }
        }
        let until = self.deadline.min(Instant::now() + self.times.connect);
        let connected = async {
            let room = self.shared.pool.room(&self.tenant)?;
            let secure = tls.as_ref().map(|tls| Secure { tls, cert_host: self.cert_host.as_ref() });
            let connected =
                connect(&self.shared.resolver, &self.tenant, &origin, secure, key.keeping(), until).await?;
            self.shared.pool.start(key, connected, room, self.payer.clone()).await
        };
        let lease = connected.await.map_err(|error| Fault::untouched(self.in_time(error)))?;
        self.exchange(lease).await
    }

    /// Whoever ran into a timeout at the exchange's own end ran into that.
    fn in_time(&self, error: FetchError) -> FetchError {
        if Instant::now() >= self.deadline { FetchError::Deadline } else { error }
    }

    /// Sends the request over a connection and waits for the response's head.
    async fn exchange(&mut self, mut lease: Lease) -> Result<Answered, Fault> {
        let received = lease.live.received();
        let body = self.body.attempt();
        let (sent, is_h1) = match lease.sender() {
            Some(Sender::H1(sender)) => {
                (self.answer(sender.try_send_request(self.head.h1(body))).await, true)
            }
            Some(Sender::H2(sender)) => {
                let message = self.head.h2(body).map_err(Fault::untouched)?;
                (self.answer(sender.try_send_request(message)).await, false)
            }
            None => return Err(Fault::untouched(FetchError::Internal)),
        };
        let response = match sent {
            Ok(Ok(response)) => response,
            Err(timed_out) => return Err(Fault::late(timed_out)),
            Ok(Err(error)) => {
                let began = is_h1 && lease.live.received() > received;
                let fault = Fault::of_sending(error, began);
                let by_guest = self.body.failed();
                return Err(if by_guest { Fault::late(FetchError::RequestBody) } else { fault });
            }
        };
        let (head, incoming) = response.into_parts();
        let head = Head::new(head, lease.live.peer).map_err(Fault::late)?;
        let slot = self.slot.take().ok_or(Fault::late(FetchError::Internal))?;
        let answer = Answer::new(incoming, lease, slot, self.times.between_bytes, self.deadline);
        Ok((head, UnsyncBoxBody::new(answer)))
    }

    /// Waits for a response: until the deadline, and from the request's end at most for the first-byte timeout.
    async fn answer(&self, sent: impl Future<Output = Sent>) -> Result<Sent, FetchError> {
        let mut sent = pin!(sent);
        let mut timer = pin!(sleep_until(self.deadline));
        let mut is_uploaded = false;
        poll_fn(|cx| {
            if let Poll::Ready(response) = sent.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            if !is_uploaded && self.body.poll_sent(cx).is_ready() {
                is_uploaded = true;
                timer.as_mut().reset(self.deadline.min(Instant::now() + self.times.first_byte));
            }
            Pin::as_mut(&mut timer).poll(cx).map(|()| Err(self.in_time(FetchError::ResponseTimeout)))
        })
        .await
    }
}

type Sent = Result<Response<hyper::body::Incoming>, TrySendError<Request<Sending>>>;
