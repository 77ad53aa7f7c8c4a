//! Plain HTTP to a local listener of an Envoy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// One HTTP request in plain text to a local listener of an Envoy, which carries it on over mTLS.
pub(super) async fn get(address: SocketAddr) -> anyhow::Result<()> {
    let answer = http(address, "GET", "/").await?;
    let status = answer.lines().next().unwrap_or_default();
    anyhow::ensure!(
        status.split(' ').nth(1) == Some("200"),
        "answer: {}",
        answer.replace("\r\n", " | ")
    );
    Ok(())
}

/// Sends one request without a body and reads the whole answer.
pub(super) async fn http(address: SocketAddr, method: &str, path: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(REQUEST_DEADLINE, exchange)
        .await
        .map_err(|_| anyhow!("no answer in time"))?
}
