//! `banyan keys rewrap`: key files under a new passphrase.

use ca_server::{Config, HostDeps, RewrapOrders, RewrappedStore, Server};
use console::exit::{Failure, Told};
use console::output;
use serde_json::json;
use trust::plain::counted;

use crate::args::{KeysAction, KeysOptions, RewrapOptions};
use crate::config_file;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] with what to do; every key then opens with the former passphrase or with the new one.
pub async fn run(options: &KeysOptions) -> Result<(), Failure> {
    match &options.action {
        KeysAction::Rewrap(options) => rewrap(options).await,
    }
}

async fn rewrap(options: &RewrapOptions) -> Result<(), Failure> {
    let file = config_file::find(options.config.as_deref(), config_file::SERVER)?;
    let config = Config::load(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    let orders = RewrapOrders {
        new: options.to.clone(),
        former: options.from.clone(),
        authority: options.authority.clone(),
    };
    let done = Server::rewrap(&config, &HostDeps::system(), &orders).await;
    let done = done.map_err(|error| Failure::Refused(Told::new(error.to_string())))?;
    match options.json {
        true => output::json(&json!({
            "stores": done.iter().map(as_json).collect::<Vec<_>>(),
            "passphrase_file": options.to,
        })),
        false => output::line(&in_words(&done, options)),
    }
}

fn as_json(store: &RewrappedStore) -> serde_json::Value {
    json!({
        "store": store.shown,
        "section": store.section,
        "moved": store.done.moved,
        "already": store.done.already,
    })
}

fn in_words(done: &[RewrappedStore], options: &RewrapOptions) -> String {
    let mut lines: Vec<String> = done.iter().map(store_in_words).collect();
    let mut sections: Vec<&str> = done.iter().map(|store| store.section.as_str()).collect();
    sections.dedup();
    lines.push(format!(
        "now write passphrase_file = \"{}\" into {} of the configuration, then start the server",
        options.to.display(),
        sections.join(" and "),
    ));
    lines.join("\n")
}

fn store_in_words(store: &RewrappedStore) -> String {
    let keys = counted(store.done.moved, "key", "keys");
    match store.done.already {
        0 => format!("{}: {keys} put under the new passphrase", store.shown.display()),
        already => format!(
            "{}: {keys} put under the new passphrase, {already} under it before",
            store.shown.display()
        ),
    }
}
