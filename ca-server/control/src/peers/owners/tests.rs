//! What is asked about a leaf, and for how long the answer counts.

use trust::{RootId, SpiffeId, SpkiHash};

use super::super::testing::{Manner, serial, world};
use super::*;

fn leaf(number: u8) -> ShownLeaf {
    ShownLeaf {
        identity: SpiffeId::parse("spiffe://example.org/x").unwrap(),
        serial: serial(number),
        certificate: CertificateId::of(&[number]),
        issuer: Some(CertificateId::of(b"issuer")),
        root: RootId::of(b"root"),
    }
}

fn row(standing: Standing) -> RowWord {
    RowWord {
        spki: SpkiHash::of(b"key"),
        identity: SpiffeId::parse("spiffe://example.org/x").unwrap(),
        certificate: None,
        standing,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_a_while_and_a_silence_for_nothing() {
    let world = world();
    world.there(&[("b", "b-1")]);
    let (b, issuer) = ("b".parse().unwrap(), CertificateId::of(b"issuer"));
    let ask = async |number| world.peers.ask(&b, issuer, &leaf(number)).await;
    for (number, standing, good_for) in [
        (1, Standing::Live, Some(GOOD_FOR)),
        (2, Standing::Superseded, Some(GOOD_FOR)),
        (3, Standing::Released, Some(BAD_FOR)),
        (4, Standing::Forgotten, None),
    ] {
        let says = Some(Elsewhere::Row(row(standing)));
        world.fakes.behave(Manner::Knows(row(standing)));
        assert_eq!(ask(number).await, says, "{standing:?}");
        world.fakes.behave(Manner::KnowsNone);
        if let Some(good_for) = good_for {
            world.clock.advance(good_for - Duration::from_secs(1));
            assert_eq!(ask(number).await, says, "{standing:?}");
            world.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(ask(number).await, Some(Elsewhere::Unknown), "{standing:?}");
    }
    world.fakes.behave(Manner::Fails);
    assert_eq!(ask(4).await, Some(Elsewhere::Unknown), "that counts for a while, too");
    assert_eq!(ask(5).await, None);
    world.fakes.behave(Manner::Knows(row(Standing::Live)));
    world.clock.advance(BAD_FOR);
    assert_eq!(ask(5).await, Some(Elsewhere::Row(row(Standing::Live))));
}
