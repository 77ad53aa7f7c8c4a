//! What a request left behind: rows and audit records in the ledger's files, counters on the plain port.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use host::RealDisk;
use ledger::{AuditRefusal, Record, RowKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::untrusted::ca::TestCa;
use crate::untrusted::eventually;

/// The ledger as its files have it. The CA's own leaves are left out: it renews them when it likes.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Leaves that might have been signed.
    pub intents: usize,
    /// Leaves that were signed.
    pub issued: usize,
    /// Refusals, in order.
    pub refused: Vec<AuditRefusal>,
    /// Refusals that were only counted.
    pub suppressed: u64,
}

impl Books {
    /// How many refusals have this reason.
    pub fn refusals_for(&self, reason: &str) -> usize {
        self.refused.iter().filter(|refused| refused.reason() == reason).count()
    }
}

impl TestCa {
    /// Reads all records that are on the disk now.
    ///
    /// # Panics
    /// When a file is damaged.
    pub fn books(&self) -> Books {
        let mut books = Books::default();
        let mut kinds = BTreeMap::new();
        for file in ledger::reader::read(&RealDisk, &self.data().join("ledger")).unwrap() {
            for entry in file.unwrap().entries {
                match entry.record {
                    Record::Intent(row) => {
                        books.intents += usize::from(row.kind != RowKind::Own);
                        kinds.insert(row.serial, row.kind);
                    }
                    Record::Issued { serial, .. } => {
                        let is_own = kinds.get(&serial) == Some(&RowKind::Own);
                        books.issued += usize::from(!is_own);
                    }
                    Record::Refused(refused) => books.refused.push(refused),
                    Record::Suppressed { refusals, .. } => books.suppressed += refusals,
                    _ => {}
                }
            }
        }
        books
    }

    /// Waits until every leaf that might have been signed was: the record of that is written soon, not at once.
    pub async fn settled_books(&self) -> Books {
        let settled = async || {
            let books = self.books();
            books.issued == books.intents
        };
        eventually("every leaf is recorded as issued", settled).await;
        self.books()
    }

    /// Waits until so many refusals are on the disk; audit records are written soon, not at once.
    pub async fn books_with_refusals(&self, refused: usize) -> Books {
        eventually("the audit record is on the disk", async || {
            self.books().refused.len() >= refused
        })
        .await;
        self.books()
    }

    /// All metrics in the text format.
    ///
    /// # Panics
    /// When the plain port does not answer.
    pub async fn metrics(&self) -> String {
        let answer = http_get(self.plain_addr(), "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// How often a request was refused for this reason, as the metrics have it.
    pub async fn refused_metric(&self, reason: &str) -> u64 {
        let start = format!("banyan_refused_total{{reason=\"{reason}\"}} ");
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |count| count.trim().parse().unwrap())
    }

    /// The files below the data directory that contain these bytes.
    ///
    /// # Panics
    /// When the directory cannot be read.
    pub fn files_with(&self, bytes: &[u8]) -> Vec<std::path::PathBuf> {
        let (mut found, mut todo) = (Vec::new(), vec![self.data()]);
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_file() {
                    let contents = std::fs::read(entry.path()).unwrap();
                    if contents.windows(bytes.len()).any(|window| window == bytes) {
                        found.push(entry.path());
                    }
                }
            }
        }
        found
    }
}

async fn http_get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
