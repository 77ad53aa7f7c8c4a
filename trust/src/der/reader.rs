//! The strict reader.

use super::tag;

/// Deepest nesting of constructed values that is read.
pub const DEPTH_MAX: u8 = 16;

/// Longest length that is read, in bytes: four length octets are refused before any arithmetic on them.
const LENGTH_OCTETS_MAX: usize = 3;

/// Why bytes are not the DER that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DerError {
    /// The input ends inside a value.
    #[error("the input ends inside a value")]
    Truncated,
    /// Bytes follow the last value.
    #[error("bytes follow the last value")]
    Trailing,
    /// Another type stands where this one was expected.
    #[error("a value has another type than its place demands")]
    UnexpectedTag,
    /// A tag of more than one byte, or the reserved tag zero.
    #[error("a tag is longer than one byte or reserved")]
    UnsupportedTag,
    /// A length that is indefinite, not minimal, or above 16 MiB.
    #[error("a length is indefinite, not minimal, or above 16 MiB")]
    Length,
    /// Values are nested deeper than [`DEPTH_MAX`].
    #[error("values are nested deeper than 16")]
    TooDeep,
    /// The content of a value is not canonical for its type.
    #[error("a value is not canonical DER of its type")]
    NotCanonical,
}

/// One value: its identifier octet, its content, and both with the length between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Identifier octet, class and constructed bit included.
    pub tag: u8,
    /// Content octets.
    pub content: &'a [u8],
    /// The whole value: tag, length and content.
    pub raw: &'a [u8],
}

