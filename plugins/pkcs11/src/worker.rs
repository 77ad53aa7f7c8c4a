//! What each thread has: a session of its own, the handles it found, and the one way to call the token.

use std::collections::BTreeMap;
use std::sync::Arc;

use cryptoki::session::Session;
use plugins::{KeyError, KeyId};

use crate::found::Found;
use crate::module::Calls;
use crate::token::Token;
use crate::trouble::Trouble;

/// A thread's part of the backend.
pub(crate) struct Worker {
    token: Arc<Token>,
    open: Option<Open>,
}

/// A session, logged in.
struct Open {
    token: Arc<Token>,
    /// None once it is not to be closed: the module was started anew, and the session ended with that.
    session: Option<Session>,
    /// Of the module, when it was opened.
    generation: u64,
    /// Of the token, when the keys were found.
    destroyed: u64,
    keys: BTreeMap<KeyId, Found>,
}

/// What work on a token has to do with.
pub(crate) struct Desk<'a> {
    pub(crate) calls: &'a Calls<'a>,
    pub(crate) token: &'a Token,
    pub(crate) session: &'a Session,
    /// Handles that were found before.
    pub(crate) keys: &'a mut BTreeMap<KeyId, Found>,
}

impl Worker {
    pub(crate) const fn new(token: Arc<Token>) -> Self {
        Self { token, open: None }
    }

    /// Does work on the token. If its session or the token is lost, it is done once more over a new session; if none
    /// can be had, once more after the module was started anew. So work may be done again after it failed half-way.
    pub(crate) fn run<T>(
        &mut self,
        work: impl Fn(&mut Desk<'_>) -> Result<T, Trouble>,
    ) -> Result<T, KeyError> {
        self.token.may_be_called()?;
        let mut done = self.attempt(&work);
        if matches!(done, Err(Trouble::Lost(_))) {
            self.open = None;
            done = self.attempt(&work);
        }
        if matches!(done, Err(Trouble::Lost(_))) {
            self.open = None;
            self.token.is_in_doubt();
            if self.token.module.start_anew() {
                done = self.attempt(&work);
            }
        }
        match done {
            Ok(answer) => {
                self.token.is_well();
                Ok(answer)
            }
            Err(Trouble::Answer(error)) => Err(error),
            Err(Trouble::Lost(said)) => {
                self.open = None;
                Err(self.token.is_away(&said))
            }
            Err(Trouble::Stale) => {
                Err(self.token.is_away("an object vanished while it was looked for"))
            }
        }
    }

    fn attempt<T>(
        &mut self,
        work: impl Fn(&mut Desk<'_>) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let token = Arc::clone(&self.token);
        let calls = token.module.enter();
        let open = self.session(&token, &calls)?;
        let Open { session: Some(session), keys, .. } = open else {
            return Err(Trouble::Lost("the session ended".to_owned()));
        };
        let mut desk = Desk { calls: &calls, token: &token, session, keys };
        match work(&mut desk) {
            Err(Trouble::Stale) => {
                desk.keys.clear();
                work(&mut desk)
            }
            done => done,
        }
    }

    fn session(&mut self, token: &Arc<Token>, calls: &Calls<'_>) -> Result<&mut Open, Trouble> {
        if let Some(open) = &mut self.open
            && open.generation != calls.generation()
        {
            open.session = None;
            self.open = None;
        }
        let destroyed = token.destroyed();
        let open = match self.open.take() {
            Some(open) => open,
            None => Open {
                token: Arc::clone(token),
                session: Some(token.open(calls)?),
                generation: calls.generation(),
                destroyed,
                keys: BTreeMap::new(),
            },
        };
        let open = self.open.insert(open);
        if open.destroyed != destroyed {
            open.keys.clear();
            open.destroyed = destroyed;
        }
        Ok(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let calls = self.token.module.enter();
        if calls.generation() == self.generation {
            // One that is gone already is what was wanted.
            let _ = session.close();
        }
    }
}
