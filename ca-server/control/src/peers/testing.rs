//! A fake of the other servers, and a roster of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use auth::authn::mtls::RowWord;
use replicas::{Peer, ReplicaRow, Roster, Standing};
use tokio::sync::watch;
use trust::{CertificateId, ManualClock, Serial, Timestamp};

use super::Peers;
use super::calls::{AgentLeaves, CallError, PeerCalls, Place, Statement};
use super::counters::PeerCounters;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// What a fake server does with a call.
#[derive(Clone, Debug, Default)]
pub(super) enum Manner {
    /// It knows no row.
    #[default]
    KnowsNone,
    /// It has this row, whatever it is asked about, and all leaves are its own.
    Knows(RowWord),
    /// It never answers.
    Hangs,
    /// It refuses.
    Fails,
}

/// A fake of the others: all of them have one manner.
#[derive(Debug, Default)]
pub(super) struct FakePeers {
    pub(super) manner: Mutex<Manner>,
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) told: Mutex<Vec<(String, Statement)>>,
}

impl FakePeers {
    pub(super) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    async fn answer(&self, peer: &Place) -> Result<Option<RowWord>, CallError> {
        self.asked.lock().unwrap().push(peer.name.to_string());
        let manner = self.manner.lock().unwrap().clone();
        match manner {
            Manner::KnowsNone => Ok(None),
            Manner::Knows(row) => Ok(Some(row)),
            Manner::Hangs => std::future::pending().await,
            Manner::Fails => Err(CallError::Refused("so it is told to".to_owned())),
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl PeerCalls for FakePeers {
    async fn look_up(
        &self,
        peer: &Place,
        _: CertificateId,
        _: Serial,
    ) -> Result<Option<RowWord>, CallError> {
        self.answer(peer).await
    }

    async fn tell(&self, peer: &Place, said: Vec<Statement>) -> Result<Vec<Serial>, CallError> {
        let knows = self.answer(peer).await?.is_some();
        let serials = said.iter().map(|said| said.serial).filter(|_| knows).collect();
        let named = said.into_iter().map(|said| (peer.name.to_string(), said));
        self.told.lock().unwrap().extend(named);
        Ok(serials)
    }

    async fn ask_to_renew(&self, peer: &Place, _: Vec<AgentLeaves>) -> Result<(), CallError> {
        self.answer(peer).await.map(drop)
    }
}

/// One server, and fakes of the others.
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) fakes: Arc<FakePeers>,
    pub(super) roster: watch::Sender<Arc<Roster>>,
    pub(super) counters: PeerCounters,
    pub(super) peers: Arc<Peers>,
}

pub(super) fn world() -> World {
    let clock = Arc::new(ManualClock::at(NOW));
    let (roster, of_roster) = watch::channel(Arc::default());
    let (fakes, counters) = (Arc::<FakePeers>::default(), PeerCounters::default());
    let peers = Peers::new(
        of_roster,
        Arc::<FakePeers>::clone(&fakes),
        Arc::<ManualClock>::clone(&clock),
        counters.clone(),
    );
    World { clock, fakes, roster, counters, peers: Arc::new(peers) }
}

impl World {
    /// These are there now, each as the process with this holder.
    pub(super) fn there(&self, servers: &[(&str, &str)]) {
        let peer = |(name, holder): &(&str, &str)| {
            let row = ReplicaRow {
                holder: (*holder).to_owned(),
                place: (*name).to_owned(),
                address: Some(format!("{name}.example.org:15012")),
                version: "0.1.0".to_owned(),
                reads: 1,
                lease_millis: 3_600_000,
                beat: 3,
                wall_millis: 0,
                standing: Standing::Serves,
                segment: None,
            };
            let peer =
                Peer { row, seen_at: trust::Clock::uptime(&*self.clock), ahead_millis: None };
            (name.parse().unwrap(), peer)
        };
        let peers: BTreeMap<_, _> = servers.iter().map(peer).collect();
        self.roster.send_replace(Arc::new(Roster { peers, ..Roster::default() }));
    }

    /// Changes what one of them says of itself.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Peer)) {
        self.roster.send_modify(|roster| {
            let mut changed = Roster::clone(roster);
            change(changed.peers.get_mut(&name.parse().unwrap()).unwrap());
            *roster = Arc::new(changed);
        });
    }
}

pub(super) fn serial(number: u8) -> Serial {
    let mut bytes = [0x40; Serial::LEN];
    bytes[Serial::LEN - 1] = number;
    Serial::from_bytes(&bytes).unwrap()
}

/// Lets tasks run until this is so.
pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
