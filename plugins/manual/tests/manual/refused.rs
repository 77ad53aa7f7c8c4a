//! What is brought and not taken.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use plugin_manual::Folder;
use plugins::{HealthState, KeySpec, Outcome, PluginError, StageRequest};
use trust::{Certificate, Clock as _};

use crate::human::{bring, commands, stem};
use crate::world::{DAY, World, context, domain, issuer_request, pending};

#[tokio::test]
async fn a_wrong_root_stays_where_it_is_and_the_wait_goes_on() {
    let world = World::new();
    let first = world.root("first.root").await;
    world.authority.staging().unwrap().activate(&context("activate"), &first).await.unwrap();
    let name = pending(world.stage("one.root").await);
    let good = world.vault.follow(&world.request(&name));
    let request = world.request(&name).display().to_string();
    assert!(
        world.said().await.contains(&request),
        "it says which file to carry: {}",
        world.said().await
    );
    let key = world.vault.read(&format!("{name}.key"));
    let former =
        fs::read_dir(world.folder.join("done")).unwrap().map(|entry| entry.unwrap().path());
    let former =
        former.into_iter().find(|path| path.extension().is_some_and(|end| end == "pem")).unwrap();
    let make = |extensions: &str, days: &str| {
        world.vault.run(&format!(
            "printf '%s\\n' subjectKeyIdentifier=hash {extensions} > x.ext\n\
             openssl x509 -req -in {name}.csr -signkey {name}.key -passin env:ROOT_PASS -days {days} -extfile x.ext -out x.pem"
        ));
        world.vault.read("x.pem")
    };
    let ca = "basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign";
    for (contents, words) in [
        (format!("{good}{key}"), "holds a private key"),
        (key.replace('\n', " "), "holds a private key"),
        (good[..good.len() / 2].to_owned(), "not yet whole"),
        (String::new(), "not yet whole"),
        (world.vault.read(&format!("{name}.csr")), "CERTIFICATE REQUEST"),
        (format!("{good}{good}"), "holds 2 certificates"),
        (fs::read_to_string(former).unwrap(), "was brought before"),
        ("x".repeat(300_000), "longer than 256 KiB"),
        (make(ca, "100"), "ends at"),
        (make("keyUsage=critical,keyCertSign", "400"), "not a CA"),
        (make("basicConstraints=CA:TRUE keyUsage=critical,keyCertSign", "400"), "not critical"),
        (
            make(&format!("{ca} subjectAltName=URI:spiffe://other.test"), "400"),
            "another trust domain",
        ),
    ] {
        let path = bring(&world.folder, &name, &contents);
        assert_eq!(pending(world.stage("one.root").await), name, "{words}");
        let health = world.authority.check(&context("check")).await;
        assert_eq!(health.state, HealthState::Degraded, "{words}");
        assert!(health.detail.contains(words), "{words}: {}", health.detail);
        assert!(
            !health.detail.contains("MII"),
            "nothing of the contents is told: {}",
            health.detail
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), contents, "it stays");
        assert_eq!(world.authority.roots(&context("roots")).await.unwrap().roots.len(), 1);
    }
    let inbox = world.folder.join("inbox").join(format!("{name}.pem"));
    fs::remove_file(&inbox).unwrap();
    symlink(world.vault.path(&format!("{name}.pem")), &inbox).unwrap();
    assert_eq!(pending(world.stage("one.root").await), name);
    assert!(world.said().await.contains("no plain file"), "{}", world.said().await);
    fs::remove_file(&inbox).unwrap();
    bring(&world.folder, &name, &good);
    assert!(matches!(world.stage("one.root").await, Outcome::Ready(_)));
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Ok);
    assert!(!inbox.exists() && world.folder.join("done").join(format!("{name}.pem")).exists());
}

