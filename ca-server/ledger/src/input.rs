//! Reading the bytes of a payload, field by field.

use std::sync::Arc;

use trust::{CertificateId, RootId, Sequence, Serial, SpiffeId, SpkiHash, Timestamp};

use crate::fields::{DecodeError, WORD_VERSION};
use crate::record::AuditRefusal;
use crate::row::{
    Ended, Evidence, EvidenceClass, Forgotten, LiveRow, Probed, Proof, Row, RowKind, Word,
};

/// What is left to read.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Malformed)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, DecodeError> {
        self.array().map(|bytes| Timestamp::from_secs(i64::from_le_bytes(bytes)))
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let len = u16::from_le_bytes(self.array()?);
        let bytes = self.take(usize::from(len))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Malformed)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Malformed),
        }
    }

    pub(crate) fn serial(&mut self) -> Result<Serial, DecodeError> {
        Serial::from_bytes(self.take(Serial::LEN)?).ok_or(DecodeError::Malformed)
    }

    pub(crate) fn certificate(&mut self) -> Result<CertificateId, DecodeError> {
        CertificateId::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)
    }

    pub(crate) fn identity(&mut self) -> Result<SpiffeId, DecodeError> {
        SpiffeId::parse(&self.text()?).map_err(|_| DecodeError::Malformed)
    }

    pub(crate) fn row(&mut self, version: u8) -> Result<Row, DecodeError> {
        Ok(Row {
            serial: self.serial()?,
            spki: SpkiHash::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)?,
            identity: self.identity()?,
            agent: self.option(Self::text)?,
            root: RootId::from_bytes(self.take(32)?).ok_or(DecodeError::Malformed)?,
            issuer: self.certificate()?,
            not_after: self.time()?,
            born: Sequence(self.u64()?),
            kind: self.row_kind()?,
            word: if version < WORD_VERSION { Word::None } else { self.word()? },
        })
    }

    pub(crate) fn row_kind(&mut self) -> Result<RowKind, DecodeError> {
        Ok(match self.byte()? {
            0 => RowKind::AgentHeld,
            1 => RowKind::CsrOnly,
            2 => RowKind::ChannelTrusted,
            3 => RowKind::Own,
            4 => RowKind::AgentIdentity,
            5 => RowKind::Probe,
            _ => return Err(DecodeError::Newer),
        })
    }

    pub(crate) fn word(&mut self) -> Result<Word, DecodeError> {
        match self.byte()? {
            0 => Ok(Word::None),
            1 => Ok(Word::Trusting(Sequence(self.u64()?))),
            2 => Ok(Word::OwnTrust),
            3 => {
                let trusting = Sequence(self.u64()?);
                Ok(Word::Listening { trusting, seen: self.probed()? })
            }
            _ => Err(DecodeError::Newer),
        }
    }

    pub(crate) fn proof(&mut self) -> Result<Proof, DecodeError> {
        Ok(Proof { applied: Sequence(self.u64()?), class: self.class()?, at: self.time()? })
    }

    fn probed(&mut self) -> Result<Probed, DecodeError> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(Probed::Nothing);
        }
        let sequence = Sequence(self.u64()?);
        match byte {
            1 => Ok(Probed::NotProbeable(sequence)),
            2 => Ok(Probed::Unable(sequence)),
            3 => Ok(Probed::Observed(sequence)),
            _ => Err(DecodeError::Malformed),
        }
    }

    pub(crate) fn class(&mut self) -> Result<EvidenceClass, DecodeError> {
        Ok(match self.byte()? {
            1 => EvidenceClass::Assumed,
            2 => EvidenceClass::Sent,
            3 => EvidenceClass::Delivered,
            4 => EvidenceClass::Applied,
            5 => EvidenceClass::HandshakeObserved,
            _ => return Err(DecodeError::Newer),
        })
    }

    pub(crate) fn evidence(&mut self) -> Result<Evidence, DecodeError> {
        let mut levels = [Sequence(0); EvidenceClass::ALL.len()];
        for level in &mut levels {
            *level = Sequence(self.u64()?);
        }
        Ok(Evidence::from_levels(levels, self.time()?))
    }

    pub(crate) fn live_row(&mut self, version: u8) -> Result<LiveRow, DecodeError> {
        Ok(LiveRow {
            row: Arc::new(self.row(version)?),
            certificate: self.option(Self::certificate)?,
            evidence: self.evidence()?,
            ended: self.ended()?,
            forgotten: Forgotten::default(),
        })
    }

    pub(crate) fn ended(&mut self) -> Result<Option<Ended>, DecodeError> {
        Ok(match self.byte()? {
            0 => None,
            1 => Some(Ended::Released),
            2 => Some(Ended::Superseded { by: self.serial()? }),
            3 => Some(Ended::Abandoned),
            _ => return Err(DecodeError::Newer),
        })
    }

    /// A number in groups of 7 bits, the lowest first; all but the last have the high bit set.
    pub(crate) fn short(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                return Err(DecodeError::Malformed);
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    /// A time, as seconds from `base` on.
    pub(crate) fn time_from(&mut self, base: Timestamp) -> Result<Timestamp, DecodeError> {
        let folded = self.short()?;
        let seconds = (folded >> 1).cast_signed() ^ (folded & 1).cast_signed().wrapping_neg();
        Ok(Timestamp::from_secs(base.as_secs().wrapping_add(seconds)))
    }

    pub(crate) fn refusal(&mut self) -> Result<AuditRefusal, DecodeError> {
        let (reason, caller) = (self.text()?, self.text()?);
        let (identity, peer) = (self.option(Self::text)?, self.option(Self::text)?);
        Ok(AuditRefusal::from_texts((reason, caller, identity, peer, self.text()?)))
    }
}
