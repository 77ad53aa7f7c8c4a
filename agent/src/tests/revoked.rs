//! Leaves that the CA revoked: nobody is handed one, and whoever has one gets another or one that nobody believes.

use proto::banyan::agent::v1::server_message::Message as Down;
use proto::banyan::agent::v1::{DoubtedRow, Revoke};
use trust::{Certificate, Clock as _};

use super::*;
use crate::fakes::ca::Misdeed;

/// What is on the wire of a leaf.
fn leaf_of(answer: &DiscoveryResponse) -> Certificate {
    Certificate::parse(&certificates_of(answer)[0]).unwrap()
}

fn serial_of(answer: &DiscoveryResponse) -> Vec<u8> {
    leaf_of(answer).serial().unwrap().as_bytes().to_vec()
}

impl Bench {
    fn tell_revoked(&self, serial: &[u8]) {
        let not_after = self.clock.now().plus(Duration::from_secs(3_600)).as_secs();
        let rows = vec![DoubtedRow { serial: serial.to_vec(), not_after }];
        self.ca.tell(&Down::Revoke(Revoke { rows }));
    }
}

#[tokio::test]
async fn a_holder_of_a_revoked_leaf_gets_another_at_once_and_the_former_is_released() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = serial_of(&leaf.next_acked().await);
    bench.tell_revoked(&[0x47; 16]);
    assert!(leaf.is_quiet().await, "another's is none of its business");
    bench.tell_revoked(&first);
    let second = leaf.next().await.unwrap();
    assert_ne!(serial_of(&second), first);
    assert!(!bench.ca.desk().released().contains(&first), "it has it until it says otherwise");
    leaf.ack(&second).await;
    bench.until_heard("it is released", |desk| desk.released().contains(&first)).await;
    bench.tell_revoked(&first);
    assert!(leaf.is_quiet().await, "said twice it does nothing more");
}

#[tokio::test]
async fn without_another_leaf_one_that_nobody_believes_takes_its_place_until_there_is_one() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = serial_of(&leaf.next_acked().await);
    bench.ca.desk().misdeed = Misdeed::Away;
    bench.tell_revoked(&first);
    let taken = leaf.next().await.unwrap();
    assert_eq!(taken.version_info, "revoked");
    let certificate = leaf_of(&taken);
    assert!(certificate.spiffe_id().is_err(), "it names nobody");
    assert_eq!(certificate.issuer_der(), certificate.subject_der(), "no root is above it");
    assert!(!bench.ca.desk().released().contains(&first));
    leaf.ack(&taken).await;
    assert!(leaf.is_quiet().await, "it is taken away once");
    let mut late = bench.subscribe("default").await;
    assert!(late.is_quiet().await, "nobody is handed a revoked leaf");
    bench.ca.desk().misdeed = Misdeed::None;
    // Until then the address rests.
    bench.clock.advance(Duration::from_secs(31));
    bench.until_heard("it is released", |desk| desk.released().contains(&first)).await;
    // Until then it waits, longer each time.
    bench.clock.advance(Duration::from_secs(31));
    let next = leaf.next_acked().await;
    assert!(serial_of(&next) != first && leaf_of(&next).spiffe_id().is_ok());
    assert_eq!(serial_of(&late.next_acked().await), serial_of(&next));
}

#[tokio::test]
async fn a_holder_that_refuses_what_nobody_believes_keeps_its_leaf_and_the_ca_goes_on_counting_it()
{
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let first = serial_of(&leaf.next_acked().await);
    bench.ca.desk().misdeed = Misdeed::Away;
    bench.tell_revoked(&first);
    let taken = leaf.next().await.unwrap();
    leaf.nack(&taken, "no such certificate").await;
    assert!(leaf.is_quiet().await, "what was refused is not offered again on this stream");
    assert!(!bench.ca.desk().released().contains(&first), "a gate waits for it");
    // On its next stream it is offered again.
    drop(leaf);
    let mut again = bench.subscribe("default").await;
    assert_eq!(again.next_acked().await.version_info, "revoked");
    bench.ca.desk().misdeed = Misdeed::None;
    // Until then the address rests.
    bench.clock.advance(Duration::from_secs(31));
    bench.until_heard("it is released", |desk| desk.released().contains(&first)).await;
}
