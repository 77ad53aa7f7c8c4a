//! Why the server ends a connection.

/// Why the server ended a connection; a label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its handshake came to no end in time.
    HalfOpen,
    /// It asked for nothing in time.
    Silent,
    /// It was idle.
    Idle,
    /// It did not take an answer in time.
    AnswerNotTaken,
    /// It was idle, had shown no credential, and its place was needed.
    Evicted,
    /// Too many bytes waited for it while the server's budget was spent.
    Budget,
    /// More frames that ask for nothing than its requests account for.
    Flood,
    /// Its address had as many connections as one may have.
    Address,
}

impl Cut {
    /// Every reason.
    pub(crate) const ALL: [Self; 8] = [
        Self::HalfOpen,
        Self::Silent,
        Self::Idle,
        Self::AnswerNotTaken,
        Self::Evicted,
        Self::Budget,
        Self::Flood,
        Self::Address,
    ];

    /// The reason as the label says it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::AnswerNotTaken => "answer_not_taken",
            Self::Evicted => "evicted",
            Self::Budget => "budget",
            Self::Flood => "flood",
            Self::Address => "address",
        }
    }
}
