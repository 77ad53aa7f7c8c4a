//! Another root, signed with the one in the files: by its own key alone, and only where its path length leaves room.

use plugins::checks::{CrossExpectation, check_cross_answer};
use plugins::{CrossSign, CrossSignRequest};
use trust::Root;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn narrow(name: &str, path_len: u8) -> Ca {
    let key = KeyPair::generate().unwrap();
    let params = params(name, BasicConstraints::Constrained(path_len));
    let certificate = params.self_signed(&key).unwrap();
    Ca { pem: certificate.pem(), der: certificate.der().to_vec(), params, key }
}

fn crossing(world: &World) -> &dyn CrossSign {
    world.authority.cross_signing().unwrap()
}

async fn asked(world: &World, id: &str, own: &Ca, other: &Ca) -> Result<Vec<u8>, PluginError> {
    let request = CrossSignRequest::new(RootId::of(&own.der), other.der.clone(), DAY);
    match crossing(world).cross_sign(&context(id), &request).await? {
        Outcome::Ready(der) => Ok(der),
        later => panic!("{later:?}"),
    }
}

fn reason(refused: Result<Vec<u8>, PluginError>) -> String {
    match refused {
        Err(PluginError::Denied { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_root_with_its_own_key_conforms_and_signs_another_one() {
    let (own, other) = (root("mesh root"), root("next root"));
    let world = world(|directory| write_istio(directory, &own, "", &own.pem));
    let (directory, state) = (world.directory.clone(), Arc::new(MemoryState::new()));
    let open = move || opened(&directory, Arc::clone(&state), "");
    let report = run(&Subject::new(open, domain(), Arc::new(ManualClock::at(NOW)))).await;
    report.assert_conforms();
    assert!(report.passed().contains(&"cross-certificate-is-safe"), "{report}");

    let der = asked(&world, "one", &own, &other).await.unwrap();
    let [signer, other] = [&own, &other].map(|ca| Root::parse(&ca.der).unwrap());
    let most = NOW.plus(DAY);
    let (trust_domain, path_len, now) = (&domain(), 1, NOW);
    let expected = CrossExpectation {
        other: &other,
        signer: &signer,
        trust_domain,
        path_len,
        now,
        least: most,
        most,
    };
    check_cross_answer(&der, &expected).unwrap();
}

#[tokio::test]
async fn path_lengths_that_leave_no_room_another_key_and_a_twin_are_refused_with_why() {
    let other = root("next root");
    for (path_len, room) in [(1, false), (2, true)] {
        let own = narrow("narrow root", path_len);
        let world = world(|directory| write_istio(directory, &own, "", &own.pem));
        let answered = asked(&world, "one", &own, &other).await;
        assert_eq!(answered.is_ok(), room, "{answered:?}");
        if !room {
            let said = reason(answered);
            assert!(said.contains("path length 1") && said.contains("does not fit"), "{said}");
        }
    }
    let top = root("top");
    let ca = below(&top, "mesh", KeyPair::generate().unwrap(), 1);
    let by_intermediate = world(|directory| write_istio(directory, &ca, &ca.pem, &top.pem));
    let said = reason(asked(&by_intermediate, "one", &top, &other).await);
    assert!(said.contains("is an intermediate's"), "{said}");
    let own = root("mesh root");
    let world = world(|directory| write_istio(directory, &own, "", &own.pem));
    let said = reason(asked(&world, "one", &own, &root("mesh root")).await);
    assert!(said.contains("would look like a root"), "{said}");
    write_istio(&world.directory, &other, "", &other.pem);
    let said = reason(asked(&world, "two", &own, &root("third root")).await);
    assert!(said.contains("its key is not there"), "the files are another CA's by now: {said}");
}
