//! A document among an authority's state: JSON of a known format under one name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PluginError;
use crate::state::{AuthorityState, StateName};

/// Where a document is, and what it is called when it cannot be read.
///
/// The document has a member `format`; one of another format is refused, never guessed at.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    /// The name in the authority's state.
    pub name: &'static str,
    /// The format that this program reads and writes.
    pub format: u32,
    /// What it is to an operator, for example `the authority's record of its answers`.
    pub what: &'static str,
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

impl Document {
    /// Reads the document; none if it was never stored.
    ///
    /// # Errors
    /// When there is one and it cannot be read: nothing is made in its place.
    pub async fn load<T: DeserializeOwned>(
        &self,
        state: &dyn AuthorityState,
    ) -> Result<Option<T>, PluginError> {
        let Some(bytes) = state.get(&self.state_name()?).await? else { return Ok(None) };
        let Format { format } = self.read(&bytes)?;
        if format != self.format {
            let detail = format!("it has format {format}, and this program knows {}", self.format);
            return Err(self.unreadable(&detail));
        }
        self.read(&bytes).map(Some)
    }

    /// Stores the document, whose member `format` is this one's; durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown then; the next call loads what is there.
    pub async fn store<T: Serialize>(
        &self,
        state: &dyn AuthorityState,
        form: &T,
    ) -> Result<(), PluginError> {
        let bytes = serde_json::to_vec(form)
            .map_err(|error| PluginError::Permanent { detail: error.to_string() })?;
        Ok(state.put(&self.state_name()?, &bytes).await?)
    }

    /// The error of a document that is there and cannot be read.
    pub fn unreadable(&self, detail: &str) -> PluginError {
        PluginError::Permanent {
            detail: format!(
                "{} cannot be read ({detail}); restore the data directory from a backup; nothing new is made in its place",
                self.what
            ),
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, PluginError> {
        serde_json::from_slice(bytes).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn state_name(&self) -> Result<StateName, PluginError> {
        StateName::parse(self.name)
            .map_err(|error| PluginError::Permanent { detail: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::state::MemoryState;

    const BOOK: Document = Document { name: "book", format: 1, what: "the book" };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        format: u32,
        count: u32,
    }

    #[tokio::test]
    async fn what_was_stored_is_loaded_and_what_never_was_is_none() {
        let state = MemoryState::new();
        assert_eq!(BOOK.load::<Form>(&state).await, Ok(None));
        BOOK.store(&state, &Form { format: 1, count: 7 }).await.expect("stored");
        assert_eq!(BOOK.load(&state).await, Ok(Some(Form { format: 1, count: 7 })));
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_read_is_an_error_that_says_what_to_do_and_not_an_empty_one()
    {
        let state = MemoryState::new();
        let name = StateName::parse("book").expect("name");
        let damaged = [&b"{"[..], br#"{"format":2,"other":1}"#, br#"{"format":1}"#];
        for (damage, why) in damaged.into_iter().zip(["EOF", "it has format 2", "missing field"]) {
            state.put(&name, damage).await.expect("put");
            let error = BOOK.load::<Form>(&state).await.expect_err("damaged");
            assert!(matches!(error, PluginError::Permanent { .. }), "{error:?}");
            let said = error.to_string();
            assert!(
                said.contains(why) && said.contains("restore the data directory from a backup"),
                "{said}"
            );
        }
    }
}
