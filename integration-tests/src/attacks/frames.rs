//! HTTP/2 by hand (RFC 9113, RFC 7541): frames that no library would send.

use std::io;

use prost::Message as _;
use proto::sds::DiscoveryRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The bytes that a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `END_STREAM` and `END_HEADERS`.
pub const END_STREAM: u8 = 1;
/// The header block is whole.
pub const END_HEADERS: u8 = 4;
/// An answer to SETTINGS or PING.
const ACK: u8 = 1;
/// Kind of frames that say how the other side shall behave.
pub const SETTINGS: u8 = 4;
/// Kind of frames that are answered.
pub const PING: u8 = 6;

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// One frame.
///
/// # Panics
/// When the payload is longer than a frame may be.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [zero, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    assert_eq!(zero, 0, "a frame of {} bytes", payload.len());
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS with the window of each stream.
pub fn settings(window: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat())
}

/// PING.
pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"not idle")
}

/// WINDOW_UPDATE of the connection by one byte.
pub fn window_update() -> Vec<u8> {
    frame(8, 0, 0, &1_u32.to_be_bytes())
}

/// A whole request for the bundle, with a header of `filler` bytes.
pub fn get_bundle(stream: u32, filler: usize) -> Vec<u8> {
    let mut block = headers(b"/banyan.agent.v1.AgentService/GetBundle");
    if filler > 0 {
        literal(&mut block, b"\0\x08x-filler", &vec![b'v'; filler]);
    }
    [frame(1, END_HEADERS, stream, &block), frame(0, END_STREAM, stream, &[0; 5])].concat()
}

/// The beginning of a stream that asks for a secret and stays open.
pub fn stream_secrets(stream: u32, name: &str) -> Vec<u8> {
    let block = headers(b"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets");
    let request =
        DiscoveryRequest { resource_names: vec![name.to_owned()], ..DiscoveryRequest::default() };
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    let data = [&[0], &length[..], &message].concat();
    [frame(1, END_HEADERS, stream, &block), frame(0, 0, stream, &data)].concat()
}

/// The header block of a gRPC call.
fn headers(path: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x87];
    literal(&mut block, &[0x04], path);
    literal(&mut block, &[0x01], b"localhost");
    literal(&mut block, &[0x0f, 0x10], b"application/grpc");
    literal(&mut block, b"\0\x02te", b"trailers");
    block
}

/// A field that is not remembered: its name as it stands, its value without compression.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.extend_from_slice(name);
    // An integer with a prefix of seven bits.
    if value.len() < 127 {
        block.push(u8::try_from(value.len()).unwrap_or_default());
    } else {
        block.push(127);
        let mut rest = value.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128 + 128).unwrap_or_default());
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap_or_default());
    }
    block.extend_from_slice(value);
}

/// What a good peer would answer to the next frame, if anything.
///
/// # Errors
/// When the connection has ended.
pub async fn reply(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let Frame { kind, flags, payload } = next(reader).await?;
    Ok(match (kind, flags & ACK) {
        (SETTINGS, 0) => Some(frame(SETTINGS, ACK, 0, &[])),
        (PING, 0) => Some(frame(PING, ACK, 0, &payload)),
        _ => None,
    })
}

/// Reads the next frame.
///
/// # Errors
/// When the connection has ended.
pub async fn next(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut header = [0; 9];
    reader.read_exact(&mut header).await?;
    let [long, middle, short, kind, flags, ..] = header;
    let length = u32::from_be_bytes([0, long, middle, short]);
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    reader.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, payload })
}
