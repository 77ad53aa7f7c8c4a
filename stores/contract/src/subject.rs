//! The engine that is tried.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use stores::SharedStore;

use crate::report::Broken;

type Opening = BoxFuture<'static, Result<Arc<dyn SharedStore>, String>>;

/// An engine to be tried.
pub struct Subject {
    open: Box<dyn Fn() -> Opening + Send + Sync>,
    trouble: Option<Arc<dyn Trouble>>,
}

/// What can happen to an engine that is reached over a network.
#[async_trait]
pub trait Trouble: Send + Sync {
    /// Makes the engine unreachable for every handle of the subject: open connections break, new ones are refused.
    async fn cut(&self);

    /// From now on requests reach the engine, and its answers do not come back.
    async fn lose_answers(&self);

    /// Ends what the two above began.
    async fn mend(&self);

    /// Has the engine forget its history of changes; false if it keeps none.
    async fn compact(&self) -> bool;
}

impl Subject {
    /// Takes what opens a handle of the engine, as another replica would: handles share what is stored. An embedded engine,
    /// which one process alone may have, gives the same handle again.
    pub fn new<F, O>(open: F) -> Self
    where
        F: Fn() -> O + Send + Sync + 'static,
        O: Future<Output = Result<Arc<dyn SharedStore>, String>> + Send + 'static,
    {
        Self { open: Box::new(move || Box::pin(open())), trouble: None }
    }

    /// The same, with what can happen to it.
    #[must_use]
    pub fn with_trouble(self, trouble: Arc<dyn Trouble>) -> Self {
        Self { trouble: Some(trouble), ..self }
    }

    pub(crate) async fn handle(&self) -> Result<Arc<dyn SharedStore>, Broken> {
        let opened = (self.open)().await;
        opened.map_err(|error| Broken::Failed(format!("a handle cannot be opened: {error}")))
    }

    pub(crate) fn trouble(&self) -> Result<&dyn Trouble, Broken> {
        let none =
            || Broken::Skipped("the engine is embedded: no network lies before it".to_owned());
        self.trouble.as_deref().ok_or_else(none)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}
