//! A process that asks an agent for secrets: `sds_untrusted SOCKET NAME...`. Prints a line for each name: what it got, or
//! the code of the refusal. Tests run it as another user.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use integration_tests::mesh::Subscriber;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let socket =
        arguments.next().map(PathBuf::from).context("usage: sds_untrusted SOCKET NAME...")?;
    for name in arguments {
        let name = name.into_string().ok().context("a name that is not UTF-8")?;
        match ask(&socket, &name).await {
            Ok(secrets) => println!("{name}: {secrets} secrets"),
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(refused) => println!("{name}: {:?}", refused.code()),
                None => return Err(error),
            },
        }
    }
    Ok(())
}

async fn ask(socket: &Path, name: &str) -> anyhow::Result<usize> {
    Ok(Subscriber::open(socket, name).await?.next().await??.resources.len())
}