#[tokio::test]
async fn a_wrong_issuer_stays_where_it_is_and_the_wait_goes_on() {
    let world = World::new();
    let root = world.root("one.root").await;
    world.root("other.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let text = fs::read_to_string(world.request(&name)).unwrap();
    let good = world.vault.follow(&world.request(&name));
    let (own, other) = {
        let own = text
            .lines()
            .find_map(|line| line.strip_prefix("root-ceremony:"))
            .unwrap()
            .trim()
            .to_owned();
        let files = fs::read_dir(world.folder.join("done"))
            .unwrap()
            .map(|entry| stem(&entry.unwrap().path()));
        let other = files.into_iter().find(|name| *name != own).unwrap();
        (own, other)
    };
    let make = |changed: &dyn Fn(String) -> String| {
        world.vault.run(&changed(commands(&text)));
        world.vault.read(&format!("{name}.pem"))
    };
    let other_key = |commands: String| {
        let make = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out x.key\n\
                    openssl req -new -key x.key -subj /CN=x -out x.csr\n";
        format!("{make}{}", commands.replacen(&format!("-in {name}.txt"), "-in x.csr", 1))
    };
    for (contents, words) in [
        (make(&other_key), "another key than the CSR's"),
        (
            make(&|text| {
                text.replace(&format!("{own}.key"), &format!("{other}.key"))
                    .replace(&format!("{own}.pem"), &format!("{other}.pem"))
            }),
            "root",
        ),
        (make(&|text| text.replace(",pathlen:0", "")), "path length"),
        (make(&|text| text.replace("CA:TRUE,pathlen:0", "CA:FALSE")), "not a CA"),
        (make(&|text| text.replace("-days 31", "-days 20")), "ends at"),
        (make(&|text| text.replace("-days 31", "-days 4000")), "after its root"),
        (
            make(&|text| text.replace("spiffe://example.org", "spiffe://other.test")),
            "another trust domain",
        ),
        (make(&|text| text.replace(" keyUsage=critical,keyCertSign,cRLSign", "")), "keyCertSign"),
    ] {
        bring(&world.folder, &name, &contents);
        assert_eq!(pending(world.sign("one.issuer", &request).await), name, "{words}");
        assert!(world.said().await.contains(words), "{words}: {}", world.said().await);
    }
    // The whole chain, as many write it.
    bring(&world.folder, &name, &format!("{good}{}", world.vault.read(&format!("{own}.pem"))));
    match world.sign("one.issuer", &request).await {
        Outcome::Ready(chain) => {
            assert_eq!(chain.certificates.len(), 1, "the root is not part of it")
        }
        pending => panic!("{pending:?}: {}", world.said().await),
    }
}

#[tokio::test]
async fn what_is_changed_on_the_way_does_not_change_what_is_taken() {
    let world = World::new();
    let root = world.root("one.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let path = world.request(&name);
    let text = fs::read_to_string(&path).unwrap();
    world.vault.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out x.key\nopenssl req -new -key x.key -subj /CN=x -out x.csr");
    let (before, after) = (
        text.find("-----BEGIN CERTIFICATE REQUEST").unwrap(),
        text.find("\nThe root that").unwrap(),
    );
    let forged = format!("{}{}{}", &text[..before], world.vault.read("x.csr"), &text[after..]);
    fs::write(&path, forged).unwrap();
    assert!(
        Folder::at(&world.folder).waiting().unwrap().is_empty(),
        "its fingerprint does not fit: it is no ceremony"
    );
    let signed = world.vault.follow(&path);
    bring(&world.folder, &name, &signed);
    assert_eq!(pending(world.sign("one.issuer", &request).await), name);
    assert!(world.said().await.contains("another key"), "{}", world.said().await);
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "and the true text is put back");
}

#[tokio::test]
async fn what_would_outlive_its_root_is_refused_with_the_root_s_end_and_nobody_is_asked_for_it() {
    let world = World::new();
    let root = world.root("one.root").await;
    let root_ends =
        Certificate::parse(&world.authority.roots(&context("roots")).await.unwrap().roots[0])
            .unwrap()
            .validity()
            .not_after();
    let fits = issuer_request(root).await;
    let mut longer = fits.clone();
    longer.ttl = 367 * DAY;
    let refused = world.authority.sign_issuer(&context("one.issuer"), &longer).await.unwrap_err();
    let PluginError::Outlives { above, ends } = &refused else { panic!("{refused:?}") };
    assert!(*ends == root_ends && above.contains(&root.short().to_string()), "{refused}");
    assert!(Folder::at(&world.folder).waiting().unwrap().is_empty(), "nobody is asked for it");
    // As the caller does it: a minute less than what is left, and under the same id, for nothing was made.
    longer.ttl = ends.since(world.clock.now()) - DAY / 1_440;
    let name = pending(world.sign("one.issuer", &longer).await);
    bring(&world.folder, &name, &world.vault.follow(&world.request(&name)));
    match world.sign("one.issuer", &longer).await {
        Outcome::Ready(chain) => {
            let issuer = Certificate::parse(&chain.certificates[0]).unwrap();
            let ends = issuer.validity().not_after();
            // Whole days, and room for a ceremony that takes one.
            assert!(
                ends <= root_ends.minus(DAY + DAY / 2) && ends > root_ends.minus(4 * DAY),
                "{ends}"
            );
        }
        pending => panic!("{pending:?}: {}", world.said().await),
    }
}

#[tokio::test]
async fn a_folder_that_everybody_may_write_into_is_refused() {
    let world = World::new();
    let name = pending(world.stage("one.root").await);
    let inbox = world.folder.join("inbox");
    bring(&world.folder, &name, &world.vault.follow(&world.request(&name)));
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o777)).unwrap();
    let request = StageRequest::new(domain(), 365 * DAY, KeySpec::P256);
    let staged = world.authority.staging().unwrap().stage(&context("one.root"), &request).await;
    assert!(
        matches!(&staged, Err(PluginError::AuthorityDown { detail }) if detail.contains("chmod")),
        "{staged:?}"
    );
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Down);
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(world.stage("one.root").await, Outcome::Ready(_)));
}
