//! `banyan state backup|verify|restore`: a state in one file, and back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ca_server::{Backup, Config, HostDeps, SealedKeys, Server, StateBackupError};
use console::exit::{Failure, Told, from_status};
use console::output;
use host::{Disk, RealDisk};
use proto::banyan::admin::v1::BackupStateRequest;
use rotation::RootState;
use serde_json::{Value, json};
use trust::plain::counted;
use trust::{Clock as _, Timestamp};

use crate::admin_client;
use crate::args::{StateAction, StateOptions};
use crate::config_file;

/// More than any state has; a stream that does not end is ended here.
const BACKUP_BYTES_MAX: usize = 4 << 30;
const MODE: u32 = 0o600;

/// What is never in a backup, for whoever keeps one.
const NOT_IN_IT: &str = "issuer keys and the ledger are each server's own (keys/ and ledger/ of its data directory) and not in it: \
                         a server without them asks for a new issuer, and its rows count as full until they must be over";

/// Runs the verb.
///
/// # Errors
/// [`Failure`] with what to do.
pub(super) async fn run(options: &StateOptions) -> Result<(), Failure> {
    match &options.action {
        StateAction::Backup { file, without_keys, force } => {
            backup(options, file, Wanted { with_keys: !without_keys, force: *force }).await
        }
        StateAction::Verify { file, passphrase_file } => {
            verify(options, file, passphrase_file.as_deref()).await
        }
        StateAction::Restore { file, replace, unopened } => {
            restore(options, file, replace.as_deref(), *unopened).await
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Wanted {
    with_keys: bool,
    force: bool,
}

async fn backup(options: &StateOptions, file: &Path, wanted: Wanted) -> Result<(), Failure> {
    if options.target.server.is_some() {
        let told =
            Told::new("a backup is given at the admin socket alone, and not over the network");
        return Err(Failure::Usage(
            told.advising("run this on the server's machine, with --socket or --config"),
        ));
    }
    there_is_none(file, wanted.force)?;
    let (bytes, from) = match online(options, wanted.with_keys).await {
        Err(Failure::Unreachable(told)) => match admin_client::config_of(&options.target) {
            Some(config) => offline(&config, wanted.with_keys).await?,
            None => return Err(Failure::Unreachable(told)),
        },
        read => (read?, "the running server".to_owned()),
    };
    let backup = checked(&bytes, "what was read")?;
    there_is_none(file, wanted.force)?;
    saved(&RealDisk, file, &bytes)?;
    if options.json {
        let mut value = as_json(&backup, file);
        if let Some(members) = value.as_object_mut() {
            members.insert("bytes".to_owned(), bytes.len().into());
            members.insert("from".to_owned(), from.into());
        }
        return output::json(&value);
    }
    output::line(&format!(
        "{}: {} bytes, read from {from} and checked\n{}\n{NOT_IN_IT}",
        file.display(),
        bytes.len(),
        in_words(&backup)
    ))
}

fn there_is_none(file: &Path, force: bool) -> Result<(), Failure> {
    if !force && file.try_exists().map_err(anyhow::Error::from)? {
        let told = Told::new(format!("{} exists: nothing was done", file.display()));
        return Err(Failure::Refused(
            told.advising("name another file, or replace this one with --force"),
        ));
    }
    Ok(())
}

/// Writes the file whole or not at all, and reads it back.
fn saved(disk: &dyn Disk, file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::Failed(anyhow::anyhow!(
            "cannot write {}: {error}; check the disk, and run this again",
            file.display()
        ))
    };
    disk.replace(file, bytes, MODE).map_err(failed)?;
    match disk.read(file).map_err(failed)? == bytes {
        true => Ok(()),
        false => Err(failed(std::io::Error::other("it does not hold what was written"))),
    }
}

async fn online(options: &StateOptions, with_keys: bool) -> Result<Vec<u8>, Failure> {
    let mut client = admin_client::states(&options.target).await?;
    let request = BackupStateRequest { without_keys: !with_keys };
    let answer = client.backup_state(request).await.map_err(|status| from_status(&status))?;
    let (mut parts, mut bytes) = (answer.into_inner(), Vec::new());
    loop {
        match parts.message().await {
            Ok(Some(part)) if bytes.len() < BACKUP_BYTES_MAX => bytes.extend(part.bytes),
            Ok(Some(_)) => {
                return Err(Failure::Failed(anyhow::anyhow!("the server's backup does not end")));
            }
            Ok(None) => return Ok(bytes),
            Err(status) => {
                return Err(Failure::Failed(anyhow::anyhow!(
                    "the backup broke off, and no file was written: {}; run this again",
                    status.message()
                )));
            }
        }
    }
}

async fn offline(config: &Path, with_keys: bool) -> Result<(Vec<u8>, String), Failure> {
    let config = loaded(config)?;
    let begun = Server::backup(&config, &HostDeps::system(), with_keys).await;
    let mut taking = begun.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(part) = taking.next().await.map_err(failed)? {
        bytes.extend(part);
    }
    let place = format!("{} (no server answers at the admin socket)", taking.place());
    Ok((bytes, place))
}

fn failed(error: StateBackupError) -> Failure {
    match error {
        StateBackupError::Restore(_) | StateBackupError::Foreign { .. } => {
            Failure::Refused(Told::new(error.to_string()))
        }
        error => Failure::Failed(error.into()),
    }
}

fn loaded(file: &Path) -> Result<Config, Failure> {
    Config::load(file)
        .map_err(|error| Failure::Configuration(format!("{}: {error}", file.display())))
}

fn read(file: &Path) -> Result<Backup, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", file.display()))?;
    checked(&bytes, &file.display().to_string())
}

fn checked(bytes: &[u8], what: &str) -> Result<Backup, Failure> {
    Backup::read(bytes).map_err(|error| Failure::Failed(anyhow::anyhow!("{what}: {error}")))
}

async fn verify(
    options: &StateOptions,
    file: &Path,
    passphrase: Option<&Path>,
) -> Result<(), Failure> {
    let config = options.target.config.as_deref().map(loaded).transpose()?;
    let backup = read(file)?;
    let keys = Server::try_keys(&backup, config.as_ref(), passphrase).await;
    let keys = keys.map_err(|error| Failure::Failed(error.into()))?;
    if options.json {
        let mut value = as_json(&backup, file);
        if let Some(members) = value.as_object_mut() {
            members.insert("keys".to_owned(), keys.iter().map(key_json).collect());
        }
        output::json(&value)?;
    } else {
        let sealed: String = keys.iter().map(key_line).collect();
        output::line(&format!(
            "{} is whole\n{}{sealed}\n{NOT_IN_IT}",
            file.display(),
            in_words(&backup)
        ))?;
    }
    match shut(&keys) {
        None => Ok(()),
        Some((scope, error)) => Err(Failure::Failed(anyhow::anyhow!(
            "the backup is whole, and its sealed keys ({}) do not open: {error}",
            whose(scope)
        ))),
    }
}

/// Keys that do not open, and why.
fn shut(keys: &[SealedKeys]) -> Option<(&str, &str)> {
    keys.iter()
        .find_map(|set| Some((set.scope.as_str(), set.opens.as_ref()?.as_ref().err()?.as_str())))
}

async fn restore(
    options: &StateOptions,
    file: &Path,
    replaces: Option<&str>,
    unopened: bool,
) -> Result<(), Failure> {
    let path = config_file::find(options.target.config.as_deref(), config_file::SERVER)?;
    let (config, backup) = (loaded(&path)?, read(file)?);
    if !unopened {
        let keys = Server::try_keys(&backup, Some(&config), None).await;
        let keys = keys.map_err(|error| Failure::Failed(error.into()))?;
        if let Some((scope, error)) = shut(&keys) {
            let told = Told::new(format!(
                "nothing was restored: the sealed keys in the backup ({}) do not open with the passphrase of {}: {error}",
                whose(scope),
                path.display()
            ));
            return Err(Failure::Refused(told.advising(
                "give the configuration the passphrase of when the backup was made; or restore all the same with `--unopened`: no server \
                 starts on the state until it has that passphrase",
            )));
        }
    }
    let restored = Server::restore(&config, &HostDeps::system(), &backup, replaces).await;
    let restored = restored.map_err(failed)?;
    if options.json {
        let mut value = as_json(&backup, file);
        if let Some(members) = value.as_object_mut() {
            members.insert("resumed".to_owned(), restored.resumed.into());
        }
        return output::json(&value);
    }
    let rows: usize = restored.keys.values().sum();
    output::line(&format!(
        "restored {} of {}\n{}\n{}",
        counted(rows, "entry", "entries"),
        file.display(),
        in_words(&backup),
        what_follows(&backup)
    ))
}

/// What going back in time means, and what is next.
fn what_follows(backup: &Backup) -> String {
    let header = &backup.header;
    let mut text = format!(
        "What came after it is forgotten:\n\
         - leaves: those that were released since have no row here. The first server that starts counts them as if all of them \
         lived, so gates of a rotation wait until the last of them must have ended; servers that still have their ledgers renew \
         their own\n\
         - bundles: if agents hold one above {}, no bundle and no signer changes, and nobody new is let in, until you run `banyan \
         state continue`; `banyan state show` says so once agents have connected\n\
         - agents, tokens and bans: who joined since needs a new token, a token that was used since can be used again until it \
         ends (`banyan token list`, `banyan token revoke ID`), and whoever was banned since is not (`banyan ban \
         list` shows the bans that are left, the journal of the other state names the others: `banyan ban add`)\n\
         {NOT_IN_IT}",
        header.sequence
    );
    if !header.with_keys {
        let _ = write!(text, "\n{}", WITHOUT_KEYS);
    }
    text.push_str(
        "\nNext: start the servers (`banyan serve`), look at `banyan status` and `banyan state show`, and make a new backup. Never \
         start a server on the state of before: that would be a second CA",
    );
    text
}

const WITHOUT_KEYS: &str = "The sealed keys of roots are not in this backup. A root of `self-signed` whose key is nowhere else signs \
                            no issuer any more: servers that still have their data directories (keys/) go on issuing until their \
                            issuers end, so start them and rotate to a new root at once (`banyan rotate start`); a server \
                            without an issuer of its own cannot start below that root. Roots of other authorities are not touched";

fn in_words(backup: &Backup) -> String {
    let header = &backup.header;
    let mut text = format!(
        "backup {} of trust domain {}, made {} by release {}, {} old\n\
         generation {}, phase {}, bundle {}",
        short(&backup.id),
        header.trust_domain,
        output::time(header.taken_at),
        header.release,
        trust::plain::about(age(backup)),
        header.generation,
        header.phase,
        header.sequence,
    );
    for (id, entry) in &backup.state.roots {
        // Writing into a string cannot fail, here and below.
        let _ = write!(
            text,
            "\nroot {} of authority {}: {}, ends {}",
            id.short(),
            entry.authority,
            root_state(entry.state),
            entry.not_after
        );
    }
    let counts: Vec<_> =
        backup.counts().into_iter().map(|(space, rows)| format!("{space} {rows}")).collect();
    let _ = write!(text, "\nit holds {}", counts.join(", "));
    if header.with_keys {
        text.push_str("\nthe sealed keys of roots are in it: with the passphrase it is the root");
    } else {
        text.push_str("\nthe sealed keys of roots are not in it");
    }
    if header.registry_moved {
        text.push_str(
            "\nagents or tokens were written while it was made: a token may be in it as used whose agent is not (the agent joins \
             again with the same token within 5 minutes, or with a new one), and a ban that was being written may be missing",
        );
    }
    text
}

const fn root_state(state: RootState) -> &'static str {
    state.as_str()
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn age(backup: &Backup) -> std::time::Duration {
    let now = host::SystemClock.now();
    now.since(Timestamp::from_secs(backup.header.taken_at))
}

fn key_line(set: &SealedKeys) -> String {
    let opens = match &set.opens {
        None => "no passphrase was tried (--passphrase-file, --config)".to_owned(),
        Some(Ok(())) => "the passphrase opens every one".to_owned(),
        Some(Err(error)) => format!("NOT opened: {error}"),
    };
    format!(
        "\n{}, {}: {opens}",
        counted(set.keys, "sealed key of a root", "sealed keys of roots"),
        whose(&set.scope)
    )
}

/// Which section of the configuration names the passphrase of keys: that of all authorities, or one of its own.
fn whose(scope: &str) -> String {
    match scope.split_once('.') {
        Some((_, authority)) => format!("of authority {authority} with a passphrase of its own"),
        None => format!("under the passphrase of [{scope}]"),
    }
}

fn key_json(set: &SealedKeys) -> Value {
    json!({
        "scope": set.scope,
        "keys": set.keys,
        "opens": set.opens.as_ref().map(Result::is_ok),
        "error": set.opens.as_ref().and_then(|opens| opens.as_ref().err()),
    })
}

fn as_json(backup: &Backup, file: &Path) -> Value {
    let header = &backup.header;
    let root = |(id, entry): (&trust::RootId, &rotation::RootEntry)| {
        json!({
            "root": id.to_string(),
            "authority": entry.authority.to_string(),
            "state": root_state(entry.state),
            "ends": output::time(entry.not_after.as_secs()),
        })
    };
    let file: PathBuf = file.to_owned();
    json!({
        "file": file,
        "backup": backup.id,
        "trust_domain": header.trust_domain,
        "ca": header.ca,
        "made_at": output::time(header.taken_at),
        "age_seconds": age(backup).as_secs(),
        "release": header.release,
        "generation": header.generation,
        "phase": header.phase,
        "sequence": header.sequence,
        "with_keys": header.with_keys,
        "registry_moved": header.registry_moved,
        "roots": backup.state.roots.iter().map(root).collect::<Vec<_>>(),
        "counts": backup.counts(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use host::{Fault, FaultDisk, How, Operation};

    use super::*;

    #[test]
    fn a_backup_is_written_whole_for_this_user_alone_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        let disk = FaultDisk::default();
        disk.plan(Fault::next(Operation::Replace, How::NotStored));
        let said = saved(&disk, &file, b"first").unwrap_err();
        assert!(said.code() == 1 && said.to_string().contains("run this again"), "{said}");
        assert!(!file.exists(), "half of a file would be taken for one");
        saved(&disk, &file, b"first").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        disk.plan(Fault::next(Operation::Replace, How::NotStored));
        saved(&disk, &file, b"second").unwrap_err();
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
    }

    #[test]
    fn a_line_about_keys_says_whose_passphrase_opens_them() {
        let set = |scope: &str, keys, opens| SealedKeys { scope: scope.to_owned(), keys, opens };
        let line = key_line(&set("keys", 1, Some(Ok(()))));
        assert_eq!(
            line,
            "\n1 sealed key of a root, under the passphrase of [keys]: the passphrase opens every one"
        );
        let line = key_line(&set("authority.old", 2, None));
        assert!(line.contains("2 sealed keys of roots, of authority old with"), "{line}");
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup");
        there_is_none(&file, false).unwrap();
        std::fs::write(&file, "precious").unwrap();
        let refused = there_is_none(&file, false).unwrap_err();
        assert!(refused.code() == 4 && refused.to_string().contains("exists"), "{refused}");
        there_is_none(&file, true).unwrap();
    }
}
