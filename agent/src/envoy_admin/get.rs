//! One bounded question to an admin endpoint.

use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::config::AdminAddress;

/// Time for one answer, the connection included.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest head of an answer.
const HEAD_MAX: usize = 16 * 1024;

/// Asks for a path, and takes so many bytes of an answer. An error is a few words without the address.
pub(super) async fn get(
    address: &AdminAddress,
    path: &str,
    answer_max: usize,
) -> Result<String, String> {
    let answer = async {
        let no_connection = |error| format!("no connection: {error}");
        match address {
            AdminAddress::Tcp(address) => {
                ask(TcpStream::connect(address).await.map_err(no_connection)?, path, answer_max)
                    .await
            }
            AdminAddress::Unix(socket) => {
                ask(UnixStream::connect(socket).await.map_err(no_connection)?, path, answer_max)
                    .await
            }
        }
    };
    match tokio::time::timeout(WITHIN, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

async fn ask<S>(stream: S, path: &str, answer_max: usize) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let no_http = |error: hyper::Error| format!("it does not speak HTTP: {error}");
    let mut protocol = http1::Builder::new();
    let (mut sender, connection) = protocol
        .max_buf_size(HEAD_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(no_http)?;
    // Ends with this function.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = Request::get(path).header(HOST, "envoy").body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let (head, body) = sender.send_request(request).await.map_err(no_http)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("it answers with status {}", head.status.as_u16()));
    }
    let body = Limited::new(body, answer_max).collect().await.map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => format!("its answer is longer than {answer_max} bytes"),
            false => format!("its answer ends before it is over: {error}"),
        }
    })?;
    String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "its answer is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    const ANSWER_MAX: usize = 1024 * 1024;

    /// What an endpoint says to whoever connects; then it waits, or ends.
    async fn answered(says: Vec<u8>, ends: bool) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = AdminAddress::Tcp(listener.local_addr().unwrap().to_string());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(&says).await;
            while !ends && stream.read(&mut [0; 1_024]).await.is_ok_and(|length| length > 0) {}
        });
        get(&address, "/stats", ANSWER_MAX).await
    }

    fn with_body(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn an_answer_is_taken_whether_its_length_is_told_or_it_comes_in_chunks() {
        assert_eq!(answered(with_body(b"a: 1\n"), false).await.as_deref(), Ok("a: 1\n"));
        let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na: \r\n2\r\n1\n\r\n0\r\n\r\n";
        assert_eq!(answered(chunks.to_vec(), true).await.as_deref(), Ok("a: 1\n"));
    }

    #[tokio::test]
    async fn what_is_no_good_answer_is_refused_with_the_reason() {
        for (says, why) in [
            (b"SSH-2.0-x\r\n\r\n".to_vec(), "does not speak HTTP"),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(), "status 404"),
            (
                b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n"
                    .to_vec(),
                "status 302",
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na: 1\n".to_vec(),
                "ends before it is over",
            ),
            (with_body(&vec![b'a'; ANSWER_MAX + 1]), "longer than"),
            (with_body(&[0xff, 0xfe]), "no text"),
            (
                [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 2 * HEAD_MAX]].concat(),
                "does not speak HTTP",
            ),
        ] {
            let said = answered(says, true).await.unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
        let nobody = AdminAddress::Tcp("127.0.0.1:1".to_owned());
        assert!(get(&nobody, "/stats", ANSWER_MAX).await.unwrap_err().starts_with("no connection"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_says_nothing_or_never_ends_is_not_waited_for() {
        let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n".to_vec();
        for says in [Vec::new(), endless] {
            assert_eq!(answered(says, false).await, Err("no answer within 5 s".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_socket_is_asked_too() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1_024]).await;
            stream.write_all(&with_body(b"b: 2\n")).await.unwrap();
        });
        assert_eq!(
            get(&AdminAddress::Unix(path), "/stats", ANSWER_MAX).await.as_deref(),
            Ok("b: 2\n")
        );
    }
}
