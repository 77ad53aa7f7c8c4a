//! `banyan ceremony list|show|export|import`: what goes to an offline root and comes back, by the files of its authority.
//!
//! It works where the files are, and asks no server: whoever carries the files need not reach one. The server judges again
//! what is put into its inbox, by its own record of what it asked.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use console::exit::{Failure, Told};
use console::output;
use host::SystemClock;
use plugin_manual::{Answer, Ceremony, Folder, ManualPlugin, judge, read_answer};
use serde_json::{Value, json};
use trust::{Certificate, Clock as _};

use crate::args::{CeremonyAction, CeremonyOptions};
use crate::config_file;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if there is no such ceremony, or an answer does not pass.
pub fn run(options: &CeremonyOptions) -> Result<(), Failure> {
    let directory = directory(options)?;
    let folder = Folder::at(directory.clone());
    let waiting = match folder.waiting() {
        Ok(waiting) => waiting,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(Failure::Failed(anyhow::anyhow!(
                "cannot read {}: {error}",
                directory.display()
            )));
        }
    };
    match &options.action {
        CeremonyAction::List => list(options, &folder, &waiting),
        CeremonyAction::Show { name } => show(options, &folder, find(&waiting, name)?),
        CeremonyAction::Export { name, out } => export(options, find(&waiting, name)?, out),
        CeremonyAction::Import { file, ceremony, dry_run } => {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let ceremony = find(&waiting, ceremony.as_deref().unwrap_or(stem))?;
            import(options, &folder, ceremony, file, *dry_run)
        }
    }
}

/// The directory that was named, or that the configuration names.
fn directory(options: &CeremonyOptions) -> Result<PathBuf, Failure> {
    if let Some(directory) = &options.directory {
        return Ok(directory.clone());
    }
    let file = config_file::find(options.config.as_deref(), config_file::SERVER)?;
    let config = ca_server::Config::load(&file)
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    let manual =
        config.root().authorities().values().filter(|authority| authority.plugin() == "manual");
    let manual: Vec<_> = manual.collect();
    if manual.is_empty() {
        let text = format!("no authority in {} is `manual`", file.display());
        return Err(Failure::Usage(text.into()));
    }
    let wanted = options.authority.as_deref();
    let found: Vec<_> = manual
        .into_iter()
        .filter(|authority| wanted.is_none_or(|name| authority.name() == name))
        .collect();
    let [authority] = found.as_slice() else {
        let told = Told::new(format!(
            "{} sections [authority.NAME] with plugin \"manual\" match in {}",
            found.len(),
            file.display()
        ));
        let advice = "select one with --authority, or give its directory with --directory";
        return Err(Failure::Usage(told.advising(advice)));
    };
    ManualPlugin::directory(authority.settings(), config.directory()).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::Configuration(problems.join("\n"))
    })
}

fn find<'a>(waiting: &'a [Ceremony], name: &str) -> Result<&'a Ceremony, Failure> {
    waiting.iter().find(|ceremony| ceremony.name() == name).ok_or_else(|| {
        let names: Vec<_> = waiting.iter().map(Ceremony::name).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::Failed(anyhow::anyhow!("no ceremony `{name}` is waiting; these are: {names}"))
    })
}

/// What became of it so far, in a few words.
fn brought(folder: &Folder, ceremony: &Ceremony) -> String {
    match folder.brought(ceremony, &[], SystemClock.now()) {
        None => "no answer yet".to_owned(),
        Some(Ok(_)) => "a good answer is in the inbox".to_owned(),
        Some(Err(refused)) => {
            format!("{} is refused: {refused}", folder.answer_path(ceremony.name()).display())
        }
    }
}

