//! Why a connection ended. HTTP/2 tells the callers of a lost connection that they were cancelled and keeps the reason to
//! itself, such as a certificate that a member refuses once the handshake is over, as TLS 1.3 has it.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a write that failed waits for what the other side said before it went.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// What ended the connection that was open last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended(Arc<Mutex<Option<String>>>);

/// A stream whose first failure is noted.
#[derive(Debug)]
pub(crate) struct Noted<S> {
    stream: S,
    ended: Ended,
    failed: Option<FailedWrite>,
}

#[derive(Debug)]
struct FailedWrite {
    kind: io::ErrorKind,
    said: String,
    waiting: Pin<Box<Sleep>>,
}

impl Ended {
    pub(crate) fn why(&self) -> Option<String> {
        self.lock().clone()
    }

    fn first(&self, why: &dyn Display) {
        self.lock().get_or_insert_with(|| why.to_string());
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Noted<S> {
    /// A new connection, of which nothing bad is known.
    pub(crate) fn new(stream: S, ended: Ended) -> Self {
        *ended.lock() = None;
        Self { stream, ended, failed: None }
    }

    /// A write that fails because the other side has gone waits for what can be read of why it went.
    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.stream), context)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => {
                    let waiting = Box::pin(tokio::time::sleep(LAST_WORDS_WITHIN));
                    let (kind, said) = (error.kind(), error.to_string());
                    self.failed = Some(FailedWrite { kind, said, waiting });
                }
            }
        }
        self.last_words(context).map(Err)
    }

    fn last_words(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Self { stream, ended, failed: Some(failed) } = self else { return Poll::Pending };
        let mut place = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut place);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(why)) => {
                    ended.first(&why);
                    break;
                }
                Poll::Pending => {
                    ready!(failed.waiting.as_mut().poll(context));
                    break;
                }
            }
        }
        ended.first(&failed.said);
        Poll::Ready(io::Error::new(failed.kind, failed.said.clone()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if let Err(error) = &done {
            self.ended.first(error);
        }
        Poll::Ready(done)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write_vectored(context, parts))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_test::io::Builder;

    use super::*;

    #[tokio::test]
    async fn a_write_that_fails_tells_what_the_other_side_said_before_it_went() {
        let said = || io::Error::other("received fatal alert: BadCertificate");
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stream = Builder::new()
            .write_error(gone())
            .wait(LAST_WORDS_WITHIN / 10)
            .read(b"settings")
            .read_error(said())
            .build();
        let ended = Ended::default();
        let mut noted = Noted::new(stream, ended.clone());
        let failed = noted.write_all(b"preface").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(ended.why(), Some(said().to_string()));

        let mute = Builder::new().write_error(gone()).wait(LAST_WORDS_WITHIN * 10).build();
        let mut noted = Noted::new(mute, ended.clone());
        noted.write_all(b"preface").await.unwrap_err();
        assert_eq!(ended.why(), Some(gone().to_string()));
        // The rest of its script is not played.
        std::mem::forget(noted);

        let again = Builder::new().read_error(gone()).build();
        let mut noted = Noted::new(again, ended.clone());
        assert_eq!(ended.why(), None, "a new connection has not ended");
        noted.read_u8().await.unwrap_err();
        assert_eq!(ended.why(), Some(gone().to_string()));
    }
}
