//! The way from a CA that is there already: founded on its root, which both share, and then away from it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::SystemClock;
use integration_tests::mesh::{
    Cacerts, Guest, Holding, LiveMesh, Member, MeshPlan, SOON, Talk, Traffic, eventually,
};
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, AttestRootRequest, ConfirmRelyingPartyRequest, Rotation,
    StartRotationRequest,
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use tokio::task::JoinHandle;
use trust::{Clock as _, Root, RootId, Timestamp};

/// Life of leaves of both CAs, in seconds.
const LIFE: u64 = 12;
/// Twice the skew of the test mesh, in seconds.
const SKEWS: i64 = 4;
/// Longest wait for the horizon of a root.
const HORIZON_MAX: Duration = Duration::from_secs(90);

/// Stands in for istiod, which is not had here: it issues under the root and the intermediate of `cacerts`, hands out the
/// roots of its mesh configuration, and does so until it is turned off.
struct FakeIstiod {
    issuer: Issuer<'static, KeyPair>,
    intermediate: Vec<u8>,
    roots: Mutex<Vec<Vec<u8>>>,
}

impl FakeIstiod {
    fn of(cacerts: &Cacerts) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // As the intermediate's subject is written.
        params.distinguished_name.push(DnType::OrganizationName, "Istio");
        params.distinguished_name.push(DnType::CommonName, "Intermediate CA");
        let key = KeyPair::from_pem(&cacerts.read("ca-key.pem")?)?;
        let der = |name: &str| anyhow::Ok(pem::parse(cacerts.read(name)?)?.into_contents());
        Ok(Self {
            issuer: Issuer::new(params, key),
            intermediate: der("ca-cert.pem")?,
            roots: Mutex::new(vec![der("root-cert.pem")?]),
        })
    }

    /// A leaf and the roots of the mesh configuration.
    fn issue(&self, identity: &str) -> anyhow::Result<Holding> {
        let (key, now) = (KeyPair::generate()?, SystemClock.now());
        let at = |time: Timestamp| {
            let since = u64::try_from(time.as_secs()).unwrap_or_default();
            date_time_ymd(1970, 1, 1) + Duration::from_secs(since)
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = at(now.minus(Duration::from_secs(2)));
        params.not_after = at(now.plus(Duration::from_secs(LIFE)));
        params.serial_number = Some(SerialNumber::from(now.as_secs().to_be_bytes().to_vec()));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Holding {
            chain: vec![leaf.der().to_vec(), self.intermediate.clone()],
            key: key.serialize_der(),
            roots: self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    /// Puts roots into the mesh configuration. Members have them with their next leaf.
    fn trust(&self, roots: Vec<Vec<u8>>) {
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = roots;
    }
}

/// A mesh with members of both CAs.
struct Both {
    mesh: LiveMesh,
    old: RootId,
    istiod: Arc<FakeIstiod>,
    issuing: JoinHandle<()>,
    guests: Vec<Arc<Guest>>,
    traffic: Traffic,
}

impl Both {
    async fn start() -> anyhow::Result<Self> {
        let cacerts = Cacerts::make().await?;
        let declared = format!("foreign_leaf_max = \"{LIFE}s\"");
        let sections = format!(
            "[root]\nauthority = \"istio\"\n{}[authority.own]\nplugin = \"self-signed\"\n",
            cacerts.section("istio", &declared)
        );
        let mesh = LiveMesh::of(
            &MeshPlan { life: LIFE, agents: 2, clients: 1, sections, ..MeshPlan::default() },
            &(),
        )
        .await?;
        let old = Root::parse(&pem::parse(cacerts.read("root-cert.pem")?)?.into_contents())?.id();
        assert_eq!(
            mesh.ca.running().bundle().roots()[0].id(),
            old,
            "the CA stands on the root that is there"
        );
        let istiod = Arc::new(FakeIstiod::of(&cacerts)?);
        let guest = |number: u32| {
            let name = format!("legacy-{number}");
            Ok(Arc::new(Guest::new(&name, istiod.issue(&identity(&name))?)))
        };
        let guests: Vec<_> = (1..=2).map(guest).collect::<anyhow::Result<_>>()?;
        let issuing = tokio::spawn(issue_on(Arc::clone(&istiod), guests.clone()));
        let members: Vec<_> =
            mesh.members().into_iter().chain(guests.iter().cloned().map(Member::Guest)).collect();
        let traffic = Traffic::among(&members);
        Ok(Self { mesh, old, istiod, issuing, guests, traffic })
    }

    /// Starts the rotation, and confirms for istiod's members once their mesh configuration has the new root.
    async fn rotate_until_old_drains(&self) -> anyhow::Result<()> {
        let ca = &self.mesh.ca;
        let mut client = ca.rotations();
        let request = StartRotationRequest {
            request_id: "own".to_owned(),
            authority: "own".to_owned(),
            dry_run: true,
            ..StartRotationRequest::default()
        };
        let said = client.start_rotation(request).await?.into_inner().forecast;
        assert!(
            said.iter().any(|text| text.contains("others issue under the root that signs")),
            "{said:#?}"
        );
        let name = || "istio-mesh".to_owned();
        client
            .add_relying_party(AddRelyingPartyRequest { name: name(), ..Default::default() })
            .await?;
        ca.rotate_to("own", "own").await?;
        let waits = |rotation: &Rotation| {
            let gate = rotation.gate.as_ref().filter(|gate| gate.name == "trust");
            gate.is_some_and(|gate| {
                gate.holders.iter().any(|holder| holder.identity == "istio-mesh")
            })
        };
        ca.until_rotation("istiod's members are waited for", SOON, waits).await?;
        let roots: Vec<_> =
            ca.running().bundle().roots().iter().map(|root| root.der().to_vec()).collect();
        assert_eq!(roots.len(), 2);
        self.istiod.trust(roots);
        eventually("every member of istiod trusts both roots", || async {
            self.guests.iter().all(|guest| guest.holding().trusted().len() == 2)
        })
        .await?;
        let by = "ann".to_owned();
        client
            .confirm_relying_party(ConfirmRelyingPartyRequest {
                name: name(),
                sequence: 0,
                by,
                ..Default::default()
            })
            .await?;
        ca.until_rotation("the new root signs", SOON, |rotation| rotation.phase == "draining")
            .await?;
        Ok(())
    }

    async fn attest(&self, root: RootId) -> Result<i64, tonic::Status> {
        let (root, by) = (root.as_bytes().to_vec(), "ann".to_owned());
        let request = AttestRootRequest { root, quiet_seconds: 0, by, ..Default::default() };
        let root = self.mesh.ca.rotations().attest_root(request).await?.into_inner();
        assert!(root.attested_by.starts_with("ann (uid "), "{root:?}");
        Ok(root.foreign_until)
    }

    /// Waits until leaves of this CA under the old root have ended and no more can come.
    async fn until_past_horizon(&self) -> anyhow::Result<()> {
        let past = |rotation: &Rotation| {
            let gate = rotation.gate.as_ref();
            gate.is_some_and(|gate| gate.holders.iter().all(|holder| holder.kind == "shared-root"))
        };
        let ca = &self.mesh.ca;
        ca.until_rotation("only others hold the gate", HORIZON_MAX, past).await?;
        let roots = self.mesh.ca.roots().await?;
        let horizon =
            roots.iter().find(|root| root.id == self.old.as_bytes()).map_or(0, |root| root.horizon);
        ca.until_rotation("the horizon is past", HORIZON_MAX, |rotation| {
            rotation.phase != "draining"
                || rotation.gate.as_ref().is_some_and(|gate| gate.at > horizon + SKEWS + 2)
        })
        .await?;
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<[Talk; 2]> {
        self.issuing.abort();
        let guests = self.traffic.stop().await?;
        Ok([guests, self.mesh.stop().await?])
    }
}

fn identity(name: &str) -> String {
    format!("spiffe://example.org/ns/legacy/sa/{name}")
}

/// Renews every guest's leaf twice in its life.
async fn issue_on(istiod: Arc<FakeIstiod>, guests: Vec<Arc<Guest>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(LIFE / 3)).await;
        for guest in &guests {
            if let Ok(holding) = istiod.issue(&identity(guest.name())) {
                guest.hold(holding);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_leaves_the_root_that_it_shares_with_a_fake_istiod_and_no_handshake_fails()
-> anyhow::Result<()> {
    let both = Both::start().await?;
    both.rotate_until_old_drains().await?;
    both.until_past_horizon().await?;

    // All is over but for what only somebody's word can tell: it waits, and says whose and how.
    let waiting = both.mesh.ca.rotation().await?;
    assert_eq!(waiting.phase, "draining");
    let gate = waiting.gate.unwrap_or_default();
    assert_eq!((gate.open, gate.opens_at_latest), (false, 0), "{gate:#?}");
    assert!(gate.ways.iter().any(|way| way.contains("banyan root attest")), "{gate:#?}");
    let told =
        gate.holders.iter().find(|holder| holder.kind == "shared-root").map(|holder| &holder.text);
    assert!(told.is_some_and(|text| text.contains("banyan root attest")), "{gate:#?}");

    let own =
        both.mesh.ca.running().bundle().roots().iter().map(Root::id).find(|id| *id != both.old);
    let refused =
        both.attest(own.unwrap_or(both.old)).await.expect_err("the new root is the CA's alone");
    assert!(refused.message().contains("this CA's alone"), "{refused:?}");

    both.issuing.abort();
    let until = both.attest(both.old).await?;
    let last = both.guests.iter().filter_map(|guest| guest.holding().leaf());
    let last = last.map(|leaf| leaf.validity().not_after().as_secs()).max().unwrap_or_default();
    assert!(last <= until, "istiod's last leaf ends at {last}, the gate counts on {until}");
    both.mesh.over("own").await?;
    assert!(SystemClock.now().as_secs() > until + SKEWS, "the root went before its last leaf");
    let bundle = both.mesh.ca.running().bundle();
    assert_eq!(
        bundle.roots().iter().map(Root::id).collect::<Vec<_>>(),
        own.into_iter().collect::<Vec<_>>()
    );

    for talk in both.stop().await? {
        println!("{} handshakes, {} failed", talk.handshakes, talk.failed.len());
        assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
        assert!(talk.failed.is_empty(), "{:#?}", talk.failed.first());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_word_that_the_fake_istiod_was_turned_off_is_seen_by_its_members()
-> anyhow::Result<()> {
    let both = Both::start().await?;
    both.rotate_until_old_drains().await?;
    both.attest(both.old).await?;
    both.mesh.over("own").await?;
    let broken = || async {
        let [guest, member] = [both.guests[0].holding(), both.mesh.proxies[0].holding()];
        integration_tests::mesh::shake(("guest", &guest), ("member", &member)).is_err()
    };
    eventually("a member of istiod is left behind", broken).await?;
    let [guests, members] = both.stop().await?;
    assert!(!guests.failed.is_empty());
    assert!(members.failed.is_empty(), "{:#?}", members.failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_root_without_a_declared_life_is_not_attested() -> anyhow::Result<()> {
    let cacerts = Cacerts::make().await?;
    let sections = format!("[root]\nauthority = \"istio\"\n{}", cacerts.section("istio", ""));
    let mesh =
        LiveMesh::of(&MeshPlan { life: LIFE, agents: 2, sections, ..MeshPlan::default() }, &())
            .await?;
    let root = mesh.ca.running().bundle().roots()[0].id();
    let request = AttestRootRequest {
        root: root.as_bytes().to_vec(),
        quiet_seconds: 0,
        by: String::new(),
        ..Default::default()
    };
    let refused = mesh.ca.rotations().attest_root(request).await.expect_err("no life is declared");
    for words in ["foreign_leaf_max", "[authority.istio]", "restart"] {
        assert!(refused.message().contains(words), "{words} is missing in: {}", refused.message());
    }
    let listed = mesh.ca.roots().await?;
    assert!(listed[0].shared && listed[0].attested_by.is_empty(), "{listed:#?}");
    mesh.stop().await?;
    Ok(())
}