fn list(options: &CeremonyOptions, folder: &Folder, waiting: &[Ceremony]) -> Result<(), Failure> {
    if options.json {
        let all: Vec<_> = waiting.iter().map(|ceremony| as_json(folder, ceremony)).collect();
        return output::json(&json!({ "ceremonies": all }));
    }
    let mut table = output::table(&["CEREMONY", "WANTED", "TRUST DOMAIN", "REQUESTED", "ANSWER"]);
    for ceremony in waiting {
        table.add_row([
            ceremony.name().to_owned(),
            ceremony.wanted(),
            ceremony.trust_domain().to_string(),
            output::time(ceremony.asked_at().as_secs()),
            brought(folder, ceremony),
        ]);
    }
    output::line(&table.to_string())
}

fn show(options: &CeremonyOptions, folder: &Folder, ceremony: &Ceremony) -> Result<(), Failure> {
    if options.json {
        return output::json(&as_json(folder, ceremony));
    }
    output::verbatim(&ceremony.text())?;
    output::line(&format!("So far: {}", brought(folder, ceremony)))
}

fn as_json(folder: &Folder, ceremony: &Ceremony) -> Value {
    json!({
        "name": ceremony.name(),
        "wanted": ceremony.wanted(),
        "trust_domain": ceremony.trust_domain().to_string(),
        "asked_at": output::time(ceremony.asked_at().as_secs()),
        "brought": brought(folder, ceremony),
        "commands": ceremony.commands(),
    })
}

fn export(options: &CeremonyOptions, ceremony: &Ceremony, out: &Path) -> Result<(), Failure> {
    let written = File::create_new(out).and_then(|mut file| {
        file.write_all(ceremony.text().as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", out.display()))?;
    if options.json {
        return output::json(
            &json!({ "name": ceremony.name(), "out": out, "commands": ceremony.commands() }),
        );
    }
    // All but the requests themselves: the fields with the fingerprints, the prose, the commands.
    let text = ceremony.text();
    let shown = text.split("\nThe request:\n").next().unwrap_or_default();
    output::verbatim(shown.trim_end())?;
    output::line(&format!(
        "\nWritten to {}: carry it to the offline machine as {}.txt",
        out.display(),
        ceremony.name()
    ))
}

fn import(
    options: &CeremonyOptions,
    folder: &Folder,
    ceremony: &Ceremony,
    file: &Path,
    dry_run: bool,
) -> Result<(), Failure> {
    let refused =
        |refused| Failure::Failed(anyhow::anyhow!("{} is refused: {refused}", file.display()));
    let bytes = read_answer(file).map_err(refused)?;
    let bytes = bytes
        .ok_or_else(|| Failure::Failed(anyhow::anyhow!("there is no file {}", file.display())))?;
    let answer = judge(ceremony, &bytes, &[], SystemClock.now()).map_err(refused)?;
    let put = match dry_run {
        true => None,
        false => Some(folder.put(ceremony.name(), &answer).context("cannot write into the inbox")?),
    };
    if options.json {
        let certificates: Vec<_> = answer.certificates().iter().map(described).collect();
        return output::json(
            &json!({ "name": ceremony.name(), "certificates": certificates, "put": put }),
        );
    }
    tell(ceremony, &answer)?;
    output::line(&match put {
        None => "it passes the checks; nothing was written (--dry-run)".to_owned(),
        Some(path) => {
            format!("written to {}; the server picks it up at its next look", path.display())
        }
    })
}

fn tell(ceremony: &Ceremony, answer: &Answer) -> Result<(), Failure> {
    output::line(&format!("{} wants {}; this is:", ceremony.name(), ceremony.wanted()))?;
    let mut table = output::table(&["SHA-256", "SUBJECT", "NOT BEFORE", "NOT AFTER"]);
    for certificate in answer.certificates() {
        table.add_row([
            certificate.id().to_string(),
            certificate.subject_text(),
            output::time(certificate.validity().not_before().as_secs()),
            output::time(certificate.validity().not_after().as_secs()),
        ]);
    }
    output::line(&table.to_string())
}

fn described(certificate: &Certificate) -> Value {
    json!({
        "sha256": certificate.id().to_string(),
        "subject": certificate.subject_text(),
        "not_before": output::time(certificate.validity().not_before().as_secs()),
        "not_after": output::time(certificate.validity().not_after().as_secs()),
    })
}
