//! A connection's bytes on their way in and out, with an eye on what they are.
//!
//! HTTP/2 has frames that ask for nothing and cost the other side something: PING, SETTINGS, WINDOW_UPDATE, PRIORITY,
//! resets, DATA without data. A connection gets some for nothing, some for each request and each piece of an answer, and
//! ends when it sends more. The library that speaks HTTP/2 does not count all of them, so they are counted here, by
//! their headers (RFC 9113 §4.1).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::conduct::Conduct;
use crate::cut::Cut;
use crate::rules::TICK;

/// Frames of control that a connection may send at first, that it gets for each tick and each request, and that it can save.
const CREDIT_AT_FIRST: i64 = 1_024;
const CREDIT_PER_TICK: i64 = 5;
const CREDIT_PER_REQUEST: i64 = 16;
const CREDIT_MAX: i64 = 4_096;
/// Bytes of a client's preface before its first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// A connection that is watched.
#[derive(Debug)]
pub(crate) struct Watched<IO> {
    io: IO,
    conduct: Arc<Conduct>,
    frames: Option<Frames>,
    credit: i64,
    credit_tick: u32,
    rest: Option<Pin<Box<Sleep>>>,
}

/// Where in the stream of frames the reader is.
#[derive(Debug)]
struct Frames {
    /// Bytes to skip before the next header.
    skip: usize,
    header: [u8; FRAME_HEADER],
    have: usize,
}

/// What some bytes had in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: i64,
    controls: i64,
}

impl<IO> Watched<IO> {
    /// Watches a connection of HTTP/2.
    pub(crate) fn http2(io: IO, conduct: Arc<Conduct>) -> Self {
        Self { frames: Some(Frames::new()), ..Self::plain(io, conduct) }
    }

    /// Watches a connection of any protocol, without counting frames.
    pub(crate) fn plain(io: IO, conduct: Arc<Conduct>) -> Self {
        let credit_tick = conduct.common().now();
        Self { io, conduct, frames: None, credit: CREDIT_AT_FIRST, credit_tick, rest: None }
    }

    fn judge(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let tally = frames.read(bytes);
        if tally == Tally::default() {
            return Ok(());
        }
        let now = self.conduct.common().now();
        let passed = i64::from(now.saturating_sub(self.credit_tick));
        self.credit_tick = now;
        let earned = i64::from(self.conduct.take_earned());
        let more =
            passed.saturating_mul(CREDIT_PER_TICK) + earned + tally.requests * CREDIT_PER_REQUEST;
        self.credit = self.credit.saturating_add(more).min(CREDIT_MAX) - tally.controls;
        if self.credit >= 0 {
            return Ok(());
        }
        self.conduct.cut(Cut::Flood);
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more control frames than requests account for",
        ))
    }
}

impl Frames {
    const fn new() -> Self {
        Self { skip: PREFACE, header: [0; FRAME_HEADER], have: 0 }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Tally {
        let mut tally = Tally::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = (FRAME_HEADER - self.have).min(bytes.len());
            let (taken, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            if let Some(place) = self.header.get_mut(self.have..self.have + wanted) {
                place.copy_from_slice(taken);
            }
            self.have += wanted;
            bytes = rest;
            if self.have == FRAME_HEADER {
                self.have = 0;
                self.count(&mut tally);
            }
        }
        tally
    }

    fn count(&mut self, tally: &mut Tally) {
        let [long, middle, short, kind, flags, ..] = self.header;
        self.skip = usize::from(long) << 16 | usize::from(middle) << 8 | usize::from(short);
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => {}
            HEADERS => tally.requests += 1,
            _ => tally.controls += 1,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.conduct.cut_for().is_some() {
            // Nothing more of it is heard, not even what has come already.
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            if let Some(rest) = &mut me.rest {
                ready!(rest.as_mut().poll(cx));
                me.rest = None;
            }
            match me.conduct.must_rest() {
                None => break,
                Some(ticks) => {
                    me.rest = Some(Box::pin(tokio::time::sleep(TICK.saturating_mul(ticks))))
                }
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut me.io).poll_read(cx, buffer))?;
        let judged = me.judge(buffer.filled().get(before..).unwrap_or_default());
        if judged.is_err() {
            // Whoever is told of an error has not got any bytes.
            buffer.set_filled(before);
        }
        Poll::Ready(judged)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.conduct.way_is(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.conduct.way_is(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.conduct.way_is(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).unwrap();
        [vec![0, 0, length, kind, flags, 0, 0, 0, 1], vec![0xee; payload]].concat()
    }

    #[test]
    fn frames_are_counted_by_kind_wherever_the_bytes_are_cut() {
        let preface = vec![0x50; PREFACE];
        let stream = [
            preface,
            frame(4, 0, 12),
            frame(HEADERS, 4, 40),
            frame(DATA, 0, 10),
            frame(DATA, 0, 0),
            frame(DATA, END_STREAM, 0),
            frame(6, 0, 8),
            frame(8, 0, 4),
            frame(3, 0, 4),
        ]
        .concat();
        let expected = Tally { requests: 1, controls: 5 };
        for cut in [1, 2, 3, 7, 9, 33, stream.len()] {
            let mut frames = Frames::new();
            let mut all = Tally::default();
            for part in stream.chunks(cut) {
                let tally = frames.read(part);
                all = Tally {
                    requests: all.requests + tally.requests,
                    controls: all.controls + tally.controls,
                };
            }
            assert_eq!(all, expected, "in parts of {cut}");
        }
    }
}