/// Reads one value after another from a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`, at depth zero.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Identifier octet of the next value, if there is one.
    pub fn peek_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Demands that everything has been read.
    ///
    /// # Errors
    /// [`DerError::Trailing`] if bytes are left.
    pub const fn finish(&self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    /// Reads the next value, whatever its type. Its content is not looked into.
    ///
    /// # Errors
    /// [`DerError`] if its tag or length is not DER, or the input ends before it does.
    pub fn element(&mut self) -> Result<Element<'a>, DerError> {
        let whole = self.rest;
        let (&tag, after_tag) = whole.split_first().ok_or(DerError::Truncated)?;
        if tag == 0 || tag & 0x1f == 0x1f {
            return Err(DerError::UnsupportedTag);
        }
        let (length, after_length) = read_length(after_tag)?;
        let (content, rest) = after_length.split_at_checked(length).ok_or(DerError::Truncated)?;
        let (raw, _) =
            whole.split_at_checked(whole.len() - rest.len()).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// Reads the next value if its identifier octet is `tag`; else reads nothing.
    ///
    /// # Errors
    /// As [`Self::element`].
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.peek_tag() == Some(tag) { self.element().map(Some) } else { Ok(None) }
    }

    /// Reads the next value, which must have the identifier octet `tag`, and returns its content.
    ///
    /// # Errors
    /// As [`Self::element`], and [`DerError::UnexpectedTag`].
    pub fn value(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        match self.peek_tag() {
            Some(found) if found != tag => Err(DerError::UnexpectedTag),
            _ => Ok(self.element()?.content),
        }
    }

    /// Enters the next value, which must be constructed and have the identifier octet `tag`.
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::TooDeep`].
    pub fn enter(&mut self, tag: u8) -> Result<Reader<'a>, DerError> {
        let rest = self.value(tag)?;
        self.inside(rest)
    }

    /// Enters the next value, which must be a `SEQUENCE`.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn sequence(&mut self) -> Result<Reader<'a>, DerError> {
        self.enter(tag::SEQUENCE)
    }

    /// Reads `content`, which was found inside the value this reader stands in, one level deeper.
    ///
    /// # Errors
    /// [`DerError::TooDeep`] beyond [`DEPTH_MAX`] levels.
    pub fn inside(&self, content: &'a [u8]) -> Result<Reader<'a>, DerError> {
        if self.depth >= DEPTH_MAX {
            return Err(DerError::TooDeep);
        }
        Ok(Reader { rest: content, depth: self.depth + 1 })
    }

    /// Reads an `INTEGER` that is not negative, and returns its magnitude without a leading zero octet (zero itself is
    /// one zero octet).
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::NotCanonical`] if it is negative, empty or not minimal.
    pub fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        let content = self.value(tag::INTEGER)?;
        match content {
            [0] => Ok(content),
            [0, magnitude @ ..] if magnitude.first().is_some_and(|first| first & 0x80 != 0) => {
                Ok(magnitude)
            }
            [first, ..] if *first != 0 && first & 0x80 == 0 => Ok(content),
            _ => Err(DerError::NotCanonical),
        }
    }

    /// Reads a `BOOLEAN`.
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::NotCanonical`] unless its content is 00 or FF.
    pub fn boolean(&mut self) -> Result<bool, DerError> {
        match self.value(tag::BOOLEAN)? {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::NotCanonical),
        }
    }

    /// Reads a `BOOLEAN DEFAULT FALSE`: absent, or TRUE. DER does not write a default (X.690 §11.5).
    ///
    /// # Errors
    /// As [`Self::boolean`], and [`DerError::NotCanonical`] for an explicit FALSE.
    pub fn default_false(&mut self) -> Result<bool, DerError> {
        if self.peek_tag() != Some(tag::BOOLEAN) {
            return Ok(false);
        }
        if self.boolean()? { Ok(true) } else { Err(DerError::NotCanonical) }
    }

    /// Reads an `OBJECT IDENTIFIER` and returns its content, to compare with [`super::oid`].
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::NotCanonical`] if an arc is cut off or starts with a padding octet.
    pub fn oid(&mut self) -> Result<&'a [u8], DerError> {
        let content = self.value(tag::OID)?;
        check_oid(content)?;
        Ok(content)
    }

    /// Reads a `BIT STRING` of whole octets and returns them.
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::NotCanonical`] if bits of the last octet are unused.
    pub fn octets_of_bit_string(&mut self) -> Result<&'a [u8], DerError> {
        match self.value(tag::BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::NotCanonical),
        }
    }

    /// Reads a `BIT STRING` of up to 16 named bits; named bit `n` is bit `n` of the result.
    ///
    /// # Errors
    /// As [`Self::value`], and [`DerError::NotCanonical`] if it is longer or ends in a zero bit (X.690 §11.2.2).
    pub fn named_bits(&mut self) -> Result<u16, DerError> {
        let (unused, first, second) = match *self.value(tag::BIT_STRING)? {
            [0] => return Ok(0),
            [unused, first] if first.trailing_zeros() == u32::from(unused) => (unused, first, 0),
            [unused, first, second] if second.trailing_zeros() == u32::from(unused) => {
                (unused, first, second)
            }
            _ => return Err(DerError::NotCanonical),
        };
        if unused > 7 {
            return Err(DerError::NotCanonical);
        }
        Ok(u16::from(first.reverse_bits()) | u16::from(second.reverse_bits()) << 8)
    }
}

/// Reads `bytes` to the end as values of any type, entering every constructed one, and demands DER of all of them.
///
/// # Errors
/// [`DerError`] of the first value that is not DER: this includes the content of booleans, integers, nulls, object
/// identifiers and bit strings, and the order of the members of a set.
pub fn walk(reader: &mut Reader<'_>) -> Result<(), DerError> {
    while !reader.is_empty() {
        walk_one(reader)?;
    }
    Ok(())
}

fn walk_one(reader: &mut Reader<'_>) -> Result<(), DerError> {
    let mut one = reader.clone();
    let element = reader.element()?;
    match element.tag {
        tag::BOOLEAN => one.boolean().map(drop),
        tag::INTEGER => check_integer(element.content),
        tag::OID => check_oid(element.content),
        tag::NULL if element.content.is_empty() => Ok(()),
        tag::NULL => Err(DerError::NotCanonical),
        tag::BIT_STRING => check_bit_string(element.content),
        tag::SET => {
            check_set_order(reader.inside(element.content)?)?;
            walk(&mut reader.inside(element.content)?)
        }
        // Of the universal types, only sequence and set are constructed in DER (X.690 §10.2), and always.
        0x10 | 0x11 => Err(DerError::NotCanonical),
        tag::SEQUENCE => walk(&mut reader.inside(element.content)?),
        0x20..=0x3f => Err(DerError::NotCanonical),
        constructed if constructed & 0x20 != 0 => walk(&mut reader.inside(element.content)?),
        _ => Ok(()),
    }
}

/// Demands that the values in `members` stand in ascending order, as DER has it for `SET OF` (X.690 §11.6).
pub(crate) fn check_set_order(mut members: Reader<'_>) -> Result<(), DerError> {
    let mut previous: &[u8] = &[];
    while !members.is_empty() {
        let member = members.element()?.raw;
        if member < previous {
            return Err(DerError::NotCanonical);
        }
        previous = member;
    }
    Ok(())
}

fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (&first, rest) = bytes.split_first().ok_or(DerError::Truncated)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > LENGTH_OCTETS_MAX {
        return Err(DerError::Length);
    }
    let (octets, rest) = rest.split_at_checked(count).ok_or(DerError::Truncated)?;
    let length = octets.iter().fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
    // Minimal: no leading zero octet, and the short form wherever it is enough.
    if octets.first() == Some(&0) || length < 0x80 {
        return Err(DerError::Length);
    }
    Ok((length, rest))
}

fn check_integer(content: &[u8]) -> Result<(), DerError> {
    match content {
        [] => Err(DerError::NotCanonical),
        [0x00, next, ..] if next & 0x80 == 0 => Err(DerError::NotCanonical),
        [0xff, next, ..] if next & 0x80 != 0 => Err(DerError::NotCanonical),
        _ => Ok(()),
    }
}

fn check_oid(content: &[u8]) -> Result<(), DerError> {
    let ends_inside_an_arc = content.last().is_none_or(|last| last & 0x80 != 0);
    let mut starts_an_arc = true;
    let mut padded = false;
    for octet in content {
        padded |= starts_an_arc && *octet == 0x80;
        starts_an_arc = octet & 0x80 == 0;
    }
    if ends_inside_an_arc || padded { Err(DerError::NotCanonical) } else { Ok(()) }
}

fn check_bit_string(content: &[u8]) -> Result<(), DerError> {
    match content {
        [0] => Ok(()),
        [unused @ 0..=7, .., last] if last.trailing_zeros() >= u32::from(*unused) => Ok(()),
        _ => Err(DerError::NotCanonical),
    }
}

#[cfg(test)]
mod tests;
