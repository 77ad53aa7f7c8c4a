//! New roots in the mount, and the end of old ones.

use std::collections::BTreeSet;

use async_trait::async_trait;
use plugins::checks::{RootsExpectation, check_roots};
use plugins::{
    CallContext, Outcome, PluginError, RetireRoots, RootDer, RootSet, StageRequest, StageRoots,
};
use trust::{RootId, Serial, Timestamp};

use crate::VaultAuthority;
use crate::mount::{Issuer, Subject, has_key};
use crate::reply::misconfigured;
use crate::roots::{Retired, Roots, name_of};

#[async_trait]
impl StageRoots for VaultAuthority {
    /// The name of the issuer in the mount follows from the request id, and the request is written down before the mount
    /// is asked: whatever breaks off in between, the same id finds the same root again.
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        let (id, within, state) = (&context.request_id, context.deadline, self.deps.state.as_ref());
        let _turn = self.answering.turn().await;
        let mut roots = Roots::load(state).await?;
        if let Some(der) = roots.staged(id, request)? {
            return Ok(Outcome::Ready(der));
        }
        self.answering.for_domain(&request.trust_domain)?;
        let name = name_of(&self.deps.name, id, request);
        let now = self.deps.clock.now();
        let there = self.mount.list(within).await?.iter().any(|listed| listed.name == name);
        let (staged, until) = if there {
            (roots.intend(id, request, &name, false), now)
        } else {
            let (has_default, follows) = self.mount.defaults(within).await?;
            if follows {
                return Err(self.default_follows());
            }
            let staged = roots.intend(id, request, &name, !has_default);
            roots.store(state).await?;
            let not_after = now.plus(request.lifetime);
            let subject = Subject {
                common_name: format!(
                    "Banyan root {}",
                    Serial::random(self.deps.randomness.as_ref())
                ),
                trust_domain: &request.trust_domain,
                not_after,
            };
            self.mount.generate(&staged.name, request.key, &subject, within).await?;
            (staged, not_after)
        };
        let issuer = self.mount.issuer(&staged.name, within).await?;
        has_key(&issuer.root, request.key)?;
        self.check_root(&issuer, until)?;
        roots.made(id, &issuer, staged.first);
        roots.store(state).await?;
        Ok(Outcome::Ready(issuer.root.der().to_vec()))
    }

    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let turn = self.answering.turn().await;
        let mut present = self.present(&turn, context.deadline).await?;
        let known = present.roots.get(root).filter(|known| known.retired == Retired::No).cloned();
        let Some(known) = known.filter(|known| present.holds(&known.issuer)) else {
            return Err(PluginError::denied(format!(
                "root {} is not announced; stage it first",
                root.short()
            )));
        };
        let signs = present.signing.as_ref().is_some_and(|issuer| issuer.id == known.issuer);
        if !signs {
            self.mount.make_default(&known.issuer, context.deadline).await?;
        }
        match present.roots.get_mut(root) {
            Some(known) if known.waits => {
                known.waits = false;
                present.roots.store(self.deps.state.as_ref()).await
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl RetireRoots for VaultAuthority {
    async fn retire(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let state = self.deps.state.as_ref();
        let turn = self.answering.turn().await;
        let mut present = self.present(&turn, context.deadline).await?;
        let Some(known) = present.roots.get(root).cloned() else {
            return Err(PluginError::denied(format!(
                "root {} never was one of this authority",
                root.short()
            )));
        };
        if known.retired == Retired::Done {
            return Ok(());
        }
        if known.retired == Retired::No {
            let default = present.signing.as_ref().is_some_and(|issuer| issuer.root.id() == *root);
            if default || present.set.signing == Some(*root) {
                return Err(PluginError::denied(format!(
                    "root {} signs; activate another one first",
                    root.short()
                )));
            }
            if !known.own {
                let reason = format!(
                    "the key of root {} is not in the mount; retire it where it is",
                    root.short()
                );
                return Err(PluginError::denied(reason));
            }
            set_retired(&mut present.roots, root, Retired::Decided);
            present.roots.store(state).await?;
        }
        self.mount.delete(&known.issuer, &known.key, context.deadline).await?;
        set_retired(&mut present.roots, root, Retired::Done);
        present.roots.store(state).await
    }
}

impl VaultAuthority {
    /// Checks a root that is about to be kept.
    fn check_root(&self, issuer: &Issuer, until: Timestamp) -> Result<(), PluginError> {
        if !issuer.chain.is_empty() {
            return Err(PluginError::denied(format!("issuer {} is not a root", issuer.id)));
        }
        let expected = RootsExpectation {
            trust_domain: &self.deps.trust_domain,
            path_len: 2,
            now: self.deps.clock.now(),
            covers_until: until,
            before: None,
            known: &[],
            retired: &BTreeSet::new(),
            on_purpose: &BTreeSet::new(),
        };
        check_roots(&RootSet::new(vec![issuer.root.der().to_vec()], None, 0), &expected)?;
        Ok(())
    }

    fn default_follows(&self) -> PluginError {
        let path = self.mount.path();
        let detail = format!(
            "a new issuer of {path} would sign at once, before anybody trusts its root; \
             run `bao write {path}/config/issuers default=ID default_follows_latest_issuer=false`"
        );
        misconfigured("mint_roots", &detail)
    }
}

fn set_retired(roots: &mut Roots, root: &RootId, retired: Retired) {
    if let Some(known) = roots.get_mut(root) {
        known.retired = retired;
    }
}
