//! The store is away, slow, full, or does not let servers in.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use integration_tests::replicas::{GIVEN, LEASE, Plan, Trio};
use integration_tests::support::eventually;
use stores_peers::{Etcd, Line, Pki, Setup};
use tokio::time::Instant;

use super::ROTATION_MAX;

const LAPSED: &str = "Unavailable LEASE_LAPSED, with a time to retry";

pub(crate) async fn without_the_store_leaves_are_issued_for_as_long_as_the_lease_holds_and_again_once_it_is_back(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let hammer = trio.hammer(1)?;
    hammer.until(GIVEN).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    trio.etcd.stop();
    let (away, before) = (Instant::now(), trio.received.all().len());
    eventually("the lease goes on", || async { trio.received.all().len() > before + 3 }).await?;
    ensure!(away.elapsed() < LEASE, "leaves were issued under the lease: {:?}", away.elapsed());
    hammer.until(LAPSED).await?;
    for index in 0..3 {
        let said = trio.at(index)?.until_it_says("the lease of this replica lapsed").await?;
        ensure!(said.contains("goes on by itself once its lease is renewed"), "{said}");
        ensure!(trio.at(index)?.sees(&format!("ca-{}", index + 1)).await?.standing == "silent");
        // All are well but for the store: nobody is blamed.
        let said = trio.at(index)?.status().await?.conditions;
        ensure!(!said.iter().any(|one| one.contains("replica remove")), "{said:?}");
    }
    trio.etcd.run()?;
    trio.all_ready().await?;
    hammer.forget();
    hammer.until(GIVEN).await?;
    drop(hammer);
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_store_that_answers_late_delays_a_rotation_and_nothing_else(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    for server in &trio.servers {
        server.line(Line::Slow(Duration::from_millis(300))).await?;
    }
    trio.rotate(1, "among-faults").await?;
    trio.phase("draining").await?;
    // Nobody lost a lease or took another for dead.
    trio.all_ready().await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    for server in &trio.servers {
        server.line(Line::Up).await?;
    }
    trio.judged().await.map(drop)
}

pub(crate) async fn a_store_that_is_full_stops_releases_and_they_go_on_by_themselves_once_it_has_room(
    plan: Plan,
) -> anyhow::Result<()> {
    let etcd = Setup::plain().with("--quota-backend-bytes=6000000");
    let mut trio = Trio::start(&Plan { etcd, ..plan }).await?;
    let hammer = trio.hammer(1)?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    let junk = "x".repeat(400_000);
    // "ag==" is `j`.
    let put = format!("{{\"key\":\"ag==\",\"value\":\"{junk}\"}}");
    let full = (0..60).any(|_| trio.etcd.post("/v3/kv/put", &put).is_err());
    ensure!(full, "etcd takes more than its quota");
    hammer.until(LAPSED).await?;
    trio.at(1)?
        .until_it_says_of("the lease of this replica lapsed", "database space exceeded")
        .await?;
    trio.etcd.post("/v3/kv/deleterange", "{\"key\":\"ag==\"}")?;
    trio.etcd.compact()?;
    trio.etcd.post("/v3/maintenance/defragment", "{}")?;
    let member = trio.etcd.number("/v3/maintenance/status", "{}", "member_id")?;
    let disarm =
        format!("{{\"action\":\"DEACTIVATE\",\"memberID\":\"{member}\",\"alarm\":\"NOSPACE\"}}");
    trio.etcd.post("/v3/maintenance/alarm", &disarm)?;
    trio.all_ready().await?;
    hammer.forget();
    hammer.until(GIVEN).await?;
    drop(hammer);
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_server_whose_certificate_the_store_refuses_says_so_and_goes_on_with_a_right_one(
    plan: Plan,
) -> anyhow::Result<()> {
    let (pki, other) = (Pki::new()?, Pki::new()?);
    let read = |pki: &Pki, name: &str| fs::read_to_string(pki.path(name));
    let plan = plan.over_tls(&pki)?;
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    let replace = |trio: &Trio, pki: &Pki| -> anyhow::Result<()> {
        for name in ["client.pem", "client.key"] {
            fs::write(trio.at(0)?.home().join(name), read(pki, name)?)?;
        }
        Ok(())
    };
    replace(&trio, &other)?;
    // Connections end at some time, and the files are read again once one could not be made anew.
    trio.at(0)?.line(Line::Cut).await?;
    trio.at(0)?.until_it_says("the lease of this replica lapsed").await?;
    trio.at(0)?.line(Line::Up).await?;
    // Why, and what follows from it.
    trio.at(0)?
        .until_it_says_of("the lease of this replica lapsed", "the certificate of cert_file")
        .await?;
    trio.at(1)?.until_it_says("replica ca-1 (").await?;
    replace(&trio, &pki)?;
    trio.ready(0).await?;
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

/// A user of etcd who may do what a role may, and a role that may be changed.
struct Rights<'a> {
    etcd: &'a Etcd,
    token: Option<String>,
}

/// "L2Jhbnlhbi8=" is `/banyan/`, and "L2JhbnlhbjA=" the end of what begins so.
const PREFIX: &str = "\"key\":\"L2Jhbnlhbi8=\",\"range_end\":\"L2JhbnlhbjA=\"";

impl<'a> Rights<'a> {
    fn of(etcd: &'a Etcd) -> anyhow::Result<Self> {
        for (path, body) in [
            ("user/add", "{\"name\":\"root\",\"password\":\"r\"}"),
            ("role/add", "{\"name\":\"root\"}"),
            ("user/grant", "{\"user\":\"root\",\"role\":\"root\"}"),
            ("user/add", "{\"name\":\"banyan\",\"password\":\"secret\"}"),
            ("role/add", "{\"name\":\"ca\"}"),
            ("user/grant", "{\"user\":\"banyan\",\"role\":\"ca\"}"),
        ] {
            etcd.post(&format!("/v3/auth/{path}"), body)?;
        }
        let rights = Self { etcd, token: None };
        rights.give()?;
        etcd.post("/v3/auth/enable", "{}")?;
        Ok(rights)
    }

    fn sign_in(&mut self) -> anyhow::Result<()> {
        let asked = "{\"name\":\"root\",\"password\":\"r\"}";
        let token = self.etcd.number("/v3/auth/authenticate", asked, "token")?;
        self.token = Some(token);
        Ok(())
    }

    fn give(&self) -> anyhow::Result<()> {
        let body = format!("{{\"name\":\"ca\",\"perm\":{{\"permType\":\"READWRITE\",{PREFIX}}}}}");
        self.etcd.post_as(self.token.as_deref(), "/v3/auth/role/grant", &body).map(drop)
    }

    fn take(&self) -> anyhow::Result<()> {
        let body = format!("{{\"role\":\"ca\",{PREFIX}}}");
        self.etcd.post_as(self.token.as_deref(), "/v3/auth/role/revoke", &body).map(drop)
    }
}

pub(crate) async fn servers_that_may_no_longer_write_say_so_and_go_on_once_they_may(
    plan: Plan,
) -> anyhow::Result<()> {
    let store = "user = \"banyan\"\npassword_file = \"password\"\n".to_owned();
    let store_files = vec![("password".to_owned(), "secret\n".to_owned())];
    let prepare = |etcd: &Etcd| Rights::of(etcd).map(drop);
    let mut trio = Trio::start_over(&Plan { store, store_files, ..plan }, prepare).await?;
    let hammer = trio.hammer(1)?;
    let since = Instant::now();
    trio.rotate(1, "among-faults").await?;
    trio.phase("distributing").await?;
    let mut rights = Rights { etcd: &trio.etcd, token: None };
    rights.sign_in()?;
    rights.take()?;
    hammer.until(LAPSED).await?;
    trio.at(1)?.until_it_says_of("the lease of this replica lapsed", "permission denied").await?;
    rights.sign_in()?;
    rights.give()?;
    trio.all_ready().await?;
    hammer.forget();
    hammer.until(GIVEN).await?;
    drop(hammer);
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn servers_that_start_without_rights_say_what_they_wait_for_and_go_on_once_they_have_them(
    plan: Plan,
) -> anyhow::Result<()> {
    let store = "user = \"banyan\"\npassword_file = \"password\"\n".to_owned();
    let store_files = vec![("password".to_owned(), "secret\n".to_owned())];
    let plan = Plan { store, store_files, ..plan };
    let mut trio = Trio::seated(&plan, |etcd| Rights::of(etcd).map(drop)).await?;
    let mut rights = Rights { etcd: &trio.etcd, token: None };
    rights.sign_in()?;
    rights.take()?;
    let token = rights.token.take();
    for server in &mut trio.servers {
        server.start()?;
    }
    for server in &trio.servers {
        let told = || async {
            let said = server.probed().await.unwrap_or_default();
            said.starts_with("HTTP/1.1 503") && said.contains("permission denied")
        };
        eventually("a probe is told which rights are missing", told).await?;
    }
    Rights { etcd: &trio.etcd, token }.give()?;
    for server in &mut trio.servers {
        server.ready().await?;
    }
    trio.populated(&plan).await?;
    trio.judged().await.map(drop)
}
