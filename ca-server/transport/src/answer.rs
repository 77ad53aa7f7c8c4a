//! Answers on their way: how many bytes wait for a connection, and since when.
//!
//! HTTP/2 lets a client keep an answer waiting for as long as it likes, by a window of nothing. What waits is counted
//! piece by piece until HTTP/2 has written it or given it up, wherever it lies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

use crate::conduct::{Conduct, Exchange};
use crate::rejection::metadata_bytes;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Answer<B> {
    body: B,
    exchange: Arc<Exchange>,
}

/// A piece of an answer, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    len: usize,
    slot: usize,
    exchange: Arc<Exchange>,
}

/// Accounts for every request of a connection, and its answer. Handlers find the [`Exchange`] among the request's
/// extensions.
#[derive(Clone, Debug)]
pub(crate) struct Attended<S> {
    conduct: Arc<Conduct>,
    inner: S,
}

impl<S> Attended<S> {
    /// Accounts for what this service answers.
    pub(crate) const fn new(conduct: Arc<Conduct>, inner: S) -> Self {
        Self { conduct, inner }
    }
}

impl<S, Q, A> Service<Request<Q>> for Attended<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let exchange = self.conduct.begin(metadata_bytes(request.headers()));
        request.extensions_mut().insert(Arc::clone(&exchange));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answer = answered.await?;
            exchange.answered();
            Ok(answer.map(|body| Answer { body, exchange }))
        })
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map(|frame| frame.map_data(|bytes| Piece::new(bytes, &self.exchange)));
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Piece {
    fn new(bytes: Bytes, exchange: &Arc<Exchange>) -> Self {
        let len = bytes.len();
        Self { bytes, len, slot: exchange.wait(len), exchange: Arc::clone(exchange) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.exchange.waited(self.len, self.slot);
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
