//! The form of [`Record::Unmatched`] in a file.
//!
//! A release that does not know a kind of record refuses the file as a newer one's, and servers of two releases must be
//! able to take each other's place at any time. So this record is written as a refusal, which every release reads and
//! passes over: its reason is one that no refusal has. Files of one release have a kind of its own for it, which is read.

use trust::Serial;

use crate::record::{AuditRefusal, Record};

const REASON: &str = "ISSUED_UNMATCHED";
const CALLER: &str = "chain";

/// The record as a refusal: the leaf that was issued, the one that was shown, and who should have its row.
pub(crate) fn as_refusal(serial: &Serial, shown: &Serial, owner: &str) -> AuditRefusal {
    let said = [REASON.to_owned(), CALLER.to_owned(), format!("{serial} {shown} {owner}")];
    let [reason, caller, detail] = said;
    AuditRefusal::from_texts((reason, caller, None, None, detail))
}

/// What a refusal is a record of.
pub(crate) fn record_of(refusal: AuditRefusal) -> Record {
    read(&refusal).unwrap_or(Record::Refused(refusal))
}

fn read(refusal: &AuditRefusal) -> Option<Record> {
    let (REASON, CALLER, None, None, detail) = refusal.texts() else { return None };
    let (serial, rest) = detail.split_once(' ')?;
    let (shown, owner) = rest.split_once(' ')?;
    let (serial, shown) = (serial_of(serial)?, serial_of(shown)?);
    Some(Record::Unmatched { serial, shown, owner: owner.to_owned() })
}

fn serial_of(hex: &str) -> Option<Serial> {
    let is_hex = hex.len() == Serial::LEN * 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = is_hex.then(|| u128::from_str_radix(hex, 16).ok())??;
    Serial::from_bytes(&value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::serial;

    #[test]
    fn what_was_issued_unmatched_reads_back_from_a_refusal_whatever_its_server_is_called() {
        for owner in ["ca-2", "", "a name with spaces", &"x".repeat(256)] {
            let owner = owner.to_owned();
            let written = as_refusal(&serial(2), &serial(1), &owner);
            let read = record_of(written);
            assert_eq!(read, Record::Unmatched { serial: serial(2), shown: serial(1), owner });
        }
    }

    #[test]
    fn a_refusal_stays_one() {
        let odd = AuditRefusal::new(REASON, CALLER).detail("no serials here");
        for refusal in [odd, AuditRefusal::new("CSR_TOO_LARGE", "jwt")] {
            assert_eq!(record_of(refusal.clone()), Record::Refused(refusal));
        }
    }
}
